//! One member of a group.

use crate::{
    group::Group,
    round::{Addresses, Entry, Place, Task},
};
use merv_plugin_api::{
    Collective, CollectiveBuffers, CollectiveOperation, DType, ErrorKind, GroupInfo, PluginError,
    Reduction, ReductionOrder,
};
use std::{sync::Arc, time::Duration};

/// The membership of a thread in a group.
pub struct Member {
    group: Arc<Group>,
    rank: u32,
}

impl Member {
    pub fn new(group: Arc<Group>, rank: u32) -> Self {
        Self { group, rank }
    }

    fn enter(&self, entry: Entry) -> Result<Pending, PluginError> {
        Ok(Pending {
            number: self.group.enter(self.rank, entry)?,
            group: Arc::clone(&self.group),
            rank: self.rank,
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.leave(self.rank);
    }
}

/// A started operation.
pub struct Pending {
    group: Arc<Group>,
    rank: u32,
    number: u64,
}

impl Pending {
    fn wait(&self, timeout: Duration) -> Result<Place, PluginError> {
        self.group.wait(self.rank, self.number, timeout)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.group.give_up(self.rank, self.number);
    }
}

// SAFETY: the group uses the addresses of a round only until it has ended. `Group::wait` returns the outcome of a round
// that has ended, or that it is pending. `Group::abort` and `Group::give_up` end the rounds and wait for a computation.
unsafe impl Collective for Member {
    type Pending = Pending;

    fn info(&self) -> GroupInfo {
        let reductions = [
            Reduction::SUM,
            Reduction::PRODUCT,
            Reduction::MIN,
            Reduction::MAX,
            Reduction::AVERAGE,
        ];
        let dtypes = [DType::F32, DType::F64, DType::I64, DType::BF16];
        let names = self.group.names(self.rank);
        names
            .order(ReductionOrder::RANK)
            .reduces(&reductions, &dtypes)
            .compared()
    }

    unsafe fn start(
        &self,
        operation: CollectiveOperation,
        buffers: CollectiveBuffers<'_>,
    ) -> Result<Pending, PluginError> {
        let count = buffers.check(operation, &self.info())?;
        let CollectiveBuffers { send, mut receive } = buffers;
        let mut dtype = DType::U8;
        for view in [send, receive.as_ref().map(|receive| receive.view())]
            .into_iter()
            .flatten()
        {
            view.as_bytes()?;
            dtype = view.dtype();
        }
        let send = send.map_or(std::ptr::null(), |send| send.as_ptr());
        let receive = receive
            .as_mut()
            .map_or(std::ptr::null_mut(), |receive| receive.as_mut_ptr());
        self.enter(Entry {
            task: Task::Operation {
                operation,
                dtype,
                count,
            },
            addresses: Addresses { send, receive },
            place: (None, 0),
        })
    }

    fn wait(&self, pending: &mut Pending, timeout: Duration) -> Result<(), PluginError> {
        pending.wait(timeout).map(|_| ())
    }

    fn split(
        &self,
        colour: Option<u32>,
        key: u32,
        timeout: Duration,
    ) -> Result<Option<Self>, PluginError> {
        let addresses = Addresses {
            send: std::ptr::null(),
            receive: std::ptr::null_mut(),
        };
        let pending = self.enter(Entry {
            task: Task::Split,
            addresses,
            place: (colour, key),
        })?;
        let place = pending.wait(timeout)?;
        Ok(place.map(|(group, rank)| Self::new(group, rank)))
    }

    fn abort(&self, reason: &str) -> Result<(), PluginError> {
        let name = self.group.names(self.rank).name_ranks(&[self.rank]);
        let message = format!("{name} aborted the group: {reason}");
        self.group
            .abort(&PluginError::new(ErrorKind::ABORTED, message));
        Ok(())
    }
}
