//! The metadata of a GGUF file: keys with typed values.

use super::cursor::Cursor;
use crate::CheckpointError;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// The largest length of a key, in bytes: the limit of the format.
const MAX_KEY: usize = 65535;

/// A value of a GGUF file's metadata.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(GgufArray),
}

/// An array of a GGUF file's metadata. Arrays of arrays are refused, as in llama.cpp.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum GgufArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
}

/// The metadata of a GGUF file, by key.
#[derive(Debug, Clone)]
pub struct GgufMetadata {
    path: PathBuf,
    values: BTreeMap<String, GgufValue>,
}

impl GgufMetadata {
    pub(super) fn read(cursor: &mut Cursor<'_>, keys: usize, path: &Path) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for index in 0..keys {
            let key = cursor
                .string("a key")
                .map_err(|what| format!("key {index} of {keys}: {what}"))?;
            if key.is_empty() || key.len() > MAX_KEY {
                return Err(format!(
                    "key {index} of {keys} has {} bytes; expected 1 to {MAX_KEY}",
                    key.len()
                ));
            }
            let value = value(cursor).map_err(|what| format!("key `{key}`: {what}"))?;
            if values.insert(key.to_owned(), value).is_some() {
                return Err(format!("key `{key}` occurs twice"));
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            values,
        })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all keys with their values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &GgufValue)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Returns the value of `key`, of any type.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.values.get(key)
    }

    /// Returns the value of `key` as a `T`, if there is one. An integer of another width is accepted if it
    /// fits.
    ///
    /// # Errors
    ///
    /// When the value has another type.
    pub fn find<'a, T: FromGguf<'a>>(&'a self, key: &str) -> Result<Option<T>, CheckpointError> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        let error = || {
            let expected = T::EXPECTED;
            self.error(format!("`{key}` is {value}; expected {expected}"))
        };
        T::from_gguf(value).map(Some).ok_or_else(error)
    }

    /// Returns the value of `key` as a `T`.
    ///
    /// # Errors
    ///
    /// When the key is missing or the value has another type.
    pub fn require<'a, T: FromGguf<'a>>(&'a self, key: &str) -> Result<T, CheckpointError> {
        self.find(key)?.ok_or_else(|| {
            let expected = T::EXPECTED;
            self.error(format!(
                "`{key}` is missing from the metadata; expected {expected}"
            ))
        })
    }

    fn error(&self, what: String) -> CheckpointError {
        CheckpointError::Metadata {
            path: self.path.clone(),
            what,
        }
    }
}

fn value(cursor: &mut Cursor<'_>) -> Result<GgufValue, String> {
    let what = "its value";
    let kind = cursor.u32("its type")?;
    Ok(match kind {
        0 => GgufValue::U8(u8::from_le_bytes(cursor.array(what)?)),
        1 => GgufValue::I8(i8::from_le_bytes(cursor.array(what)?)),
        2 => GgufValue::U16(u16::from_le_bytes(cursor.array(what)?)),
        3 => GgufValue::I16(i16::from_le_bytes(cursor.array(what)?)),
        4 => GgufValue::U32(u32::from_le_bytes(cursor.array(what)?)),
        5 => GgufValue::I32(i32::from_le_bytes(cursor.array(what)?)),
        6 => GgufValue::F32(f32::from_le_bytes(cursor.array(what)?)),
        7 => GgufValue::Bool(truth(cursor.array(what)?)?),
        8 => GgufValue::String(cursor.string(what)?.to_owned()),
        9 => GgufValue::Array(array(cursor)?),
        10 => GgufValue::U64(u64::from_le_bytes(cursor.array(what)?)),
        11 => GgufValue::I64(i64::from_le_bytes(cursor.array(what)?)),
        12 => GgufValue::F64(f64::from_le_bytes(cursor.array(what)?)),
        other => return Err(format!("its type is {other}; expected 0 to 12")),
    })
}

fn truth([byte]: [u8; 1]) -> Result<bool, String> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("a boolean is {other}; expected 0 or 1")),
    }
}

fn array(cursor: &mut Cursor<'_>) -> Result<GgufArray, String> {
    let kind = cursor.u32("its elements' type")?;
    let count = cursor.u64("its length")?;
    Ok(match kind {
        0 => GgufArray::U8(numbers(cursor, count, u8::from_le_bytes)?),
        1 => GgufArray::I8(numbers(cursor, count, i8::from_le_bytes)?),
        2 => GgufArray::U16(numbers(cursor, count, u16::from_le_bytes)?),
        3 => GgufArray::I16(numbers(cursor, count, i16::from_le_bytes)?),
        4 => GgufArray::U32(numbers(cursor, count, u32::from_le_bytes)?),
        5 => GgufArray::I32(numbers(cursor, count, i32::from_le_bytes)?),
        6 => GgufArray::F32(numbers(cursor, count, f32::from_le_bytes)?),
        7 => {
            let bytes = numbers(cursor, count, u8::from_le_bytes)?;
            let truths: Result<_, _> = bytes.into_iter().map(|byte| truth([byte])).collect();
            GgufArray::Bool(truths?)
        }
        8 => {
            // Every string takes at least the 8 bytes of its length.
            let count = cursor.count("strings", count, 8)?;
            let strings: Result<_, _> = (0..count)
                .map(|_| cursor.string("a string").map(str::to_owned))
                .collect();
            GgufArray::String(strings?)
        }
        9 => return Err("it is an array of arrays; expected an array of plain values".to_owned()),
        10 => GgufArray::U64(numbers(cursor, count, u64::from_le_bytes)?),
        11 => GgufArray::I64(numbers(cursor, count, i64::from_le_bytes)?),
        12 => GgufArray::F64(numbers(cursor, count, f64::from_le_bytes)?),
        other => return Err(format!("its elements' type is {other}; expected 0 to 12")),
    })
}

fn numbers<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    count: u64,
    number: fn([u8; N]) -> T,
) -> Result<Vec<T>, String> {
    let count = cursor.count("elements", count, N)?;
    (0..count)
        .map(|_| cursor.array("an element").map(number))
        .collect()
}

impl GgufArray {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(elements) => elements.len(),
            Self::I8(elements) => elements.len(),
            Self::U16(elements) => elements.len(),
            Self::I16(elements) => elements.len(),
            Self::U32(elements) => elements.len(),
            Self::I32(elements) => elements.len(),
            Self::U64(elements) => elements.len(),
            Self::I64(elements) => elements.len(),
            Self::F32(elements) => elements.len(),
            Self::F64(elements) => elements.len(),
            Self::Bool(elements) => elements.len(),
            Self::String(elements) => elements.len(),
        }
    }

    /// Returns whether the array is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn integers(&self) -> Option<Vec<i64>> {
        Some(match self {
            Self::U8(elements) => elements.iter().map(|&x| x.into()).collect(),
            Self::I8(elements) => elements.iter().map(|&x| x.into()).collect(),
            Self::U16(elements) => elements.iter().map(|&x| x.into()).collect(),
            Self::I16(elements) => elements.iter().map(|&x| x.into()).collect(),
            Self::U32(elements) => elements.iter().map(|&x| x.into()).collect(),
            Self::I32(elements) => elements.iter().map(|&x| x.into()).collect(),
            Self::U64(elements) => {
                let numbers = elements.iter().map(|&x| i64::try_from(x).ok());
                numbers.collect::<Option<_>>()?
            }
            Self::I64(elements) => elements.clone(),
            _ => return None,
        })
    }

    const fn elements(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
        }
    }
}

impl GgufValue {
    /// Returns the value as an integer of any width.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(x) => x.into(),
            Self::I8(x) => x.into(),
            Self::U16(x) => x.into(),
            Self::I16(x) => x.into(),
            Self::U32(x) => x.into(),
            Self::I32(x) => x.into(),
            Self::U64(x) => x.into(),
            Self::I64(x) => x.into(),
            _ => return None,
        })
    }
}

/// Formats a value for a message.
impl fmt::Display for GgufValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32(x) => write!(f, "{x}"),
            Self::F64(x) => write!(f, "{x}"),
            Self::Bool(x) => write!(f, "{x}"),
            Self::String(text) => {
                let shown: String = text.chars().take(60).collect();
                write!(f, "{shown:?}")
            }
            Self::Array(array) => {
                write!(f, "an array of {} {}", array.len(), array.elements())
            }
            integer => write!(f, "{}", integer.integer().unwrap_or_default()),
        }
    }
}

/// A type that a [`GgufValue`] can be read as.
pub trait FromGguf<'a>: Sized {
    /// The expected value, for a message.
    const EXPECTED: &'static str;

    /// Converts the value, or returns `None` if it has another type.
    fn from_gguf(value: &'a GgufValue) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ident)*) => {$(
        impl FromGguf<'_> for $type {
            const EXPECTED: &'static str = concat!("an integer that fits ", stringify!($type));

            fn from_gguf(value: &GgufValue) -> Option<Self> {
                value.integer()?.try_into().ok()
            }
        }
    )*};
}

integers!(u32 u64 usize i64);

impl FromGguf<'_> for f64 {
    const EXPECTED: &'static str = "a number";

    fn from_gguf(value: &GgufValue) -> Option<Self> {
        match *value {
            GgufValue::F32(x) => Some(x.into()),
            GgufValue::F64(x) => Some(x),
            _ => None,
        }
    }
}

impl FromGguf<'_> for f32 {
    const EXPECTED: &'static str = "a number";

    fn from_gguf(value: &GgufValue) -> Option<Self> {
        f64::from_gguf(value).map(|x| x as Self)
    }
}

impl FromGguf<'_> for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_gguf(value: &GgufValue) -> Option<Self> {
        match *value {
            GgufValue::Bool(x) => Some(x),
            _ => None,
        }
    }
}

impl<'a> FromGguf<'a> for &'a str {
    const EXPECTED: &'static str = "a string";

    fn from_gguf(value: &'a GgufValue) -> Option<Self> {
        match value {
            GgufValue::String(text) => Some(text),
            _ => None,
        }
    }
}

impl<'a> FromGguf<'a> for &'a [String] {
    const EXPECTED: &'static str = "an array of strings";

    fn from_gguf(value: &'a GgufValue) -> Option<Self> {
        match value {
            GgufValue::Array(GgufArray::String(strings)) => Some(strings),
            _ => None,
        }
    }
}

impl<'a> FromGguf<'a> for &'a [f32] {
    const EXPECTED: &'static str = "an array of f32";

    fn from_gguf(value: &'a GgufValue) -> Option<Self> {
        match value {
            GgufValue::Array(GgufArray::F32(numbers)) => Some(numbers),
            _ => None,
        }
    }
}

impl FromGguf<'_> for Vec<i64> {
    const EXPECTED: &'static str = "an array of integers";

    fn from_gguf(value: &GgufValue) -> Option<Self> {
        match value {
            GgufValue::Array(array) => array.integers(),
            _ => None,
        }
    }
}
