//! Arguments of filters, tests, methods and functions.

use super::{Fault, Text, Value, budget::Budget};

/// Evaluated arguments.
#[derive(Debug, Default)]
pub(super) struct CallArgs {
    pub positional: Vec<Value>,
    pub named: Vec<(Text, Value)>,
}

impl CallArgs {
    /// Matches the arguments to parameters, by position or by name.
    pub fn bind<const N: usize>(self, names: [&str; N]) -> Result<[Option<Value>; N], Fault> {
        let mut bound = [const { None }; N];
        if self.positional.len() > N {
            let found = self.positional.len();
            return Err(Fault::new(format!(
                "found {found} arguments; expected at most {N}"
            )));
        }
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            match names.iter().position(|known| **known == *name) {
                Some(index) if bound[index].is_none() => bound[index] = Some(value),
                Some(_) => {
                    return Err(Fault::new(format!("the argument `{name}` was given twice")));
                }
                None => {
                    let name: String = name.chars().take(60).collect();
                    return Err(Fault::new(format!("the argument `{name}` is unknown")));
                }
            }
        }
        Ok(bound)
    }

    /// Pays for going through each argument once: the bytes of a string, the elements of a list.
    pub fn pay(&self, budget: &mut Budget) -> Result<(), Fault> {
        let named = self.named.iter().map(|(_, value)| value);
        for value in self.positional.iter().chain(named) {
            match value {
                Value::Text(text) => budget.searches(text.len())?,
                Value::Seq(seq) => budget.steps(seq.items.len())?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses any argument.
    pub fn none(self) -> Result<(), Fault> {
        self.bind([]).map(|[]| ())
    }
}

/// Returns a required argument.
pub(super) fn required(value: Option<Value>, name: &str) -> Result<Value, Fault> {
    value.ok_or_else(|| Fault::new(format!("the argument `{name}` is missing")))
}

/// Returns a required string.
pub(super) fn string(value: Option<Value>, name: &str) -> Result<Text, Fault> {
    match required(value, name)? {
        Value::Text(text) => Ok(text),
        other => Err(Fault::new(format!(
            "`{name}` is {other}; expected a string"
        ))),
    }
}

/// Returns an integer, or the default if it is absent.
pub(super) fn integer(value: Option<Value>, name: &str, default: i64) -> Result<i64, Fault> {
    match value {
        None => Ok(default),
        Some(value) => value
            .as_int()
            .ok_or_else(|| Fault::new(format!("`{name}` is {value}; expected an integer"))),
    }
}

/// Returns whether an argument is true, or the default if it is absent.
pub(super) fn flag(value: Option<&Value>, default: bool) -> bool {
    value.map_or(default, Value::is_true)
}
