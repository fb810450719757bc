//! A `merv-host` plugin that exchanges tensors between processes over MPI.
//!
//! It is a separate project, outside `merv-host`'s workspace. `make check-mpi` installs Open MPI, builds the plugin and
//! runs it in four processes:
//!
//! ```text
//! mpirun -n 4 PROGRAM
//! ```
//!
//! The launcher decides rank and size; a request that states others is refused.
//!
//! # How it works
//!
//! One thread of the plugin, the engine, makes every call of MPI, so MPI needs no more than `MPI_THREAD_FUNNELED`, and
//! operations progress while the program computes.
//!
//! MPI cannot tell who is missing from a collective operation, nor cancel one. Therefore each member first announces an
//! operation to all others in a small message. When all announcements have come, the engine compares them, and starts
//! MPI's non-blocking operation. Until then the operation can time out, with the names of the missing ranks, and the
//! group can be aborted.
//!
//! The engine works on copies: the caller's memory is read in `start` and written in `wait`, and a copy that MPI still
//! uses when the group is aborted is never freed. `bf16` is copied as `f32`, and rounded once.
//!
//! # Limits
//!
//! * Each operation sends `size − 1` messages of 48 bytes from each member.
//! * An operation has fewer than 2³¹ elements, or bytes if it does not reduce.
//! * A process that dies between the announcement and the end of an operation is noticed by the deadline, not by name.
//! * `MPI_Comm_split` blocks: a process that splits several groups at the same time must do it in the same order as the
//!   others.
//! * MPI can be started once: a process that has left its last group cannot join another.
//! * A failure of `MPI_Init` ends the process.
//! * If a group is aborted while MPI runs an operation, MPI cannot be finalised. The launcher then ends the run with an
//!   error when a process ends.
//! * All processes have the same byte order.

mod staged;
mod ticket;
mod transport;
mod group;
mod engine;
mod member;

use member::Member;
use merv_plugin_api::{
    CollectiveObject, CollectiveRequest, Manifest, Plugin, PluginError, Provided,
};

/// The id of the collective.
const ID: &str = "mpi";

struct Mpi;

impl Plugin for Mpi {
    const MANIFEST: Manifest = Manifest::new("mpi", env!("CARGO_PKG_VERSION"))
        .license(env!("CARGO_PKG_LICENSE"))
        .backend("mpi")
        .provides(&[Provided::collective(ID)]);

    fn join_collective(request: &CollectiveRequest) -> Result<CollectiveObject, PluginError> {
        if request.id != ID {
            let message = format!("this plugin provides `{ID}`, not `{}`", request.id);
            return Err(PluginError::unsupported(message));
        }
        if !request.device.is_main_memory() {
            return Err(PluginError::unsupported(format!(
                "`device`: this plugin exchanges tensors in main memory, not on {}",
                request.device
            )));
        }
        Member::join(request).map(CollectiveObject::new)
    }
}

merv_plugin_api::export_plugin!(Mpi);
