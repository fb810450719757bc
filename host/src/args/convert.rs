use clap::ValueEnum;
use merv_host::convert::Dtype;
use std::path::PathBuf;

/// Turn a checkpoint into safetensors files
///
/// A MERV checkpoint becomes a mixer, a language model and, with --registry, a registry that uses them.
#[derive(Debug, clap::Args)]
pub struct Convert {
    /// The checkpoint: safetensors, PyTorch (.bin, .pt), GGUF, several shards, or their index
    #[arg(required = true, value_name = "INPUT")]
    pub input: Vec<PathBuf>,
    /// The folder to create
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How to store floating-point numbers; integers stay as they are
    #[arg(long, value_name = "DTYPE", default_value = "keep")]
    pub dtype: DtypeChoice,
    /// Start another file when a file would exceed this size: a number of bytes, or with a unit: KB, MB, GB,
    /// KiB, MiB or GiB
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = size)]
    pub max_shard_size: u64,
    /// Replace what an earlier conversion left in the folder
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Values of `--dtype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeChoice {
    /// As in the checkpoint.
    Keep,
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Brain floating point.
    Bf16,
}

impl DtypeChoice {
    /// Returns the type to convert to; `None` keeps the types of the checkpoint.
    pub fn target(self) -> Option<Dtype> {
        match self {
            Self::Keep => None,
            Self::F32 => Some(Dtype::F32),
            Self::F16 => Some(Dtype::F16),
            Self::Bf16 => Some(Dtype::BF16),
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err("expected a number of bytes, such as 5GB or 500MiB".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a number of bytes, such as 5GB or 500MiB".to_owned())?;
    let bytes: Option<u64> = number.checked_mul(factor);
    bytes
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "expected more than 0 and less than 2^64 bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("12"), Ok(12));
        assert_eq!(size("5GB"), Ok(5_000_000_000));
        assert_eq!(size("2 MiB"), Ok(2 << 20));
        for wrong in ["", "GB", "0", "-1", "1.5GB", "5 XB", "99999999999GB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
