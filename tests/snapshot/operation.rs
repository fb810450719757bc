use crate::code::open_code;
use abi_stable::StableAbi;
use std::fmt;

open_code! {
    /// What an operation does. A *part* is what one member contributes or receives, `elements / size` of the larger
    /// tensor; parts are in the order of the ranks.
    OperationKind, "collective operation" {
        /// Completes when every member has started it.
        BARRIER = 1, "barrier";
        /// The receive tensor of every member becomes that of the root.
        BROADCAST = 2, "broadcast";
        /// Every member receives the reduction of all send tensors, element by element.
        ALL_REDUCE = 3, "all-reduce";
        /// Each member receives its part of the reduction of all send tensors.
        REDUCE_SCATTER = 4, "reduce-scatter";
        /// Every member receives the send tensors of all members.
        ALL_GATHER = 5, "all-gather";
    }
}

open_code! {
    /// How the values of all members become one.
    Reduction, "reduction" {
        /// The operation does not reduce.
        NONE = 0, "none";
        /// The sum. Integers wrap around.
        SUM = 1, "sum";
        /// The product. Integers wrap around.
        PRODUCT = 2, "product";
        /// The smallest. Whether NaN counts is the plugin's choice.
        MIN = 3, "min";
        /// The largest. Whether NaN counts is the plugin's choice.
        MAX = 4, "max";
        /// The sum divided by the number of members, of floating-point numbers.
        AVERAGE = 5, "average";
    }
}

/// An operation, without its tensors. Every member passes the same one.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CollectiveOperation {
    kind: OperationKind,
    reduction: Reduction,
    root: u32,
    /// Bits for properties of the operation. A receiver refuses bits that it does not know.
    flags: u32,
    reserved: [u64; 4],
}

impl CollectiveOperation {
    /// A barrier: neither sends nor receives a tensor.
    pub const BARRIER: Self = Self::new(OperationKind::BARRIER, Reduction::NONE, 0);

    /// An all-gather: sends `n` elements and receives `size · n`.
    pub const ALL_GATHER: Self = Self::new(OperationKind::ALL_GATHER, Reduction::NONE, 0);

    /// An operation of any kind. The root and the reduction of a kind that has none are 0 and [`Reduction::NONE`].
    pub const fn new(kind: OperationKind, reduction: Reduction, root: u32) -> Self {
        Self {
            kind,
            reduction,
            root,
            flags: 0,
            reserved: [0; 4],
        }
    }

    /// A broadcast from `root`: receives `n` elements, and the root sends what its receive tensor contains.
    pub const fn broadcast(root: u32) -> Self {
        Self::new(OperationKind::BROADCAST, Reduction::NONE, root)
    }

    /// An all-reduce: sends and receives `n` elements.
    pub const fn all_reduce(reduction: Reduction) -> Self {
        Self::new(OperationKind::ALL_REDUCE, reduction, 0)
    }

    /// A reduce-scatter: sends `size · n` elements and receives `n`.
    pub const fn reduce_scatter(reduction: Reduction) -> Self {
        Self::new(OperationKind::REDUCE_SCATTER, reduction, 0)
    }

    /// Returns what the operation does.
    pub const fn kind(self) -> OperationKind {
        self.kind
    }

    /// Returns the reduction.
    pub const fn reduction(self) -> Reduction {
        self.reduction
    }

    /// Returns the rank that a broadcast comes from.
    pub const fn root(self) -> u32 {
        self.root
    }

    /// Returns whether a bit is set that this version does not know.
    pub(crate) const fn has_unknown_flags(self) -> bool {
        self.flags != 0
    }
}

impl fmt::Display for CollectiveOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reduction {
            Reduction::NONE => write!(f, "{}", self.kind),
            reduction => write!(f, "{} ({reduction})", self.kind),
        }
    }
}

impl fmt::Debug for CollectiveOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectiveOperation({self}, root {})", self.root)
    }
}
