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
