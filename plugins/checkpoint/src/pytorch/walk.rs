//! Finds the named tensors in a saved object.

use super::{
    error::ReadError,
    pickle::{Id, Pickle, Value},
};
use std::fmt::Write;

/// The largest depth of nested containers. MERV's checkpoints have three levels, those with an optimiser
/// four.
const MAX_DEPTH: usize = 32;

/// The largest size of all names together, in bytes.
const MAX_NAMES: usize = 1 << 26;

/// The values of a saved object.
pub(super) struct NamedValues {
    /// Names and indices of tensors.
    pub tensors: Vec<(String, usize)>,
    /// Names and kinds of the other values.
    pub ignored: Vec<(String, &'static str)>,
}

struct Frame {
    container: Id,
    next: usize,
    /// The length of the container's path.
    path: usize,
}

/// Finds all values in the saved object. A value's name consists of the keys that lead to it, joined with
/// dots; in lists, the positions are the keys.
pub(super) fn walk(pickle: &Pickle<'_>) -> Result<NamedValues, ReadError> {
    if !pickle.root().is_container() {
        return Err(ReadError::Unsupported(format!(
            "it contains {}; expected a dictionary of tensors",
            pickle.root().kind()
        )));
    }
    let mut found = NamedValues {
        tensors: Vec::new(),
        ignored: Vec::new(),
    };
    let mut path = String::new();
    let (mut visited, mut names) = (0, 0);
    let mut frames = vec![Frame {
        container: pickle.root_id(),
        next: 0,
        path: 0,
    }];
    while let Some(frame) = frames.last_mut() {
        path.truncate(frame.path);
        let (key, id) = match pickle.value(frame.container) {
            Value::Dict(pairs) => match pairs.get(frame.next) {
                Some(&(key, id)) => (Some(key), id),
                None => {
                    frames.pop();
                    continue;
                }
            },
            Value::List(items) | Value::Tuple(items) => match items.get(frame.next) {
                Some(&id) => (None, id),
                None => {
                    frames.pop();
                    continue;
                }
            },
            _ => {
                frames.pop();
                continue;
            }
        };
        let index = frame.next;
        frame.next += 1;
        visited += 1;
        if visited > pickle.length() {
            // Without shared containers, every value takes at least one byte.
            return Err(ReadError::Damaged(
                "its containers share their contents too often".to_owned(),
            ));
        }
        append(&mut path, pickle, key, index)?;
        let value = pickle.value(id);
        if value.is_container() {
            if frames.iter().any(|frame| frame.container == id) {
                return Err(ReadError::Damaged(format!(
                    "`{}` contains itself",
                    shown(&path)
                )));
            }
            if frames.len() == MAX_DEPTH {
                return Err(ReadError::Unsupported(format!(
                    "`{}` is nested in more than {MAX_DEPTH} containers",
                    shown(&path)
                )));
            }
            let path = path.len();
            frames.push(Frame {
                container: id,
                next: 0,
                path,
            });
            continue;
        }
        names += path.len();
        if names > MAX_NAMES {
            return Err(ReadError::Damaged(format!(
                "the names of its values have more than {MAX_NAMES} bytes"
            )));
        }
        match value {
            Value::Tensor(tensor) => found.tensors.push((path.clone(), *tensor)),
            Value::Storage(_) => {
                return Err(ReadError::Unsupported(format!(
                    "`{}` is a storage; expected a tensor",
                    shown(&path)
                )));
            }
            other => found.ignored.push((path.clone(), other.kind())),
        }
    }
    Ok(found)
}

/// Appends the key of a value to the path of its container.
fn append(
    path: &mut String,
    pickle: &Pickle<'_>,
    key: Option<Id>,
    index: usize,
) -> Result<(), ReadError> {
    if !path.is_empty() {
        path.push('.');
    }
    // Writing to a string does not fail.
    let _ = match key.map(|key| pickle.value(key)) {
        None => write!(path, "{index}"),
        Some(Value::Str(text)) => write!(path, "{text}"),
        Some(Value::Int(number)) => write!(path, "{number}"),
        Some(other) => {
            return Err(ReadError::Unsupported(format!(
                "a key in `{}` is {}; expected a string or an integer",
                shown(path),
                other.kind()
            )));
        }
    };
    Ok(())
}

fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}
