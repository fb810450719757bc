use crate::{DType, Device, DeviceKind, OperationKind, Reduction, code::open_code};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, time::Duration};

/// A request to join a group. Every member makes its own, from a thread of its own: joining waits for the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CollectiveRequest {
    /// An id from the plugin's manifest.
    pub id: String,
    /// The place of this process in the group, from 0. If absent, the launcher decides (`mpirun`, `srun`).
    #[serde(default)]
    pub rank: Option<u32>,
    /// The number of members. If absent, the launcher decides.
    #[serde(default)]
    pub size: Option<u32>,
    /// Where the members find each other, the same for all of them: `host:port` of rank 0, or a name. A plugin whose
    /// launcher connects the processes does not use it.
    #[serde(default)]
    pub rendezvous: Option<String>,
    /// The device whose tensors this member will exchange.
    pub device: Device,
    /// How long to wait for the other members.
    pub timeout: Duration,
    /// Keys that only this plugin knows. [`GroupInfo::options`] repeats those that the plugin honours; the host refuses
    /// the others.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl CollectiveRequest {
    /// A member on the CPU that waits five minutes for the others. The launcher decides its rank.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            rank: None,
            size: None,
            rendezvous: None,
            device: Device::CPU,
            timeout: Duration::from_secs(300),
            options: BTreeMap::new(),
        }
    }

    /// Sets the rank of this member and the size of the group.
    #[must_use]
    pub fn member(mut self, rank: u32, size: u32) -> Self {
        (self.rank, self.size) = (Some(rank), Some(size));
        self
    }

    /// Sets where the members find each other.
    #[must_use]
    pub fn rendezvous(mut self, place: &str) -> Self {
        self.rendezvous = Some(place.to_owned());
        self
    }

    /// Sets the device whose tensors are exchanged.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets how long to wait for the other members.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets an option.
    #[must_use]
    pub fn option(mut self, key: &str, value: impl ToString) -> Self {
        self.options.insert(key.to_owned(), value.to_string());
        self
    }
}

open_code! {
    /// The order in which the values of the members are reduced to one.
    ReductionOrder, "order of reduction" {
        /// Any order, which may differ from run to run.
        UNSPECIFIED = 0, "unspecified";
        /// An order that depends only on the operation, the number of elements and the members' places. The same run
        /// on the same machines gives the same bits.
        FIXED = 1, "fixed";
        /// Each element is `((x₀ + x₁) + x₂) + …`, in the order of the ranks. The result depends on nothing else.
        RANK = 2, "rank";
    }
}

/// The description of a group, as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupInfo {
    /// The place of this member in the group.
    pub rank: u32,
    /// The number of members.
    pub size: u32,
    /// For each rank of this group, the rank in the group that was joined. They differ in a group that was split.
    pub members: Vec<u32>,
    /// The order of reductions.
    #[serde(default = "unspecified", deserialize_with = "known_order")]
    pub order: ReductionOrder,
    /// The operations. Every plugin has the five of version 2.0.
    #[serde(default, deserialize_with = "known")]
    pub operations: Vec<OperationKind>,
    /// The reductions. Every plugin has [`Reduction::SUM`].
    #[serde(default, deserialize_with = "known")]
    pub reductions: Vec<Reduction>,
    /// The dtypes that can be reduced. Every plugin reduces `f32`. Operations that only move elements take every
    /// dtype.
    #[serde(default, deserialize_with = "known")]
    pub dtypes: Vec<DType>,
    /// The kinds of device whose tensors the operations take, beside main memory.
    #[serde(default, deserialize_with = "known")]
    pub devices: Vec<DeviceKind>,
    /// Whether the members compare their operations. If they do, members that start different operations receive
    /// [`crate::ErrorKind::INVALID_INPUT`]. If they do not, the result is undefined, but no memory is written except
    /// the receive tensors.
    #[serde(default)]
    pub compared: bool,
    /// The requested options that are honoured, with the values in effect.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Further properties, for hosts that know them.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
}

impl GroupInfo {
    /// A group with what every plugin has: the five operations on tensors in main memory, and sums of `f32` in an
    /// unspecified order. Its ranks are those of the joined group.
    pub fn new(rank: u32, size: u32) -> Self {
        Self {
            rank,
            size,
            members: (0..size).collect(),
            order: ReductionOrder::UNSPECIFIED,
            operations: vec![
                OperationKind::BARRIER,
                OperationKind::BROADCAST,
                OperationKind::ALL_REDUCE,
                OperationKind::REDUCE_SCATTER,
                OperationKind::ALL_GATHER,
            ],
            reductions: vec![Reduction::SUM],
            dtypes: vec![DType::F32],
            devices: Vec::new(),
            compared: false,
            options: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Sets the rank in the joined group of each rank.
    #[must_use]
    pub fn members(mut self, members: Vec<u32>) -> Self {
        self.members = members;
        self
    }

    /// Sets the order of reductions.
    #[must_use]
    pub fn order(mut self, order: ReductionOrder) -> Self {
        self.order = order;
        self
    }

    /// Sets the reductions, and the dtypes that can be reduced.
    #[must_use]
    pub fn reduces(mut self, reductions: &[Reduction], dtypes: &[DType]) -> Self {
        self.reductions = reductions.to_vec();
        self.dtypes = dtypes.to_vec();
        self
    }

    /// Sets the kinds of device whose tensors the operations take.
    #[must_use]
    pub fn devices(mut self, kinds: &[DeviceKind]) -> Self {
        self.devices = kinds.to_vec();
        self
    }

    /// States that members compare their operations.
    #[must_use]
    pub fn compared(mut self) -> Self {
        self.compared = true;
        self
    }

    /// States that an option is honoured, with the value in effect.
    #[must_use]
    pub fn option(mut self, key: &str, value: impl ToString) -> Self {
        self.options.insert(key.to_owned(), value.to_string());
        self
    }

    /// Returns ranks of this group for a message: `rank 2` or `ranks 1 and 3`. In a group that was split, their ranks
    /// in the joined group follow: `rank 1 (rank 3 of the joined group)`.
    pub fn name_ranks(&self, ranks: &[u32]) -> String {
        let joined: Vec<u32> = ranks
            .iter()
            .map(|&rank| self.members.get(rank as usize).copied().unwrap_or(rank))
            .collect();
        match joined == ranks {
            true => listed(ranks),
            false => format!(
                "{} ({} of the joined group)",
                listed(ranks),
                listed(&joined)
            ),
        }
    }
}

fn listed(ranks: &[u32]) -> String {
    let texts: Vec<String> = ranks.iter().map(u32::to_string).collect();
    match texts.split_last() {
        None => "no rank".to_owned(),
        Some((only, [])) => format!("rank {only}"),
        Some((last, others)) => format!("ranks {} and {last}", others.join(", ")),
    }
}

fn unspecified() -> ReductionOrder {
    ReductionOrder::UNSPECIFIED
}

/// Reads an order. One of a newer version promises nothing that this version knows.
fn known_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ReductionOrder, D::Error> {
    let name = String::deserialize(deserializer)?;
    Ok(ReductionOrder::from_name(&name).unwrap_or(ReductionOrder::UNSPECIFIED))
}

/// Reads codes, without those of a newer version.
fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let values = Vec::<serde_json::Value>::deserialize(deserializer)?;
    let codes = values.into_iter().map(serde_json::from_value);
    Ok(codes.filter_map(Result::ok).collect())
}
