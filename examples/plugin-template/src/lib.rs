use merv_plugin_api::*;

struct MeanColour(EncoderInfo);

impl Encoder for MeanColour {
    fn info(&self) -> EncoderInfo {
        self.0.clone()
    }

    /// `[B, F, 3, H, W] -> [B, F, 3]`: the mean of each channel of each frame.
    fn encode(&self, clips: &Clips<'_>) -> Result<TensorBuf, PluginError> {
        let [batch, frames, channels, height, width] = clips.pixels.dims::<5>()?;
        let plane = height * width;
        let means = clips.pixels.f32s()?.chunks(plane).map(|p| p.iter().sum::<f32>() / plane as f32);
        TensorBuf::from_vec(means.collect::<Vec<f32>>(), &[batch, frames, channels])
    }
}

struct MyPlugin;

impl Plugin for MyPlugin {
    const MANIFEST: Manifest = Manifest::new("mean-colour", env!("CARGO_PKG_VERSION"))
        .license("MIT")
        .provides(&[Provided::encoder("mean-colour", "no weights").without_weights()]);

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        let preprocess = PreprocessSpec::new(request.image_size.unwrap_or(32));
        Ok(EncoderInfo::new(3, request.num_frames, [request.num_frames, 1], preprocess))
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        Ok(EncoderObject::new(MeanColour(Self::describe_encoder(request)?)))
    }
}

merv_plugin_api::export_plugin!(MyPlugin);
