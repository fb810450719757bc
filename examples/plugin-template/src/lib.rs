use merv_plugin_api::*;

struct MeanColour {
    info: EncoderInfo,
}

impl Encoder for MeanColour {
    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    /// `[B, F, 3, H, W] -> [B, F, 3]`: the mean of each channel of each frame.
    fn encode(&self, clips: &TensorView<'_>) -> Result<TensorBuf, PluginError> {
        let [batch, frames, channels, height, width] = clips.dims::<5>()?;
        let plane = height * width;
        let means = clips.f32s()?.chunks(plane).map(|p| p.iter().sum::<f32>() / plane as f32);
        TensorBuf::from_vec(means.collect::<Vec<f32>>(), &[batch, frames, channels])
    }
}

struct MyPlugin;

impl Plugin for MyPlugin {
    fn manifest() -> Manifest {
        Manifest::new("mean-colour", env!("CARGO_PKG_VERSION"))
            .license("MIT")
            .encoder_without_weights("mean-colour")
    }

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        let image_size = request.image_size.unwrap_or(32);
        Ok(EncoderInfo {
            width: 3,
            num_frames: request.num_frames,
            image_size,
            temporal: request.num_frames,
            spatial: 1,
            preprocess: PreprocessSpec {
                image_size,
                short_side: image_size,
                interpolation: Interpolation::Bilinear,
                domain: ResizeDomain::PillowU8,
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            dtype: DType::F32,
            parameters: 0,
            macs_per_clip: 0,
        })
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        Ok(EncoderObject::new(MeanColour { info: Self::describe_encoder(request)? }))
    }
}

merv_plugin_api::export_plugin!(MyPlugin);
