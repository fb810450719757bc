use crate::{DType, Device, PluginError, Stream, TensorBuf, TensorView, TensorViewMut};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The description of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The device, as registries write it.
    pub device: Device,
    /// The name that its maker gave it.
    pub name: String,
    /// The memory of the device, in bytes.
    pub total_memory: u64,
    /// Other devices of the same service that [`DeviceService::copy`] can copy to and from.
    #[serde(default)]
    pub peers: Vec<Device>,
    /// Further properties, for people and for hosts that know them.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

impl DeviceInfo {
    /// A device with `total_memory` bytes, without peers.
    pub fn new(device: Device, name: &str, total_memory: u64) -> Self {
        Self {
            device,
            name: name.to_owned(),
            total_memory,
            peers: Vec::new(),
            properties: BTreeMap::new(),
        }
    }

    /// Sets the devices that tensors can be copied to and from.
    #[must_use]
    pub fn peers(mut self, peers: &[Device]) -> Self {
        self.peers = peers.to_vec();
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn property(mut self, key: &str, value: impl ToString) -> Self {
        self.properties.insert(key.to_owned(), value.to_string());
        self
    }
}

/// The devices of a plugin, and their memory. It may be called from several threads at the same time.
///
/// # Streams
///
/// A tensor of [`Stream::COMPLETE`] is complete. The elements of any other tensor are complete when the device has
/// finished its stream. Whoever reads such a tensor waits first: [`Self::copy`] and the models of this plugin do so
/// themselves, and the host calls [`Self::synchronize_stream`] before it passes the tensor to another plugin.
///
/// The release function of a tensor receives the stream of its last use, which is the one that it was written on unless
/// the receiver calls [`TensorBuf::used_on`]. The memory is reused after that stream.
pub trait DeviceService: Send + Sync + 'static {
    /// Returns the devices that are present, in a fixed order. They are the same in every call; their properties may
    /// change.
    ///
    /// # Errors
    ///
    /// When the devices cannot be listed. A machine without such a device has an empty list.
    fn devices(&self) -> Result<Vec<DeviceInfo>, PluginError>;

    /// Returns the number of bytes that can still be allocated on a device.
    ///
    /// # Errors
    ///
    /// When the device does not exist.
    fn free_memory(&self, device: Device) -> Result<u64, PluginError>;

    /// Allocates a complete tensor whose elements have no particular value. The receiver writes it with [`Self::copy`],
    /// or lets a plugin write it.
    ///
    /// # Errors
    ///
    /// When the device does not exist, and [`crate::ErrorKind::OUT_OF_MEMORY`], with the device and the number of
    /// bytes in the message.
    fn allocate(
        &self,
        device: Device,
        dtype: DType,
        shape: &[usize],
    ) -> Result<TensorBuf, PluginError>;

    /// Copies `source` to `target`: from main memory to a device, from a device to main memory, on a device, or between
    /// peers. It waits for the stream of `source`. Both tensors are complete when it returns.
    ///
    /// # Errors
    ///
    /// When dtype or shape differ, a device does not exist, or two devices are not peers.
    fn copy(
        &self,
        source: &TensorView<'_>,
        target: &mut TensorViewMut<'_>,
    ) -> Result<(), PluginError>;

    /// Makes `consumer`, a stream of the device, wait for `producer`: later work on `consumer` begins after the work
    /// that is now on `producer`. It returns at once.
    ///
    /// # Errors
    ///
    /// When the device or a stream does not exist.
    fn wait(&self, device: Device, consumer: Stream, producer: Stream) -> Result<(), PluginError>;

    /// Returns when the device has finished what is on `stream`; immediately for [`Stream::COMPLETE`].
    ///
    /// # Errors
    ///
    /// When the device or the stream does not exist, and the error of the work on the stream.
    fn synchronize_stream(&self, device: Device, stream: Stream) -> Result<(), PluginError>;

    /// Returns when the device has finished what is on all its streams.
    ///
    /// # Errors
    ///
    /// When the device does not exist, and the error of the work on a stream.
    fn synchronize_device(&self, device: Device) -> Result<(), PluginError>;
}

/// A tensor that a device service allocated, and that its owner may write.
#[derive(Debug)]
pub struct DeviceBuffer(TensorBuf);

impl DeviceBuffer {
    /// Takes over what a service allocated, if it is what was requested.
    ///
    /// # Errors
    ///
    /// When device, dtype or shape differ, or the tensor is in main memory or not complete.
    pub(crate) fn requested(
        tensor: TensorBuf,
        device: Device,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Self, PluginError> {
        let view = tensor.view();
        let same = (view.device(), view.dtype(), view.shape()) == (device, dtype, shape);
        // Safe code could write into main memory, which the plugin may only have lent to be read.
        if same && view.stream() == Stream::COMPLETE && !device.is_main_memory() {
            return Ok(Self(tensor));
        }
        Err(PluginError::new(
            crate::ErrorKind::INTERNAL,
            format!(
                "a bug in the plugin: a complete tensor of {dtype} {shape:?} on {device} was requested, and it \
                 allocated {tensor:?} on stream {}",
                tensor.view().stream().0
            ),
        ))
    }

    /// Borrows the tensor, to be read.
    pub fn view(&self) -> TensorView<'_> {
        self.0.view()
    }

    /// Borrows the tensor, to be written.
    pub fn view_mut(&mut self) -> TensorViewMut<'_> {
        self.0.writable()
    }

    /// Returns the tensor, which is not written any more.
    pub fn into_tensor(self) -> TensorBuf {
        self.0
    }
}
