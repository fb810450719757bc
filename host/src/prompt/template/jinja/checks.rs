//! Tests: the operator `is`.

use super::{
    Fault, Value,
    call_args::{CallArgs, required},
    ops,
    state::Machine,
    syntax::Comparison,
};

pub(super) fn check(
    machine: &mut Machine,
    name: &str,
    value: &Value,
    args: CallArgs,
) -> Result<bool, Fault> {
    machine
        .budget
        .reads(value.as_text().map_or(0, |text| text.len()))?;
    args.pay(&mut machine.budget)?;
    let comparison = match name {
        "eq" | "equalto" | "==" => Some(Comparison::Equal),
        "ne" | "!=" => Some(Comparison::Unequal),
        "lt" | "lessthan" | "<" => Some(Comparison::Less),
        "le" | "<=" => Some(Comparison::LessOrEqual),
        "gt" | "greaterthan" | ">" => Some(Comparison::Greater),
        "ge" | ">=" => Some(Comparison::GreaterOrEqual),
        "in" => Some(Comparison::In),
        _ => None,
    };
    if let Some(comparison) = comparison {
        let [other] = args.bind(["other"])?;
        let other = required(other, "other")?;
        return ops::compare(comparison, value, &other, &mut machine.budget);
    }
    if name == "divisibleby" {
        let [number] = args.bind(["num"])?;
        let rest = ops::calculate(
            super::syntax::Operator::Remainder,
            value,
            &required(number, "num")?,
            &mut machine.budget,
        )?;
        return Ok(!rest.is_true());
    }
    if name == "sameas" {
        let [other] = args.bind(["other"])?;
        let other = required(other, "other")?;
        let same_kind = std::mem::discriminant(value) == std::mem::discriminant(&other);
        return Ok(same_kind && ops::equal(value, &other, &mut machine.budget)?);
    }
    args.none()?;
    let whole = || {
        value
            .as_int()
            .ok_or_else(|| Fault::new(format!("{value} is neither even nor odd")))
    };
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_float().is_some(),
        "string" => matches!(value, Value::Text(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => ops::length(value).is_ok(),
        "iterable" => matches!(
            value,
            Value::Seq(_) | Value::Dict(_) | Value::Text(_) | Value::Undefined(_)
        ),
        "callable" => matches!(
            value,
            Value::Macro(_) | Value::Function(_) | Value::Method(_)
        ),
        "even" => whole()? % 2 == 0,
        "odd" => whole()? % 2 != 0,
        "lower" | "upper" => {
            let Value::Text(text) = value else {
                return Err(Fault::new(format!(
                    "`{name}` tests a string; found {value}"
                )));
            };
            let cased = |c: char| c.is_lowercase() || c.is_uppercase();
            let right = |c: char| {
                if name == "lower" {
                    c.is_lowercase()
                } else {
                    c.is_uppercase()
                }
            };
            text.chars().any(cased) && text.chars().filter(|c| cased(*c)).all(right)
        }
        _ => {
            let name: String = name.chars().take(60).collect();
            return Err(Fault::new(format!("unknown test `{name}`")));
        }
    })
}
