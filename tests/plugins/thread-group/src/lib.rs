//! A collective over the threads of one process. Each member is used from a thread of its own, and members meet by the
//! name in [`CollectiveRequest::rendezvous`].
//!
//! Members leave the addresses of their tensors in a round, and the first one that waits when all have come computes
//! the result for all of them. Reductions are in the order of the ranks; `bf16` is summed in `f32` and rounded once.

mod combine;
mod group;
mod meeting;
mod member;
mod round;

use member::Member;
use merv_plugin_api::{
    CollectiveObject, CollectiveRequest, Manifest, Plugin, PluginError, Provided,
};

/// The id of the collective.
const ID: &str = "threads";

struct ThreadGroup;

impl Plugin for ThreadGroup {
    const MANIFEST: Manifest = Manifest::new("thread-group", env!("CARGO_PKG_VERSION"))
        .license("MIT OR Apache-2.0")
        .provides(&[Provided::collective(ID)]);

    fn join_collective(request: &CollectiveRequest) -> Result<CollectiveObject, PluginError> {
        if request.id != ID {
            let message = format!("this plugin provides `{ID}`, not `{}`", request.id);
            return Err(PluginError::unsupported(message));
        }
        if !request.device.is_main_memory() {
            return Err(PluginError::unsupported(format!(
                "`device`: the members exchange tensors in main memory, not on {}",
                request.device
            )));
        }
        let (group, rank) = meeting::join(request)?;
        Ok(CollectiveObject::new(Member::new(group, rank)))
    }
}

merv_plugin_api::export_plugin!(ThreadGroup);
