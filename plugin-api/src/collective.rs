//! Collective operations: every member of a group starts the same one, and together they exchange tensors.

use crate::{CollectiveBuffers, CollectiveOperation, GroupInfo, PluginError};
use std::time::Duration;

/// Identifies a started operation of one member.
pub type OperationId = u64;

/// The membership of this process in a group. [`crate::Plugin::join_collective`] returns the first one; it leaves the
/// group when it is dropped.
///
/// # Order
///
/// Operations have no tags: the first operation that a member starts meets the first of every other member, the second
/// the second, and so on. Every member therefore starts the same operations and splits in the same order. They may be
/// waited for in any order. Processes that share several groups start the operations of these groups in one common
/// order: on a device, they may share a queue. Several members in one process are used from a thread each.
///
/// # Failures
///
/// * [`crate::ErrorKind::TIMED_OUT`]: other members did not start the operation in time; the message names their ranks,
///   if the plugin can know them. The operation stays pending, and can be waited for again.
/// * [`crate::ErrorKind::CANCELLED`]: the host cancelled the call. The operation stays pending.
/// * [`crate::ErrorKind::ABORTED`]: a member aborted the group or left it. The message states which one, and why, if
///   the plugin can know it. A group that was aborted refuses everything afterwards.
///
/// An operation that is complete when the group is aborted returns its result or `ABORTED`: both are allowed, because the
/// members do not learn of the abort at the same time.
///
/// Every other error ends the operation. The group can be used afterwards if all members received the error.
///
/// # Safety
///
/// The implementation accesses the elements of an operation's tensors only until [`Self::wait`] has returned for it
/// (except with `TIMED_OUT` and `CANCELLED`) or panicked, [`Self::abort`] has returned or panicked and no `wait` for
/// the operation is running, or the pending operation was dropped. An implementation that cannot withdraw memory from
/// its transport therefore passes it copies. It writes only to receive tensors, whatever other members do.
pub unsafe trait Collective: Send + Sync + Sized + 'static {
    /// A started operation. Dropping it gives up its result. The other members may see that as a failure.
    type Pending: Send + 'static;

    /// Returns the description of the group. Called once.
    fn info(&self) -> GroupInfo;

    /// Starts an operation and returns without waiting for other members. The tensors were checked
    /// ([`CollectiveBuffers::check`]). The operation begins when the streams of the tensors are finished, and
    /// [`Self::wait`] returns when the receive tensor is complete.
    ///
    /// # Errors
    ///
    /// When the operation cannot be started, or the group was aborted. The tensors are not accessed then.
    ///
    /// # Safety
    ///
    /// Until the operation ends (see the trait's `Safety`), the elements of both tensors stay valid, nothing changes
    /// those of the send tensor, and nothing else accesses those of the receive tensor. The shapes are borrowed
    /// only for this call.
    unsafe fn start(
        &self,
        operation: CollectiveOperation,
        buffers: CollectiveBuffers<'_>,
    ) -> Result<Self::Pending, PluginError>;

    /// Waits for an operation. A timeout of zero asks whether it is complete. May be called from any thread, but for
    /// one operation by one thread at a time.
    ///
    /// # Errors
    ///
    /// See the trait's `Failures`.
    fn wait(&self, pending: &mut Self::Pending, timeout: Duration) -> Result<(), PluginError>;

    /// Divides the group: members with the same colour form a new group, in the order of `key`, then of their ranks.
    /// A member without a colour takes part and receives `None`. No operation of this member may be pending. It takes a
    /// place in the order of operations, and waits for the other members.
    ///
    /// # Errors
    ///
    /// See the trait's `Failures`. A split does not stay pending: one that timed out has failed for every member.
    fn split(
        &self,
        colour: Option<u32>,
        key: u32,
        timeout: Duration,
    ) -> Result<Option<Self>, PluginError>;

    /// Aborts the group and the groups that were split from it: ends all pending operations and splits of its members,
    /// with `reason`. An implementation that cannot reach the other members ends those of this member, and the others
    /// run into their deadlines. The host may call it during any other call, and several times: the first reason
    /// stays.
    ///
    /// # Errors
    ///
    /// When other members could not be told. The pending operations of this member have ended anyway.
    fn abort(&self, reason: &str) -> Result<(), PluginError>;
}
