//! The frequencies of the rotary position embedding (arXiv 2104.09864). They agree with Hugging Face's
//! `LlamaRotaryEmbedding`.

use super::config::Config;
use crate::Result;
use merv_plugin_api::PluginError;
use std::f32::consts::PI;

/// Computes the angles by which pairs of coordinates are rotated from one position to the next, `[head_dim / 2]`. It uses
/// `f32`, like the original, because at large positions a rounding difference changes the angle noticeably.
///
/// # Errors
///
/// When the kind of scaling is unknown or one of its factors is missing.
pub fn frequencies(config: &Config) -> Result<Vec<f32>> {
    let dim = config.head_dim();
    let mut frequencies: Vec<f32> = (0..dim / 2)
        .map(|i| 1.0 / (config.rope_theta as f32).powf((2 * i) as f32 / dim as f32))
        .collect();
    let Some(scaling) = &config.rope_scaling else {
        return Ok(frequencies);
    };
    let positive = |name: &str, value: Option<f64>| {
        value
            .filter(|value| *value > 0.0)
            .map(|value| value as f32)
            .ok_or_else(|| {
                PluginError::weights(format!(
                    "`rope_scaling` of type `{}` requires a positive `{name}` in the config",
                    scaling.kind()
                ))
            })
    };
    match scaling.kind() {
        "default" => {}
        "linear" => {
            let factor = positive("factor", scaling.factor)?;
            frequencies
                .iter_mut()
                .for_each(|frequency| *frequency /= factor);
        }
        "llama3" => {
            let factor = positive("factor", scaling.factor)?;
            let low = positive("low_freq_factor", scaling.low_freq_factor)?;
            let high = positive("high_freq_factor", scaling.high_freq_factor)?;
            let context = scaling.original_max_position_embeddings.map(|n| n as f64);
            let context = positive("original_max_position_embeddings", context)?;
            for frequency in &mut frequencies {
                let wavelength = 2.0 * PI / *frequency;
                if wavelength > context / low {
                    *frequency /= factor;
                } else if wavelength >= context / high {
                    let smooth = (context / wavelength - low) / (high - low);
                    *frequency = (1.0 - smooth) * *frequency / factor + smooth * *frequency;
                }
            }
        }
        other => {
            return Err(PluginError::unsupported(format!(
                "`rope_scaling` of type `{other}` is not supported; expected default, linear or llama3"
            )));
        }
    }
    Ok(frequencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_smooths_the_middle_band_as_transformers_does() {
        // `ROPE_INIT_FUNCTIONS["llama3"]` of transformers 4.57.1 at Llama-3.1's sizes: pairs 29 to 34 of 64
        // have wavelengths between 2048 and 8192.
        let expected: [f64; 10] = [
            3.942_275_9e-3,
            3.211_446_1e-3,
            2.166_570_6e-3,
            1.371_893_7e-3,
            8.567_514_6e-4,
            5.248_460_2e-4,
            3.126_936_5e-4,
            1.785_077_9e-4,
            9.556_212e-5,
            7.784_655_5e-5,
        ];
        let config = r#"{"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096,
            "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}"#;
        let path = std::env::temp_dir().join(format!("llama3-rope-{}.json", std::process::id()));
        std::fs::write(&path, config).unwrap();
        let config = crate::config::read(&path);
        std::fs::remove_file(path).unwrap();
        let config = config.unwrap_or_else(|error| panic!("{error:?}"));
        let rope = frequencies(&config).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(rope.len(), 64);
        for (found, expected) in rope[27..].iter().zip(expected) {
            let difference = (f64::from(*found) / expected - 1.0).abs();
            assert!(difference < 2e-6, "{found} {expected}");
        }
    }
}
