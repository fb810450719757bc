//! The calls of a pickle. Each known function is emulated; nothing is executed.

use super::{
    super::error::{ReadError, damaged},
    global::Global,
    machine::Machine,
    value::{Id, Storage, Value, View},
};

/// The largest number of dimensions of a tensor: the limit of PyTorch.
const MAX_DIMENSIONS: usize = 64;

impl<'a> Machine<'a> {
    /// `REDUCE`: applies a function to its arguments.
    pub(super) fn reduce(&mut self) -> Result<(), ReadError> {
        let operands = self.pop_many(2)?;
        let Value::Global(function) = *self.value(operands[0]) else {
            let kind = self.value(operands[0]).kind();
            return Err(damaged(format!("it calls {kind}")));
        };
        self.call(function, operands[1])
    }

    fn call(&mut self, function: Global, arguments: Id) -> Result<(), ReadError> {
        let unexpected = || {
            damaged(format!(
                "the arguments of {} are not those that PyTorch writes",
                function.name()
            ))
        };
        let Value::Tuple(arguments) = self.value(arguments) else {
            return Err(unexpected());
        };
        match (function, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            // Python 2 writes the pairs as an argument.
            (Global::OrderedDict, &[pairs]) => {
                let dict = self.pairs(pairs).ok_or_else(unexpected)?;
                self.charge(dict.len())?;
                self.push(Value::Dict(dict))
            }
            (
                Global::RebuildTensor,
                &[storage, offset, shape, strides]
                | &[storage, offset, shape, strides, _, _]
                | &[storage, offset, shape, strides, _, _, _],
            ) => {
                // The seventh contains flags, for example that the numbers are conjugated.
                if let Some(&flags) = arguments.get(6)
                    && !matches!(self.value(flags), Value::None)
                    && !matches!(self.value(flags), Value::Dict(pairs) if pairs.is_empty())
                {
                    return Err(unexpected());
                }
                let view = self
                    .view(storage, offset, shape, strides)
                    .ok_or_else(unexpected)?;
                self.charge(view.shape.len())?;
                let index = self.views.len();
                self.views.push(view);
                self.push(Value::Tensor(index))
            }
            (Global::RebuildParameter, &[tensor, _, _] | &[tensor, _, _, _])
                if matches!(self.value(tensor), Value::Tensor(_)) =>
            {
                self.push_id(tensor)
            }
            (Global::RebuildFromType, &[inner, kind, arguments, _]) => {
                match (self.value(inner), self.value(kind)) {
                    (
                        &Value::Global(inner @ (Global::RebuildTensor | Global::RebuildParameter)),
                        Value::Global(Global::TensorType),
                    ) => self.call(inner, arguments),
                    _ => Err(unexpected()),
                }
            }
            (Global::Size, &[sizes]) if matches!(self.value(sizes), Value::Tuple(_)) => {
                self.push_id(sizes)
            }
            (Global::Device, [_] | [_, _]) => self.push(Value::Device),
            (Global::NumpyDtype, &[kind, _, _]) => match self.value(kind) {
                // Not `O`: its elements are Python objects.
                Value::Str(kind) if kind.starts_with(['f', 'i', 'u', 'b']) => {
                    self.push(Value::NumpyDtype)
                }
                _ => Err(unexpected()),
            },
            (Global::NumpyScalar, &[kind, bytes]) => match (self.value(kind), self.value(bytes)) {
                (Value::NumpyDtype, Value::Bytes) => self.push(Value::NumpyScalar),
                _ => Err(unexpected()),
            },
            (Global::Encode, &[text, coding]) => match (self.value(text), self.value(coding)) {
                (Value::Str(_), Value::Str("latin1")) => self.push(Value::Bytes),
                _ => Err(unexpected()),
            },
            _ => Err(unexpected()),
        }
    }

    /// Returns the pairs of a list of pairs.
    fn pairs(&self, list: Id) -> Option<Vec<(Id, Id)>> {
        let (Value::List(list) | Value::Tuple(list)) = self.value(list) else {
            return None;
        };
        let pair = |&id| match self.value(id) {
            Value::List(pair) | Value::Tuple(pair) => match pair.as_slice() {
                &[key, value] => Some((key, value)),
                _ => None,
            },
            _ => None,
        };
        list.iter().map(pair).collect()
    }

    fn view(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Option<View> {
        let &Value::Storage(storage) = self.value(storage) else {
            return None;
        };
        Some(View {
            storage,
            offset: self.size(offset)?,
            shape: self.sizes(shape)?,
            strides: self.sizes(strides)?,
        })
    }

    fn size(&self, id: Id) -> Option<usize> {
        match *self.value(id) {
            Value::Int(number) => usize::try_from(number).ok(),
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        match self.value(id) {
            Value::Tuple(sizes) if sizes.len() <= MAX_DIMENSIONS => {
                sizes.iter().map(|&id| self.size(id)).collect()
            }
            _ => None,
        }
    }

    /// `BINPERSID`: a storage, whose elements are outside the pickle.
    pub(super) fn persistent(&mut self) -> Result<(), ReadError> {
        let id = self.pop()?;
        let storage = match self.value(id) {
            Value::Tuple(parts) => self.storage(parts),
            _ => None,
        };
        let storage = storage
            .ok_or_else(|| damaged("its persistent id is not a storage as PyTorch describes it"))?;
        self.charge(1)?;
        let index = self.storages.len();
        self.storages.push(storage);
        self.push(Value::Storage(index))
    }

    /// Reads `("storage", type, key, location, elements)`. Older files add a view of another storage, which
    /// must be None: PyTorch has not written such views since version 0.4.
    fn storage(&self, parts: &[Id]) -> Option<Storage<'a>> {
        let (&[tag, kind, key, location, elements], rest) = parts.split_first_chunk()?;
        let whole = match rest {
            [] => true,
            &[view] => matches!(self.value(view), Value::None),
            _ => false,
        };
        match [tag, kind, key, location].map(|id| self.value(id)) {
            [
                Value::Str("storage"),
                &Value::Global(Global::Storage(dtype)),
                &Value::Str(key),
                Value::Str(_),
            ] if whole => Some(Storage {
                key,
                dtype,
                elements: self.size(elements)?,
            }),
            _ => None,
        }
    }

    /// `BUILD`: sets the state of an object. `Module.state_dict` stores the versions of its modules this
    /// way, and numpy the byte order of a dtype.
    pub(super) fn build(&mut self) -> Result<(), ReadError> {
        let state = self.pop()?;
        let expected = match (self.top()?, state) {
            (Value::Dict(_), state) => match self.value(state) {
                Value::Dict(pairs) => pairs
                    .iter()
                    .all(|&(key, _)| matches!(self.value(key), Value::Str("_metadata"))),
                _ => false,
            },
            (Value::NumpyDtype, state) => match self.value(state) {
                Value::Tuple(parts) => parts
                    .get(1)
                    .is_some_and(|&order| matches!(self.value(order), Value::Str("<" | "|" | "="))),
                _ => false,
            },
            _ => false,
        };
        if expected {
            return Ok(());
        }
        let kind = self.top()?.kind();
        Err(ReadError::Unsupported(format!(
            "it sets a state of {kind} that tensors and plain values do not have; nothing was executed"
        )))
    }
}
