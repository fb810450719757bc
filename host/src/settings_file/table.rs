//! Typed reading of TOML tables. Every key that is unknown, missing or of the wrong type becomes a problem
//! with its line, and reading continues.

use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

use super::Problem;
use super::document::Lines;
use crate::messages::{listed, quoted};
use merv_architectures::nearest::nearest;

/// The key of names, which are printed in many places.
const ID: &str = "id";

/// The keys of a table.
pub(crate) struct Shape {
    /// The name of the table in messages, such as `[llm]`.
    pub(crate) name: &'static str,
    pub(crate) required: &'static [&'static str],
    pub(crate) optional: &'static [&'static str],
}

impl Shape {
    pub(crate) fn keys(&self) -> Vec<&'static str> {
        self.required.iter().chain(self.optional).copied().collect()
    }
}

/// A value and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) line: usize,
}

/// The context of reading a file, and the problems so far.
pub(crate) struct Reader<'t> {
    pub(crate) lines: &'t Lines,
    /// All tables of this kind of file. They show where a misplaced key belongs.
    pub(crate) shapes: &'t [&'t Shape],
    /// The page that explains the keys.
    pub(crate) manual: &'static str,
    pub(crate) problems: Vec<Problem>,
}

/// A table of the file.
pub(crate) struct Table<'t> {
    table: &'t DeTable<'t>,
    /// The name in messages, such as `[[encoders]] #2`.
    pub(crate) name: String,
    pub(crate) line: usize,
}

impl<'t> Table<'t> {
    /// Opens a table and reports its unknown and missing keys.
    pub(crate) fn open(
        table: &'t DeTable<'t>,
        name: String,
        line: usize,
        shape: &Shape,
        reader: &mut Reader<'_>,
    ) -> Self {
        let known = shape.keys();
        for key in table.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                let line = reader.lines.line_of(key.span().start);
                reader
                    .problems
                    .push(unknown_key(key.get_ref(), line, &name, shape, reader));
            }
        }
        for key in shape.required {
            // A key that differs only in case was reported as an unknown key.
            let differs = |other: &str| other != *key && other.eq_ignore_ascii_case(key);
            let is_misspelt = table.keys().any(|other| differs(other.get_ref()));
            if !table.contains_key(*key) && !is_misspelt {
                reader.problems.push(
                    Problem::new(line, format!("`{key}` is missing in {name}"))
                        .expected(format!("the keys {}", listed(shape.required)))
                        .found(format!("no `{key}`"))
                        .hint(format!("add `{key}`; {} explains it", reader.manual)),
                );
            }
        }
        Self { table, name, line }
    }

    /// Returns all keys in the table, known or not.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.table.keys().map(|key| key.get_ref().as_ref())
    }

    fn get(&self, key: &str, reader: &Reader<'_>) -> Option<(&'t DeValue<'t>, usize)> {
        let (key, value) = self.table.get_key_value(key)?;
        Some((value.get_ref(), reader.lines.line_of(key.span().start)))
    }

    /// Reads a string that must not be blank.
    pub(crate) fn text(&self, key: &str, reader: &mut Reader<'_>) -> Option<At<String>> {
        let text = self.any_text(key, reader)?;
        if key == ID && text.value.chars().any(char::is_control) {
            reader.problems.push(
                self.refuse(
                    key,
                    text.line,
                    "contains a line break or another control character",
                )
                .expected("a name on one line")
                .found(quoted(&text.value))
                .hint("remove it"),
            );
            return None;
        }
        if !text.value.trim().is_empty() {
            return Some(text);
        }
        reader.problems.push(
            Problem::new(text.line, format!("`{key}` in {} is empty", self.name))
                .expected("a text")
                .found("an empty string")
                .hint(format!(
                    "write a value for `{key}`, or remove the line if it is optional"
                )),
        );
        None
    }

    /// Reads a string or a list of strings that must not be blank.
    pub(crate) fn texts(&self, key: &str, reader: &mut Reader<'_>) -> Option<At<Vec<String>>> {
        let (value, line) = self.get(key, reader)?;
        let DeValue::Array(items) = value else {
            let At { value, line } = self.text(key, reader)?;
            let value = vec![value];
            return Some(At { value, line });
        };
        let texts = items.iter().map(|item| match item.get_ref() {
            DeValue::String(text) if !text.trim().is_empty() => Some(text.to_string()),
            _ => None,
        });
        let texts: Option<Vec<String>> = texts.collect();
        if let Some(value) = texts.filter(|texts| !texts.is_empty()) {
            return Some(At { value, line });
        }
        reader.problems.push(
            self.refuse(key, line, "is not a list of names")
                .expected("a string, or a list of strings")
                .found("a list that is empty or contains something else")
                .hint(format!("write `{key} = [\"…\", \"…\"]`")),
        );
        None
    }

    /// Reads a string that may be blank.
    pub(crate) fn any_text(&self, key: &str, reader: &mut Reader<'_>) -> Option<At<String>> {
        let (value, line) = self.get(key, reader)?;
        match value {
            DeValue::String(text) => Some(At {
                value: text.to_string(),
                line,
            }),
            other => {
                let problem = self.wrong_type(key, line, "a string", other);
                reader
                    .problems
                    .push(problem.hint(format!("write `{key} = \"…\"`")));
                None
            }
        }
    }

    /// Reads a whole number from 1 to `max`.
    pub(crate) fn count(
        &self,
        key: &str,
        max: usize,
        reader: &mut Reader<'_>,
    ) -> Option<At<usize>> {
        self.whole(key, 1..=max, reader)
    }

    /// Reads a whole number in `range`.
    pub(crate) fn whole(
        &self,
        key: &str,
        range: RangeInclusive<usize>,
        reader: &mut Reader<'_>,
    ) -> Option<At<usize>> {
        let (value, line) = self.get(key, reader)?;
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = value else {
            let problem = self.wrong_type(key, line, &expected, value);
            reader.problems.push(problem.hint(whole_hint(key, value)));
            return None;
        };
        match usize::from_str_radix(number.as_str(), number.radix()) {
            Ok(count) if range.contains(&count) => Some(At { value: count, line }),
            _ => {
                let problem = self.out_of_range(key, line, expected, number.as_str());
                reader.problems.push(problem);
                None
            }
        }
    }

    /// Reads a number in `range`, whole or not.
    pub(crate) fn number(
        &self,
        key: &str,
        range: RangeInclusive<f64>,
        reader: &mut Reader<'_>,
    ) -> Option<At<f64>> {
        let (value, line) = self.get(key, reader)?;
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let text = match value {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            _ => {
                let problem = self.wrong_type(key, line, &expected, value);
                reader.problems.push(problem);
                return None;
            }
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Some(At {
                value: number,
                line,
            }),
            _ => {
                let problem = self.out_of_range(key, line, expected, text);
                reader.problems.push(problem);
                None
            }
        }
    }

    fn out_of_range(&self, key: &str, line: usize, expected: String, found: &str) -> Problem {
        self.refuse(key, line, "is out of range")
            .expected(expected)
            .found(quoted(found))
            .hint(format!("give `{key}` a value in that range"))
    }

    /// Reads `true` or `false`.
    pub(crate) fn flag(&self, key: &str, reader: &mut Reader<'_>) -> Option<At<bool>> {
        let (value, line) = self.get(key, reader)?;
        if let Some(value) = value.as_bool() {
            return Some(At { value, line });
        }
        reader
            .problems
            .push(self.wrong_type(key, line, "`true` or `false`", value));
        None
    }

    /// Reads a subtable.
    pub(crate) fn table(
        &self,
        key: &str,
        shape: &Shape,
        reader: &mut Reader<'_>,
    ) -> Option<Table<'t>> {
        let (value, line) = self.get(key, reader)?;
        if let DeValue::Table(table) = value {
            return Some(Self::open(
                table,
                shape.name.to_owned(),
                line,
                shape,
                reader,
            ));
        }
        let problem = self.wrong_type(key, line, &format!("a table {}", shape.name), value);
        reader
            .problems
            .push(problem.hint(format!("start it with the line {}", shape.name)));
        None
    }

    /// Reads a table of strings, whose keys may have any name. A table that is absent is empty.
    pub(crate) fn strings(&self, key: &str, reader: &mut Reader<'_>) -> Vec<(String, At<String>)> {
        let Some((value, line)) = self.get(key, reader) else {
            return Vec::new();
        };
        let DeValue::Table(table) = value else {
            let problem = self.wrong_type(key, line, "a table of strings", value);
            let hint = format!("write `{key} = {{ name = \"…\" }}`");
            reader.problems.push(problem.hint(hint));
            return Vec::new();
        };
        let inner = Table {
            table,
            name: format!("`{key}` of {}", self.name),
            line,
        };
        let names = table.keys().map(|key| key.get_ref().to_string());
        let strings = names.map(|name| Some((inner.any_text(&name, reader)?, name)));
        let strings = strings.flatten();
        strings.map(|(text, name)| (name, text)).collect()
    }

    /// Reads an array of tables, in order.
    pub(crate) fn tables(
        &self,
        key: &str,
        shape: &Shape,
        reader: &mut Reader<'_>,
    ) -> Vec<Table<'t>> {
        let Some((value, line)) = self.get(key, reader) else {
            return Vec::new();
        };
        let expected = format!("one {} table for each", shape.name);
        let DeValue::Array(items) = value else {
            let problem = self.wrong_type(key, line, &expected, value);
            let hint = format!("start each with the line {}, with two brackets", shape.name);
            reader.problems.push(problem.hint(hint));
            return Vec::new();
        };
        if items.is_empty() {
            reader.problems.push(
                Problem::new(line, format!("`{key}` is an empty list"))
                    .expected("at least one")
                    .found("none")
                    .hint(format!("add a {} table", shape.name)),
            );
        }
        let mut tables = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let line = reader.lines.line_of(item.span().start);
            match item.get_ref() {
                DeValue::Table(table) => {
                    let name = format!("{} #{}", shape.name, i + 1);
                    tables.push(Self::open(table, name, line, shape, reader));
                }
                other => reader
                    .problems
                    .push(self.wrong_type(key, line, &expected, other)),
            }
        }
        tables
    }

    /// Reads a string with `from_text`, or an inline table with `from_table`.
    pub(crate) fn text_or_table<T>(
        &self,
        key: &str,
        shape: &Shape,
        reader: &mut Reader<'_>,
        from_text: Option<fn(At<String>) -> T>,
        from_table: impl FnOnce(Table<'t>, &mut Reader<'_>) -> T,
    ) -> Option<T> {
        let (value, line) = self.get(key, reader)?;
        match (value, from_text) {
            (DeValue::String(_), Some(from_text)) => Some(from_text(self.text(key, reader)?)),
            (DeValue::Table(table), _) => {
                let name = format!("`{key}` of {}", self.name);
                let table = Self::open(table, name, line, shape, reader);
                Some(from_table(table, reader))
            }
            (other, _) => {
                let string = if from_text.is_some() {
                    "a string or "
                } else {
                    ""
                };
                let expected = format!("{string}a table such as `{}`", shape.name);
                let mut problem = self.wrong_type(key, line, &expected, other);
                if let (DeValue::String(text), None) = (other, from_text) {
                    problem = problem.found(format!("the string {}", quoted(text)));
                }
                reader
                    .problems
                    .push(problem.hint(format!("write `{key} = {}`", shape.name)));
                None
            }
        }
    }

    /// Returns a problem with a value that has the right type but is not acceptable.
    pub(crate) fn refuse(&self, key: &str, line: usize, why: &str) -> Problem {
        Problem::new(line, format!("`{key}` in {} {why}", self.name))
    }

    fn wrong_type(&self, key: &str, line: usize, expected: &str, found: &DeValue<'_>) -> Problem {
        let found = match found {
            DeValue::String(text) => format!("the string {}", quoted(text)),
            DeValue::Integer(number) => format!("the number {}", quoted(number.as_str())),
            DeValue::Float(number) => format!("the number {}", quoted(number.as_str())),
            DeValue::Boolean(value) => format!("`{value}`"),
            DeValue::Datetime(value) => format!("the date {value}"),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.refuse(key, line, "has the wrong type")
            .expected(expected)
            .found(found)
    }
}

/// Returns the hint how to write a whole number instead of this value.
fn whole_hint(key: &str, found: &DeValue<'_>) -> String {
    match found {
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
                format!("write `{key} = {number}`, without a point and an exponent")
            }
            _ => format!("write a whole number, such as `{key} = 16`"),
        },
        _ => format!("write `{key} = 16`, without quotes"),
    }
}

fn unknown_key(key: &str, line: usize, table: &str, shape: &Shape, reader: &Reader<'_>) -> Problem {
    let known = shape.keys();
    let elsewhere = reader
        .shapes
        .iter()
        .find(|other| other.keys().contains(&key));
    let hint = match (nearest(key, &known), elsewhere) {
        (Some(name), _) if name.eq_ignore_ascii_case(key) => {
            format!("write `{name}`: keys are case-sensitive")
        }
        (_, Some(other)) => format!("move it to {}, where it belongs", other.name),
        (Some(name), _) => format!("write `{name}`, the closest known key"),
        _ => "remove it".to_owned(),
    };
    Problem::new(line, format!("unknown key {} in {table}", quoted(key)))
        .expected(format!("one of {}", listed(known)))
        .found(quoted(key))
        .hint(hint)
}
