use crate::code::open_code;
use abi_stable::StableAbi;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

open_code! {
    /// A kind of device, with DLPack's number (`DLDeviceType`).
    DeviceKind, "kind of device" {
        /// Main memory.
        CPU = 1, "cpu";
        /// Memory of the CUDA device's primary context.
        CUDA = 2, "cuda";
        /// Pinned main memory, allocated by CUDA.
        CUDA_HOST = 3, "cuda-host";
        /// Vulkan buffers.
        VULKAN = 7, "vulkan";
        /// Metal buffers.
        METAL = 8, "metal";
        /// Memory of a ROCm device.
        ROCM = 10, "rocm";
        /// Pinned main memory, allocated by ROCm.
        ROCM_HOST = 11, "rocm-host";
        /// A device that only its plugin knows.
        EXTENSION = 12, "ext";
        /// Memory of a oneAPI device.
        ONE_API = 14, "oneapi";
        /// WebGPU buffers.
        WEB_GPU = 15, "webgpu";
    }
}

/// A device: its kind and its number.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// The kind.
    pub kind: DeviceKind,
    /// The number among the devices of this kind; 0 for the CPU.
    pub ordinal: u32,
}

impl Device {
    /// The CPU.
    pub const CPU: Self = Self::new(DeviceKind::CPU, 0);

    /// Returns the device `ordinal` of a kind.
    pub const fn new(kind: DeviceKind, ordinal: u32) -> Self {
        Self { kind, ordinal }
    }

    /// Returns whether the program can read and write the device's memory through ordinary pointers.
    pub fn is_main_memory(self) -> bool {
        let kinds = [
            DeviceKind::CPU,
            DeviceKind::CUDA_HOST,
            DeviceKind::ROCM_HOST,
        ];
        kinds.contains(&self.kind)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::CPU => f.write_str("cpu"),
            Self { kind, ordinal } => write!(f, "{kind}:{ordinal}"),
        }
    }
}

/// The text of a device that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDevice(String);

impl fmt::Display for UnknownDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected a device such as `cpu`, `cuda` or `cuda:1`, found `{}`",
            self.0
        )
    }
}

impl std::error::Error for UnknownDevice {}

impl FromStr for Device {
    type Err = UnknownDevice;

    /// Reads `cpu`, `cuda` (its first device) or `cuda:1`.
    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let (kind, ordinal) = text.split_once(':').unwrap_or((text, "0"));
        let kind = DeviceKind::from_name(kind);
        let digits = ordinal.bytes().all(|byte| byte.is_ascii_digit());
        match (kind, ordinal.parse()) {
            (Some(DeviceKind::CPU), Ok(1..)) => Err(UnknownDevice(text.to_owned())),
            (Some(kind), Ok(ordinal)) if digits => Ok(Self { kind, ordinal }),
            _ => Err(UnknownDevice(text.to_owned())),
        }
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
