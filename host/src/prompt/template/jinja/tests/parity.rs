//! Comparison with Jinja2 as configured by transformers. `tests/python/make_jinja.py` writes the fixtures.

use super::super::{Fault, Program, Value, value::Key};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value as Json;
use std::{collections::BTreeMap, fmt, fs};

/// A value whose keys keep the order of the file.
struct Ordered(Value);

struct InOrder;

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(InOrder).map(Self)
    }
}

fn refused<E: Error>(fault: Fault) -> E {
    E::custom(fault.why)
}

impl<'de> Visitor<'de> for InOrder {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        i64::try_from(number).map(Value::Int).map_err(E::custom)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Ordered(item)) = items.next_element()? {
            list.push(item);
        }
        Value::list(list).map_err(refused)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, Ordered(value))) = entries.next_entry::<String, Ordered>()? {
            pairs.push((Key::Text(key.into()), value));
        }
        Value::dict_of(pairs).map_err(refused)
    }
}

#[test]
fn templates_render_as_in_transformers() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/prompts/jinja.json"
    );
    let cases: Vec<Json> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let first = text.lines().nth(1).unwrap().trim_end_matches(',');
    let variables: BTreeMap<String, BTreeMap<String, Ordered>> =
        serde_json::from_str(first).unwrap();
    let variables = variables["variables"].iter();
    let variables: BTreeMap<&str, Value> = variables
        .map(|(name, Ordered(value))| (name.as_str(), value.clone()))
        .collect();
    let cases = &cases[1..];
    assert!(cases.len() > 120);
    let mut wrong = Vec::new();
    for case in cases {
        let template = case["template"].as_str().unwrap();
        let rendered = Program::parse(template).and_then(|program| program.render(&variables));
        let right = match (&rendered, case["rendered"].as_str()) {
            (Ok(found), Some(expected)) => found == expected,
            (found, expected) => found.is_err() && expected.is_none(),
        };
        if !right {
            wrong.push(format!(
                "{template}\n  expected: {}\n  found: {rendered:?}",
                case["rendered"]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
