//! Where a model computes, and in which precision.

use merv_architectures::{precision::Precision, request::precision_or};
use merv_plugin_api::{Device, DeviceKind, ModelSource, PluginError};
use tch::{Cuda, Kind};

/// A device that is present, and the precision of matrix products on it.
#[derive(Clone, Copy)]
pub struct Placement {
    pub device: Device,
    pub precision: Precision,
}

impl Placement {
    /// Reads what a request asks for. Products are computed in `f32` on the CPU and in `bf16` on other devices, unless the
    /// request says otherwise.
    pub fn of(model: &ModelSource) -> Result<Self, PluginError> {
        check_present(model.device)?;
        let default = match model.device {
            Device::CPU => Precision::F32,
            _ => Precision::Bf16,
        };
        Ok(Self {
            device: model.device,
            precision: precision_or(model, default)?,
        })
    }

    /// Returns the device as libtorch names it.
    pub fn torch(self) -> tch::Device {
        torch_device(self.device)
    }

    /// Returns the type of the operands of matrix products.
    pub fn operands(self) -> Kind {
        match self.precision {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        }
    }
}

/// Returns a device as libtorch names it.
pub fn torch_device(device: Device) -> tch::Device {
    match device.kind {
        DeviceKind::CUDA => tch::Device::Cuda(device.ordinal as usize),
        _ => tch::Device::Cpu,
    }
}

/// Returns the CUDA devices that libtorch can use.
pub fn cuda_devices() -> impl Iterator<Item = Device> {
    let count = match Cuda::is_available() {
        true => u32::try_from(Cuda::device_count()).unwrap_or(0),
        false => 0,
    };
    (0..count).map(|ordinal| Device::new(DeviceKind::CUDA, ordinal))
}

/// Checks that libtorch can use a device.
pub fn check_present(device: Device) -> Result<(), PluginError> {
    if device == Device::CPU || cuda_devices().any(|present| present == device) {
        return Ok(());
    }
    let message = match device.kind {
        DeviceKind::CUDA if cuda_devices().next().is_none() => format!(
            "{device} was requested, but libtorch finds no CUDA device: use a libtorch that was built for CUDA and the \
             driver that it needs, or set `device = \"cpu\"`"
        ),
        DeviceKind::CUDA => format!(
            "{device} was requested, but the devices are {}",
            cuda_devices()
                .map(|device| device.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ),
        _ => format!("{device} was requested, but this plugin computes on cpu and cuda"),
    };
    Err(PluginError::unsupported(message))
}
