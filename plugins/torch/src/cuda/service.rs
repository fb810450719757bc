//! The service through which the host uses the memory of CUDA devices.

use super::driver;
use crate::{
    failure::{Failure, Result},
    placement::{check_present, cuda_devices, torch_device},
    tensor::{DEFAULT_STREAM, kind, over, owned, sizes},
};
use merv_plugin_api::{
    DType, Device, DeviceInfo, DeviceService, PluginError, Stream, TensorBuf, TensorView,
    TensorViewMut,
};
use tch::{Cuda, Tensor, no_grad_guard};

/// The CUDA devices that libtorch can use. Everything runs on libtorch's default stream of a device.
pub struct Service;

/// Checks that a device of this service exists.
fn present(device: Device) -> Result<(), PluginError> {
    match device.is_main_memory() {
        false => check_present(device),
        true => Err(PluginError::invalid(format!(
            "{device} is main memory, not a device of this plugin"
        ))),
    }
}

fn known(stream: Stream) -> Result<(), PluginError> {
    match [Stream::COMPLETE, DEFAULT_STREAM].contains(&stream) {
        true => Ok(()),
        false => Err(PluginError::invalid(format!(
            "there is no stream {} on the devices of this plugin",
            stream.0
        ))),
    }
}

fn synchronize(device: Device) {
    Cuda::synchronize(i64::from(device.ordinal));
}

impl DeviceService for Service {
    fn devices(&self) -> Result<Vec<DeviceInfo>, PluginError> {
        let all: Vec<Device> = cuda_devices().collect();
        let described = all.iter().map(|&device| {
            let found = driver::describe(device.ordinal)?;
            let peers: Vec<Device> = all
                .iter()
                .copied()
                .filter(|&other| other != device)
                .collect();
            Ok(DeviceInfo::new(device, &found.name, found.total).peers(&peers))
        });
        described.collect()
    }

    fn free_memory(&self, device: Device) -> Result<u64, PluginError> {
        present(device)?;
        Ok(driver::describe(device.ordinal)?.free)
    }

    fn allocate(
        &self,
        device: Device,
        dtype: DType,
        shape: &[usize],
    ) -> Result<TensorBuf, PluginError> {
        present(device)?;
        let options = (kind(dtype)?, torch_device(device));
        let memory = Tensor::f_empty(sizes(shape), options).map_err(|error| {
            let mut error = PluginError::from(Failure::from(error));
            let bytes = shape
                .iter()
                .product::<usize>()
                .saturating_mul(options.0.elt_size_in_bytes());
            error.message = format!("{bytes} bytes on {device}: {}", error.message);
            error
        })?;
        // Memory that nothing was written to is complete, and what used it before is earlier on the default stream.
        synchronize(device);
        Ok(owned(memory, dtype, Stream::COMPLETE)?)
    }

    fn copy(
        &self,
        source: &TensorView<'_>,
        target: &mut TensorViewMut<'_>,
    ) -> Result<(), PluginError> {
        let written = target.view();
        if (source.dtype(), source.shape()) != (written.dtype(), written.shape()) {
            return Err(PluginError::invalid(format!(
                "a copy does not change dtype or shape: from {source:?} to {written:?}"
            )));
        }
        let sides = [source, &written].map(|view| (view.device(), view.stream()));
        let devices: Vec<_> = sides
            .iter()
            .filter(|(device, _)| !device.is_main_memory())
            .collect();
        if devices.is_empty() {
            return Err(PluginError::unsupported(format!(
                "cannot copy from {source:?} to {written:?}: one of them must be on a CUDA device"
            )));
        }
        for (device, stream) in &devices {
            present(*device)?;
            known(*stream)?;
        }
        let (dtype, shape) = (source.dtype(), source.shape().to_vec());
        // SAFETY: both views are borrowed for this call, which returns when the copy is complete.
        let (from, mut to) = unsafe {
            (
                over(source.as_ptr(), dtype, source.device(), &shape)?,
                over(target.as_mut_ptr(), dtype, target.view().device(), &shape)?,
            )
        };
        let _guard = no_grad_guard();
        to.f_copy_(&from).map_err(Failure::from)?;
        for (device, _) in devices {
            synchronize(*device);
        }
        Ok(())
    }

    fn wait(&self, device: Device, consumer: Stream, producer: Stream) -> Result<(), PluginError> {
        present(device)?;
        known(producer)?;
        known(consumer)?;
        match consumer == producer || consumer == Stream::COMPLETE {
            true => Err(PluginError::invalid(format!(
                "stream {} cannot wait for stream {}",
                consumer.0, producer.0
            ))),
            false => Ok(()),
        }
    }

    fn synchronize_stream(&self, device: Device, stream: Stream) -> Result<(), PluginError> {
        present(device)?;
        known(stream)?;
        if stream != Stream::COMPLETE {
            synchronize(device);
        }
        Ok(())
    }

    fn synchronize_device(&self, device: Device) -> Result<(), PluginError> {
        present(device)?;
        synchronize(device);
        Ok(())
    }
}
