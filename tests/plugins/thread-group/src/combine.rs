//! The arithmetic of the operations, on the tensors of all members.

use crate::round::Addresses;
use half::bf16;
use merv_plugin_api::{
    CollectiveOperation, DType, OperationKind, PluginError, Reduction, TensorElement,
};

/// The number of elements that are reduced at a time, so that they stay in the cache.
const BLOCK: usize = 4096;

/// Does what `operation` describes for all members, whose addresses are in the order of their ranks.
///
/// # Errors
///
/// When the dtype or the reduction is not one of this plugin.
///
/// # Safety
///
/// The tensors are in main memory and have the numbers of elements of `dtype` that `operation` needs for `count`. Nothing
/// else accesses them during the call.
pub unsafe fn combine(
    operation: CollectiveOperation,
    dtype: DType,
    count: usize,
    members: &[Addresses],
) -> Result<(), PluginError> {
    // SAFETY: the caller's promise, for each of the calls.
    unsafe {
        match operation.kind() {
            OperationKind::BARRIER => Ok(()),
            OperationKind::BROADCAST => {
                broadcast(operation.root() as usize, count * dtype.size(), members);
                Ok(())
            }
            OperationKind::ALL_GATHER => {
                all_gather(count * dtype.size(), members);
                Ok(())
            }
            _ => match dtype {
                DType::F32 => reduce::<f32>(operation, count, members),
                DType::F64 => reduce::<f64>(operation, count, members),
                DType::I64 => reduce::<i64>(operation, count, members),
                DType::BF16 => reduce::<bf16>(operation, count, members),
                other => Err(PluginError::unsupported(format!("cannot reduce {other}"))),
            },
        }
    }
}

/// # Safety
///
/// As for [`combine`], with `bytes` for `count`.
unsafe fn broadcast(root: usize, bytes: usize, members: &[Addresses]) {
    let source = members[root].receive;
    for (rank, member) in members.iter().enumerate() {
        if rank != root {
            // SAFETY: both have `bytes` bytes, and belong to different members.
            unsafe { member.receive.copy_from_nonoverlapping(source, bytes) };
        }
    }
}

/// # Safety
///
/// As for [`combine`], with `bytes` for `count`.
unsafe fn all_gather(bytes: usize, members: &[Addresses]) {
    for (rank, sender) in members.iter().enumerate() {
        let offset = rank * bytes;
        for (receiver_rank, receiver) in members.iter().enumerate() {
            let in_place = sender.send.is_null();
            if in_place && receiver_rank == rank {
                continue;
            }
            // SAFETY: receive tensors have a part of `bytes` bytes for each member, and the sender's part is in its
            // send tensor or in its own receive tensor. The receiver's is another tensor.
            unsafe {
                let source = match in_place {
                    true => sender.receive.add(offset).cast_const(),
                    false => sender.send,
                };
                let target = receiver.receive.add(offset);
                target.copy_from_nonoverlapping(source, bytes);
            }
        }
    }
}

/// # Safety
///
/// As for [`combine`]; the elements are `T`.
unsafe fn reduce<T: Number>(
    operation: CollectiveOperation,
    count: usize,
    members: &[Addresses],
) -> Result<(), PluginError> {
    let reduce = Reduce::<T>::new(operation.reduction(), members.len())?;
    let whole = |member: &Addresses| match member.send.is_null() {
        true => member.receive.cast_const().cast::<T>(),
        false => member.send.cast::<T>(),
    };
    if operation.kind() == OperationKind::ALL_REDUCE {
        let sources: Vec<_> = members.iter().map(whole).collect();
        let targets: Vec<_> = members
            .iter()
            .map(|member| member.receive.cast::<T>())
            .collect();
        // SAFETY: all tensors have `count` elements.
        unsafe { reduce.run(&sources, &targets, count) };
        return Ok(());
    }
    for (rank, member) in members.iter().enumerate() {
        let offset = rank * count;
        // SAFETY: what is sent has a part of `count` elements for each member. The result has `count` elements, and
        // takes the place of the same part if it works in place.
        unsafe {
            let sources: Vec<_> = members
                .iter()
                .map(|member| whole(member).add(offset))
                .collect();
            let target = member.receive.cast::<T>();
            let target = match member.send.is_null() {
                true => target.add(offset),
                false => target,
            };
            reduce.run(&sources, &[target], count);
        }
    }
    Ok(())
}

/// A reduction of `T`.
struct Reduce<T: Number> {
    apply: fn(T::Wide, T::Wide) -> T::Wide,
    /// The number of members, for an average.
    divisor: Option<usize>,
}

impl<T: Number> Reduce<T> {
    fn new(reduction: Reduction, members: usize) -> Result<Self, PluginError> {
        let apply = match reduction {
            Reduction::SUM | Reduction::AVERAGE => T::add,
            Reduction::PRODUCT => T::multiply,
            Reduction::MIN => T::smaller,
            Reduction::MAX => T::larger,
            other => {
                let message = format!("this plugin does not have the reduction {other}");
                return Err(PluginError::unsupported(message));
            }
        };
        Ok(Self {
            apply,
            divisor: (reduction == Reduction::AVERAGE).then_some(members),
        })
    }

    /// Reduces the sources to each of the targets. A source may be a target.
    ///
    /// # Safety
    ///
    /// All of them have `count` elements, and nothing else accesses them.
    unsafe fn run(&self, sources: &[*const T], targets: &[*mut T], count: usize) {
        let Some((first, others)) = sources.split_first() else {
            return;
        };
        let mut block = Vec::with_capacity(BLOCK.min(count));
        for start in (0..count).step_by(BLOCK) {
            let elements = start..count.min(start + BLOCK);
            block.clear();
            // SAFETY: `elements` are below `count`.
            block.extend(
                elements
                    .clone()
                    .map(|i| unsafe { first.add(i).read() }.widen()),
            );
            for source in others {
                for (value, i) in block.iter_mut().zip(elements.clone()) {
                    // SAFETY: as above.
                    *value = (self.apply)(*value, unsafe { source.add(i).read() }.widen());
                }
            }
            if let Some(members) = self.divisor {
                block
                    .iter_mut()
                    .for_each(|value| *value = T::divide(*value, members));
            }
            for target in targets {
                for (value, i) in block.iter().zip(elements.clone()) {
                    // SAFETY: as above.
                    unsafe { target.add(i).write(T::narrow(*value)) };
                }
            }
        }
    }
}

/// A number that can be reduced.
trait Number: TensorElement {
    /// The type in which it is reduced.
    type Wide: Copy;

    fn widen(self) -> Self::Wide;
    fn narrow(wide: Self::Wide) -> Self;
    fn add(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn multiply(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// Returns the smaller number, or NaN if one of them is.
    fn smaller(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// Returns the larger number, or NaN if one of them is.
    fn larger(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn divide(sum: Self::Wide, members: usize) -> Self::Wide;
}

macro_rules! floats {
    ($($number:ty as $wide:ty, $widen:expr, $narrow:expr;)+) => {
        $(
            impl Number for $number {
                type Wide = $wide;

                fn widen(self) -> $wide {
                    $widen(self)
                }

                fn narrow(wide: $wide) -> Self {
                    $narrow(wide)
                }

                fn add(a: $wide, b: $wide) -> $wide {
                    a + b
                }

                fn multiply(a: $wide, b: $wide) -> $wide {
                    a * b
                }

                fn smaller(a: $wide, b: $wide) -> $wide {
                    if b < a || b.is_nan() { b } else { a }
                }

                fn larger(a: $wide, b: $wide) -> $wide {
                    if b > a || b.is_nan() { b } else { a }
                }

                fn divide(sum: $wide, members: usize) -> $wide {
                    sum / members as $wide
                }
            }
        )+
    };
}

floats! {
    f32 as f32, std::convert::identity, std::convert::identity;
    f64 as f64, std::convert::identity, std::convert::identity;
    bf16 as f32, bf16::to_f32, bf16::from_f32;
}

impl Number for i64 {
    type Wide = i64;

    fn widen(self) -> i64 {
        self
    }

    fn narrow(wide: i64) -> Self {
        wide
    }

    fn add(a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }

    fn multiply(a: i64, b: i64) -> i64 {
        a.wrapping_mul(b)
    }

    fn smaller(a: i64, b: i64) -> i64 {
        a.min(b)
    }

    fn larger(a: i64, b: i64) -> i64 {
        a.max(b)
    }

    /// Not used: integers have no average.
    fn divide(sum: i64, _: usize) -> i64 {
        sum
    }
}
