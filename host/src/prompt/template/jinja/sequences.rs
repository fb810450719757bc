//! Filters over sequences.

use super::{
    Fault, Text, Value,
    budget::Budget,
    call_args::{CallArgs, flag, integer, required},
    checks, ops,
    state::Machine,
    text::Writer,
    value::SeqKind,
};
use std::cmp::Ordering;

/// Applies a filter by name. It is passed in for `map`, because `filters` depends on this module.
pub(super) type Filter = fn(&mut Machine, &str, Value, CallArgs) -> Result<Value, Fault>;

pub(super) fn apply(
    machine: &mut Machine,
    name: &str,
    value: Value,
    args: CallArgs,
    filter: Filter,
) -> Result<Value, Fault> {
    match name {
        "map" => map(machine, &value, args, filter),
        "select" | "reject" => chosen(machine, &value, args, name == "select", false),
        "selectattr" | "rejectattr" => chosen(machine, &value, args, name == "selectattr", true),
        "join" => join(machine, &value, args),
        "first" => {
            args.none()?;
            let items = ops::elements(&value, &mut machine.budget)?;
            let none = || Value::Undefined("the first of no elements".into());
            Ok(items.into_iter().next().unwrap_or_else(none))
        }
        "last" => {
            args.none()?;
            let items = ops::elements(&value, &mut machine.budget)?;
            let none = || Value::Undefined("the last of no elements".into());
            Ok(items.into_iter().next_back().unwrap_or_else(none))
        }
        "list" => {
            args.none()?;
            Value::list(ops::elements(&value, &mut machine.budget)?)
        }
        "reverse" => {
            args.none()?;
            if let Value::Text(text) = &value {
                machine.budget.bytes(text.len())?;
                let reversed: String = text.chars().rev().collect();
                return Ok(Value::text(&reversed));
            }
            let mut items = ops::elements(&value, &mut machine.budget)?;
            items.reverse();
            Value::seq(SeqKind::Generator, items)
        }
        "sort" => {
            let [reverse, case_sensitive, attribute] =
                args.bind(["reverse", "case_sensitive", "attribute"])?;
            let mut keyed = keyed(
                machine,
                &value,
                attribute.as_ref(),
                flag(case_sensitive.as_ref(), false),
            )?;
            sort(
                &mut keyed,
                flag(reverse.as_ref(), false),
                &mut machine.budget,
            )?;
            Value::list(keyed.into_iter().map(|(_, item)| item).collect())
        }
        "unique" => {
            let [case_sensitive, attribute] = args.bind(["case_sensitive", "attribute"])?;
            let keyed = keyed(
                machine,
                &value,
                attribute.as_ref(),
                flag(case_sensitive.as_ref(), false),
            )?;
            let mut kept: Vec<(Value, Value)> = Vec::new();
            for (key, item) in keyed {
                if !any_equal(&kept, &key, &mut machine.budget)? {
                    kept.push((key, item));
                }
            }
            Value::seq(
                SeqKind::Generator,
                kept.into_iter().map(|(_, item)| item).collect(),
            )
        }
        "min" | "max" => {
            let [case_sensitive, attribute] = args.bind(["case_sensitive", "attribute"])?;
            let keyed = keyed(
                machine,
                &value,
                attribute.as_ref(),
                flag(case_sensitive.as_ref(), false),
            )?;
            let wanted = if name == "min" {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            let mut best: Option<(Value, Value)> = None;
            for (key, item) in keyed {
                let better = match &best {
                    Some((other, _)) => ops::order(&key, other, &mut machine.budget)? == wanted,
                    None => true,
                };
                if better {
                    best = Some((key, item));
                }
            }
            let none = || Value::Undefined("the least or greatest of no elements".into());
            Ok(best.map_or_else(none, |(_, item)| item))
        }
        "sum" => {
            let [attribute, start] = args.bind(["attribute", "start"])?;
            let mut sum = start.unwrap_or(Value::Int(0));
            for item in ops::elements(&value, &mut machine.budget)? {
                let item = match &attribute {
                    Some(path) => machine.by_path(&item, path)?,
                    None => item,
                };
                sum = ops::calculate(
                    super::syntax::Operator::Add,
                    &sum,
                    &item,
                    &mut machine.budget,
                )?;
            }
            Ok(sum)
        }
        "batch" | "slice" => pieces(machine, &value, args, name == "batch"),
        "groupby" => groups(machine, &value, args),
        _ => dictsort(machine, &value, args),
    }
}

fn map(
    machine: &mut Machine,
    value: &Value,
    args: CallArgs,
    filter: Filter,
) -> Result<Value, Fault> {
    let items = ops::elements(value, &mut machine.budget)?;
    let mut mapped = Vec::with_capacity(items.len());
    let attribute = args.named.iter().find(|(name, _)| &**name == "attribute");
    if let Some((_, path)) = attribute {
        let default = args.named.iter().find(|(name, _)| &**name == "default");
        for item in items {
            let found = machine.by_path(&item, path)?;
            mapped.push(match default {
                Some((_, default)) if found.is_undefined() => default.clone(),
                _ => found,
            });
        }
    } else {
        let mut positional = args.positional.into_iter();
        let Some(Value::Text(name)) = positional.next() else {
            return Err(Fault::new(
                "`map` takes the name of a filter or the argument `attribute`",
            ));
        };
        let rest: Vec<Value> = positional.collect();
        for item in items {
            let args = repeated(&rest, &args.named, &mut machine.budget)?;
            mapped.push(filter(machine, &name, item, args)?);
        }
    }
    Value::seq(SeqKind::Generator, mapped)
}

/// Copies the arguments for one more call.
fn repeated(
    positional: &[Value],
    named: &[(Text, Value)],
    budget: &mut Budget,
) -> Result<CallArgs, Fault> {
    ops::pay_for_slots(positional.len() + named.len(), budget)?;
    Ok(CallArgs {
        positional: positional.to_vec(),
        named: named.to_vec(),
    })
}

/// Keeps the elements for which a test of the element, or of an attribute, gives `holds`.
fn chosen(
    machine: &mut Machine,
    value: &Value,
    args: CallArgs,
    holds: bool,
    by_attribute: bool,
) -> Result<Value, Fault> {
    let mut positional = args.positional.into_iter();
    let path = if by_attribute {
        Some(required(positional.next(), "attribute")?)
    } else {
        None
    };
    let test = match positional.next() {
        None => None,
        Some(Value::Text(name)) => Some(name),
        Some(other) => {
            return Err(Fault::new(format!(
                "the name of a test is {other}; expected a string"
            )));
        }
    };
    let rest: Vec<Value> = positional.collect();
    let mut kept = Vec::new();
    for item in ops::elements(value, &mut machine.budget)? {
        let looked_at = match &path {
            Some(path) => machine.by_path(&item, path)?,
            None => item.clone(),
        };
        let found = match &test {
            Some(name) => {
                let args = repeated(&rest, &args.named, &mut machine.budget)?;
                checks::check(machine, name, &looked_at, args)?
            }
            None => looked_at.is_true(),
        };
        if found == holds {
            kept.push(item);
        }
    }
    Value::seq(SeqKind::Generator, kept)
}

fn join(machine: &mut Machine, value: &Value, args: CallArgs) -> Result<Value, Fault> {
    let [between, attribute] = args.bind(["d", "attribute"])?;
    let mut items = ops::elements(value, &mut machine.budget)?;
    if let Some(path) = attribute {
        for item in &mut items {
            *item = machine.by_path(item, &path)?;
        }
    }
    let mut joined = Writer::new(&mut machine.budget);
    for (index, item) in items.iter().enumerate() {
        if index > 0
            && let Some(between) = &between
        {
            joined.value(between)?;
        }
        joined.value(item)?;
    }
    Ok(joined.finish())
}

/// Pairs each element with its sort key: the element or an attribute, in lower case unless `case_sensitive`.
fn keyed(
    machine: &mut Machine,
    value: &Value,
    attribute: Option<&Value>,
    case_sensitive: bool,
) -> Result<Vec<(Value, Value)>, Fault> {
    let items = ops::elements(value, &mut machine.budget)?;
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        let key = match attribute {
            Some(path) => machine.by_path(&item, path)?,
            None => item.clone(),
        };
        let key = match key {
            Value::Text(text) if !case_sensitive => {
                machine.budget.bytes(text.len().saturating_mul(3))?;
                Value::text(&text.to_lowercase())
            }
            other => other,
        };
        keyed.push((key, item));
    }
    Ok(keyed)
}

fn any_equal(kept: &[(Value, Value)], key: &Value, budget: &mut Budget) -> Result<bool, Fault> {
    for (other, _) in kept {
        if ops::equal(other, key, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sorts by key. The sort is stable.
fn sort(keyed: &mut [(Value, Value)], reverse: bool, budget: &mut Budget) -> Result<(), Fault> {
    let mut fault = None;
    keyed.sort_by(|(a, _), (b, _)| {
        if fault.is_some() {
            return Ordering::Equal;
        }
        let order = ops::order(a, b, budget).unwrap_or_else(|why| {
            fault = Some(why);
            Ordering::Equal
        });
        if reverse { order.reverse() } else { order }
    });
    fault.map_or(Ok(()), Err)
}

/// Evaluates `batch`, which returns lists of `count` elements, or `slice`, which returns `count` lists.
fn pieces(
    machine: &mut Machine,
    value: &Value,
    args: CallArgs,
    batch: bool,
) -> Result<Value, Fault> {
    let [count, fill] = args.bind([if batch { "linecount" } else { "slices" }, "fill_with"])?;
    let count = integer(Some(required(count, "count")?), "count", 0)?;
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| {
        Fault::new("the count of `batch` or `slice` is too small; expected at least 1")
    })?;
    let items = ops::elements(value, &mut machine.budget)?;
    let mut lists = Vec::new();
    if batch {
        for part in items.chunks(count) {
            let mut part = part.to_vec();
            if let Some(fill) = &fill {
                let missing = count - part.len();
                ops::pay_for_slots(missing, &mut machine.budget)?;
                part.extend(std::iter::repeat_n(fill.clone(), missing));
            }
            ops::pay_for_slots(part.len(), &mut machine.budget)?;
            lists.push(Value::list(part)?);
        }
    } else {
        ops::pay_for_slots(count.saturating_mul(4), &mut machine.budget)?;
        let (each, more) = (items.len() / count, items.len() % count);
        let mut rest = items.into_iter();
        for index in 0..count {
            let mut part: Vec<Value> = rest
                .by_ref()
                .take(each + usize::from(index < more))
                .collect();
            if let Some(fill) = &fill
                && index >= more
                && more > 0
            {
                part.push(fill.clone());
            }
            lists.push(Value::list(part)?);
        }
    }
    Value::seq(SeqKind::Generator, lists)
}

fn groups(machine: &mut Machine, value: &Value, args: CallArgs) -> Result<Value, Fault> {
    let [attribute, default, case_sensitive] =
        args.bind(["attribute", "default", "case_sensitive"])?;
    let attribute = required(attribute, "attribute")?;
    let mut keyed = keyed(
        machine,
        value,
        Some(&attribute),
        flag(case_sensitive.as_ref(), false),
    )?;
    if let Some(default) = default {
        for (key, _) in keyed.iter_mut().filter(|(key, _)| key.is_undefined()) {
            *key = default.clone();
        }
    }
    sort(&mut keyed, false, &mut machine.budget)?;
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in keyed {
        let same = match groups.last() {
            Some((last, _)) => ops::equal(last, &key, &mut machine.budget)?,
            None => false,
        };
        match groups.last_mut() {
            Some((_, items)) if same => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    ops::pay_for_slots(groups.len().saturating_mul(4), &mut machine.budget)?;
    let pairs = groups.into_iter().map(|(key, items)| {
        let items = Value::list(items)?;
        Value::seq(SeqKind::Tuple, vec![key, items])
    });
    Value::list(pairs.collect::<Result<_, _>>()?)
}

fn dictsort(machine: &mut Machine, value: &Value, args: CallArgs) -> Result<Value, Fault> {
    let [case_sensitive, by, reverse] = args.bind(["case_sensitive", "by", "reverse"])?;
    let Value::Dict(dict) = value else {
        return Err(Fault::new(format!(
            "`dictsort` takes a dictionary; found {value}"
        )));
    };
    ops::pay_for_slots(dict.entries.len().saturating_mul(4), &mut machine.budget)?;
    let pairs = dict
        .entries
        .iter()
        .map(|(key, value)| Value::pair(key, value));
    let pairs = Value::list(pairs.collect::<Result<_, _>>()?)?;
    let by_value = matches!(&by, Some(Value::Text(by)) if &**by == "value");
    let index = Value::Int(i64::from(by_value));
    let mut keyed = keyed(
        machine,
        &pairs,
        Some(&index),
        flag(case_sensitive.as_ref(), false),
    )?;
    sort(
        &mut keyed,
        flag(reverse.as_ref(), false),
        &mut machine.budget,
    )?;
    Value::list(keyed.into_iter().map(|(_, pair)| pair).collect())
}
