//! The service of the pretend devices. Its properties are the counts of what happened.

use crate::{
    memory,
    table::{self, Counts},
};
use merv_plugin_api::{
    DType, Device, DeviceInfo, DeviceService, PluginError, Stream, TensorBuf, TensorView,
    TensorViewMut,
};
use std::slice;

pub struct Service;

fn described(device: Device, counts: &Counts) -> Result<DeviceInfo, PluginError> {
    let others: Vec<Device> = table::devices().filter(|&other| other != device).collect();
    let info = DeviceInfo::new(device, "pretend device", table::capacity(device)?).peers(&others);
    let counted = [
        ("allocations", counts.allocations),
        ("releases", counts.releases),
        ("to_device", counts.to_device[0]),
        ("to_device_bytes", counts.to_device[1]),
        ("to_main", counts.to_main[0]),
        ("to_main_bytes", counts.to_main[1]),
        ("between", counts.between[0]),
        ("between_bytes", counts.between[1]),
        ("violations", counts.violations),
    ];
    Ok(counted
        .iter()
        .fold(info, |info, (name, count)| info.property(name, count)))
}

impl DeviceService for Service {
    fn devices(&self) -> Result<Vec<DeviceInfo>, PluginError> {
        let counts = memory::counts();
        table::devices()
            .map(|device| described(device, &counts))
            .collect()
    }

    fn free_memory(&self, device: Device) -> Result<u64, PluginError> {
        memory::free(device)
    }

    fn allocate(
        &self,
        device: Device,
        dtype: DType,
        shape: &[usize],
    ) -> Result<TensorBuf, PluginError> {
        memory::allocate(device, dtype, shape)
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
        let bytes = source.bytes();
        let in_main_memory = |view: &TensorView<'_>| view.device().is_main_memory();
        match (in_main_memory(source), in_main_memory(&written)) {
            (true, false) if source.stream() == Stream::COMPLETE => {
                // SAFETY: the source is complete, in main memory, and has this many bytes.
                let bytes = unsafe { slice::from_raw_parts(source.as_ptr(), bytes) };
                memory::write(bytes, &written)
            }
            (false, true) if written.stream() == Stream::COMPLETE => {
                // SAFETY: the target is borrowed exclusively, in main memory, and has this many bytes.
                let bytes = unsafe { slice::from_raw_parts_mut(target.as_mut_ptr(), bytes) };
                memory::read(source, bytes)
            }
            (false, false) => memory::between(source, &written),
            _ => Err(PluginError::unsupported(format!(
                "cannot copy from {source:?} to {written:?}: one of them must be on a pretend device"
            ))),
        }
    }

    fn wait(&self, device: Device, consumer: Stream, producer: Stream) -> Result<(), PluginError> {
        table::capacity(device)?;
        memory::wait(consumer, producer)
    }

    fn synchronize_stream(&self, device: Device, stream: Stream) -> Result<(), PluginError> {
        table::capacity(device)?;
        memory::finish(stream)
    }

    fn synchronize_device(&self, device: Device) -> Result<(), PluginError> {
        table::capacity(device)?;
        memory::finish_all();
        Ok(())
    }
}
