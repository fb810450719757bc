//! Encoders that return mean colours.

use crate::{memory, present};
use merv_plugin_api::{
    Clips, Encoder, EncoderInfo, EncoderRequest, PluginError, PreprocessSpec, TensorBuf,
};

/// An encoder that takes clips on its device, and returns features on it.
pub const ON_DEVICE: &str = "pretend-encoder";

/// An encoder that takes and returns main memory, wherever it computes.
pub const IN_MAIN_MEMORY: &str = "pretend-encoder-main";

const IMAGE: usize = 64;
/// Patches per side, each a square of `IMAGE / GRID` pixels.
const GRID: usize = 8;
const WIDTH: usize = 64;

pub fn describe(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
    let model = &request.model;
    if ![ON_DEVICE, IN_MAIN_MEMORY].contains(&model.id.as_str()) {
        return Err(PluginError::unsupported(format!(
            "no encoder `{}`",
            model.id
        )));
    }
    let positions = [request.num_frames, (GRID * GRID) as u32];
    let info = EncoderInfo::new(
        WIDTH as u32,
        request.num_frames,
        positions,
        PreprocessSpec::new(IMAGE as u32),
    )
    .device(present(model.device)?);
    Ok(match gain(request)? {
        Some(gain) => info.option("gain", gain),
        None => info,
    })
}

/// The option `gain`, which all features are multiplied with.
fn gain(request: &EncoderRequest) -> Result<Option<f32>, PluginError> {
    let Some(text) = request.model.options.get("gain") else {
        return Ok(None);
    };
    match text.parse() {
        Ok(gain) => Ok(Some(gain)),
        Err(_) => Err(PluginError::invalid(format!(
            "`gain` in `options`: expected a number, found `{text}`"
        ))),
    }
}

pub struct MeanColours {
    info: EncoderInfo,
    gain: f32,
    on_device: bool,
}

impl MeanColours {
    pub fn load(request: &EncoderRequest) -> Result<Self, PluginError> {
        Ok(Self {
            info: describe(request)?,
            gain: gain(request)?.unwrap_or(1.0),
            on_device: request.model.id == ON_DEVICE,
        })
    }
}

impl Encoder for MeanColours {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    /// `[B, F, 3, 64, 64] -> [B, F · 64, 64]`: the mean red, green and blue of each patch, repeated.
    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, PluginError> {
        let [batch, frames, channels, height, width] = clips.pixels.dims::<5>()?;
        if [channels, height, width] != [3, IMAGE, IMAGE] {
            return Err(PluginError::invalid(format!(
                "expected clips of {IMAGE} × {IMAGE} pixels, found shape {:?}",
                clips.pixels.shape()
            )));
        }
        let pixels = match self.on_device {
            true => memory::input(&clips.pixels)?,
            false => clips.pixels.f32s()?.to_vec(),
        };
        let patch = IMAGE / GRID;
        let mut features = Vec::with_capacity(batch * frames * GRID * GRID * WIDTH);
        for frame in pixels.chunks_exact(3 * IMAGE * IMAGE) {
            for (top, left) in (0..GRID * GRID).map(|i| (i / GRID * patch, i % GRID * patch)) {
                let means: [f32; 3] = std::array::from_fn(|channel| {
                    let rows = (top..top + patch).map(|y| (channel * IMAGE + y) * IMAGE + left);
                    let sum: f32 = rows.flat_map(|start| &frame[start..start + patch]).sum();
                    self.gain * sum / (patch * patch) as f32
                });
                features.extend(means.iter().cycle().take(WIDTH));
            }
        }
        let shape = [batch, frames * GRID * GRID, WIDTH];
        match self.on_device {
            true => memory::result(features, self.info.device, &shape),
            false => TensorBuf::from_vec(features, &shape),
        }
    }
}
