//! Registry files, and the files that they refer to.

mod configs;
mod mistakes;
mod published;
mod requests;
mod untrained;
mod weights;

/// The folders of the encoders and the language model in the lively model, each with a tensor that it needs.
const MODELS: [(&str, &str); 5] = [
    (
        "languagebind",
        "vision_model.encoder.layers.0.self_attn.k_proj.weight",
    ),
    ("dinov2", "blocks.1.attn.qkv.weight"),
    (
        "vivit",
        "vivit.encoder.layer.1.attention.attention.key.weight",
    ),
    ("siglip", "blocks.0.attn.proj.bias"),
    ("llm", "model.layers.2.mlp.gate_proj.weight"),
];

const MIXER: (&str, &str) = (
    "mixer.safetensors",
    "projectors.2.projector.projector.weight",
);

/// Every weights file of the lively model, with a tensor that must be in it.
fn weights() -> impl Iterator<Item = (String, &'static str)> {
    let models = MODELS.map(|(folder, tensor)| (format!("{folder}/model.safetensors"), tensor));
    models.into_iter().chain([(MIXER.0.to_owned(), MIXER.1)])
}
