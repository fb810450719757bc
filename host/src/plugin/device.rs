//! Tensors on devices. Only this module looks at a tensor's device: all others pass tensors on, or ask for their values
//! in main memory. The host never touches the memory of a device; it asks the plugin that the device belongs to.

use super::{CallError, cancellation::RunningCall};
use merv_plugin_api::{
    DType, Device, DeviceServiceObject, ErrorKind, PluginError, TensorBuf, TensorView,
    TensorViewMut, module::Module,
};
use serde::Serialize;
use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Copies in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Copied {
    /// The number of copies.
    pub count: u64,
    /// The number of bytes.
    pub bytes: u64,
}

/// The copies from and to devices that the host requested since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Copies {
    /// From main memory to a device.
    pub to_device: Copied,
    /// From a device to main memory.
    pub to_main: Copied,
    /// From a device to another one of the same plugin.
    pub between_devices: Copied,
}

/// A count of copies, and their bytes.
struct Counter(AtomicU64, AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0), AtomicU64::new(0))
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Copied {
        Copied {
            count: self.0.load(Ordering::Relaxed),
            bytes: self.1.load(Ordering::Relaxed),
        }
    }
}

static TO_DEVICE: Counter = Counter::new();
static TO_MAIN: Counter = Counter::new();
static BETWEEN_DEVICES: Counter = Counter::new();

impl Copies {
    /// Returns the copies so far.
    pub fn so_far() -> Self {
        Self {
            to_device: TO_DEVICE.read(),
            to_main: TO_MAIN.read(),
            between_devices: BETWEEN_DEVICES.read(),
        }
    }
}

/// The devices of one plugin, and their memory.
pub struct Devices {
    plugin: String,
    module: Module,
    service: OnceLock<Result<DeviceServiceObject, PluginError>>,
}

impl Devices {
    pub(super) fn new(plugin: &str, module: Module) -> Self {
        Self {
            plugin: plugin.to_owned(),
            module,
            service: OnceLock::new(),
        }
    }

    /// Returns the service for the memory of the devices.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, or an error if it does not have a device service.
    pub fn service(&self) -> Result<&DeviceServiceObject, CallError> {
        let service = self.try_service();
        service.map_err(|error| self.failed("use its devices", error))
    }

    /// Copies a tensor of the host to a device.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn to_device(
        self: &Arc<Self>,
        values: TensorView<'_>,
        device: Device,
    ) -> Result<PluginTensor, CallError> {
        let copied = self.copied(values, device);
        let tensor = copied.map_err(|error| self.failed(&format!("copy to {device}"), error))?;
        Ok(PluginTensor::new(self, tensor))
    }

    /// Copies a tensor of `f32` on a device to main memory.
    ///
    /// # Errors
    ///
    /// Returns an error if the tensor is not of `f32`, and the plugin's error.
    pub fn read(&self, source: TensorView<'_>) -> Result<Vec<f32>, CallError> {
        let values = self.downloaded(source);
        values.map_err(|error| self.failed("copy to main memory", error))
    }

    /// Copies values to a tensor of `f32` on a device.
    ///
    /// # Errors
    ///
    /// Returns an error if the tensor does not have as many values, and the plugin's error.
    pub fn write(&self, values: &[f32], target: TensorViewMut<'_>) -> Result<(), CallError> {
        let device = target.view().device();
        let written = self.uploaded(values, target);
        written.map_err(|error| self.failed(&format!("copy to {device}"), error))
    }

    fn try_service(&self) -> Result<&DeviceServiceObject, PluginError> {
        let service = self.service.get_or_init(|| self.module.devices());
        service.as_ref().map_err(Clone::clone)
    }

    /// Copies a tensor, which is in main memory or on a device of this plugin, to a device.
    fn copied(&self, source: TensorView<'_>, device: Device) -> Result<TensorBuf, PluginError> {
        let service = self.try_service()?;
        let mut target = service.allocate(device, source.dtype(), source.shape())?;
        if source.bytes() > 0 {
            let call = RunningCall::begin();
            service.copy(call.call(), source, target.view_mut())?;
            let counter = match source.device().is_main_memory() {
                true => &TO_DEVICE,
                false => &BETWEEN_DEVICES,
            };
            counter.add(source.bytes());
        }
        Ok(target.into_tensor())
    }

    /// Returns the values of a tensor of `f32` that is on a device.
    fn downloaded(&self, source: TensorView<'_>) -> Result<Vec<f32>, PluginError> {
        if source.dtype() != DType::F32 {
            let message = format!("expected a tensor of f32, found {source:?}");
            return Err(PluginError::invalid(message));
        }
        let mut values = vec![0.0; source.shape().iter().product()];
        if !values.is_empty() {
            let target = TensorViewMut::new(&mut values, source.shape())?;
            let call = RunningCall::begin();
            self.try_service()?.copy(call.call(), source, target)?;
            TO_MAIN.add(source.bytes());
        }
        Ok(values)
    }

    fn uploaded(&self, values: &[f32], target: TensorViewMut<'_>) -> Result<(), PluginError> {
        let shape = target.view().shape().to_vec();
        let source = TensorView::new(values, &shape)?;
        if source.bytes() > 0 {
            let call = RunningCall::begin();
            self.try_service()?.copy(call.call(), source, target)?;
            TO_DEVICE.add(source.bytes());
        }
        Ok(())
    }

    fn failed(&self, doing: &str, error: PluginError) -> CallError {
        CallError::new(&self.plugin, doing, error)
    }
}

/// A tensor that a plugin returned. It is in main memory or on one of the plugin's devices.
pub struct PluginTensor {
    tensor: TensorBuf,
    owner: Arc<Devices>,
}

impl fmt::Debug for PluginTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of plugin `{}`", self.tensor, self.owner.plugin)
    }
}

impl PluginTensor {
    fn new(owner: &Arc<Devices>, tensor: TensorBuf) -> Self {
        Self {
            tensor,
            owner: Arc::clone(owner),
        }
    }

    /// Returns the shape.
    pub fn shape(&self) -> &[usize] {
        self.tensor.view().shape()
    }

    /// Borrows the tensor where it is. Only its plugin can read it there if that is a device.
    pub fn view(&self) -> TensorView<'_> {
        self.tensor.view()
    }

    /// Returns the values in main memory. They are copied only if the tensor is on a device, in every call.
    ///
    /// # Errors
    ///
    /// Returns an error if the tensor is not of `f32`, and the plugin's error.
    pub fn f32s(&self) -> Result<Cow<'_, [f32]>, CallError> {
        let view = self.tensor.view();
        let values = match view.device().is_main_memory() {
            true => view.f32s().map(Cow::Borrowed),
            false => self.owner.downloaded(view).map(Cow::Owned),
        };
        values.map_err(|error| self.failed("copy to main memory", error))
    }

    /// Returns the tensor in main memory. It is copied only if it is on a device.
    ///
    /// # Errors
    ///
    /// The same as [`Self::f32s`].
    pub fn into_main(self) -> Result<TensorBuf, CallError> {
        match self.f32s()? {
            Cow::Borrowed(_) => Ok(self.tensor),
            Cow::Owned(values) => TensorBuf::from_vec(values, self.shape())
                .map_err(|error| self.failed("copy to main memory", error)),
        }
    }

    /// Copies the tensor to another device of the same plugin.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn to_device(&self, device: Device) -> Result<Self, CallError> {
        self.owner.to_device(self.tensor.view(), device)
    }

    fn failed(&self, doing: &str, error: PluginError) -> CallError {
        self.owner.failed(doing, error)
    }
}

/// A tensor for a plugin.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A tensor of the host, in main memory.
    Host(TensorView<'a>),
    /// A tensor that a plugin returned.
    Plugin(&'a PluginTensor),
}

impl<'a> From<TensorView<'a>> for Input<'a> {
    fn from(view: TensorView<'a>) -> Self {
        Self::Host(view)
    }
}

impl<'a> From<&'a PluginTensor> for Input<'a> {
    fn from(tensor: &'a PluginTensor) -> Self {
        Self::Plugin(tensor)
    }
}

impl Input<'_> {
    /// Returns the shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Host(view) => view.shape(),
            Self::Plugin(tensor) => tensor.shape(),
        }
    }
}

/// A tensor where a model takes it: the caller's own, or a copy.
pub(super) enum Placed<'a> {
    Borrowed(TensorView<'a>),
    Copied(TensorBuf),
}

impl Placed<'_> {
    pub(super) fn view(&self) -> TensorView<'_> {
        match self {
            Self::Borrowed(view) => *view,
            Self::Copied(tensor) => tensor.view(),
        }
    }
}

/// Where a model takes and returns tensors.
pub(super) struct Place {
    devices: Arc<Devices>,
    /// The CPU, or the model's device if the model takes tensors there.
    device: Device,
}

impl Place {
    /// The place of a model on `device`, which takes tensors there if `takes_device_tensors`.
    ///
    /// # Errors
    ///
    /// Returns an error if the plugin does not have a service that lists the device.
    pub(super) fn new(
        devices: &Arc<Devices>,
        device: Device,
        takes_device_tensors: bool,
    ) -> Result<Self, PluginError> {
        let devices = Arc::clone(devices);
        if !takes_device_tensors || device.is_main_memory() {
            let device = Device::CPU;
            return Ok(Self { devices, device });
        }
        let present = devices.try_service()?.devices()?;
        if present.iter().any(|info| info.device == device) {
            return Ok(Self { devices, device });
        }
        let present: Vec<_> = present.iter().map(|info| info.device.to_string()).collect();
        Err(PluginError::unsupported(format!(
            "`device` is {device}, which its device service does not list: expected {}",
            match present.is_empty() {
                true => "cpu, because this machine does not have its devices".to_owned(),
                false => present.join(" or "),
            }
        )))
    }

    /// Brings a tensor to where the model takes it. It is copied only if it is elsewhere.
    pub(super) fn place<'a>(&self, input: Input<'a>) -> Result<Placed<'a>, PluginError> {
        let (view, owner) = match input {
            Input::Host(view) => (view, None),
            Input::Plugin(tensor) => (tensor.tensor.view(), Some(&tensor.owner)),
        };
        let is_own = owner.is_some_and(|owner| Arc::ptr_eq(owner, &self.devices));
        let (from_main, to_main) = (view.device().is_main_memory(), self.device.is_main_memory());
        if from_main && to_main || is_own && view.device() == self.device {
            return Ok(Placed::Borrowed(view));
        }
        if !to_main && (from_main || is_own) {
            return Ok(Placed::Copied(self.devices.copied(view, self.device)?));
        }
        let Some(owner) = owner else {
            return Err(PluginError::invalid(format!(
                "the host passed {view:?}, but its own tensors are in main memory"
            )));
        };
        // Two plugins exchange tensors through main memory.
        let main = TensorBuf::from_vec(owner.downloaded(view)?, view.shape())?;
        Ok(Placed::Copied(match to_main {
            true => main,
            false => self.devices.copied(main.view(), self.device)?,
        }))
    }

    /// Takes over a tensor that the model returned, if it is `f32` of this shape, in main memory or on the model's
    /// device.
    pub(super) fn returned(
        &self,
        tensor: TensorBuf,
        shape: &[usize],
    ) -> Result<PluginTensor, PluginError> {
        let view = tensor.view();
        let bug = |what: String| {
            let message = format!("a bug in the plugin: {what}, and it returned {view:?}");
            Err(PluginError::new(ErrorKind::INTERNAL, message))
        };
        if view.shape() != shape || view.dtype() != DType::F32 {
            return bug(format!("it described a tensor of f32 {shape:?}"));
        }
        if view.device().is_main_memory() {
            // In main memory, a tensor must also be complete.
            view.f32s()?;
            return Ok(PluginTensor::new(&self.devices, tensor));
        }
        if view.device() == self.device {
            return Ok(PluginTensor::new(&self.devices, tensor));
        }
        let place = match self.device.is_main_memory() {
            true => "only main memory: it does not state the feature `device-tensors`".to_owned(),
            false => format!("its device {}", self.device),
        };
        let lacks = match self.devices.try_service() {
            Ok(_) => "",
            Err(_) => ", and its plugin does not have a device service",
        };
        bug(format!("the model may use {place}{lacks}"))
    }
}
