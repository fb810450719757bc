//! The result of an evaluation, as JSON and as Markdown.

use super::{
    EvalError, Failure, Strategy, Task,
    dataset::Dataset,
    files::{replace, unwritable},
    interval::{bootstrap, wilson},
    score::{Measure, Scored, score},
    store::{Merged, Store},
};
use crate::{
    disk::checksum::with_json_checksum,
    messages::{clipped, escaped},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{collections::HashMap, path::Path};

/// The result of an evaluation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EvalReport {
    /// The benchmark.
    pub benchmark: String,
    /// The model, or the judge.
    pub model: String,
    /// The first of the measures, which the original reports; `None` if no question counts.
    pub accuracy: Option<f64>,
    /// The number of questions that count.
    pub count: usize,
    /// The number of replies that do not name an option, or of judge replies without a verdict. The former count
    /// as wrong, as in the original; the latter do not count.
    pub unparsable: usize,
    /// The number of questions that were not asked because their video or prompt cannot be used. They do not
    /// count.
    pub failed: usize,
    /// The measures over all questions.
    pub measures: Vec<Measured>,
    /// The measures by kind of question, if the questions have kinds.
    pub kinds: Vec<Kind>,
    /// The questions that were not asked.
    pub failures: Vec<Failure>,
}

/// The mean of a measure over some questions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// The measure.
    pub measure: Measure,
    /// Its mean.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
    /// The number of questions.
    pub count: usize,
}

/// The measures over one kind of question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kind {
    /// The name of the kind.
    pub kind: String,
    /// The measures over its questions.
    pub measures: Vec<Measured>,
}

impl EvalReport {
    /// Creates the report of a run.
    pub fn of_run(dataset: &Dataset, model: &str, strategy: Strategy, merged: &Merged) -> Self {
        let mut scored: Vec<Scored> = merged
            .lines
            .iter()
            .filter_map(|l| score(&l.fields))
            .collect();
        if strategy == Strategy::Likelihood {
            // The reply is the likeliest letter, so both measures would be equal.
            for one in &mut scored {
                one.values
                    .retain(|(measure, _)| *measure != Measure::Letter);
            }
        }
        let kinds = dataset
            .questions
            .iter()
            .map(|q| (q.id.as_str(), q.kinds.as_slice()));
        let kinds = kinds.collect::<HashMap<_, _>>();
        let failures = merged.failed.clone();
        Self::new(&dataset.benchmark, model, &scored, &kinds, failures)
    }

    /// Creates the report of `scored`. `kinds` maps the id of a question to its kinds.
    pub(super) fn new(
        benchmark: &str,
        model: &str,
        scored: &[Scored],
        kinds: &HashMap<&str, &[String]>,
        failures: Vec<Failure>,
    ) -> Self {
        let all: Vec<&Scored> = scored.iter().collect();
        let measures = measured(&all);
        let mut names: Vec<&String> = kinds.values().copied().flatten().collect();
        names.sort();
        names.dedup();
        let kinds = names.into_iter().filter_map(|name| {
            let of_kind =
                |one: &&Scored| kinds.get(one.id.as_str()).is_some_and(|k| k.contains(name));
            let some: Vec<&Scored> = scored.iter().filter(of_kind).collect();
            (!some.is_empty()).then(|| Kind {
                kind: name.clone(),
                measures: measured(&some),
            })
        });
        Self {
            benchmark: benchmark.to_owned(),
            model: model.to_owned(),
            accuracy: measures.first().map(|m| m.value),
            count: scored.len(),
            unparsable: scored.iter().filter(|one| one.unparsable).count(),
            failed: failures.len(),
            kinds: kinds.collect(),
            measures,
            failures,
        }
    }

    /// Returns the table for the user: its header and its rows.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let mut header = vec!["measure", "value", "95 % interval", "questions"];
        let by_kind = !self.kinds.is_empty();
        if by_kind {
            header.insert(0, "kind");
        }
        let row = |kind: &str, measured: &Measured| {
            let mut cells = measured.cells();
            if by_kind {
                cells.insert(0, kind.to_owned());
            }
            cells
        };
        let whole = self.measures.iter().map(|measured| row("all", measured));
        let kinds = self.kinds.iter();
        let kinds = kinds.flat_map(|kind| kind.measures.iter().map(|m| row(&kind.kind, m)));
        let rows = whole.chain(kinds).collect();
        (header, rows)
    }

    /// Returns the notes below the table.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        // A judge may not have given a single verdict.
        let by_letter = self.measures.iter().any(|m| m.measure == Measure::Letter);
        match (self.unparsable, by_letter) {
            (0, _) => {}
            (n, false) => notes.push(format!(
                "judge replies without a verdict (not counted): {n}"
            )),
            (n, true) => notes.push(format!(
                "replies that do not name an option (counted as wrong): {n}"
            )),
        }
        if self.failed > 0 {
            notes.push(format!(
                "questions that could not be asked (not counted): {}",
                self.failed
            ));
            notes.extend(
                self.failures
                    .iter()
                    .map(|f| clipped(&format!("{}: {f}", escaped(&f.question_id)))),
            );
        }
        notes
    }

    /// Returns the report as Markdown.
    pub fn markdown(&self) -> String {
        let (header, rows) = self.table();
        let escaped = |cell: &str| cell.replace('|', "\\|");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("# {}, {}\n\n", self.benchmark, self.model);
        text += &line(header.iter().map(|cell| escaped(cell)).collect());
        text += &line(header.iter().map(|_| "---".to_owned()).collect());
        for row in rows {
            text += &line(row.iter().map(|cell| escaped(cell)).collect());
        }
        let notes = self.notes();
        if !notes.is_empty() {
            text += "\n";
        }
        for note in notes {
            text += &format!("* {note}\n");
        }
        text
    }

    /// Writes `<stem>_report.json` and `<stem>_report.md`. `path` returns the full path for a name after the stem.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write(&self, path: impl Fn(&str) -> std::path::PathBuf) -> Result<(), EvalError> {
        let path_of_json = path("report.json");
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|e| unwritable(&path_of_json, e.into()))?;
        replace(&path_of_json, (with_json_checksum(&text) + "\n").as_bytes())?;
        replace(&path("report.md"), self.markdown().as_bytes())
    }
}

impl Measured {
    fn cells(&self) -> Vec<String> {
        let shown = |value| self.measure.shown(value);
        let (low, high) = self.interval;
        vec![
            self.measure.title().to_owned(),
            shown(self.value),
            format!("{} to {}", shown(low), shown(high)),
            self.count.to_string(),
        ]
    }
}

/// Returns the means of all measures in `scored`.
fn measured(scored: &[&Scored]) -> Vec<Measured> {
    let mut values: Vec<(Measure, Vec<(&str, f64)>)> = Vec::new();
    for one in scored {
        for (measure, value) in &one.values {
            match values.iter_mut().find(|(other, _)| other == measure) {
                Some((_, list)) => list.push((&one.video, *value)),
                None => values.push((*measure, vec![(&one.video, *value)])),
            }
        }
    }
    let measured = values.into_iter().map(|(measure, values)| {
        let sum: f64 = values.iter().map(|(_, value)| value).sum();
        Measured {
            measure,
            value: sum / values.len() as f64,
            count: values.len(),
            interval: match measure.is_proportion() {
                true => wilson(sum as usize, values.len()),
                false => bootstrap(values),
            },
        }
    });
    measured.collect()
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), EvalError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| unwritable(path, e.into()))?;
    replace(path, (text + "\n").as_bytes())
}

/// Writes `<stem>_gpt.json` of a multiple-choice run as in the original, for tools that read it: for each question
/// `yes` or `no`, determined by the first letter, and the prediction.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_verdicts(store: &Store, task: Task, merged: &Merged) -> Result<(), EvalError> {
    if task == Task::OpenEnded {
        return Ok(());
    }
    let mut verdicts = Map::new();
    for line in &merged.lines {
        let Some(scored) = score(&line.fields) else {
            continue;
        };
        let right = scored
            .values
            .iter()
            .any(|(m, v)| *m == Measure::Letter && *v == 1.0);
        let mut sample = line.fields.clone();
        sample.insert("acc".into(), json!(right));
        let pred = if right { "yes" } else { "no" };
        verdicts.insert(
            scored.id,
            json!([{"pred": pred, "score": 0}, Value::Object(sample)]),
        );
    }
    let path = store.path("gpt.json");
    let text = serde_json::to_string(&verdicts).map_err(|e| unwritable(&path, e.into()))?;
    replace(&path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(id: &str, values: &[(Measure, f64)], unparsable: bool) -> Scored {
        Scored {
            id: id.to_owned(),
            video: "clip.mp4".to_owned(),
            values: values.to_vec(),
            unparsable,
        }
    }

    fn report(
        scored: &[Scored],
        kinds: &[(&str, &[String])],
        failures: Vec<Failure>,
    ) -> EvalReport {
        let kinds = kinds.iter().copied().collect();
        EvalReport::new("a|b", "model", scored, &kinds, failures)
    }

    fn failure() -> Failure {
        Failure {
            question_id: "q9".to_owned(),
            video_name: "gone.mp4".to_owned(),
            error: "no such file".to_owned(),
        }
    }

    #[test]
    fn a_report_lists_each_measure_of_all_questions_and_of_each_kind() {
        let letter = |right| [(Measure::Letter, right)];
        let kinds = ["colour".to_owned(), "shape".to_owned()];
        let report = report(
            &[
                scored("q1", &letter(1.0), false),
                scored("q2", &letter(0.0), true),
                scored("q3", &letter(1.0), false),
            ],
            &[
                ("q1", &kinds[..1]),
                ("q2", &kinds[..1]),
                ("q3", &kinds[1..]),
            ],
            vec![failure()],
        );
        assert_eq!((report.count, report.unparsable, report.failed), (3, 1, 1));
        // Wilson intervals of 2 in 3, 1 in 2 and 1 in 1.
        let expected = "\
# a|b, model

| kind | measure | value | 95 % interval | questions |
| --- | --- | --- | --- | --- |
| all | first letter | 66.7 % | 20.8 % to 93.9 % | 3 |
| colour | first letter | 50.0 % | 9.5 % to 90.5 % | 2 |
| shape | first letter | 100.0 % | 20.7 % to 100.0 % | 1 |

* replies that do not name an option (counted as wrong): 1
* questions that could not be asked (not counted): 1
* q9: gone.mp4: no such file
";
        assert_eq!(report.markdown(), expected);
    }

    #[test]
    fn without_kinds_and_notes_the_report_is_only_the_table() {
        let values = [(Measure::ExactMatch, 1.0), (Measure::TokenF1, 1.0)];
        let report = report(&[scored("q1", &values, false)], &[], Vec::new());
        let expected = "\
# a|b, model

| measure | value | 95 % interval | questions |
| --- | --- | --- | --- |
| exact match | 100.0 % | 20.7 % to 100.0 % | 1 |
| token F1 | 100.0 % | 100.0 % to 100.0 % | 1 |
";
        assert_eq!(report.markdown(), expected);
        assert!(report.notes().is_empty());
    }

    #[test]
    fn judge_replies_without_a_verdict_do_not_count_as_wrong() {
        let report = report(&[scored("q1", &[], true)], &[], Vec::new());
        assert_eq!(
            report.notes(),
            ["judge replies without a verdict (not counted): 1"]
        );
        assert_eq!(report.accuracy, None);
    }

    #[test]
    fn pipes_in_table_cells_are_escaped() {
        let kind = ["left|right".to_owned()];
        let scored = scored("q1", &[(Measure::Letter, 1.0)], false);
        let text = report(&[scored], &[("q1", &kind)], Vec::new()).markdown();
        assert!(text.contains("| left\\|right | first letter |"), "{text}");
    }
}
