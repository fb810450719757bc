//! Functions that chat templates may call.

use super::{
    Fault, Value,
    call_args::{CallArgs, integer, required, string},
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
    args: CallArgs,
) -> Result<Value, Fault> {
    args.pay(&mut machine.budget)?;
    match function {
        Function::Range => range(machine, args),
        Function::Dict => {
            if !args.positional.is_empty() {
                return Err(Fault::new("`dict` takes only named arguments"));
            }
            ops::pay_for_slots(2 * args.named.len(), &mut machine.budget)?;
            let entries = args.named.into_iter();
            Value::dict_of(entries.map(|(name, value)| (Key::Text(name), value)))
        }
        Function::Namespace => {
            let index = machine.new_namespace();
            for value in args.positional {
                let Value::Dict(dict) = &value else {
                    return Err(Fault::new(
                        "`namespace` takes a dictionary or named arguments",
                    ));
                };
                for (key, value) in &dict.entries {
                    if let Key::Text(name) = key {
                        machine.set_attribute(index, name.clone(), value.clone())?;
                    }
                }
            }
            for (name, value) in args.named {
                machine.set_attribute(index, name, value)?;
            }
            ops::pay_for_slots(2, &mut machine.budget)?;
            Ok(Value::Namespace(index))
        }
        Function::RaiseException => {
            let [message] = args.bind(["message"])?;
            let message = super::text::text(&required(message, "message")?, &mut machine.budget)?;
            Err(Fault::new(shortened(&message)))
        }
        Function::StrftimeNow => {
            let [format] = args.bind(["format"])?;
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

fn range(machine: &mut Machine, args: CallArgs) -> Result<Value, Fault> {
    let [first, second, third] = args.bind(["start", "stop", "step"])?;
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
