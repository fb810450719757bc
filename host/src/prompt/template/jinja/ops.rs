//! Python operators.

use super::{
    Fault, Text, Value,
    budget::Budget,
    syntax::{Comparison, Operator},
    text,
    value::{Key, Seq, SeqKind},
};
use std::{cmp::Ordering, sync::Arc};

/// Whether two values are equal. Every compared pair of elements is charged.
pub(super) fn equal(a: &Value, b: &Value, budget: &mut Budget) -> Result<bool, Fault> {
    budget.steps(1)?;
    Ok(match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Text(a), Value::Text(b)) => {
            budget.reads(a.len().min(b.len()))?;
            a == b
        }
        (Value::Seq(a), Value::Seq(b)) => {
            if a.kind != b.kind || a.items.len() != b.items.len() {
                return Ok(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(a, b, budget)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.entries.len() != b.entries.len() {
                return Ok(false);
            }
            for (key, a) in &a.entries {
                budget.reads(key.length())?;
                let Some(b) = b.get(key) else {
                    return Ok(false);
                };
                if !equal(a, b, budget)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Namespace(a), Value::Namespace(b)) | (Value::Macro(a), Value::Macro(b)) => a == b,
        _ => match (a.as_int(), b.as_int()) {
            (Some(a), Some(b)) => a == b,
            _ => matches!((a.as_float(), b.as_float()), (Some(a), Some(b)) if a == b),
        },
    })
}

/// Compares the order of two values.
pub(super) fn order(a: &Value, b: &Value, budget: &mut Budget) -> Result<Ordering, Fault> {
    budget.steps(1)?;
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => {
            budget.reads(a.len().min(b.len()))?;
            Ok(a.cmp(b))
        }
        (Value::Seq(a), Value::Seq(b)) if a.kind == b.kind => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(a, b, budget)? {
                    return order(a, b, budget);
                }
            }
            Ok(a.items.len().cmp(&b.items.len()))
        }
        _ => {
            if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
                return Ok(a.cmp(&b));
            }
            match (a.as_float(), b.as_float()) {
                // NaN is neither less nor greater than any number.
                (Some(a), Some(b)) => Ok(a.partial_cmp(&b).unwrap_or(Ordering::Equal)),
                _ => Err(Fault::new(format!("{a} and {b} cannot be ordered"))),
            }
        }
    }
}

/// Whether `container` contains `value`.
pub(super) fn contains(
    container: &Value,
    value: &Value,
    budget: &mut Budget,
) -> Result<bool, Fault> {
    match container {
        Value::Text(text) => {
            let Some(part) = value.as_text() else {
                return Err(Fault::new(format!(
                    "{value} cannot be in a string; expected a string"
                )));
            };
            budget.reads(text.len() + part.len())?;
            Ok(text.contains(&**part))
        }
        Value::Seq(seq) => {
            for item in &seq.items {
                if equal(item, value, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Dict(dict) => {
            budget.reads(value.as_text().map_or(0, |text| text.len()))?;
            Ok(dict.get(&Key::of(value)?).is_some())
        }
        Value::Undefined(_) => Ok(false),
        other => Err(Fault::new(format!("{other} has no elements to search"))),
    }
}

pub(super) fn compare(
    comparison: Comparison,
    a: &Value,
    b: &Value,
    budget: &mut Budget,
) -> Result<bool, Fault> {
    if let Value::Undefined(what) = a
        && matches!(
            comparison,
            Comparison::Less
                | Comparison::LessOrEqual
                | Comparison::Greater
                | Comparison::GreaterOrEqual
        )
    {
        return Err(undefined(what));
    }
    Ok(match comparison {
        Comparison::Equal => equal(a, b, budget)?,
        Comparison::Unequal => !equal(a, b, budget)?,
        Comparison::Less => order(a, b, budget)?.is_lt(),
        Comparison::LessOrEqual => order(a, b, budget)?.is_le(),
        Comparison::Greater => order(a, b, budget)?.is_gt(),
        Comparison::GreaterOrEqual => order(a, b, budget)?.is_ge(),
        Comparison::In => contains(b, a, budget)?,
        Comparison::NotIn => !contains(b, a, budget)?,
    })
}

pub(super) fn undefined(what: &str) -> Fault {
    Fault::new(format!("{what} is undefined"))
}

pub(super) fn calculate(
    operator: Operator,
    a: &Value,
    b: &Value,
    budget: &mut Budget,
) -> Result<Value, Fault> {
    budget.steps(1)?;
    for value in [a, b] {
        if let Value::Undefined(what) = value {
            return Err(undefined(what));
        }
    }
    match (operator, a, b) {
        (Operator::Add, Value::Text(a), Value::Text(b)) => {
            budget.bytes(a.len() + b.len())?;
            Ok(Value::Text([&**a, &**b].concat().into()))
        }
        (Operator::Add, Value::Seq(a), Value::Seq(b))
            if a.kind == b.kind && matches!(a.kind, SeqKind::List | SeqKind::Tuple) =>
        {
            pay_for_slots(a.items.len() + b.items.len(), budget)?;
            Value::seq(a.kind, [&a.items[..], &b.items[..]].concat())
        }
        (Operator::Multiply, Value::Text(part), count)
        | (Operator::Multiply, count, Value::Text(part))
            if count.as_int().is_some() =>
        {
            let count = times(count);
            budget.bytes(part.len().saturating_mul(count))?;
            Ok(Value::Text(part.repeat(count).into()))
        }
        (Operator::Multiply, Value::Seq(part), count)
        | (Operator::Multiply, count, Value::Seq(part))
            if count.as_int().is_some() =>
        {
            repeated(part, times(count), budget)
        }
        (Operator::Remainder, Value::Text(pattern), Value::Seq(values))
            if values.kind == SeqKind::Tuple =>
        {
            text::percent(pattern, &values.items, budget)
        }
        (Operator::Remainder, Value::Text(pattern), value) => {
            text::percent(pattern, std::slice::from_ref(value), budget)
        }
        _ => numbers(operator, a, b),
    }
}

/// Converts a factor to a number of repetitions.
fn times(count: &Value) -> usize {
    let count = count.as_int().unwrap_or(0).max(0);
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn repeated(part: &Arc<Seq>, times: usize, budget: &mut Budget) -> Result<Value, Fault> {
    let times = if part.items.is_empty() { 0 } else { times };
    pay_for_slots(part.items.len().saturating_mul(times), budget)?;
    let items = std::iter::repeat_n(&part.items, times).flatten();
    Value::seq(part.kind, items.cloned().collect())
}

/// Charges for a list or dictionary of `count` elements.
pub(super) fn pay_for_slots(count: usize, budget: &mut Budget) -> Result<(), Fault> {
    budget.steps(count)?;
    budget.bytes(count.saturating_mul(size_of::<Value>()).saturating_add(64))
}

fn numbers(operator: Operator, a: &Value, b: &Value) -> Result<Value, Fault> {
    let wrong = || {
        let does = match operator {
            Operator::Add => "added",
            Operator::Subtract => "subtracted",
            Operator::Multiply => "multiplied",
            Operator::Divide | Operator::FloorDivide | Operator::Remainder => "divided",
            Operator::Power => "raised to a power",
        };
        Fault::new(format!("{a} and {b} cannot be {does}"))
    };
    let large = || Fault::new("a number is too large; expected a 64-bit integer");
    let zero = || Fault::new("a number is divided by zero");
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        let whole = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::FloorDivide | Operator::Remainder if b == 0 => return Err(zero()),
            Operator::FloorDivide => {
                let rest = a.checked_rem(b).ok_or_else(large)?;
                let quotient = a.checked_div(b).ok_or_else(large)?;
                Some(quotient - i64::from(rest != 0 && (rest < 0) != (b < 0)))
            }
            Operator::Remainder => {
                let rest = a.checked_rem(b).unwrap_or(0);
                Some(if rest != 0 && (rest < 0) != (b < 0) {
                    rest + b
                } else {
                    rest
                })
            }
            Operator::Power if b >= 0 => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            Operator::Power => return Ok(Value::Float((a as f64).powf(b as f64))),
            Operator::Divide if b == 0 => return Err(zero()),
            Operator::Divide => return Ok(Value::Float(a as f64 / b as f64)),
        };
        return whole.map(Value::Int).ok_or_else(large);
    }
    let (Some(a), Some(b)) = (a.as_float(), b.as_float()) else {
        return Err(wrong());
    };
    let divides = matches!(
        operator,
        Operator::Divide | Operator::FloorDivide | Operator::Remainder
    );
    if divides && b == 0.0 {
        return Err(zero());
    }
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::FloorDivide => (a / b).floor(),
        Operator::Remainder => a - b * (a / b).floor(),
        Operator::Power => a.powf(b),
    }))
}

pub(super) fn negative(value: &Value) -> Result<Value, Fault> {
    match value {
        Value::Float(number) => Ok(Value::Float(-number)),
        Value::Undefined(what) => Err(undefined(what)),
        other => {
            let number = other
                .as_int()
                .ok_or_else(|| Fault::new(format!("{other} has no sign")))?;
            let number = number.checked_neg();
            number
                .map(Value::Int)
                .ok_or_else(|| Fault::new("a number is too large; expected a 64-bit integer"))
        }
    }
}

/// Returns the elements that a loop or a filter iterates over.
pub(super) fn elements(value: &Value, budget: &mut Budget) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Seq(seq) => {
            pay_for_slots(seq.items.len(), budget)?;
            Ok(seq.items.clone())
        }
        Value::Dict(dict) => {
            pay_for_slots(dict.entries.len(), budget)?;
            Ok(dict.entries.iter().map(|(key, _)| key.value()).collect())
        }
        Value::Text(text) => {
            pay_for_slots(text.chars().count().saturating_mul(2), budget)?;
            let mut buffer = [0; 4];
            Ok(text
                .chars()
                .map(|c| Value::text(c.encode_utf8(&mut buffer)))
                .collect())
        }
        Value::Undefined(_) => Ok(Vec::new()),
        other => Err(Fault::new(format!(
            "{other} has no elements to iterate over"
        ))),
    }
}

/// Returns the number of elements, characters or entries.
pub(super) fn length(value: &Value) -> Result<usize, Fault> {
    match value {
        Value::Text(text) => Ok(text.chars().count()),
        Value::Seq(seq) if seq.kind != SeqKind::Generator => Ok(seq.items.len()),
        Value::Dict(dict) => Ok(dict.entries.len()),
        Value::Undefined(_) => Ok(0),
        other => Err(Fault::new(format!("{other} has no length"))),
    }
}

/// Returns the undefined value for an unknown attribute or key.
pub(super) fn unknown(value: &Value, name: &str) -> Value {
    let name: String = name.chars().take(60).collect();
    let text: Text = format!("`{name}` of {value}").into();
    Value::Undefined(text)
}
