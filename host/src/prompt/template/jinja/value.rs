//! Values of a template. Lists and dictionaries are immutable, and each stores its nesting depth.

use super::{Fault, Text};
use std::{
    collections::HashMap,
    fmt::{self, Display},
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Maximum nesting depth of lists and dictionaries.
const MAX_DEPTH: usize = 40;

#[derive(Debug, Clone)]
pub(in super::super) enum Value {
    /// An undefined value, with a description of what was looked up.
    Undefined(Text),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Text),
    Seq(Arc<Seq>),
    Dict(Arc<Dict>),
    /// The index of a namespace in the machine. Macros and loops are also referred to by index.
    Namespace(usize),
    Macro(usize),
    Loop(usize),
    Function(Function),
    /// A value and the name of its method.
    Method(Arc<(Value, Text)>),
}

/// A list or another Python sequence.
#[derive(Debug)]
pub(in super::super) struct Seq {
    pub(super) kind: SeqKind,
    pub(super) items: Vec<Value>,
    depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeqKind {
    List,
    Tuple,
    /// The result of filters such as `map`. It is always true and has no length.
    Generator,
    /// The result of methods such as `items`.
    View,
}

/// A dictionary in insertion order.
#[derive(Debug, Default)]
pub(in super::super) struct Dict {
    pub(super) entries: Vec<(Key, Value)>,
    index: HashMap<Key, usize>,
    depth: usize,
}

/// A dictionary key. As in Python, `True` and 1 are the same key.
#[derive(Debug, Clone)]
pub(super) enum Key {
    None,
    Bool(bool),
    Int(i64),
    Text(Text),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Function {
    Range,
    Dict,
    Namespace,
    RaiseException,
    StrftimeNow,
}

impl Value {
    /// Creates a pair, an element of `items`.
    pub(super) fn pair(key: &Key, value: &Self) -> Result<Self, Fault> {
        Self::seq(SeqKind::Tuple, vec![key.value(), value.clone()])
    }

    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// Creates a list. Fails for values that cannot be stored.
    pub fn list(items: Vec<Self>) -> Result<Self, Fault> {
        Self::seq(SeqKind::List, items)
    }

    pub(super) fn seq(kind: SeqKind, items: Vec<Self>) -> Result<Self, Fault> {
        let depth = depth_above(items.iter())?;
        Ok(Self::Seq(Arc::new(Seq { kind, items, depth })))
    }

    /// Creates a dictionary whose keys are strings.
    pub fn dict<'k>(entries: impl IntoIterator<Item = (&'k str, Self)>) -> Result<Self, Fault> {
        let entries = entries.into_iter();
        Self::dict_of(entries.map(|(key, value)| (Key::Text(key.into()), value)))
    }

    /// Creates a dictionary. For equal keys, the last value is kept.
    pub(super) fn dict_of(pairs: impl IntoIterator<Item = (Key, Self)>) -> Result<Self, Fault> {
        let mut dict = Dict::default();
        for (key, value) in pairs {
            match dict.index.get(&key) {
                Some(&at) => dict.entries[at].1 = value,
                None => {
                    dict.index.insert(key.clone(), dict.entries.len());
                    dict.entries.push((key, value));
                }
            }
        }
        dict.depth = depth_above(dict.entries.iter().map(|(_, value)| value))?;
        Ok(Self::Dict(Arc::new(dict)))
    }

    pub(super) fn as_text(&self) -> Option<&Text> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value as an integer. Booleans are integers too.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bool(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            other => other.as_int().map(|number| number as f64),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    /// Whether the value is true in a condition.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Seq(seq) => seq.kind == SeqKind::Generator || !seq.items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            Self::Namespace(_)
            | Self::Macro(_)
            | Self::Loop(_)
            | Self::Function(_)
            | Self::Method(_) => true,
        }
    }

    /// Checks that the value can be stored in a list, a dictionary or a namespace.
    pub(super) fn check_storable(&self) -> Result<(), Fault> {
        self.depth().map(drop)
    }

    fn depth(&self) -> Result<usize, Fault> {
        match self {
            Self::Seq(seq) => Ok(seq.depth),
            Self::Dict(dict) => Ok(dict.depth),
            Self::Namespace(_)
            | Self::Macro(_)
            | Self::Loop(_)
            | Self::Function(_)
            | Self::Method(_) => Err(Fault::new(format!(
                "{self} cannot be stored in a list, a dictionary or a namespace"
            ))),
            _ => Ok(0),
        }
    }
}

fn depth_above<'v>(mut values: impl Iterator<Item = &'v Value>) -> Result<usize, Fault> {
    let deepest = values.try_fold(0, |most: usize, value| Ok(most.max(value.depth()?)))?;
    if deepest == MAX_DEPTH {
        return Err(Fault::new(format!(
            "lists or dictionaries are nested too deeply; expected at most {MAX_DEPTH} levels"
        )));
    }
    Ok(deepest + 1)
}

/// The kind of the value, for messages.
impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Undefined(_) => "an undefined value",
            Self::None => "none",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a string",
            Self::Seq(seq) => match seq.kind {
                SeqKind::List => "a list",
                SeqKind::Tuple => "a tuple",
                SeqKind::Generator => "a generator",
                SeqKind::View => "a view of a dictionary",
            },
            Self::Dict(_) => "a dictionary",
            Self::Namespace(_) => "a namespace",
            Self::Macro(_) => "a macro",
            Self::Loop(_) => "the variable `loop`",
            Self::Function(_) => "a function",
            Self::Method(_) => "a method",
        })
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_int() == other.as_int() && self.as_text() == other.as_text()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_int().hash(state);
        self.as_text().hash(state);
    }
}

impl Dict {
    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.index.get(key).map(|&at| &self.entries[at].1)
    }

    pub(super) fn get_text(&self, key: &Text) -> Option<&Value> {
        self.get(&Key::Text(Text::clone(key)))
    }
}

impl Key {
    fn as_int(&self) -> Option<i64> {
        match self {
            Self::Bool(value) => Some(i64::from(*value)),
            Self::Int(number) => Some(*number),
            Self::None | Self::Text(_) => None,
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Converts a value to a key.
    pub(super) fn of(value: &Value) -> Result<Self, Fault> {
        match value {
            Value::None => Ok(Self::None),
            Value::Bool(value) => Ok(Self::Bool(*value)),
            Value::Int(number) => Ok(Self::Int(*number)),
            Value::Text(text) => Ok(Self::Text(Text::clone(text))),
            other => Err(Fault::new(format!(
                "{other} cannot be a dictionary key; expected a string, an integer, a boolean or none"
            ))),
        }
    }

    /// Bytes that a lookup reads.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            _ => 0,
        }
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Self::None => Value::None,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(number) => Value::Int(*number),
            Self::Text(text) => Value::Text(Text::clone(text)),
        }
    }
}
