//! Groups of processes that exchange tensors through a plugin.

use super::{
    CallError, Devices, Scope,
    cancellation::RunningCall,
    collective_scope::{self, Member},
};
use merv_plugin_api::{
    CollectiveBuffers, CollectiveObject, CollectiveOperation, CollectiveRequest, ErrorKind,
    GroupInfo, PluginError, TensorViewMut,
};
use std::time::Duration;

/// The membership of this process in a group, with its names for messages. Dropping it leaves the group.
///
/// Every member starts the same operations and splits in the same order. [`merv_plugin_api::Collective`] describes the
/// rules.
pub struct Group(Member);

impl Group {
    /// Checks the group that a plugin returned for a request.
    pub(super) fn joined(
        plugin: &str,
        request: &CollectiveRequest,
        object: CollectiveObject,
    ) -> Result<Self, PluginError> {
        let info = object.info()?;
        let (rank, size) = (info.rank, info.size);
        let other = |requested: Option<u32>, found| requested.is_some_and(|value| value != found);
        if rank >= size
            || info.members.len() != size as usize
            || other(request.rank, rank)
            || other(request.size, size)
        {
            return Err(PluginError::new(
                ErrorKind::INTERNAL,
                format!(
                    "a bug in the plugin: it describes an impossible group for this request: rank {rank} of {size}, \
                     with {} members",
                    info.members.len()
                ),
            ));
        }
        let mut options = request.options.keys();
        if let Some(key) = options.find(|key| !info.options.contains_key(*key)) {
            return Err(PluginError::invalid(format!(
                "it does not know the option `{key}`"
            )));
        }
        Ok(Self::new(plugin, &request.id, info, object))
    }

    fn new(plugin: &str, id: &str, info: GroupInfo, object: CollectiveObject) -> Self {
        Self(Member {
            plugin: plugin.to_owned(),
            id: id.to_owned(),
            info,
            object,
        })
    }

    /// Returns the description of the group.
    pub fn info(&self) -> &GroupInfo {
        &self.0.info
    }

    /// Runs `body`, which starts operations on tensors that outlive the scope, and then waits for those that it did
    /// not wait for. Each wait lasts at most `timeout`.
    ///
    /// An operation that does not end in time aborts the group, because its tensors are only free afterwards. So does a
    /// panic of `body`, which then continues: the other members receive an error instead of waiting. An error of `body`
    /// does not abort the group.
    ///
    /// ```
    /// # use merv_host::plugin::{CallError, Group};
    /// # use merv_plugin_api::Reduction;
    /// # use std::time::Duration;
    /// # fn example(group: &Group, weights: &mut [f32], biases: &mut [f32]) -> Result<(), CallError> {
    /// group.scope(Duration::from_secs(60), |scope| {
    ///     let weights = scope.all_reduce(Reduction::AVERAGE, weights)?;
    ///     scope.all_reduce(Reduction::AVERAGE, biases)?;
    ///     // The sums of the weights, while those of the biases are computed.
    ///     let weights: &mut [f32] = weights.wait()?;
    /// #   let _ = weights;
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// Tensors that the body owns do not live long enough:
    ///
    /// ```compile_fail,E0597
    /// # use merv_host::plugin::{CallError, Group};
    /// # use merv_plugin_api::Reduction;
    /// # use std::time::Duration;
    /// # fn example(group: &Group) -> Result<(), CallError> {
    /// group.scope(Duration::from_secs(60), |scope| {
    ///     let mut values = [1.0f32; 4];
    ///     scope.all_reduce(Reduction::SUM, &mut values).map(drop)
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of `body`, or else the first error of an operation that it did not wait for.
    pub fn scope<'env, T, E: From<CallError>>(
        &'env self,
        timeout: Duration,
        body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> Result<T, E>,
    ) -> Result<T, E> {
        collective_scope::scope(&self.0, timeout, body)
    }

    /// Runs an operation in place on a tensor, which may be on a device of the plugin that `devices` belong to. If the
    /// group does not take tensors on that device, they are copied to main memory and back; then they must be `f32`.
    ///
    /// # Errors
    ///
    /// Returns the error of either plugin.
    pub fn run<'env>(
        &'env self,
        operation: CollectiveOperation,
        tensor: TensorViewMut<'env>,
        devices: &Devices,
        timeout: Duration,
    ) -> Result<(), CallError> {
        let device = tensor.view().device();
        if device.is_main_memory() || self.info().devices.contains(&device.kind) {
            return self.scope(timeout, |scope| {
                let started = scope.start(operation, CollectiveBuffers::in_place(tensor));
                started.map(drop)
            });
        }
        let mut values = devices.read(tensor.view())?;
        let staged = &mut values[..];
        self.scope(timeout, |scope| {
            scope.start_values(operation, None, staged).map(drop)
        })?;
        devices.write(&values, tensor)
    }

    /// Waits until every member has come here.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error. If other members do not come in time, the group is aborted.
    pub fn barrier(&self, timeout: Duration) -> Result<(), CallError> {
        self.scope(timeout, |scope| scope.barrier().map(drop))
    }

    /// Divides the group: members with the same colour form a new group, in the order of `key`, then of their ranks. A
    /// member without a colour takes part and receives `None`.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn split(
        &self,
        colour: Option<u32>,
        key: u32,
        timeout: Duration,
    ) -> Result<Option<Self>, CallError> {
        let split = || {
            let call = RunningCall::begin();
            let part = self.0.object.split(call.call(), colour, key, timeout)?;
            let Some(object) = part else {
                return Ok(None);
            };
            let info = object.info()?;
            Ok(Some(Self::new(&self.0.plugin, &self.0.id, info, object)))
        };
        split().map_err(|error| self.0.failed("split the group", error))
    }

    /// Ends every operation of every member, and everything that they start afterwards, with `reason`. Any thread may
    /// call it at any time.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, if it could not reach the other members. The operations of this member have ended
    /// anyway.
    pub fn abort(&self, reason: &str) -> Result<(), CallError> {
        let result = self.0.object.abort(reason);
        result.map_err(|error| self.0.failed("abort the group", error))
    }
}
