//! The arguments of timm's `VisionTransformer` and `create_model` in a `config.json` (`model_args`). Each one
//! sets a size, has no effect on what a loaded model computes, or is refused.

use super::config::{Pool, VitConfig};
use crate::{Result, activation::Activation, config::CHANNELS};
use merv_plugin_api::PluginError;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// `model_args`: arguments that override those of the architecture.
pub type Arguments = Map<String, Value>;

/// Arguments of training, of the creation of a model, and of the classifier, which no encoder uses.
/// `dynamic_img_size` has no effect because positions are always resampled.
const WITHOUT_EFFECT: [&str; 23] = [
    "attn_drop_rate",
    "cache_dir",
    "device",
    "drop_path_rate",
    "drop_rate",
    "dtype",
    "dynamic_img_size",
    "exportable",
    "feature_cls",
    "features_only",
    "fix_init",
    "no_jit",
    "num_classes",
    "out_indices",
    "patch_drop_rate",
    "pos_drop_rate",
    "pretrained",
    "pretrained_model_args",
    "pretrained_strict",
    "proj_drop_rate",
    "scriptable",
    "strict_img_size",
    "weight_init",
];

/// Arguments that must have this value, because any other value makes a different model.
const ONLY: [(&str, &str); 16] = [
    ("attn_layer", "\"attn\""),
    ("block_fn", "no value"),
    ("checkpoint_path", "no value"),
    ("dynamic_img_pad", "false"),
    ("embed_layer", "no value"),
    ("embed_norm_layer", "no value"),
    ("mlp_layer", "no value"),
    ("norm_layer", "\"layernorm\""),
    ("pos_embed", "\"learn\""),
    ("pretrained_cfg", "no value"),
    ("pretrained_cfg_overlay", "no value"),
    ("pruned", "false"),
    ("qk_norm", "false"),
    ("scale_attn_norm", "false"),
    ("scale_mlp_norm", "false"),
    ("use_naflex", "false"),
];

/// As [`ONLY`], for arguments that take effect after the last block but one, so only in pooled features.
const ONLY_POOLED: [(&str, &str); 3] = [
    ("fc_norm", "false"),
    ("final_norm", "true"),
    ("pool_include_prefix", "false"),
];

/// The side of a square, or height and width.
#[derive(Deserialize)]
#[serde(untagged)]
enum Side {
    One(usize),
    Two([usize; 2]),
}

impl VitConfig {
    /// Applies `arguments` to this architecture. As in timm, null means that an argument is not given.
    /// `pooled` is whether the features are pooled.
    ///
    /// # Errors
    ///
    /// When an argument makes an unsupported model, has a value of another type, or is not one of timm's
    /// arguments. The message contains the argument and what is supported.
    pub fn with(mut self, arguments: &Arguments, pooled: bool) -> Result<Self> {
        for (key, value) in arguments.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "img_size" => self.img_size = side(key, value)?,
                "patch_size" => self.patch_size = side(key, value)?,
                "embed_dim" => self.embed_dim = read(key, value, "a number")?,
                "depth" => self.depth = read(key, value, "a number")?,
                "num_heads" => self.num_heads = read(key, value, "a number")?,
                "mlp_ratio" => self.mlp_ratio = read(key, value, "a number")?,
                "reg_tokens" => self.reg_tokens = read(key, value, "a number")?,
                "class_token" => self.class_token = read(key, value, "true or false")?,
                "no_embed_class" => self.no_embed_class = read(key, value, "true or false")?,
                "pre_norm" => self.pre_norm = read(key, value, "true or false")?,
                "qkv_bias" => self.qkv_bias = read(key, value, "true or false")?,
                "proj_bias" => self.proj_bias = read(key, value, "true or false")?,
                // The number is only the initial value in training.
                "init_values" => {
                    read::<f64>(key, value, "a number")?;
                    self.layer_scale = true;
                }
                "act_layer" => {
                    let supported = "\"gelu\", \"gelu_tanh\", \"quick_gelu\" or \"silu\"";
                    self.activation = read::<Activation>(key, value, supported)?;
                }
                "in_chans" if value.as_u64() == Some(CHANNELS as u64) => {}
                "in_chans" => return Err(unsupported(key, value, &CHANNELS.to_string())),
                "global_pool" => match (value.as_str().and_then(Pool::named), pooled) {
                    (Some(pool), _) => self.pool = pool,
                    (None, false) if value.is_string() => {}
                    (None, _) => return Err(unsupported(key, value, "\"token\" or \"map\"")),
                },
                _ => only(key, value, pooled)?,
            }
        }
        Ok(self)
    }
}

/// Checks an argument that does not set a size.
fn only(key: &str, value: &Value, pooled: bool) -> Result<()> {
    let found = |list: &[(&str, &'static str)]| {
        let row = list.iter().find(|(name, _)| *name == key);
        row.map(|(_, supported)| *supported)
    };
    let supported = match (found(&ONLY), found(&ONLY_POOLED)) {
        (Some(supported), _) => supported,
        (None, Some(supported)) if pooled => supported,
        (None, Some(_)) => return Ok(()),
        (None, None) if WITHOUT_EFFECT.contains(&key) => return Ok(()),
        (None, None) => {
            return Err(PluginError::weights(format!(
                "`model_args` contains `{key}`, which is not an argument of timm's vision transformer; \
                 remove it, or correct its name"
            )));
        }
    };
    if serde_json::from_str::<Value>(supported).is_ok_and(|only| only == *value) {
        return Ok(());
    }
    Err(unsupported(key, value, supported))
}

fn side(key: &str, value: &Value) -> Result<usize> {
    match read(key, value, "a number, or the same number twice")? {
        Side::One(side) => Ok(side),
        Side::Two([height, width]) if height == width => Ok(height),
        Side::Two(_) => Err(unsupported(key, value, "a square")),
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &Value, supported: &str) -> Result<T> {
    T::deserialize(value).map_err(|_| unsupported(key, value, supported))
}

fn unsupported(key: &str, value: &Value, supported: &str) -> PluginError {
    /// The number of characters of a value in the message.
    const SHOWN: usize = 60;
    let value: String = value.to_string().chars().take(SHOWN).collect();
    PluginError::weights(format!(
        "`model_args` contains `{key}` = {value}; this plugin supports {supported}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(arguments: Value, pooled: bool) -> Result<VitConfig> {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object");
        };
        VitConfig::default().with(&arguments, pooled)
    }

    #[test]
    fn sizes_are_applied() {
        let found = with(
            json!({
                "img_size": [32, 32], "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3,
                "mlp_ratio": 1.5, "reg_tokens": 2, "class_token": false, "no_embed_class": true,
                "pre_norm": true, "qkv_bias": false, "proj_bias": false, "init_values": 1e-5,
                "act_layer": "quick_gelu", "global_pool": "map", "in_chans": 3,
            }),
            true,
        );
        let expected = VitConfig {
            img_size: 32,
            patch_size: 8,
            embed_dim: 24,
            depth: 2,
            num_heads: 3,
            mlp_ratio: 1.5,
            reg_tokens: 2,
            class_token: false,
            no_embed_class: true,
            pre_norm: true,
            qkv_bias: false,
            proj_bias: false,
            layer_scale: true,
            activation: Activation::QuickGelu,
            pool: Pool::Map,
            epsilon: 1e-6,
        };
        assert_eq!(found.unwrap(), expected);
        let nothing = json!({ "init_values": null, "act_layer": null, "norm_layer": null });
        assert_eq!(with(nothing, true).unwrap(), VitConfig::default());
    }

    #[test]
    fn arguments_without_effect_are_accepted() {
        let mut all = Map::new();
        for key in WITHOUT_EFFECT {
            all.insert(key.to_owned(), json!(0.5));
        }
        for (key, only) in ONLY.iter().chain(&ONLY_POOLED) {
            let value = serde_json::from_str(only).unwrap_or(Value::Null);
            all.insert((*key).to_owned(), value);
        }
        let found = with(Value::Object(all), true).unwrap();
        assert_eq!(found, VitConfig::default());
        let pooling = json!({ "fc_norm": true, "final_norm": false, "global_pool": "avg" });
        assert_eq!(with(pooling, false).unwrap(), VitConfig::default());
    }

    #[test]
    fn arguments_of_other_models_are_refused() {
        for (key, value, supported) in [
            ("qk_norm", json!(true), "false"),
            ("norm_layer", json!("rmsnorm"), "\"layernorm\""),
            ("act_layer", json!("relu"), "quick_gelu"),
            ("pos_embed", json!("none"), "\"learn\""),
            ("embed_layer", json!("hybrid"), "no value"),
            ("in_chans", json!(1), "3"),
            ("img_size", json!([224, 196]), "a square"),
            ("depth", json!("12"), "a number"),
            ("global_pool", json!("avg"), "\"token\" or \"map\""),
            ("fc_norm", json!(true), "false"),
            ("final_norm", json!(false), "true"),
            ("clas_token", json!(true), "not an argument"),
        ] {
            let mut arguments = Map::new();
            arguments.insert(key.to_owned(), value);
            let error = with(Value::Object(arguments), true)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(&format!("`{key}`")) && error.contains(supported),
                "{key}: {error}"
            );
        }
    }
}
