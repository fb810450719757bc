//! Encoders that return mean colours, fail in various ways, or log messages.

use merv_plugin_api::{
    DType, Encoder, EncoderInfo, EncoderObject, EncoderRequest, Interpolation, LogLevel,
    PluginError, PreprocessSpec, ResizeDomain, TensorBuf, TensorView, log,
};
use std::{io, panic::panic_any};

pub const IDS: &[&str] = &[
    "fine",
    "panics-in-describe",
    "panics-in-load",
    "panics-in-encode",
    "fails-in-encode",
    "wrong-shape",
    "panics-with-a-bomb",
    "of-other-frames",
    "of-no-width",
    "talks",
];

const IMAGE: usize = 64;
/// Patches per side, each a square of `IMAGE / GRID` pixels.
const GRID: usize = 8;
const WIDTH: usize = 64;

pub fn describe(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
    match request.model.id.as_str() {
        "panics-in-describe" => panic!("describe blew up, as requested"),
        id if !IDS.contains(&id) => Err(PluginError::unsupported(format!("no encoder `{id}`"))),
        id => Ok(EncoderInfo {
            width: if id == "of-no-width" { 0 } else { WIDTH as u32 },
            num_frames: request.num_frames + u32::from(id == "of-other-frames"),
            image_size: IMAGE as u32,
            temporal: request.num_frames,
            spatial: (GRID * GRID) as u32,
            preprocess: PreprocessSpec {
                image_size: IMAGE as u32,
                short_side: IMAGE as u32,
                interpolation: Interpolation::Bilinear,
                domain: ResizeDomain::PillowU8,
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            dtype: DType::F32,
            parameters: 0,
            macs_per_clip: 0,
        }),
    }
}

pub fn load(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
    if request.model.id.as_str() == "panics-in-load" {
        panic!("load blew up, as requested");
    }
    let info = describe(request)?;
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

impl Encoder for MeanColours {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    /// `[B, F, 3, 64, 64] -> [B, F · 64, 64]`: the mean red, green and blue of each patch, repeated.
    fn encode(&self, clips: &TensorView<'_>) -> Result<TensorBuf, PluginError> {
        match self.id.as_str() {
            "panics-in-encode" => panic!("encode blew up, as requested"),
            "panics-with-a-bomb" => panic_any(Bomb),
            "talks" => {
                log(LogLevel::Error, "a word of error");
                log(LogLevel::Warn, "a word of warning");
                log(LogLevel::Info, "a word of information");
                log(LogLevel::Debug, "a word of detail");
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
        let (planes, patch) = (clips.f32s()?, IMAGE / GRID);
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
