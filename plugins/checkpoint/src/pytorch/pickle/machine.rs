//! The opcodes of a pickle.

use super::{
    super::error::{ReadError, damaged},
    global::Global,
    value::{Id, Storage, Value, View},
};
use std::collections::HashMap;

/// The largest size of a pickle, in bytes. It contains names and shapes, which take a few megabytes in the
/// largest models.
pub(super) const MAX_PICKLE: usize = 1 << 26;

/// The largest number of values, including elements that are copied between values. A model of 10,000
/// tensors has 200,000.
const MAX_VALUES: usize = 1 << 22;

/// What interprets a pickle.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) values: Vec<Value<'a>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) views: Vec<View>,
    stack: Vec<Id>,
    /// The height of the stack at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// The number of copied elements.
    copied: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            values: Vec::new(),
            storages: Vec::new(),
            views: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copied: 0,
        }
    }

    /// Runs to the end of the pickle and returns the object on the stack.
    pub(super) fn run(&mut self) -> Result<Id, ReadError> {
        loop {
            let [opcode] = self.array()?;
            if opcode == b'.' {
                return match (self.stack.as_slice(), self.marks.as_slice()) {
                    (&[root], []) => Ok(root),
                    _ => Err(damaged("it does not end with exactly one object")),
                };
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), ReadError> {
        match opcode {
            // PROTO
            0x80 => {
                let [protocol] = self.array()?;
                if !(2..=5).contains(&protocol) {
                    return Err(ReadError::Unsupported(format!(
                        "it has protocol {protocol}; expected 2 to 5"
                    )));
                }
                Ok(())
            }
            // FRAME
            0x95 => self.array::<8>().map(|_| ()),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => self
                .array()
                .map(u8::from_le_bytes)
                .and_then(|x| self.int(x)),
            b'M' => self
                .array()
                .map(u16::from_le_bytes)
                .and_then(|x| self.int(x)),
            b'J' => self
                .array()
                .map(i32::from_le_bytes)
                .and_then(|x| self.int(x)),
            // LONG1. LONG4, for numbers of more than 255 bytes, is not supported.
            0x8a => self.long(),
            b'G' => self.array::<8>().and_then(|_| self.push(Value::Float)),
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => self.length::<1>().and_then(|n| self.text(n)),
            b'X' => self.length::<4>().and_then(|n| self.text(n)),
            0x8d => self.length::<8>().and_then(|n| self.text(n)),
            // SHORT_BINSTRING and BINSTRING of Python 2
            b'U' => self.length::<1>().and_then(|n| self.text(n)),
            b'T' => self.length::<4>().and_then(|n| self.text(n)),
            // SHORT_BINBYTES, BINBYTES, BINBYTES8
            b'C' => self.length::<1>().and_then(|n| self.raw(n)),
            b'B' => self.length::<4>().and_then(|n| self.raw(n)),
            0x8e => self.length::<8>().and_then(|n| self.raw(n)),
            b'(' => self.mark(),
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b't' => self
                .take_marked()
                .and_then(|items| self.push(Value::Tuple(items))),
            b'l' => self
                .take_marked()
                .and_then(|items| self.push(Value::List(items))),
            // TUPLE1 to TUPLE3
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push(Value::Tuple(items))
            }
            b'a' => self.pop().and_then(|item| self.append(vec![item])),
            b'e' => self.take_marked().and_then(|items| self.append(items)),
            b's' => self.pop_many(2).and_then(|pair| self.set(&pair)),
            b'u' => self.take_marked().and_then(|pairs| self.set(&pairs)),
            b'h' => self.length::<1>().and_then(|n| self.recall(n)),
            b'j' => self.length::<4>().and_then(|n| self.recall(n)),
            b'q' => self.length::<1>().and_then(|n| self.memoize(n as u32)),
            b'r' => self.length::<4>().and_then(|n| self.memoize(n as u32)),
            // MEMOIZE
            0x94 => self.memoize(self.memo.len() as u32),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            // STACK_GLOBAL
            0x93 => {
                let names = self.pop_many(2)?;
                match [self.value(names[0]), self.value(names[1])] {
                    [&Value::Str(module), &Value::Str(name)] => self.global(module, name),
                    _ => Err(damaged("it refers to a name that is not a string")),
                }
            }
            b'R' => self.reduce(),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            other => Err(unknown(other)),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ReadError> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| {
            damaged(format!(
                "{length} bytes are declared, but only {} remain",
                self.bytes.len() - self.at
            ))
        })?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Reads a length or index of `N` bytes.
    fn length<const N: usize>(&mut self) -> Result<usize, ReadError> {
        let bytes = self.array::<N>()?;
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&bytes);
        let number = u64::from_le_bytes(wide);
        usize::try_from(number).map_err(|_| damaged(format!("{number} bytes are declared")))
    }

    /// Reads a line: the argument of an old opcode.
    fn line(&mut self) -> Result<&'a str, ReadError> {
        let rest = &self.bytes[self.at..];
        let rest = &rest[..rest.len().min(1024)];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| damaged("a name does not end with a line feed"))?;
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| damaged("a name is not UTF-8"))
    }

    pub(super) fn value(&self, id: Id) -> &Value<'a> {
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    /// Counts copied elements towards [`MAX_VALUES`]: few bytes of a pickle can cause many copies.
    pub(super) fn charge(&mut self, elements: usize) -> Result<(), ReadError> {
        self.copied = self.copied.saturating_add(elements);
        if self.values.len() + self.copied > MAX_VALUES {
            return Err(damaged(format!("it has more than {MAX_VALUES} values")));
        }
        Ok(())
    }

    pub(super) fn push(&mut self, value: Value<'a>) -> Result<(), ReadError> {
        self.charge(0)?;
        // `charge` keeps the number far below 2³².
        let id = Id(self.values.len() as u32);
        self.values.push(value);
        self.push_id(id)
    }

    pub(super) fn push_id(&mut self, id: Id) -> Result<(), ReadError> {
        if self.stack.len() >= MAX_VALUES {
            return Err(damaged(format!(
                "its stack has more than {MAX_VALUES} values"
            )));
        }
        self.stack.push(id);
        Ok(())
    }

    fn mark(&mut self) -> Result<(), ReadError> {
        if self.marks.len() >= MAX_VALUES {
            return Err(damaged(format!(
                "its stack has more than {MAX_VALUES} marks"
            )));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Returns the lowest height to which the stack may be popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<Id, ReadError> {
        if self.stack.len() <= self.floor() {
            return Err(damaged("its stack is empty"));
        }
        self.stack
            .pop()
            .ok_or_else(|| damaged("its stack is empty"))
    }

    pub(super) fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, ReadError> {
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= self.floor() => Ok(self.stack.split_off(start)),
            _ => Err(damaged("its stack is empty")),
        }
    }

    fn take_marked(&mut self) -> Result<Vec<Id>, ReadError> {
        let start = self
            .marks
            .pop()
            .ok_or_else(|| damaged("a mark is missing"))?;
        if start > self.stack.len() {
            return Err(damaged("its stack is empty"));
        }
        Ok(self.stack.split_off(start))
    }

    pub(super) fn top(&mut self) -> Result<&mut Value<'a>, ReadError> {
        let floor = self.floor();
        let top = self.stack.last().filter(|_| self.stack.len() > floor);
        let id = *top.ok_or_else(|| damaged("its stack is empty"))?;
        let value = self.values.get_mut(id.0 as usize);
        value.ok_or_else(|| damaged("its stack is empty"))
    }

    fn int(&mut self, number: impl Into<i128>) -> Result<(), ReadError> {
        self.push(Value::Int(number.into()))
    }

    fn long(&mut self) -> Result<(), ReadError> {
        let length = self.length::<1>()?;
        let bytes = self.take(length)?;
        if length > 16 {
            return Err(ReadError::Unsupported(format!(
                "it contains a number of {length} bytes; expected at most 16"
            )));
        }
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) {
            0xff
        } else {
            0
        };
        let mut wide = [sign; 16];
        wide[..length].copy_from_slice(bytes);
        self.int(i128::from_le_bytes(wide))
    }

    fn text(&mut self, length: usize) -> Result<(), ReadError> {
        let text = std::str::from_utf8(self.take(length)?);
        let text = text.map_err(|_| damaged("a string is not UTF-8"))?;
        self.push(Value::Str(text))
    }

    fn raw(&mut self, length: usize) -> Result<(), ReadError> {
        self.take(length)?;
        self.push(Value::Bytes)
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), ReadError> {
        match self.top()? {
            Value::List(list) => {
                list.extend(items);
                Ok(())
            }
            other => Err(damaged(format!("it appends to {}", other.kind()))),
        }
    }

    fn set(&mut self, items: &[Id]) -> Result<(), ReadError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(damaged("a dictionary key has no value"));
        }
        match self.top()? {
            Value::Dict(dict) => {
                dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            other => Err(damaged(format!("it sets keys of {}", other.kind()))),
        }
    }

    fn recall(&mut self, slot: usize) -> Result<(), ReadError> {
        let id = u32::try_from(slot)
            .ok()
            .and_then(|slot| self.memo.get(&slot));
        let id = *id.ok_or_else(|| damaged(format!("its memo has no entry {slot}")))?;
        self.push_id(id)
    }

    fn memoize(&mut self, slot: u32) -> Result<(), ReadError> {
        if self.stack.len() <= self.floor() {
            return Err(damaged("its stack is empty"));
        }
        let id = *self
            .stack
            .last()
            .ok_or_else(|| damaged("its stack is empty"))?;
        if self.memo.len() >= MAX_VALUES {
            return Err(damaged(format!(
                "its memo has more than {MAX_VALUES} entries"
            )));
        }
        self.memo.insert(slot, id);
        Ok(())
    }

    fn global(&mut self, module: &'a str, name: &'a str) -> Result<(), ReadError> {
        self.push(Value::Global(Global::find(module, name)?))
    }
}

/// Makes the error of an unsupported opcode.
fn unknown(opcode: u8) -> ReadError {
    let name = match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x82..=0x84 => "EXT",
        0x8b => "LONG4",
        0x8f => "EMPTY_SET",
        0x91 => "FROZENSET",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        b'P' => "PERSID",
        b'I' => "INT",
        b'L' => "LONG",
        b'F' => "FLOAT",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'p' => "PUT",
        b'g' => "GET",
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'd' => "DICT",
        _ => {
            return damaged(format!(
                "{opcode:#04x} is not an opcode that `torch.save` writes"
            ));
        }
    };
    ReadError::Unsupported(format!(
        "`torch.save` does not write the opcode {name} for tensors and plain values; nothing was executed"
    ))
}
