//! Filters of Jinja2. Those that chat templates do not need are omitted.

use super::{
    Fault, Value,
    budget::Budget,
    call_args::{CallArgs, flag, integer, string},
    json, methods, ops, sequences,
    state::Machine,
    text::{self, Side, Writer},
};

pub(super) fn apply(
    machine: &mut Machine,
    name: &str,
    value: Value,
    args: CallArgs,
) -> Result<Value, Fault> {
    machine
        .budget
        .reads(value.as_text().map_or(0, |text| text.len()))?;
    args.pay(&mut machine.budget)?;
    match name {
        "default" | "d" => {
            let [default, boolean] = args.bind(["default_value", "boolean"])?;
            let absent =
                value.is_undefined() || (flag(boolean.as_ref(), false) && !value.is_true());
            Ok(if absent {
                default.unwrap_or_else(|| Value::text(""))
            } else {
                value
            })
        }
        "length" | "count" => {
            args.none()?;
            let length = ops::length(&value)?;
            Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
        }
        "string" | "safe" => {
            args.none()?;
            text::text(&value, &mut machine.budget).map(Value::Text)
        }
        "tojson" => json::to_json(&value, args, &mut machine.budget),
        "items" => {
            args.none()?;
            match &value {
                Value::Dict(_) => {
                    methods::call(&mut machine.budget, &value, "items", CallArgs::default())
                }
                Value::Undefined(_) => Value::list(Vec::new()),
                other => Err(Fault::new(format!(
                    "`items` takes a dictionary; found {other}"
                ))),
            }
        }
        "attr" => {
            let [name] = args.bind(["name"])?;
            let name = string(name, "name")?;
            machine.attribute(&value, &name)
        }
        "abs" => {
            args.none()?;
            match &value {
                Value::Float(number) => Ok(Value::Float(number.abs())),
                other if other.as_int().is_some_and(|number| number < 0) => ops::negative(other),
                other if other.as_int().is_some() => Ok(value),
                other => Err(Fault::new(format!("`abs` takes a number; found {other}"))),
            }
        }
        "int" => {
            let [default, base] = args.bind(["default", "base"])?;
            whole(&value, default, integer(base, "base", 10)?)
        }
        "float" => {
            let [default] = args.bind(["default"])?;
            let parsed = match &value {
                Value::Text(text) => text.trim().parse().ok(),
                other => other.as_float(),
            };
            Ok(parsed.map_or_else(|| default.unwrap_or(Value::Float(0.0)), Value::Float))
        }
        "round" => round(&value, args),
        "format" => {
            let pattern = string(Some(value), "format")?;
            if !args.named.is_empty() {
                return Err(Fault::new("`format` takes only positional arguments"));
            }
            text::percent(&pattern, &args.positional, &mut machine.budget)
        }
        "map" | "select" | "reject" | "selectattr" | "rejectattr" | "sort" | "unique" | "join"
        | "first" | "last" | "list" | "reverse" | "batch" | "slice" | "groupby" | "dictsort"
        | "sum" | "min" | "max" => sequences::apply(machine, name, value, args, apply),
        _ => {
            let text = text::text(&value, &mut machine.budget)?;
            of_text(&mut machine.budget, name, &text, args)
        }
    }
}

/// Filters from text to text.
fn of_text(budget: &mut Budget, name: &str, value: &str, args: CallArgs) -> Result<Value, Fault> {
    // Filters without arguments produce at most this much. The others charge for their own output.
    budget.bytes(value.len().saturating_mul(6))?;
    match name {
        "upper" | "lower" | "capitalize" => {
            args.none()?;
            methods::cased(name, value)
        }
        "title" => {
            args.none()?;
            let mut starts = true;
            let mut title = String::with_capacity(value.len());
            for c in value.chars() {
                if starts {
                    title.extend(c.to_uppercase());
                } else {
                    title.extend(c.to_lowercase());
                }
                starts = c.is_whitespace() || matches!(c, '-' | '(' | '{' | '[' | '<');
            }
            Ok(Value::text(&title))
        }
        "trim" => {
            let [chars] = args.bind(["chars"])?;
            methods::stripped(budget, "strip", value, chars)
        }
        "replace" => {
            let args = args.bind(["old", "new", "count"])?;
            methods::replaced(budget, value, args)
        }
        "escape" | "e" => {
            args.none()?;
            let mut escaped = Writer::new(budget);
            for c in value.chars() {
                match c {
                    '&' => escaped.push("&amp;")?,
                    '<' => escaped.push("&lt;")?,
                    '>' => escaped.push("&gt;")?,
                    '\'' => escaped.push("&#39;")?,
                    '"' => escaped.push("&#34;")?,
                    c => escaped.text.push(c),
                }
            }
            Ok(escaped.finish())
        }
        "wordcount" => {
            args.none()?;
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let words = value
                .split(|c| !is_word(c))
                .filter(|word| !word.is_empty())
                .count();
            Ok(Value::Int(i64::try_from(words).unwrap_or(i64::MAX)))
        }
        "indent" => indent(budget, value, args),
        "truncate" => {
            let [length, killwords, end, leeway] =
                args.bind(["length", "killwords", "end", "leeway"])?;
            let end = end.map_or(Ok("...".into()), |end| string(Some(end), "end"))?;
            let most = |value, name, default| {
                integer(value, name, default).map(|number| usize::try_from(number).unwrap_or(0))
            };
            let (length, leeway) = (most(length, "length", 255)?, most(leeway, "leeway", 5)?);
            let count = value.chars().count();
            if count <= length.saturating_add(leeway) {
                return Ok(Value::text(value));
            }
            let kept = length.saturating_sub(end.chars().count());
            let at = value
                .char_indices()
                .nth(kept)
                .map_or(value.len(), |(at, _)| at);
            let mut head = &value[..at];
            if !flag(killwords.as_ref(), false) {
                head = head.rsplit_once(' ').map_or(head, |(words, _)| words);
            }
            let mut out = Writer::new(budget);
            out.push(head)?;
            out.push(&end)?;
            Ok(out.finish())
        }
        "center" => {
            let [width] = args.bind(["width"])?;
            let width = usize::try_from(integer(width, "width", 80)?).unwrap_or(0);
            let mut out = Writer::new(budget);
            out.padded(value, width, ' ', Side::Middle)?;
            Ok(out.finish())
        }
        _ => {
            let name: String = name.chars().take(60).collect();
            Err(Fault::new(format!("unknown filter `{name}`")))
        }
    }
}

/// Indents each line except the first.
fn indent(budget: &mut Budget, value: &str, args: CallArgs) -> Result<Value, Fault> {
    let [width, first, blank] = args.bind(["width", "first", "blank"])?;
    let (first, blank) = (flag(first.as_ref(), false), flag(blank.as_ref(), false));
    let before = match width {
        Some(Value::Text(text)) => text,
        width => {
            let width = usize::try_from(integer(width, "width", 4)?).unwrap_or(0);
            budget.bytes(width)?;
            " ".repeat(width).into()
        }
    };
    let mut out = Writer::new(budget);
    for (index, line) in value.split('\n').enumerate() {
        if index > 0 {
            out.push("\n")?;
        }
        let indents = if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if indents {
            out.push(&before)?;
        }
        out.push(line)?;
    }
    Ok(out.finish())
}

fn whole(value: &Value, default: Option<Value>, base: i64) -> Result<Value, Fault> {
    let parsed = match value {
        Value::Text(text) => {
            let text = text.trim();
            let radix = u32::try_from(base)
                .ok()
                .filter(|base| (2..=36).contains(base));
            let radix =
                radix.ok_or_else(|| Fault::new("`base` is out of range; expected 2 to 36"))?;
            let digits = match radix {
                16 => text.strip_prefix("0x").unwrap_or(text),
                8 => text.strip_prefix("0o").unwrap_or(text),
                2 => text.strip_prefix("0b").unwrap_or(text),
                _ => text,
            };
            let whole = i64::from_str_radix(digits, radix).ok();
            whole.or_else(|| text.parse().ok().and_then(truncated))
        }
        Value::Float(number) => truncated(*number),
        other => other.as_int(),
    };
    Ok(parsed.map_or_else(|| default.unwrap_or(Value::Int(0)), Value::Int))
}

/// Drops the fraction of a number. `None` if the result does not fit an integer.
pub(super) fn truncated(number: f64) -> Option<i64> {
    let fits = number.is_finite() && number.abs() < 9.2e18;
    fits.then_some(number.trunc() as i64)
}

fn round(value: &Value, args: CallArgs) -> Result<Value, Fault> {
    let [precision, method] = args.bind(["precision", "method"])?;
    let precision = integer(precision, "precision", 0)?;
    let number = value
        .as_float()
        .ok_or_else(|| Fault::new(format!("`round` takes a number; found {value}")))?;
    let method = method.map_or(Ok("common".into()), |method| string(Some(method), "method"))?;
    let scale = 10f64.powi(i32::try_from(precision.clamp(-300, 300)).unwrap_or(0));
    let rounded = match &*method {
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        "common" => match usize::try_from(precision) {
            Ok(digits) => format!("{number:.*}", digits.min(300))
                .parse()
                .unwrap_or(number),
            Err(_) => (number * scale).round_ties_even() / scale,
        },
        _ => {
            return Err(Fault::new(
                "the `method` of `round` is unknown; expected common, ceil or floor",
            ));
        }
    };
    Ok(Value::Float(rounded))
}
