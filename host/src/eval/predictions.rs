//! A file of predictions: one JSON object per line.

use super::{
    EvalError,
    files::{damaged, unreadable},
    json::without_nan,
};
use crate::disk::journal;
use serde_json::{Map, Value};
use std::path::Path;

/// A line with a prediction.
#[derive(Debug, Clone)]
pub struct Line {
    /// The text of the line, without the line break.
    pub text: String,
    /// The parsed object.
    pub fields: Map<String, Value>,
}

impl Line {
    /// Parses a line. Returns `None` if it is not a prediction.
    pub(super) fn parse(text: String) -> Option<Self> {
        let mut fields: Map<String, Value> = serde_json::from_str(&without_nan(&text)).ok()?;
        // The checksum describes the line and is not part of the prediction.
        fields.remove("crc32");
        let is_prediction = fields.get("pred").is_some_and(Value::is_string);
        is_prediction.then_some(Self { text, fields })
    }
}

/// Returns the predictions in a file, or an empty list if the file does not exist. Other lines are skipped.
///
/// # Errors
///
/// When the file cannot be read, or a line is damaged.
pub(super) fn read_lines(path: &Path) -> Result<Vec<Line>, EvalError> {
    let lines = journal::read(path).map_err(|source| unreadable(path, source))?;
    if let Some(number) = lines.damaged.first() {
        return Err(damaged(path, &format!(", line {number}")));
    }
    let lines = lines.valid.into_iter().map(|(_, line)| line);
    Ok(lines.filter_map(Line::parse).collect())
}
