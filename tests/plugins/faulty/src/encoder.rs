//! Encoders that return mean colours, fail in various ways, or log messages.

use merv_plugin_api::{
    Call, Clips, DType, Encoder, EncoderInfo, EncoderObject, EncoderRequest, LogLevel, LogRecord,
    PluginError, PreprocessSpec, Provided, ResizeDomain, TensorBuf, feature, log, log_record,
};
use std::{
    error::Error,
    fmt, io,
    panic::panic_any,
    time::{Duration, Instant},
};

pub const ENCODERS: [Provided; 18] = [
    encoder("fine"),
    encoder("panics-in-describe"),
    encoder("panics-in-load"),
    encoder("panics-in-info"),
    encoder("panics-in-encode"),
    encoder("panics-in-another-thread"),
    encoder("fails-in-encode"),
    encoder("fails-with-endless-causes"),
    encoder("runs-out-of-memory"),
    encoder("wrong-shape"),
    encoder("panics-with-a-bomb"),
    encoder("of-other-frames"),
    encoder("of-no-width"),
    encoder("loads-another-size"),
    encoder("talks"),
    encoder("tells-the-time"),
    encoder("takes-bytes").features(&[feature::U8_CLIPS]),
    encoder("takes-bytes-of-torch").features(&[feature::U8_CLIPS]),
];

/// An encoder that works until it is cancelled.
pub const PATIENT: Provided = encoder("patient").features(&[feature::CANCEL]);

const fn encoder(id: &'static str) -> Provided {
    Provided::encoder(id, "no weights").without_weights()
}

fn is_provided(id: &str) -> bool {
    let mut all = ENCODERS.iter().chain([&PATIENT]);
    all.any(|provided| provided.id() == id)
}

const IMAGE: usize = 64;
/// Patches per side, each a square of `IMAGE / GRID` pixels.
const GRID: usize = 8;
const WIDTH: usize = 64;

pub fn describe(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
    match request.model.id.as_str() {
        "panics-in-describe" => panic!("describe blew up, as requested"),
        id if !is_provided(id) => Err(PluginError::unsupported(format!("no encoder `{id}`"))),
        id if id.starts_with("takes-bytes") => {
            let mut preprocess = PreprocessSpec::new(IMAGE as u32);
            if id == "takes-bytes-of-torch" {
                preprocess = preprocess.domain(ResizeDomain::TORCH_F32);
            }
            let grid = [request.num_frames, (GRID * GRID) as u32];
            let info = EncoderInfo::new(WIDTH as u32, request.num_frames, grid, preprocess);
            Ok(info.clip_dtype(DType::U8))
        }
        id => Ok(EncoderInfo::new(
            if id == "of-no-width" { 0 } else { WIDTH as u32 },
            request.num_frames + u32::from(id == "of-other-frames"),
            [request.num_frames, (GRID * GRID) as u32],
            PreprocessSpec::new(IMAGE as u32),
        )),
    }
}

pub fn load(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
    if request.model.id.as_str() == "panics-in-load" {
        panic!("load blew up, as requested");
    }
    let mut info = describe(request)?;
    if request.model.id == "loads-another-size" {
        info.preprocess.image_size = 32;
    }
    Ok(EncoderObject::new(MeanColours {
        id: request.model.id.to_string(),
        info,
    }))
}

/// A panic payload whose destructor panics again.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the bomb blew up, as requested");
    }
}

struct MeanColours {
    id: String,
    info: EncoderInfo,
}

/// An error that is its own cause.
#[derive(Debug)]
struct Endless;

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the same again")
    }
}

impl Error for Endless {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

/// Dropping it while another panic unwinds would end the process.
impl Drop for MeanColours {
    fn drop(&mut self) {
        if self.id == "panics-in-info" {
            panic!("drop blew up, as requested");
        }
    }
}

impl Encoder for MeanColours {
    fn info(&self) -> EncoderInfo {
        if self.id == "panics-in-info" {
            panic!("info blew up, as requested");
        }
        self.info.clone()
    }

    /// `[B, F, 3, 64, 64] -> [B, F · 64, 64]`: the mean red, green and blue of each patch, repeated.
    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, PluginError> {
        if self.id == "tells-the-time" {
            let times = clips.seconds.iter().map(|time| format!("{time:.2}"));
            log(LogLevel::INFO, &times.collect::<Vec<_>>().join(" "));
        }
        let clips = &clips.pixels;
        match self.id.as_str() {
            "panics-in-encode" => panic!("encode blew up, as requested"),
            "panics-in-another-thread" => {
                let thread = std::thread::spawn(|| panic!("a thread blew up, as requested"));
                if thread.join().is_err() {
                    return Err(PluginError::invalid("a thread panicked, as requested"));
                }
            }
            "fails-with-endless-causes" => return Err(Endless.into()),
            "runs-out-of-memory" => {
                Vec::<u8>::new().try_reserve_exact(isize::MAX as usize)?;
            }
            "patient" => {
                let (call, started) = (Call::current(), Instant::now());
                while started.elapsed() < Duration::from_secs(60) {
                    call.check()?;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            "panics-with-a-bomb" => panic_any(Bomb),
            "talks" => {
                log(LogLevel::ERROR, "a word of error");
                log(LogLevel::WARN, "a word of warning");
                log(LogLevel::INFO, "a word of information");
                log_record(LogRecord::new(LogLevel::DEBUG, "a word of detail").field("layer", 3));
            }
            "fails-in-encode" => {
                let cause = io::Error::other(io::Error::other("the lowest cause"));
                return Err(PluginError::invalid("encode refused, as requested")
                    .caused_by(&io::Error::other(cause)));
            }
            _ => {}
        }
        let [batch, frames, channels, height, width] = clips.dims::<5>()?;
        if [channels, height, width] != [3, IMAGE, IMAGE] {
            return Err(PluginError::invalid(format!(
                "expected clips of {IMAGE} × {IMAGE} pixels, found shape {:?}",
                clips.shape()
            )));
        }
        let normalised: Vec<f32>;
        let planes = if clips.dtype() == DType::U8 && self.id == "takes-bytes" {
            let bytes = clips.elements::<u8>()?.iter();
            normalised = bytes.map(|&byte| f32::from(byte) / 255.0).collect();
            &normalised
        } else {
            clips.f32s()?
        };
        let patch = IMAGE / GRID;
        let mut features = Vec::<f32>::with_capacity(batch * frames * GRID * GRID * WIDTH);
        for frame in planes.chunks_exact(3 * IMAGE * IMAGE) {
            for (top, left) in (0..GRID * GRID).map(|i| (i / GRID * patch, i % GRID * patch)) {
                let means: [f32; 3] = std::array::from_fn(|channel| {
                    let rows = (top..top + patch).map(|y| (channel * IMAGE + y) * IMAGE + left);
                    let sum: f32 = rows.flat_map(|start| &frame[start..start + patch]).sum();
                    sum / (patch * patch) as f32
                });
                features.extend(means.iter().cycle().take(WIDTH));
            }
        }
        let tokens = frames * GRID * GRID;
        match self.id.as_str() {
            "wrong-shape" => TensorBuf::from_vec(features, &[batch, WIDTH, tokens]),
            _ => TensorBuf::from_vec(features, &[batch, tokens, WIDTH]),
        }
    }
}
