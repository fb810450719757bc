//! The filter `tojson`, as in transformers: Python's `json.dumps`, without HTML escapes.

use super::{
    Fault, Text, Value,
    budget::Budget,
    call_args::{CallArgs, flag, integer},
    text::{self, Writer},
    value::Key,
};

/// The options of `tojson`.
struct Style {
    ensure_ascii: bool,
    /// The indentation of one level. `None` writes everything on one line.
    indent: Option<Text>,
    separators: (Text, Text),
    sort_keys: bool,
}

/// Maximum number of spaces of one level of indentation.
const MAX_INDENT: i64 = 100;

pub(super) fn to_json(value: &Value, args: CallArgs, budget: &mut Budget) -> Result<Value, Fault> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = args.bind(names)?;
    let indent: Option<Text> = match indent {
        None | Some(Value::None) => None,
        Some(Value::Text(text)) => Some(text),
        indent => {
            let blanks = integer(indent, "indent", 0)?.clamp(0, MAX_INDENT);
            Some(" ".repeat(usize::try_from(blanks).unwrap_or(0)).into())
        }
    };
    let separators = match separators {
        None | Some(Value::None) if indent.is_some() => (",".into(), ": ".into()),
        None | Some(Value::None) => (", ".into(), ": ".into()),
        Some(Value::Seq(seq)) => match seq.items.as_slice() {
            [Value::Text(item), Value::Text(key)] => (Text::clone(item), Text::clone(key)),
            _ => {
                return Err(Fault::new(
                    "`separators` has other contents; expected two strings",
                ));
            }
        },
        Some(other) => {
            return Err(Fault::new(format!(
                "`separators` is {other}; expected two strings"
            )));
        }
    };
    let style = Style {
        ensure_ascii: flag(ensure_ascii.as_ref(), false),
        indent,
        separators,
        sort_keys: flag(sort_keys.as_ref(), false),
    };
    let mut writer = Writer::new(budget);
    style.write(value, 1, &mut writer)?;
    Ok(writer.finish())
}

impl Style {
    fn write(&self, value: &Value, level: usize, to: &mut Writer<'_>) -> Result<(), Fault> {
        match value {
            Value::None => to.push("null"),
            Value::Bool(value) => to.push(if *value { "true" } else { "false" }),
            Value::Int(number) => to.push(&number.to_string()),
            Value::Float(number) if number.is_nan() => to.push("NaN"),
            Value::Float(number) if number.is_infinite() => to.push(if *number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            }),
            Value::Float(number) => to.push(&text::float(*number)),
            Value::Text(text) => self.quoted(text, to),
            Value::Seq(seq) => {
                to.push("[")?;
                for (index, item) in seq.items.iter().enumerate() {
                    self.before(index, level, to)?;
                    self.write(item, level + 1, to)?;
                }
                self.close(seq.items.is_empty(), level, "]", to)
            }
            Value::Dict(dict) => {
                let mut entries: Vec<&(Key, Value)> = dict.entries.iter().collect();
                to.budget.bytes(entries.len() * size_of::<usize>())?;
                if self.sort_keys {
                    let names: usize = entries.iter().map(|(name, _)| key(name).len()).sum();
                    let rounds = entries.len().checked_ilog2().unwrap_or(0) as usize + 1;
                    to.budget
                        .steps((entries.len() + names).saturating_mul(rounds))?;
                    entries.sort_by_cached_key(|(name, _)| key(name));
                }
                to.push("{")?;
                for (index, (name, value)) in entries.into_iter().enumerate() {
                    self.before(index, level, to)?;
                    self.quoted(&key(name), to)?;
                    to.push(&self.separators.1)?;
                    self.write(value, level + 1, to)?;
                }
                self.close(dict.entries.is_empty(), level, "}", to)
            }
            other => Err(Fault::new(format!("{other} cannot be written as JSON"))),
        }
    }

    fn before(&self, index: usize, level: usize, to: &mut Writer<'_>) -> Result<(), Fault> {
        if index > 0 {
            to.push(&self.separators.0)?;
        }
        self.line(level, to)
    }

    fn close(
        &self,
        empty: bool,
        level: usize,
        bracket: &str,
        to: &mut Writer<'_>,
    ) -> Result<(), Fault> {
        if !empty {
            self.line(level - 1, to)?;
        }
        to.push(bracket)
    }

    fn line(&self, level: usize, to: &mut Writer<'_>) -> Result<(), Fault> {
        if let Some(indent) = &self.indent {
            to.push("\n")?;
            for _ in 0..level {
                to.push(indent)?;
            }
        }
        Ok(())
    }

    fn quoted(&self, text: &str, to: &mut Writer<'_>) -> Result<(), Fault> {
        to.budget.bytes(text.len() + 2)?;
        to.text.push('"');
        for c in text.chars() {
            match c {
                '"' => to.push("\\\"")?,
                '\\' => to.push("\\\\")?,
                '\n' => to.push("\\n")?,
                '\r' => to.push("\\r")?,
                '\t' => to.push("\\t")?,
                '\u{8}' => to.push("\\b")?,
                '\u{c}' => to.push("\\f")?,
                c if c < ' ' || (self.ensure_ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        to.push(&format!("\\u{unit:04x}"))?;
                    }
                }
                c => to.text.push(c),
            }
        }
        to.text.push('"');
        Ok(())
    }
}

/// Converts a key to a string, as JSON requires.
fn key(key: &Key) -> Text {
    match key {
        Key::None => "null".into(),
        Key::Bool(true) => "true".into(),
        Key::Bool(false) => "false".into(),
        Key::Int(number) => number.to_string().into(),
        Key::Text(text) => Text::clone(text),
    }
}
