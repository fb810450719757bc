//! The tensors of a collective operation, and what they must be.

use crate::{
    CollectiveOperation, DType, Device, GroupInfo, OperationKind, PluginError, Reduction,
    TensorView, TensorViewMut,
};
use std::fmt;

/// The tensors of one operation. Without a send tensor, the operation works in place: the receive tensor contains what
/// is sent.
///
/// | operation | sends | receives | in place |
/// |---|---|---|---|
/// | barrier | – | – | |
/// | broadcast | – | `n` | always; the root's is sent |
/// | all-reduce | `n` | `n` | the receive tensor is sent |
/// | reduce-scatter | `size · n` | `n` | the receive tensor has `size · n` elements; part `rank` becomes the result, the other parts are undefined afterwards |
/// | all-gather | `n` | `size · n` | part `rank` of the receive tensor is sent |
#[derive(Debug, Default)]
pub struct CollectiveBuffers<'a> {
    /// What this member sends.
    pub send: Option<TensorView<'a>>,
    /// Where this member receives.
    pub receive: Option<TensorViewMut<'a>>,
}

impl<'a> CollectiveBuffers<'a> {
    /// No tensors, for a barrier.
    pub const NONE: Self = Self {
        send: None,
        receive: None,
    };

    /// One tensor, which is sent and overwritten.
    pub fn in_place(receive: TensorViewMut<'a>) -> Self {
        Self {
            send: None,
            receive: Some(receive),
        }
    }

    /// A tensor to send and a tensor to receive into. They do not overlap.
    pub fn new(send: TensorView<'a>, receive: TensorViewMut<'a>) -> Self {
        Self {
            send: Some(send),
            receive: Some(receive),
        }
    }

    /// Checks that the group has the operation, and that the tensors fit it and each other. Returns the number of
    /// elements of the smaller tensor, `n` in the table above. The adapter calls this before
    /// [`crate::Collective::start`].
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::INVALID_INPUT`] for tensors that do not fit, and [`crate::ErrorKind::UNSUPPORTED`] for what
    /// the group does not have.
    pub fn check(
        &self,
        operation: CollectiveOperation,
        group: &GroupInfo,
    ) -> Result<usize, PluginError> {
        if operation.has_unknown_flags() || !group.operations.contains(&operation.kind()) {
            let message = format!("this group does not have the operation {operation}");
            return Err(PluginError::unsupported(message));
        }
        let send = self.send.as_ref().map(Shape::of);
        let receive = self
            .receive
            .as_ref()
            .map(|receive| Shape::of(&receive.view()));
        for shape in [send, receive].into_iter().flatten() {
            supported(operation, group, shape)?;
        }
        if let (Some(send), Some(receive)) = (send, receive)
            && (send.dtype, send.device) != (receive.dtype, receive.device)
        {
            return Err(PluginError::invalid(format!(
                "{operation} needs tensors of one dtype on one device; the send tensor is {send} and the receive tensor \
                 {receive}"
            )));
        }
        let size = group.size.max(1) as usize;
        let parts = |whole: Shape| match whole.elements % size {
            0 => Ok(whole.elements / size),
            _ => Err(PluginError::invalid(format!(
                "{operation} divides a tensor into {size} equal parts, one for each member; it has {} elements, which is \
                 not a multiple of {size}: pad it",
                whole.elements
            ))),
        };
        let (sent, received) = match (operation.kind(), send, receive) {
            (OperationKind::BARRIER, None, None) => return Ok(0),
            (OperationKind::BROADCAST, None, Some(_)) if operation.root() >= group.size => {
                return Err(PluginError::invalid(format!(
                    "the root of {operation} is rank {}, but the group has {size} members",
                    operation.root()
                )));
            }
            (OperationKind::BROADCAST | OperationKind::ALL_REDUCE, None, Some(whole)) => {
                return Ok(whole.elements);
            }
            (OperationKind::REDUCE_SCATTER | OperationKind::ALL_GATHER, None, Some(whole)) => {
                return parts(whole);
            }
            (OperationKind::ALL_REDUCE, Some(send), Some(receive)) => {
                (send.elements, receive.elements)
            }
            (OperationKind::REDUCE_SCATTER, Some(send), Some(part)) => {
                (parts(send)?, part.elements)
            }
            (OperationKind::ALL_GATHER, Some(part), Some(receive)) => {
                (part.elements, parts(receive)?)
            }
            _ => {
                return Err(PluginError::invalid(format!(
                    "{operation} was started {} a send tensor and {} a receive tensor",
                    with(send.is_some()),
                    with(receive.is_some())
                )));
            }
        };
        if sent == received {
            return Ok(sent);
        }
        Err(PluginError::invalid(format!(
            "the tensors of {operation} do not fit: it would send {sent} and receive {received} elements of each member"
        )))
    }
}

/// Checks that the group has the operation for tensors of this dtype on this device.
fn supported(
    operation: CollectiveOperation,
    group: &GroupInfo,
    shape: Shape,
) -> Result<(), PluginError> {
    let Shape { dtype, device, .. } = shape;
    if !device.is_main_memory() && !group.devices.contains(&device.kind) {
        return Err(PluginError::unsupported(format!(
            "this group exchanges tensors in main memory, found one on {device}"
        )));
    }
    let reduces = [OperationKind::ALL_REDUCE, OperationKind::REDUCE_SCATTER];
    if !reduces.contains(&operation.kind()) {
        return Ok(());
    }
    if !group.reductions.contains(&operation.reduction()) || !group.dtypes.contains(&dtype) {
        return Err(PluginError::unsupported(format!(
            "this group does not have {operation} of {dtype}"
        )));
    }
    let integers = [0, 1, 6].contains(&dtype.code);
    match integers && operation.reduction() == Reduction::AVERAGE {
        true => Err(PluginError::invalid(format!(
            "the average of {dtype} is not defined"
        ))),
        false => Ok(()),
    }
}

fn with(present: bool) -> &'static str {
    match present {
        true => "with",
        false => "without",
    }
}

/// What an operation needs to know of a tensor. Only the number of elements counts, not their shape.
#[derive(Clone, Copy)]
struct Shape {
    elements: usize,
    dtype: DType,
    device: Device,
}

impl Shape {
    fn of(view: &TensorView<'_>) -> Self {
        Self {
            elements: view.shape().iter().product(),
            dtype: view.dtype(),
            device: view.device(),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} on {}", self.elements, self.dtype, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceKind, ErrorKind, Stream};

    /// Checks an operation of a group of three with tensors of these numbers of `f32`.
    fn checked(
        operation: CollectiveOperation,
        send: Option<usize>,
        receive: Option<usize>,
    ) -> Result<usize, PluginError> {
        let (sent, mut received) = ([0.0f32; 16], [0.0f32; 16]);
        let shapes = [[send.unwrap_or(0)], [receive.unwrap_or(0)]];
        let buffers = CollectiveBuffers {
            send: send.map(|n| TensorView::new(&sent[..n], &shapes[0]).unwrap()),
            receive: receive.map(|n| TensorViewMut::new(&mut received[..n], &shapes[1]).unwrap()),
        };
        buffers.check(operation, &GroupInfo::new(0, 3))
    }

    #[test]
    fn tensors_of_every_operation_are_counted() {
        let (reduce, scatter) = (
            CollectiveOperation::all_reduce(Reduction::SUM),
            CollectiveOperation::reduce_scatter(Reduction::SUM),
        );
        let gather = CollectiveOperation::ALL_GATHER;
        for (operation, send, receive, count) in [
            (CollectiveOperation::BARRIER, None, None, 0),
            (CollectiveOperation::broadcast(2), None, Some(5), 5),
            (reduce, Some(5), Some(5), 5),
            (reduce, None, Some(5), 5),
            (scatter, Some(6), Some(2), 2),
            (scatter, None, Some(6), 2),
            (gather, Some(2), Some(6), 2),
            (gather, None, Some(6), 2),
            (gather, Some(0), Some(0), 0),
        ] {
            assert_eq!(checked(operation, send, receive), Ok(count), "{operation}");
        }
        for (operation, send, receive, words) in [
            (
                CollectiveOperation::BARRIER,
                None,
                Some(1),
                "without a send tensor and with a receive tensor",
            ),
            (
                CollectiveOperation::broadcast(3),
                None,
                Some(1),
                "rank 3, but the group has 3",
            ),
            (
                CollectiveOperation::broadcast(0),
                Some(1),
                Some(1),
                "broadcast was started with a send",
            ),
            (reduce, Some(4), None, "without a receive tensor"),
            (
                reduce,
                Some(4),
                Some(5),
                "would send 4 and receive 5 elements",
            ),
            (scatter, Some(7), Some(2), "not a multiple of 3: pad it"),
            (
                scatter,
                Some(6),
                Some(3),
                "would send 2 and receive 3 elements",
            ),
            (
                gather,
                Some(3),
                Some(6),
                "would send 3 and receive 2 elements",
            ),
            (gather, None, Some(7), "not a multiple of 3"),
        ] {
            let error = checked(operation, send, receive).unwrap_err();
            assert_eq!(error.kind, ErrorKind::INVALID_INPUT, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }

    #[test]
    fn what_a_group_does_not_have_is_refused() {
        let unknown = CollectiveOperation::new(OperationKind::from_number(99), Reduction::NONE, 0);
        let greatest = CollectiveOperation::all_reduce(Reduction::MAX);
        for (operation, words) in [
            (unknown, "the operation collective operation 99"),
            (greatest, "all-reduce (max) of f32"),
        ] {
            let error = checked(operation, None, Some(3)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::UNSUPPORTED, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }

    #[test]
    fn tensors_of_a_device_need_a_group_that_takes_them() {
        let device = Device::new(DeviceKind::CUDA, 1);
        let check = |group: &GroupInfo| {
            let data = std::ptr::without_provenance_mut(0x1000);
            // SAFETY: nothing reads the memory.
            let tensor = unsafe {
                TensorViewMut::from_raw(data, DType::F32, device, &[4], Stream::COMPLETE)
            };
            let buffers = CollectiveBuffers::in_place(tensor.unwrap());
            buffers.check(CollectiveOperation::all_reduce(Reduction::SUM), group)
        };
        let error = check(&GroupInfo::new(0, 2)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::UNSUPPORTED);
        assert!(error.message.contains("found one on cuda:1"), "{error}");
        let group = GroupInfo::new(0, 2).devices(&[DeviceKind::CUDA]);
        assert_eq!(check(&group), Ok(4));
    }

    #[test]
    fn two_tensors_of_an_operation_agree() {
        let (send, mut receive) = ([0.0f64; 2], [0.0f32; 2]);
        let buffers = CollectiveBuffers::new(
            TensorView::new(&send, &[2]).unwrap(),
            TensorViewMut::new(&mut receive, &[2]).unwrap(),
        );
        let group = GroupInfo::new(0, 1).reduces(&[Reduction::SUM], &[DType::F32, DType::F64]);
        let operation = CollectiveOperation::all_reduce(Reduction::SUM);
        let error = buffers.check(operation, &group).unwrap_err();
        assert!(error.message.contains("2 f64 on cpu"), "{error}");
        assert!(error.message.contains("2 f32 on cpu"), "{error}");
    }

    #[test]
    fn integers_have_no_average() {
        let mut data = [1i64, 2];
        let tensor = TensorViewMut::new(&mut data, &[2]).unwrap();
        let group = GroupInfo::new(0, 2).reduces(&[Reduction::AVERAGE], &[DType::I64]);
        let operation = CollectiveOperation::all_reduce(Reduction::AVERAGE);
        let error = CollectiveBuffers::in_place(tensor)
            .check(operation, &group)
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::INVALID_INPUT);
        assert!(error.message.contains("average of i64"), "{error}");
    }
}
