//! A plugin with a fusion that computes the same as the host's `scalar`, and a whole mixer, each once with and once
//! without training.

mod mean_token;
mod model;
mod scalar;

use merv_plugin_api::{
    Manifest, MixerInfo, MixerObject, MixerRequest, MixerWeights, Plugin, PluginError, Provided,
    feature,
};

struct Mixers;

impl Plugin for Mixers {
    const MANIFEST: Manifest = Manifest::new("mixers", env!("CARGO_PKG_VERSION"))
        .license("MIT")
        .provides(&[
            Provided::fusion("scalar-of-a-plugin").features(&[feature::TRAIN]),
            Provided::fusion("frozen-scalar"),
            Provided::mixer("mean-token").features(&[feature::TRAIN]),
            Provided::mixer("frozen-mean-token"),
        ]);

    fn describe_mixer(request: &MixerRequest) -> Result<MixerInfo, PluginError> {
        match request.model.id.as_str() {
            "scalar-of-a-plugin" | "frozen-scalar" => scalar::describe(request),
            "mean-token" | "frozen-mean-token" => Ok(mean_token::describe(request)),
            id => Err(PluginError::unsupported(format!("no mixer `{id}`"))),
        }
    }

    fn load_mixer(
        request: &MixerRequest,
        weights: &MixerWeights<'_>,
    ) -> Result<MixerObject, PluginError> {
        match request.model.id.as_str() {
            "scalar-of-a-plugin" => scalar::load(request, weights).map(MixerObject::trainable),
            "frozen-scalar" => scalar::load(request, weights).map(MixerObject::new),
            "mean-token" => mean_token::load(request, weights).map(MixerObject::trainable),
            _ => mean_token::load(request, weights).map(MixerObject::new),
        }
    }
}

merv_plugin_api::export_plugin!(Mixers);
