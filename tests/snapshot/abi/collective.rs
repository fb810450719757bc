use super::{
    error::{Wire, WireError, answer, receive},
    sessions::Sessions,
    text,
};
use crate::{
    Call, Collective, CollectiveBuffers, CollectiveOperation, ErrorKind, GroupInfo, OperationId,
    PluginError, TensorView, TensorViewMut, guarded::Guarded,
};
use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, ROption, RResult, RStr, RString},
    type_level::downcasting::TD_Opaque,
};
use std::time::Duration;

/// The host calls it through [`CollectiveObject`], whose `start` states the safety contract.
#[sabi_trait]
pub trait CollectiveAbi: Send + Sync {
    /// Returns a [`GroupInfo`] as text.
    fn info(&self) -> RResult<RString, WireError>;
    fn start(
        &self,
        operation: CollectiveOperation,
        send: ROption<TensorView<'_>>,
        receive: ROption<TensorViewMut<'_>>,
    ) -> RResult<OperationId, WireError>;
    fn wait(
        &self,
        call: Call,
        operation: OperationId,
        timeout: WireDuration,
    ) -> RResult<(), WireError>;
    fn split(
        &self,
        call: Call,
        colour: ROption<u32>,
        key: u32,
        timeout: WireDuration,
    ) -> RResult<ROption<CollectiveObject>, WireError>;
    #[sabi(last_prefix_field)]
    fn abort(&self, reason: RStr<'_>) -> RResult<(), WireError>;
}

/// A [`Duration`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct WireDuration {
    seconds: u64,
    nanoseconds: u32,
}

impl From<Duration> for WireDuration {
    fn from(duration: Duration) -> Self {
        Self {
            seconds: duration.as_secs(),
            nanoseconds: duration.subsec_nanos(),
        }
    }
}

impl From<WireDuration> for Duration {
    fn from(duration: WireDuration) -> Self {
        let nanoseconds = Self::from_nanos(duration.nanoseconds.into());
        Self::from_secs(duration.seconds).saturating_add(nanoseconds)
    }
}

struct Adapter<C: Collective> {
    info: Result<GroupInfo, PluginError>,
    /// Dropped before the group.
    pending: Sessions<C::Pending>,
    group: Guarded<C>,
}

impl<C: Collective> Adapter<C> {
    fn info(&self) -> Result<&GroupInfo, PluginError> {
        self.info.as_ref().map_err(Clone::clone)
    }
}

/// Returns whether an operation that was waited for is still pending.
fn pends(result: &Result<(), PluginError>) -> bool {
    let kinds = [ErrorKind::TIMED_OUT, ErrorKind::CANCELLED];
    matches!(result, Err(error) if kinds.contains(&error.kind))
}

impl<C: Collective> CollectiveAbi for Adapter<C> {
    fn info(&self) -> Wire<RString> {
        answer("info", || text::write(self.info()?))
    }

    fn start(
        &self,
        operation: CollectiveOperation,
        send: ROption<TensorView<'_>>,
        receive: ROption<TensorViewMut<'_>>,
    ) -> Wire<OperationId> {
        answer("start", || {
            let buffers = CollectiveBuffers {
                send: send.into_option(),
                receive: receive.into_option(),
            };
            buffers.check(operation, self.info()?)?;
            // SAFETY: `CollectiveObject::start` has the same contract, and is the only caller.
            let pending = unsafe { self.group.get()?.start(operation, buffers) }?;
            Ok(self.pending.insert(pending))
        })
    }

    fn wait(&self, call: Call, operation: OperationId, timeout: WireDuration) -> Wire<()> {
        answer("wait", || {
            let group = self.group.get()?;
            let result = self.pending.with(operation, |pending| {
                call.serve(|| group.wait(pending, timeout.into()))
            });
            if !pends(&result) {
                self.pending.close(operation);
            }
            result
        })
    }

    fn split(
        &self,
        call: Call,
        colour: ROption<u32>,
        key: u32,
        timeout: WireDuration,
    ) -> Wire<ROption<CollectiveObject>> {
        answer("split", || {
            let (group, colour) = (self.group.get()?, colour.into_option());
            let part = call.serve(|| group.split(colour, key, timeout.into()))?;
            Ok(part.map(CollectiveObject::new).into())
        })
    }

    fn abort(&self, reason: RStr<'_>) -> Wire<()> {
        answer("abort", || self.group.get()?.abort(reason.as_str()))
    }
}

/// A member of a group behind the ABI. [`crate::Plugin::join_collective`] returns it, and the host calls it.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct CollectiveObject(CollectiveAbi_TO<'static, RBox<()>>);

impl CollectiveObject {
    /// Wraps a member of a group for the host.
    pub fn new<C: Collective>(group: C) -> Self {
        // If `info` panics, the group is dropped guarded.
        let group = Guarded::new(group);
        let adapter = Adapter {
            info: group.get().map(Collective::info),
            pending: Sessions::new(["operation", "pending"]),
            group,
        };
        Self(CollectiveAbi_TO::from_value(adapter, TD_Opaque))
    }

    /// See [`Collective::info`].
    ///
    /// # Errors
    ///
    /// When this version cannot read the description.
    pub fn info(&self) -> Result<GroupInfo, PluginError> {
        text::received(self.0.info())
    }

    /// See [`Collective::start`].
    ///
    /// # Errors
    ///
    /// As for [`Collective::start`] and [`CollectiveBuffers::check`], and [`ErrorKind::PANIC`].
    ///
    /// # Safety
    ///
    /// Until the operation ends, the elements of both tensors stay valid, nothing changes those of the send tensor, and
    /// nothing else accesses those of the receive tensor. It ends when [`Self::wait`] returns anything but
    /// [`ErrorKind::TIMED_OUT`] and [`ErrorKind::CANCELLED`], when [`Self::abort`] returns and no `wait` for it is
    /// running, or when this object is dropped. If this function returns an error, it did not begin.
    pub unsafe fn start(
        &self,
        operation: CollectiveOperation,
        buffers: CollectiveBuffers<'_>,
    ) -> Result<OperationId, PluginError> {
        let CollectiveBuffers {
            send,
            receive: into,
        } = buffers;
        receive(self.0.start(operation, send.into(), into.into()))
    }

    /// See [`Collective::wait`]. An operation that has ended is forgotten.
    ///
    /// # Errors
    ///
    /// As for [`Collective::wait`], and when the operation is not pending.
    pub fn wait(
        &self,
        call: Call,
        operation: OperationId,
        timeout: Duration,
    ) -> Result<(), PluginError> {
        receive(self.0.wait(call, operation, timeout.into()))
    }

    /// See [`Collective::split`].
    ///
    /// # Errors
    ///
    /// As for [`Collective::split`].
    pub fn split(
        &self,
        call: Call,
        colour: Option<u32>,
        key: u32,
        timeout: Duration,
    ) -> Result<Option<Self>, PluginError> {
        let part = self.0.split(call, colour.into(), key, timeout.into());
        receive(part).map(ROption::into_option)
    }

    /// See [`Collective::abort`].
    ///
    /// # Errors
    ///
    /// As for [`Collective::abort`].
    pub fn abort(&self, reason: &str) -> Result<(), PluginError> {
        receive(self.0.abort(reason.into()))
    }
}
