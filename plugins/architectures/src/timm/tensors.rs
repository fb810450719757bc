//! The names of the tensors in files of timm and open_clip.

use super::config::{OPEN_CLIP, POSITIONS, VitConfig, VitFeatures};

/// Tensors of open_clip's files that do not belong to the tower.
const OPEN_CLIP_REST: [&str; 4] = ["text.", "logit_scale", "logit_bias", "visual.head."];

/// Tensors after the blocks, which only pooled features need.
const POOLING: [&str; 4] = ["norm.", "attn_pool.", "fc_norm.", "head."];

/// Returns the prefix of the tower's tensors, if the files have one. `contains` tells whether they have a tensor.
pub fn root(contains: impl Fn(&str) -> bool) -> Option<&'static str> {
    contains(&format!("{OPEN_CLIP}{POSITIONS}")).then(|| OPEN_CLIP.trim_end_matches('.'))
}

/// Returns the tensors that the files may have although `features` do not need them, with and without open_clip's prefix.
/// `more` lists further ones of the tower.
pub fn unused(config: &VitConfig, features: VitFeatures, more: &[&str]) -> Vec<String> {
    let mut rest: Vec<String> = more.iter().map(ToString::to_string).collect();
    if features == VitFeatures::Pooled {
        rest.push("head.".to_owned());
    } else {
        rest.extend(POOLING.map(str::to_owned));
        rest.push(format!("blocks.{}.", config.depth - 1));
    }
    let in_open_clip: Vec<_> = rest
        .iter()
        .map(|name| format!("{OPEN_CLIP}{name}"))
        .collect();
    rest.extend(in_open_clip);
    rest.extend(OPEN_CLIP_REST.map(str::to_owned));
    rest
}
