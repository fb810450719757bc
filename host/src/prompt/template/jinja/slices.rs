//! Indexing and slicing.

use super::{
    Fault, Value,
    budget::Budget,
    ops::{pay_for_slots, undefined, unknown},
    value::{Key, SeqKind},
};

/// Returns `value[key]`, for a key that is not an attribute.
pub(super) fn item(
    value: &Value,
    key: &Value,
    budget: &mut Budget,
) -> Result<Option<Value>, Fault> {
    budget.steps(1)?;
    Ok(match (value, key) {
        (Value::Undefined(what), _) => return Err(undefined(what)),
        (Value::Dict(dict), key) => {
            budget.reads(key.as_text().map_or(0, |text| text.len()))?;
            dict.get(&Key::of(key)?).cloned()
        }
        (Value::Seq(seq), key) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple) => {
            let at = key
                .as_int()
                .and_then(|index| position(index, seq.items.len()));
            at.map(|at| seq.items[at].clone())
        }
        (Value::Text(text), key) if key.as_int().is_some() => {
            budget.reads(text.len())?;
            let count = text.chars().count();
            let at = key.as_int().and_then(|index| position(index, count));
            let found = at.and_then(|at| text.chars().nth(at));
            found.map(|c| Value::text(c.encode_utf8(&mut [0; 4])))
        }
        _ => None,
    })
}

/// Returns the undefined value for a missing element.
pub(super) fn missing(value: &Value, key: &Value) -> Value {
    match key {
        Value::Text(name) => unknown(value, name),
        Value::Int(index) => unknown(value, &index.to_string()),
        _ => unknown(value, "an element"),
    }
}

fn position(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 {
        index.checked_add(i64::try_from(length).ok()?)?
    } else {
        index
    };
    usize::try_from(index).ok().filter(|&at| at < length)
}

/// Returns `value[start:stop:step]`.
pub(super) fn slice(
    value: &Value,
    parts: &[Option<Value>; 3],
    budget: &mut Budget,
) -> Result<Value, Fault> {
    let part = |index: usize| match &parts[index] {
        None | Some(Value::None) => Ok(None),
        Some(value) => value.as_int().map(Some).ok_or_else(|| {
            Fault::new(format!(
                "an index of a slice is {value}; expected an integer"
            ))
        }),
    };
    let (start, stop, step) = (part(0)?, part(1)?, part(2)?.unwrap_or(1));
    if step == 0 {
        return Err(Fault::new("the step of a slice is 0"));
    }
    match value {
        Value::Text(text) => {
            budget.bytes(text.len())?;
            if step == 1 && start.unwrap_or(0) >= 0 && stop.is_none() {
                let from = usize::try_from(start.unwrap_or(0)).unwrap_or(usize::MAX);
                let at = text
                    .char_indices()
                    .nth(from)
                    .map_or(text.len(), |(at, _)| at);
                return Ok(Value::text(&text[at..]));
            }
            budget.bytes(text.len().saturating_mul(4))?;
            let chars: Vec<char> = text.chars().collect();
            let chosen: String = indices(chars.len(), start, stop, step)
                .map(|at| chars[at])
                .collect();
            Ok(Value::Text(chosen.into()))
        }
        Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple) => {
            pay_for_slots(seq.items.len(), budget)?;
            let chosen = indices(seq.items.len(), start, stop, step);
            Value::seq(seq.kind, chosen.map(|at| seq.items[at].clone()).collect())
        }
        Value::Undefined(what) => Err(undefined(what)),
        other => Err(Fault::new(format!("{other} cannot be sliced"))),
    }
}

/// The indices that a Python slice selects.
fn indices(
    length: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> impl Iterator<Item = usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let (low, high) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let bound = |index: Option<i64>, default: i64| match index {
        None => default,
        Some(index) if index < 0 => index.saturating_add(length).max(low),
        Some(index) => index.min(high),
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (start, stop) = (bound(start, first), bound(stop, last));
    let next = move |at: &i64| at.checked_add(step);
    let more = move |at: &i64| if step > 0 { *at < stop } else { *at > stop };
    std::iter::successors(Some(start), next)
        .take_while(more)
        .filter_map(|at| usize::try_from(at).ok())
}
