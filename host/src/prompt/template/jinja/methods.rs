//! Python methods of strings, lists and dictionaries. Methods that would modify a list or a dictionary are
//! refused, as in the sandbox of transformers.

use super::{
    Fault, Text, Value,
    budget::Budget,
    call_args::{CallArgs, integer, required, string},
    ops,
    text::{self, Side, Writer},
    value::{Dict, Key, SeqKind},
};
use std::collections::HashSet;

const OF_TEXT: [&str; 37] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
];

const OF_DICT: [&str; 5] = ["copy", "get", "items", "keys", "values"];

const OF_SEQ: [&str; 2] = ["count", "index"];

/// Methods that modify a list or a dictionary.
const CHANGES: [&str; 11] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
];

/// Whether a value has a method of this name.
pub(super) fn has(value: &Value, name: &str) -> bool {
    match value {
        Value::Text(_) => OF_TEXT.contains(&name),
        Value::Dict(_) => {
            OF_DICT.contains(&name)
                || matches!(name, "clear" | "pop" | "popitem" | "setdefault" | "update")
        }
        Value::Seq(seq) => match seq.kind {
            SeqKind::List => OF_SEQ.contains(&name) || CHANGES.contains(&name),
            SeqKind::Tuple => OF_SEQ.contains(&name),
            SeqKind::Generator | SeqKind::View => false,
        },
        Value::Loop(_) => name == "cycle",
        _ => false,
    }
}

pub(super) fn call(
    budget: &mut Budget,
    value: &Value,
    name: &str,
    args: CallArgs,
) -> Result<Value, Fault> {
    budget.steps(1)?;
    args.pay(budget)?;
    match value {
        Value::Text(text) => of_text(budget, text, name, args),
        Value::Dict(dict) => of_dict(budget, dict, value, name, args),
        Value::Seq(seq) if OF_SEQ.contains(&name) => {
            let [item] = args.bind(["value"])?;
            let item = required(item, "value")?;
            let mut count = 0;
            for (index, own) in seq.items.iter().enumerate() {
                if ops::equal(own, &item, budget)? {
                    if name == "index" {
                        return Ok(number(index));
                    }
                    count += 1;
                }
            }
            if name == "index" {
                return Err(Fault::new("`index` did not find the element in the list"));
            }
            Ok(number(count))
        }
        other => Err(Fault::new(format!(
            "`{name}` would modify {other}, which templates may not do"
        ))),
    }
}

fn number(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn of_dict(
    budget: &mut Budget,
    dict: &Dict,
    value: &Value,
    name: &str,
    args: CallArgs,
) -> Result<Value, Fault> {
    if name == "get" {
        let [key, default] = args.bind(["key", "default"])?;
        let key = Key::of(&required(key, "key")?)?;
        return Ok(dict
            .get(&key)
            .cloned()
            .unwrap_or(default.unwrap_or(Value::None)));
    }
    if !OF_DICT.contains(&name) {
        return Err(Fault::new(format!(
            "`{name}` would modify a dictionary, which templates may not do"
        )));
    }
    args.none()?;
    ops::pay_for_slots(
        dict.entries
            .len()
            .saturating_mul(if name == "items" { 5 } else { 1 }),
        budget,
    )?;
    let entries = dict.entries.iter();
    let items = match name {
        "keys" => entries.map(|(key, _)| key.value()).collect(),
        "values" => entries.map(|(_, value)| value.clone()).collect(),
        "items" => entries
            .map(|(key, value)| Value::pair(key, value))
            .collect::<Result<_, _>>()?,
        _ => return Ok(value.clone()),
    };
    Value::seq(SeqKind::View, items)
}

fn of_text(budget: &mut Budget, value: &Text, name: &str, args: CallArgs) -> Result<Value, Fault> {
    // A change of case may triple the length. Methods that may produce more charge for it themselves.
    budget.bytes(value.len().saturating_mul(3))?;
    match name {
        "upper" | "lower" | "capitalize" | "casefold" | "swapcase" | "title" => {
            args.none()?;
            cased(name, value)
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.bind(["chars"])?;
            stripped(budget, name, value, chars)
        }
        "replace" => {
            let args = args.bind(["old", "new", "count"])?;
            replaced(budget, value, args)
        }
        "split" | "rsplit" => {
            let [separator, most] = args.bind(["sep", "maxsplit"])?;
            split(
                budget,
                value,
                name == "rsplit",
                separator,
                integer(most, "maxsplit", -1)?,
            )
        }
        "splitlines" => {
            let [keep] = args.bind(["keepends"])?;
            let keep = keep.is_some_and(|keep| keep.is_true());
            ops::pay_for_slots(value.matches('\n').count(), budget)?;
            let mut lines: Vec<&str> = value.split_inclusive('\n').collect();
            if !keep {
                for line in &mut lines {
                    *line = line.strip_suffix('\n').unwrap_or(line);
                    *line = line.strip_suffix('\r').unwrap_or(line);
                }
            }
            listed(budget, lines)
        }
        "partition" | "rpartition" => {
            let [separator] = args.bind(["sep"])?;
            let separator = filled(string(separator, "sep")?)?;
            let last = name == "rpartition";
            let found = if last {
                value.rsplit_once(&*separator)
            } else {
                value.split_once(&*separator)
            };
            let parts = match found {
                Some((before, after)) => [before, &*separator, after],
                None if last => ["", "", &**value],
                None => [&**value, "", ""],
            };
            Value::seq(SeqKind::Tuple, parts.map(Value::text).to_vec())
        }
        "startswith" | "endswith" => {
            let [parts] = args.bind(["prefix"])?;
            let parts = required(parts, "prefix")?;
            let parts = match &parts {
                Value::Seq(seq) if seq.kind == SeqKind::Tuple => seq.items.as_slice(),
                part => std::slice::from_ref(part),
            };
            for part in parts {
                let part = string(Some(part.clone()), "prefix")?;
                budget.reads(part.len())?;
                let is = if name == "startswith" {
                    value.starts_with(&*part)
                } else {
                    value.ends_with(&*part)
                };
                if is {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        "removeprefix" | "removesuffix" => {
            let [part] = args.bind(["prefix"])?;
            let part = string(part, "prefix")?;
            let rest = if name == "removeprefix" {
                value.strip_prefix(&*part)
            } else {
                value.strip_suffix(&*part)
            };
            Ok(rest.map_or_else(|| Value::Text(Text::clone(value)), Value::text))
        }
        "find" | "rfind" | "index" => {
            let [part] = args.bind(["sub"])?;
            let part = string(part, "sub")?;
            let at = if name == "rfind" {
                value.rfind(&*part)
            } else {
                value.find(&*part)
            };
            match at {
                Some(at) => Ok(number(value[..at].chars().count())),
                None if name == "index" => Err(Fault::new(
                    "`index` did not find the substring in the string",
                )),
                None => Ok(Value::Int(-1)),
            }
        }
        "count" => {
            let [part] = args.bind(["sub"])?;
            Ok(number(value.matches(&*string(part, "sub")?).count()))
        }
        "join" => {
            let [parts] = args.bind(["iterable"])?;
            let parts = ops::elements(&required(parts, "iterable")?, budget)?;
            let mut joined = Writer::new(budget);
            for (index, part) in parts.into_iter().enumerate() {
                if index > 0 {
                    joined.push(value)?;
                }
                let part = string(Some(part), "element")?;
                joined.push(&part)?;
            }
            Ok(joined.finish())
        }
        "format" => text::braces(value, &args.positional, &args.named, budget),
        "center" | "ljust" | "rjust" => {
            let [width, fill] = args.bind(["width", "fillchar"])?;
            let width = integer(Some(required(width, "width")?), "width", 0)?;
            let fill = fill.map_or(Ok(" ".into()), |fill| string(Some(fill), "fillchar"))?;
            let fill = fill.chars().next().unwrap_or(' ');
            let side = match name {
                "center" => Side::Middle,
                "ljust" => Side::Left,
                _ => Side::Right,
            };
            let mut out = Writer::new(budget);
            out.padded(value, usize::try_from(width).unwrap_or(0), fill, side)?;
            Ok(out.finish())
        }
        _ => {
            args.none()?;
            Ok(Value::Bool(consists(name, value)))
        }
    }
}

/// Evaluates `isdigit` and similar methods.
fn consists(name: &str, text: &str) -> bool {
    let all = |is: fn(char) -> bool| !text.is_empty() && text.chars().all(is);
    let cased = |c: char| c.is_lowercase() || c.is_uppercase();
    match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => text.is_ascii(),
        "isspace" => all(char::is_whitespace),
        "islower" => text.chars().any(cased) && !text.chars().any(char::is_uppercase),
        "isupper" => text.chars().any(cased) && !text.chars().any(char::is_lowercase),
        _ => all(char::is_numeric),
    }
}

/// Changes the case of the text.
pub(super) fn cased(name: &str, text: &str) -> Result<Value, Fault> {
    let changed: String = match name {
        "upper" => text.to_uppercase(),
        "capitalize" => {
            let mut chars = text.chars();
            let first = chars.next().into_iter().flat_map(char::to_uppercase);
            first.chain(chars.as_str().to_lowercase().chars()).collect()
        }
        "swapcase" => {
            let swap = |c: char| {
                if c.is_uppercase() {
                    c.to_lowercase().to_string()
                } else {
                    c.to_uppercase().to_string()
                }
            };
            text.chars().map(swap).collect()
        }
        "title" => {
            let mut inside = false;
            let mut title = String::with_capacity(text.len());
            for c in text.chars() {
                if inside {
                    title.extend(c.to_lowercase());
                } else {
                    title.extend(c.to_uppercase());
                }
                inside = c.is_alphabetic();
            }
            title
        }
        _ => text.to_lowercase(),
    };
    Ok(Value::text(&changed))
}

/// Strips characters from the ends of the text: white space, or the given ones.
pub(super) fn stripped(
    budget: &mut Budget,
    name: &str,
    text: &str,
    chars: Option<Value>,
) -> Result<Value, Fault> {
    let set: Option<HashSet<char>> = match chars {
        None | Some(Value::None) => None,
        chars => {
            let chars = string(chars, "chars")?;
            budget.steps(chars.len())?;
            Some(chars.chars().collect())
        }
    };
    let gone = |c: char| match &set {
        Some(set) => set.contains(&c),
        // The characters that Python strips.
        None => c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c),
    };
    Ok(Value::text(match name {
        "lstrip" => text.trim_start_matches(gone),
        "rstrip" => text.trim_end_matches(gone),
        _ => text.trim_matches(gone),
    }))
}

/// Replaces one substring with another.
pub(super) fn replaced(
    budget: &mut Budget,
    text: &str,
    args: [Option<Value>; 3],
) -> Result<Value, Fault> {
    let [old, new, count] = args;
    let (old, new) = (string(old, "old")?, string(new, "new")?);
    let count = match count {
        Some(Value::None) => -1,
        count => integer(count, "count", -1)?,
    };
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let found = text.matches(&*old).count().min(most);
    budget.bytes(text.len().saturating_add(found.saturating_mul(new.len())))?;
    Ok(Value::Text(text.replacen(&*old, &new, most).into()))
}

fn filled(separator: Text) -> Result<Text, Fault> {
    if separator.is_empty() {
        return Err(Fault::new(
            "the separator of a split is empty; expected at least one character",
        ));
    }
    Ok(separator)
}

fn listed(budget: &mut Budget, parts: Vec<&str>) -> Result<Value, Fault> {
    ops::pay_for_slots(parts.len().saturating_mul(2), budget)?;
    Value::list(parts.into_iter().map(Value::text).collect())
}

fn split(
    budget: &mut Budget,
    text: &str,
    from_the_end: bool,
    separator: Option<Value>,
    most: i64,
) -> Result<Value, Fault> {
    let most = usize::try_from(most).map_or(usize::MAX, |most| most.saturating_add(1));
    let separator = match separator {
        None | Some(Value::None) => None,
        separator => Some(filled(string(separator, "sep")?)?),
    };
    // Each part becomes a value, even if it has only one byte.
    let parts = match &separator {
        Some(separator) => text.matches(&**separator).count() + 1,
        None => text.split_whitespace().count(),
    };
    ops::pay_for_slots(parts.min(most), budget)?;
    let parts: Vec<&str> = match (&separator, from_the_end) {
        (Some(separator), false) => text.splitn(most, &**separator).collect(),
        (Some(separator), true) => {
            let mut parts: Vec<&str> = text.rsplitn(most, &**separator).collect();
            parts.reverse();
            parts
        }
        (None, false) => {
            let mut parts = Vec::new();
            let mut rest = text.trim_start();
            while !rest.is_empty() {
                if parts.len() + 1 == most {
                    parts.push(rest);
                    break;
                }
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                parts.push(&rest[..end]);
                rest = rest[end..].trim_start();
            }
            parts
        }
        (None, true) => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end();
            while !rest.is_empty() {
                if parts.len() + 1 == most {
                    parts.push(rest);
                    break;
                }
                let start = rest.rfind(char::is_whitespace);
                let start = start.map_or(0, |at| {
                    at + rest[at..].chars().next().map_or(0, char::len_utf8)
                });
                parts.push(&rest[start..]);
                rest = rest[..start].trim_end();
            }
            parts.reverse();
            parts
        }
    };
    listed(budget, parts)
}
