//! A table of the results of several models on one benchmark, by kind of question.

use super::{EvalError, EvalReport, files::read_if_there, report::Measured, score::Measure};
use crate::disk::{
    checksum::{ChecksumState, Mismatch, check_json},
    whole_file::folder_of,
};
use serde::Serialize;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// Several results side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// The benchmark of all results.
    pub benchmark: String,
    /// The measure that is compared: the first measure of the first result.
    pub measure: Measure,
    /// The models, in the order of the reports. If several have the same name, a suffix distinguishes them.
    pub models: Vec<String>,
    /// The reports.
    pub reports: Vec<PathBuf>,
    /// All questions together, then each kind.
    pub rows: Vec<Row>,
}

/// The results on one kind of question.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The kind of question, or `all`.
    pub kind: String,
    /// The number of questions.
    pub count: usize,
    /// The value of each model; `None` if the model lacks the measure.
    pub values: Vec<Option<f64>>,
}

impl Table {
    /// Reads `…_report.json` files. The first file determines the measure. The cells of a result that lacks it are
    /// empty.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or the results differ in their benchmark or in their number of questions.
    pub fn read(paths: &[PathBuf]) -> Result<Self, EvalError> {
        let reports = paths.iter().map(|path| read(path));
        let reports = reports.collect::<Result<Vec<_>, _>>()?;
        let kinds = |report: &EvalReport| {
            let kinds = report.kinds.iter();
            let kinds = kinds.map(|kind| (kind.kind.clone(), count(&kind.measures)));
            kinds.collect::<Vec<_>>()
        };
        let (Some(first), Some(path)) = (reports.first(), paths.first()) else {
            return Err(EvalError::NoReports);
        };
        for (other, other_path) in reports.iter().zip(paths).skip(1) {
            let reason = if other.benchmark != first.benchmark {
                format!(
                    "the first is a result on {}, the second on {}",
                    first.benchmark, other.benchmark
                )
            } else if other.count != first.count {
                format!(
                    "the first has {} questions, the second {}",
                    first.count, other.count
                )
            } else if kinds(other) != kinds(first) {
                "the kinds of their questions, or the number of questions of a kind, differ"
                    .to_owned()
            } else {
                continue;
            };
            return Err(EvalError::Incomparable {
                a: path.clone(),
                b: other_path.clone(),
                reason,
            });
        }
        let Some(measure) = first.measures.first().map(|measured| measured.measure) else {
            return Err(EvalError::NotAReport {
                path: path.clone(),
                reason: "it contains no scored questions".to_owned(),
            });
        };
        let row = |kind: &str, of: &dyn Fn(&EvalReport) -> Vec<Measured>| Row {
            kind: kind.to_owned(),
            count: count(&of(first)),
            values: reports
                .iter()
                .map(|report| value(&of(report), measure))
                .collect(),
        };
        let by_kind = first.kinds.iter().enumerate();
        let by_kind = by_kind
            .map(|(index, kind)| row(&kind.kind, &|report| report.kinds[index].measures.clone()));
        let rows = std::iter::once(row("all", &|report| report.measures.clone())).chain(by_kind);
        Ok(Self {
            benchmark: first.benchmark.clone(),
            measure,
            models: distinct_names(&reports, paths),
            reports: paths.to_vec(),
            rows: rows.collect(),
        })
    }

    /// Returns the table as Markdown. With several models, the best value of each row is bold.
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |", cells.join(" | ").replace('\n', " "));
        let names = self.models.iter().map(|name| name.replace('|', "\\|"));
        let header = ["kind".to_owned(), "questions".to_owned()];
        let mut lines = vec![line(header.into_iter().chain(names).collect())];
        lines.push(line(vec!["---".to_owned(); self.models.len() + 2]));
        for row in &self.rows {
            let best = row
                .values
                .iter()
                .flatten()
                .copied()
                .fold(f64::MIN, f64::max);
            let values = row.values.iter().map(|value| match value {
                None => String::new(),
                Some(value) if *value == best && self.models.len() > 1 => {
                    format!("**{}**", self.measure.shown(*value))
                }
                Some(value) => self.measure.shown(*value),
            });
            let head = [row.kind.replace('|', "\\|"), row.count.to_string()];
            lines.push(line(head.into_iter().chain(values).collect()));
        }
        lines.join("\n")
    }
}

/// Returns the names of the columns. Models with the same name get a suffix: the folder of the report, its path
/// or a number, whichever distinguishes all of them first.
fn distinct_names(reports: &[EvalReport], paths: &[PathBuf]) -> Vec<String> {
    let additions: [fn(&Path, usize) -> String; 3] = [
        |path, _| folder_of(path).display().to_string(),
        |path, _| path.display().to_string(),
        |_, number| number.to_string(),
    ];
    let models: Vec<&str> = reports.iter().map(|report| report.model.as_str()).collect();
    let mut names: Vec<String> = models.iter().map(|&model| model.to_owned()).collect();
    for addition in additions {
        if names.iter().collect::<HashSet<_>>().len() == names.len() {
            break;
        }
        let columns = models.iter().zip(paths).enumerate();
        let named = columns.map(|(at, (model, path))| {
            match models.iter().filter(|other| *other == model).count() {
                1 => (*model).to_owned(),
                _ => format!("{model} ({})", addition(path, at + 1)),
            }
        });
        names = named.collect();
    }
    names
}

fn read(path: &Path) -> Result<EvalReport, EvalError> {
    let not_a_report = |reason| EvalError::NotAReport {
        path: path.to_owned(),
        reason,
    };
    let text =
        read_if_there(path)?.ok_or_else(|| not_a_report("the file does not exist".to_owned()))?;
    if check_json(&text) == ChecksumState::Invalid {
        return Err(not_a_report(Mismatch.to_string()));
    }
    serde_json::from_str(&text).map_err(|error| not_a_report(error.to_string()))
}

fn count(measures: &[Measured]) -> usize {
    measures.first().map_or(0, |measured| measured.count)
}

fn value(measures: &[Measured], measure: Measure) -> Option<f64> {
    let found = measures.iter().find(|measured| measured.measure == measure);
    found.map(|measured| measured.value)
}
