//! A machine that interprets the pickles of `torch.save` (Python's `Lib/pickletools.py` describes the
//! opcodes). It builds tables of plain values and of tensor descriptions. It calls no Python code.
//!
//! Values are stored in one table and refer to each other by id. Cyclic references are therefore
//! harmless, and nested values need no recursion. The number of values is limited.

mod call;
mod global;
mod machine;
mod value;

pub(super) use value::{Id, Storage, Value};

use super::error::ReadError;
use machine::{MAX_PICKLE, Machine};
use value::View;

/// The contents of a pickle.
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    storages: Vec<Storage<'a>>,
    views: Vec<View>,
    root: Id,
    length: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the beginning of `bytes`. Returns the pickle and its length.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, usize), ReadError> {
        let mut machine = Machine::new(&bytes[..bytes.len().min(MAX_PICKLE)]);
        let root = machine.run().map_err(|error| {
            let at = machine.at;
            let located = |what| format!("its pickle, at byte {at}: {what}");
            match error {
                ReadError::Damaged(what) => ReadError::Damaged(located(what)),
                ReadError::Unsupported(what) => ReadError::Unsupported(located(what)),
            }
        })?;
        let length = machine.at;
        let pickle = Self {
            values: machine.values,
            storages: machine.storages,
            views: machine.views,
            root,
            length,
        };
        Ok((pickle, length))
    }

    /// Returns the saved object.
    pub fn root(&self) -> &Value<'a> {
        self.value(self.root)
    }

    /// Returns the id of the saved object.
    pub fn root_id(&self) -> Id {
        self.root
    }

    /// Returns the length of the pickle, in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Returns the value `id`, which must be an id of this pickle.
    pub fn value(&self, id: Id) -> &Value<'a> {
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    /// Returns the value of `key` if the saved object is a dictionary that contains it.
    pub fn entry(&self, key: &str) -> Option<&Value<'a>> {
        let Value::Dict(pairs) = self.root() else {
            return None;
        };
        let named = |id| matches!(self.value(id), Value::Str(name) if *name == key);
        let pair = pairs.iter().find(|(id, _)| named(*id));
        pair.map(|&(_, value)| self.value(value))
    }

    /// Returns the tensor with this index.
    pub fn tensor(&self, index: usize) -> &View {
        &self.views[index]
    }

    /// Returns the storage with this index.
    pub fn storage(&self, index: usize) -> &Storage<'a> {
        &self.storages[index]
    }

    /// Returns all storages.
    pub fn storages(&self) -> &[Storage<'a>] {
        &self.storages
    }
}
