//! The device and the number format of a model in a registry.

use std::fmt;
use std::str::FromStr;

use merv_architectures::nearest::nearest;
use merv_plugin_api::Device;

/// The device that a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceChoice {
    /// The CPU if the plugin serves it, otherwise the first device that the plugin serves.
    #[default]
    Auto,
    /// This device.
    On(Device),
}

/// The number format that a model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DtypeChoice {
    /// The plugin chooses a format for its device.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// bfloat16.
    Bf16,
}

impl DeviceChoice {
    /// Returns the device, unless the plugin's devices decide.
    pub fn device(self) -> Option<Device> {
        match self {
            Self::Auto => None,
            Self::On(device) => Some(device),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::On).map_err(|_| {
            let hint = match text.to_lowercase().as_str() {
                "gpu" => "; for the first GPU, write `cuda:0`",
                _ => "",
            };
            format!(
                "a device is `auto`, `cpu`, or a kind and a number that starts at 0, such as `cuda:1`{hint}"
            )
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::On(device) => device.fmt(f),
        }
    }
}

impl FromStr for DtypeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "auto" => Self::Auto,
            "f32" => Self::F32,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            _ => {
                let meant = match text {
                    "float32" | "float" => Some("f32"),
                    "float16" | "half" | "fp16" => Some("f16"),
                    "bfloat16" => Some("bf16"),
                    _ => nearest(text, &["auto", "f32", "f16", "bf16"]),
                };
                let hint = meant.map(|name| format!("; did you mean `{name}`?"));
                return Err(format!(
                    "a dtype is `auto`, `f32`, `f16` or `bf16`{}",
                    hint.unwrap_or_default()
                ));
            }
        })
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}
