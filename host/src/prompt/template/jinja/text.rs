//! Values as text: Python's `str` and `repr`, `%` formatting and `str.format`.

use super::{
    Fault, Text, Value,
    budget::Budget,
    value::{Key, SeqKind},
};

/// A text buffer that charges the budget for its growth.
pub(super) struct Writer<'b> {
    pub text: String,
    pub budget: &'b mut Budget,
}

impl<'b> Writer<'b> {
    pub fn new(budget: &'b mut Budget) -> Self {
        Self {
            text: String::new(),
            budget,
        }
    }

    pub fn push(&mut self, text: &str) -> Result<(), Fault> {
        self.budget.bytes(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    pub fn finish(self) -> Value {
        Value::Text(self.text.into())
    }

    /// Writes a value like `str`. Undefined values are empty.
    pub fn value(&mut self, value: &Value) -> Result<(), Fault> {
        match value {
            Value::Undefined(_) => Ok(()),
            Value::Text(text) => self.push(text),
            other => self.repr(other),
        }
    }

    /// Writes a value like `repr`.
    pub fn repr(&mut self, value: &Value) -> Result<(), Fault> {
        match value {
            Value::Undefined(_) => self.push("Undefined"),
            Value::None => self.push("None"),
            Value::Bool(true) => self.push("True"),
            Value::Bool(false) => self.push("False"),
            Value::Int(number) => self.push(&number.to_string()),
            Value::Float(number) => self.push(&float(*number)),
            Value::Text(text) => self.quoted(text),
            Value::Seq(seq) => {
                let (open, close) = match seq.kind {
                    SeqKind::Tuple if seq.items.len() == 1 => ("(", ",)"),
                    SeqKind::Tuple => ("(", ")"),
                    _ => ("[", "]"),
                };
                self.push(open)?;
                for (index, item) in seq.items.iter().enumerate() {
                    if index > 0 {
                        self.push(", ")?;
                    }
                    self.repr(item)?;
                }
                self.push(close)
            }
            Value::Dict(dict) => {
                self.push("{")?;
                for (index, (key, value)) in dict.entries.iter().enumerate() {
                    if index > 0 {
                        self.push(", ")?;
                    }
                    self.key(key)?;
                    self.push(": ")?;
                    self.repr(value)?;
                }
                self.push("}")
            }
            Value::Namespace(_)
            | Value::Macro(_)
            | Value::Loop(_)
            | Value::Function(_)
            | Value::Method(_) => Err(Fault::new(format!("{value} cannot be written as text"))),
        }
    }

    fn key(&mut self, key: &Key) -> Result<(), Fault> {
        match key {
            Key::Text(text) => self.quoted(text),
            other => self.repr(&other.value()),
        }
    }

    fn quoted(&mut self, text: &str) -> Result<(), Fault> {
        self.budget.bytes(text.len() + 2)?;
        let quote = if text.contains('\'') && !text.contains('"') {
            '"'
        } else {
            '\''
        };
        self.text.push(quote);
        for c in text.chars() {
            match c {
                '\n' => self.push("\\n")?,
                '\r' => self.push("\\r")?,
                '\t' => self.push("\\t")?,
                '\\' => self.push("\\\\")?,
                c if c == quote => self.push(&format!("\\{c}"))?,
                c if c.is_control() && u32::from(c) < 256 => {
                    self.push(&format!("\\x{:02x}", u32::from(c)))?;
                }
                c => self.text.push(c),
            }
        }
        self.text.push(quote);
        Ok(())
    }

    /// Writes text in a field of `width` characters, padded with `fill` and aligned to `side`.
    pub fn padded(
        &mut self,
        text: &str,
        width: usize,
        fill: char,
        side: Side,
    ) -> Result<(), Fault> {
        let missing = width.saturating_sub(text.chars().count());
        let (before, after) = match side {
            Side::Left => (0, missing),
            Side::Right => (missing, 0),
            Side::Middle => (missing / 2, missing - missing / 2),
        };
        self.budget.bytes(missing.saturating_mul(fill.len_utf8()))?;
        self.text.extend(std::iter::repeat_n(fill, before));
        self.push(text)?;
        self.text.extend(std::iter::repeat_n(fill, after));
        Ok(())
    }
}

/// The alignment of text in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Middle,
}

/// Converts a value to text, like `str`.
pub(super) fn text(value: &Value, budget: &mut Budget) -> Result<Text, Fault> {
    if let Value::Text(text) = value {
        return Ok(Text::clone(text));
    }
    let mut writer = Writer::new(budget);
    writer.value(value)?;
    Ok(writer.text.into())
}

/// Converts a float to text, like `repr`.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{number:?}")
}

/// The format of a field in `%` or `str.format`.
#[derive(Debug, Default)]
struct Field {
    fill: Option<char>,
    side: Option<Side>,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// Maximum number of digits after the decimal point. No double has more.
const MAX_PRECISION: usize = 1100;

impl Field {
    fn write(&self, kind: char, value: &Value, to: &mut Writer<'_>) -> Result<(), Fault> {
        let number = || {
            value
                .as_float()
                .ok_or_else(|| Fault::new(format!("`{kind}` formats a number; found {value}")))
        };
        let whole = || Ok(number()?.trunc() as i64);
        let text = match kind {
            's' | 'r' => {
                let mut inside = Writer::new(to.budget);
                if kind == 's' {
                    inside.value(value)?;
                } else {
                    inside.repr(value)?;
                }
                let most = self.precision.unwrap_or(usize::MAX);
                inside.text.chars().take(most).collect()
            }
            'd' | 'i' | 'u' => whole()?.to_string(),
            'x' => format!("{:x}", whole()?),
            'X' => format!("{:X}", whole()?),
            'o' => format!("{:o}", whole()?),
            'f' | 'F' => format!(
                "{:.*}",
                self.precision.unwrap_or(6).min(MAX_PRECISION),
                number()?
            ),
            other => {
                let why =
                    format!("the format `{other}` is unknown; expected s, r, d, i, x, X, o or f");
                return Err(Fault::new(why));
            }
        };
        let is_text = matches!(kind, 's' | 'r');
        let text = if self.plus && !is_text && !text.starts_with('-') {
            format!("+{text}")
        } else {
            text
        };
        let side = self.side.unwrap_or(Side::Right);
        let fill = self.fill.unwrap_or(' ');
        match text.strip_prefix(['-', '+']) {
            Some(digits) if fill == '0' && side == Side::Right && !is_text => {
                to.push(&text[..1])?;
                to.padded(digits, self.width.saturating_sub(1), fill, side)
            }
            _ => to.padded(&text, self.width, fill, side),
        }
    }
}

/// Reads the number at the start.
fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut number = 0usize;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        number = number.saturating_mul(10).saturating_add(digit as usize);
        chars.next();
    }
    number
}

/// Evaluates `pattern % values`.
pub(super) fn percent(
    pattern: &str,
    values: &[Value],
    budget: &mut Budget,
) -> Result<Value, Fault> {
    budget.reads(pattern.len())?;
    let mut out = Writer::new(budget);
    let mut values = values.iter();
    let mut missing = || {
        let next = values.next();
        next.ok_or_else(|| Fault::new("a format string has more placeholders than values"))
    };
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.budget.bytes(c.len_utf8())?;
            out.text.push(c);
            continue;
        }
        let mut field = Field::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '+' | '0' | ' ' | '#')) {
            match flag {
                '-' => field.side = Some(Side::Left),
                '0' => field.fill = Some('0'),
                '+' => field.plus = true,
                _ => {}
            }
        }
        field.width = digits(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            field.precision = Some(digits(&mut chars));
        }
        match chars.next() {
            Some('%') => out.push("%")?,
            Some(kind) => {
                if field.side == Some(Side::Left) || matches!(kind, 's' | 'r') {
                    field.fill = None;
                }
                field.write(kind, missing()?, &mut out)?;
            }
            None => {
                return Err(Fault::new(
                    "a format string ends with `%`; expected a letter after it",
                ));
            }
        }
    }
    if values.next().is_some() {
        return Err(Fault::new(
            "a format string has fewer placeholders than values",
        ));
    }
    Ok(out.finish())
}

/// Evaluates `pattern.format(…)`.
pub(super) fn braces(
    pattern: &str,
    positional: &[Value],
    named: &[(Text, Value)],
    budget: &mut Budget,
) -> Result<Value, Fault> {
    budget.reads(pattern.len())?;
    let mut out = Writer::new(budget);
    let mut next = 0;
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        out.push(&rest[..at])?;
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            out.push(brace)?;
            rest = behind;
            continue;
        }
        let Some((inside, behind)) = rest.split_once('}').filter(|_| brace == "{") else {
            return Err(Fault::new("a format string has an unmatched brace"));
        };
        rest = behind;
        let (name, spec) = inside.split_once(':').unwrap_or((inside, ""));
        let found = if name.is_empty() {
            next += 1;
            positional.get(next - 1)
        } else if let Ok(index) = name.parse::<usize>() {
            positional.get(index)
        } else {
            out.budget.reads(named.len().saturating_mul(name.len()))?;
            let own = named.iter().find(|(key, _)| &**key == name);
            own.map(|(_, value)| value)
        };
        let value = found.ok_or_else(|| {
            Fault::new(
                "a placeholder of a format string has no value; expected `{}`, `{0}` or `{name}`",
            )
        })?;
        place(spec, value, &mut out)?;
    }
    out.push(rest)?;
    Ok(out.finish())
}

/// Writes one value as specified after `:`.
fn place(spec: &str, value: &Value, out: &mut Writer<'_>) -> Result<(), Fault> {
    let mut field = Field::default();
    let side = |c: char| match c {
        '<' => Some(Side::Left),
        '>' => Some(Side::Right),
        '^' => Some(Side::Middle),
        _ => None,
    };
    let mut chars = spec.chars().peekable();
    let mut ahead = spec.chars();
    let (first, second) = (ahead.next(), ahead.next());
    if let (Some(fill), Some(found)) = (first, second.and_then(side)) {
        field.fill = Some(fill);
        field.side = Some(found);
        chars.nth(1);
    } else if let Some(found) = first.and_then(side) {
        field.side = Some(found);
        chars.next();
    }
    field.plus = chars.next_if_eq(&'+').is_some();
    if chars.next_if_eq(&'0').is_some() {
        field.fill.get_or_insert('0');
    }
    field.width = digits(&mut chars);
    if chars.next_if_eq(&'.').is_some() {
        field.precision = Some(digits(&mut chars));
    }
    let is_number = value.as_float().is_some();
    let kind = match chars.next() {
        Some(kind) => kind,
        None if matches!(value, Value::Float(_)) && field.precision.is_some() => 'f',
        None => 's',
    };
    if chars.next().is_some() {
        return Err(Fault::new(format!("`{spec}` is not a valid format")));
    }
    if !is_number || (kind == 's' && matches!(value, Value::Bool(_))) {
        field.side.get_or_insert(Side::Left);
    }
    field.write(kind, value, out)
}
