//! Functions that chat templates may call.

use super::{
    Fault, Value,
    given::{Given, integer, required, string},
    ops,
    state::Machine,
    value::{Function, Key},
};
use crate::prompt::template::date;
use std::time::SystemTime;

/// Maximum length of a range, as in Jinja's sandbox.
const MAX_RANGE: u64 = 100_000;

pub(super) fn call(
    machine: &mut Machine,
    function: Function,
    given: Given,
) -> Result<Value, Fault> {
    match function {
        Function::Range => range(machine, given),
        Function::Dict => {
            if !given.positional.is_empty() {
                return Err(Fault::new("`dict` takes only named arguments"));
            }
            ops::pay_for_slots(2 * given.named.len(), &mut machine.budget)?;
            let entries = given.named.into_iter();
            Value::dict_of(entries.map(|(name, value)| (Key::Text(name), value)))
        }
        Function::Namespace => {
            let index = machine.namespace();
            for value in given.positional {
                let Value::Dict(dict) = &value else {
                    return Err(Fault::new(
                        "`namespace` takes a dictionary or named arguments",
                    ));
                };
                for (key, value) in &dict.entries {
                    if let Key::Text(name) = key {
                        machine.put(index, name.clone(), value.clone())?;
                    }
                }
            }
            for (name, value) in given.named {
                machine.put(index, name, value)?;
            }
            ops::pay_for_slots(2, &mut machine.budget)?;
            Ok(Value::Namespace(index))
        }
        Function::RaiseException => {
            let [message] = given.bind(["message"])?;
            let message = super::text::text(&required(message, "message")?, &mut machine.budget)?;
            Err(Fault::new(shortened(&message)))
        }
        Function::StrftimeNow => {
            let [format] = given.bind(["format"])?;
            let format = string(format, "format")?;
            machine.budget.bytes(format.len().saturating_mul(12))?;
            let text = date::format(&format, SystemTime::now()).map_err(Fault::new)?;
            Ok(Value::text(&text))
        }
    }
}

/// Cuts a message from a template, which may have any length.
fn shortened(message: &str) -> String {
    const MOST: usize = 500;
    match message.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

fn range(machine: &mut Machine, given: Given) -> Result<Value, Fault> {
    let [first, second, third] = given.bind(["start", "stop", "step"])?;
    let first = integer(Some(required(first, "stop")?), "stop", 0)?;
    let (start, stop) = match second {
        Some(stop) => (first, integer(Some(stop), "stop", 0)?),
        None => (0, first),
    };
    let step = integer(third, "step", 1)?;
    let span = if step > 0 {
        i128::from(stop) - i128::from(start)
    } else {
        i128::from(start) - i128::from(stop)
    };
    if step == 0 {
        return Err(Fault::new("the step of `range` is 0"));
    }
    let span = u64::try_from(span.max(0)).unwrap_or(u64::MAX);
    let length = span.div_ceil(step.unsigned_abs());
    if length > MAX_RANGE {
        return Err(Fault::new(format!(
            "`range` has {length} numbers; expected {MAX_RANGE} at most"
        )));
    }
    ops::pay_for_slots(
        usize::try_from(length).unwrap_or(usize::MAX),
        &mut machine.budget,
    )?;
    let numbers = std::iter::successors(Some(start), |number| number.checked_add(step));
    let numbers = numbers.take(usize::try_from(length).unwrap_or(0));
    Value::list(numbers.map(Value::Int).collect())
}
