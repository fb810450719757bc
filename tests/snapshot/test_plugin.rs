//! A plugin that is built against the snapshot, and against pretended versions after it.

use crate::*;

/// Returns the first value of each frame as its feature.
struct FirstPixel(EncoderInfo);

impl Encoder for FirstPixel {
    fn info(&self) -> EncoderInfo {
        self.0.clone()
    }

    /// `[B, F, 3, 2, 2] -> [B, F, 1]`
    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, PluginError> {
        let [batch, frames, channels, height, width] = clips.pixels.dims::<5>()?;
        if clips.pixels.f32s()?.first() == Some(&-1.0) {
            panic!("as requested");
        }
        let all = clips.pixels.f32s()?.chunks_exact(channels * height * width);
        let first = all.filter_map(|frame| frame.first().copied()).collect();
        TensorBuf::from_vec::<f32>(first, &[batch, frames, 1])
    }
}

/// A registry needs a different id for each encoder.
const ID: &str = if cfg!(wider) {
    "first-pixel-wider"
} else {
    concat!("first-pixel-", env!("CARGO_PKG_VERSION"))
};

struct Snapshot;

impl Plugin for Snapshot {
    const MANIFEST: Manifest = Manifest::new("snapshot", env!("CARGO_PKG_VERSION"))
        .license("MIT")
        .provides(&[Provided::encoder(ID, "no weights").without_weights()]);

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        let grid = [request.num_frames, 1];
        Ok(EncoderInfo::new(
            1,
            request.num_frames,
            grid,
            PreprocessSpec::new(2),
        ))
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        Ok(EncoderObject::new(FirstPixel(Self::describe_encoder(
            request,
        )?)))
    }
}

crate::export_plugin!(Snapshot);
