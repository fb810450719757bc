//! The results of several models on one benchmark, by kind of question.

use super::{EvalError, Report, report::Measured, score::Measure, store::read_if_there};
use crate::disk::{
    sealed::{Mismatch, Seal, check_json},
    whole_file::folder_of,
};
use serde::Serialize;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// Results beside each other.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// The benchmark that all are about.
    pub benchmark: String,
    /// What is compared: the first measure of the first result.
    pub measure: Measure,
    /// The models, in the order of the reports. Where several have one name, what tells the reports apart
    /// is added.
    pub models: Vec<String>,
    /// The reports.
    pub reports: Vec<PathBuf>,
    /// All questions together, then each kind.
    pub rows: Vec<Row>,
}

/// Some questions.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Their kind, or `all`.
    pub kind: String,
    /// How many there are.
    pub count: usize,
    /// What each model reaches; none where it has not that measure.
    pub values: Vec<Option<f64>>,
}

impl Table {
    /// Reads `…_report.json` files. The measure is the first one's; others that lack it have empty cells.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or they are about other benchmarks or count other numbers of questions.
    pub fn read(paths: &[PathBuf]) -> Result<Self, EvalError> {
        let reports = paths.iter().map(|path| read(path));
        let reports = reports.collect::<Result<Vec<_>, _>>()?;
        let kinds = |report: &Report| {
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
                    "one is about {}, the other about {}",
                    first.benchmark, other.benchmark
                )
            } else if other.count != first.count {
                format!(
                    "one counts {} questions, the other {}",
                    first.count, other.count
                )
            } else if kinds(other) != kinds(first) {
                "their questions are of other kinds, or of some kinds not as many".to_owned()
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
            return Err(EvalError::NoReport {
                path: path.clone(),
                reason: "no question counts".to_owned(),
            });
        };
        let row = |kind: &str, of: &dyn Fn(&Report) -> Vec<Measured>| Row {
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
            models: told_apart(&reports, paths),
            reports: paths.to_vec(),
            rows: rows.collect(),
        })
    }

    /// As Markdown, the best of each row in bold where there are several.
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

/// Names of columns. Models of one name get the folder of their report too, or its path, or a number: whatever
/// tells all of them apart.
fn told_apart(reports: &[Report], paths: &[PathBuf]) -> Vec<String> {
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

fn read(path: &Path) -> Result<Report, EvalError> {
    let no_report = |reason| EvalError::NoReport {
        path: path.to_owned(),
        reason,
    };
    let text = read_if_there(path)?.ok_or_else(|| no_report("there is no such file".to_owned()))?;
    if check_json(&text) == Seal::Broken {
        return Err(no_report(Mismatch.to_string()));
    }
    serde_json::from_str(&text).map_err(|error| no_report(error.to_string()))
}

fn count(measures: &[Measured]) -> usize {
    measures.first().map_or(0, |measured| measured.count)
}

fn value(measures: &[Measured], measure: Measure) -> Option<f64> {
    let found = measures.iter().find(|measured| measured.measure == measure);
    found.map(|measured| measured.value)
}
