//! Encoders that return mean colours.

use crate::{memory, present, scale::Scale};
use merv_plugin_api::{
    AdamWStep, Clips, Device, Encoder, EncoderInfo, EncoderRequest, ParameterInfo, ParameterRange,
    PluginError, PreprocessSpec, Ranges, ReadyGradients, StatePart, TakeTensor, TensorBuf,
    TensorView, Trainable, TrainableEncoder, TrainingOptions, VisitTensor,
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
    scale: Scale,
}

impl MeanColours {
    pub fn load(request: &EncoderRequest) -> Result<Self, PluginError> {
        let on_device = request.model.id == ON_DEVICE;
        let info = describe(request)?;
        let place = if on_device { info.device } else { Device::CPU };
        Ok(Self {
            info,
            gain: gain(request)?.unwrap_or(1.0),
            on_device,
            scale: Scale::new(WIDTH, place),
        })
    }

    /// `[B, F, 3, 64, 64] -> [B, F · 64, 64]`: the mean red, green and blue of each patch, repeated. Before the scale.
    fn means(&self, clips: &Clips<'_>) -> Result<(Vec<f32>, [usize; 3]), PluginError> {
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
        Ok((features, [batch, frames * GRID * GRID, WIDTH]))
    }

    /// Multiplies each column with its factor.
    fn scaled(&self, means: &[f32], shape: &[usize]) -> Result<TensorBuf, PluginError> {
        let factors = self.scale.factors()?;
        let pairs = means.iter().zip(factors.iter().cycle());
        let features = pairs.map(|(mean, factor)| mean * factor).collect();
        match self.on_device {
            true => memory::result(features, self.info.device, shape),
            false => TensorBuf::from_vec(features, shape),
        }
    }
}

impl Encoder for MeanColours {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    /// `[B, F, 3, 64, 64] -> [B, F · 64, 64]`
    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, PluginError> {
        let (means, shape) = self.means(clips)?;
        self.scaled(&means, &shape)
    }
}

impl TrainableEncoder for MeanColours {
    type Tape = Vec<f32>;

    fn forward_train(&self, clips: &Clips<'_>) -> Result<(TensorBuf, Self::Tape), PluginError> {
        self.scale.is_trained()?;
        let (means, shape) = self.means(clips)?;
        Ok((self.scaled(&means, &shape)?, means))
    }

    fn backward(
        &self,
        means: Self::Tape,
        gradient: &TensorView<'_>,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<(), PluginError> {
        let gradient = match self.on_device {
            true => memory::input(gradient)?,
            false => gradient.f32s()?.to_vec(),
        };
        if gradient.len() != means.len() {
            return Err(PluginError::invalid("expected a gradient of the features"));
        }
        self.scale.change(StatePart::GRADIENT, |sums| {
            for (index, (mean, gradient)) in means.iter().zip(&gradient).enumerate() {
                sums[index % WIDTH] += mean * gradient;
            }
        })?;
        ready(&[0])
    }
}

impl Trainable for MeanColours {
    fn begin_training(&self, options: &TrainingOptions) -> Result<(), PluginError> {
        self.scale.begin(options)
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
        self.scale.parameters()
    }

    fn visit(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        visit: &mut VisitTensor<'_>,
    ) -> Result<(), PluginError> {
        self.scale.visit(part, ranges, visit)
    }

    fn gradient_squares(&self, ranges: Ranges<'_>) -> Result<f64, PluginError> {
        self.scale.gradient_squares(ranges)
    }

    fn clear_gradients(&self) -> Result<(), PluginError> {
        self.scale.clear_gradients()
    }

    fn apply_adamw(&self, step: &AdamWStep, ranges: Ranges<'_>) -> Result<(), PluginError> {
        self.scale.apply_adamw(step, ranges)
    }

    fn export(
        &self,
        part: StatePart,
        ranges: Ranges<'_>,
        take: &mut TakeTensor<'_>,
    ) -> Result<(), PluginError> {
        self.scale.export(part, ranges, take)
    }

    fn import(
        &self,
        part: StatePart,
        range: ParameterRange,
        values: &TensorView<'_>,
    ) -> Result<(), PluginError> {
        self.scale.import(part, range, values)
    }
}
