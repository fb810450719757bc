//! Operations of a group whose tensors are borrowed until they have ended.

use super::{CallError, cancellation::RunningCall};
use merv_plugin_api::{
    Call, CollectiveBuffers, CollectiveObject, CollectiveOperation, ErrorKind, GroupInfo,
    OperationId, PluginError, Reduction, TensorElement, TensorView, TensorViewMut,
};
use std::{
    any::Any,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A member of a group, with its names for messages.
pub(super) struct Member {
    pub plugin: String,
    pub id: String,
    pub info: GroupInfo,
    pub object: CollectiveObject,
}

impl Member {
    pub fn failed(&self, doing: &str, error: PluginError) -> CallError {
        let doing = format!("{doing} as rank {} of `{}`", self.info.rank, self.id);
        CallError::new(&self.plugin, &doing, error)
    }
}

/// See [`super::Group::scope`].
pub(super) fn scope<'env, T, E: From<CallError>>(
    member: &'env Member,
    timeout: Duration,
    body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> Result<T, E>,
) -> Result<T, E> {
    let scope = Scope {
        running: Running {
            member,
            timeout,
            operations: Mutex::default(),
        },
        scope: PhantomData,
        env: PhantomData,
    };
    match catch_unwind(AssertUnwindSafe(|| body(&scope))) {
        Ok(result) => {
            let finished = scope.running.finish();
            let value = result?;
            finished?;
            Ok(value)
        }
        Err(panic) => {
            scope
                .running
                .abort(&format!("it panicked: {}", text_of(&*panic)));
            // The operations have ended with the group.
            let _ = scope.running.finish();
            resume_unwind(panic)
        }
    }
}

/// Returns the text of a panic.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

/// A scope of [`super::Group::scope`], in which operations can be started.
///
/// Lengths of tensors are described by [`merv_plugin_api::CollectiveBuffers`]. Every method returns the plugin's error
/// if the operation could not be started. The tensors are borrowed until the scope ends, or, for the values of a
/// [`PendingValues`], until it was waited for.
pub struct Scope<'scope, 'env: 'scope> {
    running: Running<'env>,
    // Both lifetimes are invariant, as in `std::thread::Scope`: neither can be shortened to that of a local variable.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Starts a barrier. It ends when every member has started it.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn barrier(&'scope self) -> Result<Pending<'scope>, CallError> {
        self.start(CollectiveOperation::BARRIER, CollectiveBuffers::NONE)
    }

    /// Starts to replace the values of every member with those of rank `root`.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn broadcast<T: TensorElement>(
        &'scope self,
        root: u32,
        values: &'scope mut [T],
    ) -> Result<PendingValues<'scope, T>, CallError> {
        self.start_values(CollectiveOperation::broadcast(root), None, values)
    }

    /// Starts to replace the values of every member with their reduction, element by element.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn all_reduce<T: TensorElement>(
        &'scope self,
        reduction: Reduction,
        values: &'scope mut [T],
    ) -> Result<PendingValues<'scope, T>, CallError> {
        self.start_values(CollectiveOperation::all_reduce(reduction), None, values)
    }

    /// Starts to reduce the `values` of all members and to write the part of this member to `part`.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn reduce_scatter<T: TensorElement>(
        &'scope self,
        reduction: Reduction,
        values: &'scope [T],
        part: &'scope mut [T],
    ) -> Result<PendingValues<'scope, T>, CallError> {
        let operation = CollectiveOperation::reduce_scatter(reduction);
        self.start_values(operation, Some(values), part)
    }

    /// Starts to write the `part` of every member to `values`, in the order of the ranks.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn all_gather<T: TensorElement>(
        &'scope self,
        part: &'scope [T],
        values: &'scope mut [T],
    ) -> Result<PendingValues<'scope, T>, CallError> {
        self.start_values(CollectiveOperation::ALL_GATHER, Some(part), values)
    }

    /// Starts any operation on slices. Without `send`, it works in place.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn start_values<T: TensorElement>(
        &'scope self,
        operation: CollectiveOperation,
        send: Option<&'scope [T]>,
        receive: &'scope mut [T],
    ) -> Result<PendingValues<'scope, T>, CallError> {
        let shapes = [[send.map_or(0, <[T]>::len)], [receive.len()]];
        let values: *mut [T] = receive;
        // SAFETY: the slice is borrowed exclusively. It is accessed through pointers that come from `values`.
        let receive = unsafe { &mut *values };
        let buffers = buffers(send, receive, &shapes);
        let buffers = buffers.map_err(|error| self.running.failed(operation, error))?;
        Ok(PendingValues {
            // SAFETY: the slices are borrowed for 'scope, which ends after `scope` has waited for the
            // operation or aborted the group. `PendingValues` returns the receive tensor when the operation has ended.
            pending: unsafe { self.running.start(operation, buffers) }?,
            values,
            borrow: PhantomData,
        })
    }

    /// Starts any operation on tensors, in main memory or on a device that the group takes
    /// ([`GroupInfo::devices`]).
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn start(
        &'scope self,
        operation: CollectiveOperation,
        buffers: CollectiveBuffers<'scope>,
    ) -> Result<Pending<'scope>, CallError> {
        // SAFETY: as for `start_values`.
        unsafe { self.running.start(operation, buffers) }
    }
}

/// Returns slices as tensors.
fn buffers<'a, T: TensorElement>(
    send: Option<&'a [T]>,
    receive: &'a mut [T],
    [send_shape, receive_shape]: &'a [[usize; 1]; 2],
) -> Result<CollectiveBuffers<'a>, PluginError> {
    let send = send.map(|send| TensorView::new(send, send_shape));
    let mut buffers = CollectiveBuffers::in_place(TensorViewMut::new(receive, receive_shape)?);
    buffers.send = send.transpose()?;
    Ok(buffers)
}

/// An operation that was started in a scope. It continues if this is dropped, and the scope waits for it.
#[must_use = "without `wait`, the result can be used only after the scope"]
pub struct Pending<'scope> {
    running: &'scope Running<'scope>,
    id: OperationId,
}

impl Pending<'_> {
    /// Returns whether the operation has ended, without waiting. [`Self::wait`] then returns its result immediately.
    pub fn has_ended(&self) -> bool {
        self.running.wait(self.id, Duration::ZERO).is_ok()
    }

    /// Waits until the operation has ended.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error. If the operation does not end in time, the group is aborted.
    pub fn wait(self) -> Result<(), CallError> {
        self.running.end(self.id)
    }
}

/// An operation that was started in a scope, and where its result will be.
#[must_use = "without `wait`, the result can be used only after the scope"]
pub struct PendingValues<'scope, T> {
    pending: Pending<'scope>,
    /// Not a reference, because the plugin writes to it.
    values: *mut [T],
    borrow: PhantomData<&'scope mut [T]>,
}

impl<'scope, T: TensorElement> PendingValues<'scope, T> {
    /// See [`Pending::has_ended`].
    pub fn has_ended(&self) -> bool {
        self.pending.has_ended()
    }

    /// Waits until the operation has ended, and returns the receive tensor.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error. If the operation does not end in time, the group is aborted.
    pub fn wait(self) -> Result<&'scope mut [T], CallError> {
        self.pending.wait()?;
        // SAFETY: the slice is borrowed exclusively for 'scope, and the plugin does not access it any more.
        Ok(unsafe { &mut *self.values })
    }
}

/// The operations of a scope whose results nobody has taken.
struct Running<'env> {
    member: &'env Member,
    timeout: Duration,
    operations: Mutex<Vec<Started>>,
}

/// An operation that the plugin started.
struct Started {
    id: OperationId,
    operation: CollectiveOperation,
    /// The result, when the plugin has returned it. Until then, it uses the tensors.
    result: Option<Result<(), PluginError>>,
}

impl Running<'_> {
    /// Starts an operation.
    ///
    /// # Safety
    ///
    /// The tensors are lent to the plugin until [`Self::end`] has returned for the operation, or [`Self::finish`].
    unsafe fn start(
        &self,
        operation: CollectiveOperation,
        buffers: CollectiveBuffers<'_>,
    ) -> Result<Pending<'_>, CallError> {
        // SAFETY: the caller's promise.
        let started = unsafe { self.member.object.start(operation, buffers) };
        let id = started.map_err(|error| self.failed(operation, error))?;
        self.operations().push(Started {
            id,
            operation,
            result: None,
        });
        Ok(Pending { running: self, id })
    }

    /// Waits for an operation and stores its result.
    ///
    /// # Errors
    ///
    /// When it has not ended.
    fn wait(&self, id: OperationId, timeout: Duration) -> Result<(), PluginError> {
        let known = |started: &Started| started.id == id && started.result.is_some();
        if self.operations().iter().any(known) {
            return Ok(());
        }
        let call = RunningCall::begin();
        match self.member.object.wait(call.call(), id, timeout) {
            Err(error) if [ErrorKind::TIMED_OUT, ErrorKind::CANCELLED].contains(&error.kind) => {
                Err(error)
            }
            result => {
                self.store(id, result);
                Ok(())
            }
        }
    }

    fn store(&self, id: OperationId, result: Result<(), PluginError>) {
        let mut operations = self.operations();
        if let Some(started) = operations.iter_mut().find(|started| started.id == id) {
            started.result = Some(result);
        }
    }

    /// Waits for an operation and returns its result. One that does not end in time ends with the group.
    fn end(&self, id: OperationId) -> Result<(), CallError> {
        if let Err(error) = self.wait(id, self.timeout) {
            self.abort(&error.message);
            // The plugin forgets the operation.
            let _ = self.member.object.wait(Call::ENDLESS, id, Duration::ZERO);
            self.store(id, Err(error));
        }
        let mut operations = self.operations();
        let place = operations.iter().position(|started| started.id == id);
        let Some(started) = place.map(|place| operations.remove(place)) else {
            return Ok(());
        };
        let result = started.result.unwrap_or(Ok(()));
        result.map_err(|error| self.failed(started.operation, error))
    }

    /// Waits for all operations, even if one of them fails.
    fn finish(&self) -> Result<(), CallError> {
        let mut finished = Ok(());
        loop {
            let first = self.operations().first().map(|started| started.id);
            let Some(id) = first else {
                return finished;
            };
            finished = finished.and(self.end(id));
        }
    }

    fn abort(&self, reason: &str) {
        // Whether or not the other members could be told, the operations of this one have ended.
        let _ = self.member.object.abort(reason);
    }

    fn operations(&self) -> MutexGuard<'_, Vec<Started>> {
        // Nothing panics while it is locked.
        self.operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, operation: CollectiveOperation, error: PluginError) -> CallError {
        self.member.failed(&format!("run {operation}"), error)
    }
}
