//! [`DeviceService`] behind the ABI.

use super::{
    error::{Wire, WireError, answer, receive},
    text,
};
use crate::{
    Call, DType, Device, DeviceBuffer, DeviceInfo, DeviceService, PluginError, Stream, TensorBuf,
    TensorView, TensorViewMut, guarded::Guarded,
};
use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, RResult, RSlice, RString},
    type_level::downcasting::TD_Opaque,
};

#[sabi_trait]
pub trait DeviceServiceAbi: Send + Sync {
    /// Returns a list of [`DeviceInfo`] as text.
    fn devices(&self) -> RResult<RString, WireError>;
    fn free_memory(&self, device: Device) -> RResult<u64, WireError>;
    fn allocate(
        &self,
        device: Device,
        dtype: DType,
        shape: RSlice<'_, usize>,
    ) -> RResult<TensorBuf, WireError>;
    fn copy(
        &self,
        call: Call,
        source: TensorView<'_>,
        target: TensorViewMut<'_>,
    ) -> RResult<(), WireError>;
    fn wait(&self, device: Device, consumer: Stream, producer: Stream) -> RResult<(), WireError>;
    fn synchronize_stream(
        &self,
        call: Call,
        device: Device,
        stream: Stream,
    ) -> RResult<(), WireError>;
    #[sabi(last_prefix_field)]
    fn synchronize_device(&self, call: Call, device: Device) -> RResult<(), WireError>;
}

struct Adapter<S>(Guarded<S>);

impl<S: DeviceService> DeviceServiceAbi for Adapter<S> {
    fn devices(&self) -> Wire<RString> {
        answer("devices", || text::write(&self.0.get()?.devices()?))
    }

    fn free_memory(&self, device: Device) -> Wire<u64> {
        answer("free_memory", || self.0.get()?.free_memory(device))
    }

    fn allocate(&self, device: Device, dtype: DType, shape: RSlice<'_, usize>) -> Wire<TensorBuf> {
        answer("allocate", || {
            self.0.get()?.allocate(device, dtype, shape.as_slice())
        })
    }

    fn copy(&self, call: Call, source: TensorView<'_>, mut target: TensorViewMut<'_>) -> Wire<()> {
        answer("copy", || {
            let service = self.0.get()?;
            call.serve(|| service.copy(&source, &mut target))
        })
    }

    fn wait(&self, device: Device, consumer: Stream, producer: Stream) -> Wire<()> {
        answer("wait", || self.0.get()?.wait(device, consumer, producer))
    }

    fn synchronize_stream(&self, call: Call, device: Device, stream: Stream) -> Wire<()> {
        answer("synchronize_stream", || {
            let service = self.0.get()?;
            call.serve(|| service.synchronize_stream(device, stream))
        })
    }

    fn synchronize_device(&self, call: Call, device: Device) -> Wire<()> {
        answer("synchronize_device", || {
            let service = self.0.get()?;
            call.serve(|| service.synchronize_device(device))
        })
    }
}

/// A device service behind the ABI. [`Plugin::devices`](crate::Plugin::devices) returns it, and the host calls it.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct DeviceServiceObject(DeviceServiceAbi_TO<'static, RBox<()>>);

impl DeviceServiceObject {
    /// Wraps a service for the host.
    pub fn new<S: DeviceService>(service: S) -> Self {
        let adapter = Adapter(Guarded::new(service));
        Self(DeviceServiceAbi_TO::from_value(adapter, TD_Opaque))
    }

    /// See [`DeviceService::devices`].
    ///
    /// # Errors
    ///
    /// As for [`DeviceService::devices`], and [`crate::ErrorKind::PANIC`], which every method here may return.
    pub fn devices(&self) -> Result<Vec<DeviceInfo>, PluginError> {
        text::received(self.0.devices())
    }

    /// See [`DeviceService::free_memory`].
    ///
    /// # Errors
    ///
    /// As for [`DeviceService::free_memory`].
    pub fn free_memory(&self, device: Device) -> Result<u64, PluginError> {
        receive(self.0.free_memory(device))
    }

    /// See [`DeviceService::allocate`].
    ///
    /// # Errors
    ///
    /// As for [`DeviceService::allocate`], and when the plugin allocated something else.
    pub fn allocate(
        &self,
        device: Device,
        dtype: DType,
        shape: &[usize],
    ) -> Result<DeviceBuffer, PluginError> {
        let tensor = receive(self.0.allocate(device, dtype, shape.into()))?;
        DeviceBuffer::requested(tensor, device, dtype, shape)
    }

    /// See [`DeviceService::copy`].
    ///
    /// # Errors
    ///
    /// As for [`DeviceService::copy`].
    pub fn copy(
        &self,
        call: Call,
        source: TensorView<'_>,
        target: TensorViewMut<'_>,
    ) -> Result<(), PluginError> {
        receive(self.0.copy(call, source, target))
    }

    /// See [`DeviceService::wait`].
    ///
    /// # Errors
    ///
    /// As for [`DeviceService::wait`].
    pub fn wait(
        &self,
        device: Device,
        consumer: Stream,
        producer: Stream,
    ) -> Result<(), PluginError> {
        receive(self.0.wait(device, consumer, producer))
    }

    /// See [`DeviceService::synchronize_stream`].
    ///
    /// # Errors
    ///
    /// As for [`DeviceService::synchronize_stream`].
    pub fn synchronize_stream(
        &self,
        call: Call,
        device: Device,
        stream: Stream,
    ) -> Result<(), PluginError> {
        receive(self.0.synchronize_stream(call, device, stream))
    }

    /// See [`DeviceService::synchronize_device`].
    ///
    /// # Errors
    ///
    /// As for [`DeviceService::synchronize_device`].
    pub fn synchronize_device(&self, call: Call, device: Device) -> Result<(), PluginError> {
        receive(self.0.synchronize_device(call, device))
    }
}
