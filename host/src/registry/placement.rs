//! The device and the number format of a model in a registry.

use std::fmt;
use std::str::FromStr;

use crate::nearest::nearest;

/// The device that a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceChoice {
    /// The best device that the plugin supports.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this ordinal.
    Cuda(u32),
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

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            _ => {}
        }
        if let Some(ordinal) = text.strip_prefix("cuda:")
            && ordinal.bytes().all(|b| b.is_ascii_digit())
            && let Ok(ordinal) = ordinal.parse()
        {
            return Ok(Self::Cuda(ordinal));
        }
        let hint = match text.to_lowercase().as_str() {
            "cuda" | "gpu" => "; for the first GPU, write `cuda:0`",
            _ => "",
        };
        Err(format!(
            "a device is `auto`, `cpu` or `cuda:N` with N starting at 0{hint}"
        ))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
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
