//! Compares two results on the same questions.

use super::{
    EvalError,
    files::read_if_there,
    interval::{bootstrap, mcnemar},
    json::without_nan,
    predictions::read_lines,
    score::{Measure, Scored, score},
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::Path};

/// The maximum number of ids that a message lists.
const NAMED: usize = 3;

/// The difference of two results in one measure.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The measure.
    pub measure: Measure,
    /// The mean of the first result.
    pub a: f64,
    /// The mean of the second result.
    pub b: f64,
    /// `b - a`.
    pub difference: f64,
    /// Its 95 % interval, by resampling videos (paired bootstrap).
    pub interval: (f64, f64),
    /// The number of questions.
    pub count: usize,
    /// The number of questions on which the first result is better.
    pub a_better: usize,
    /// The number of questions on which the second result is better.
    pub b_better: usize,
    /// The p-value of McNemar's exact test; only for measures whose values are right or wrong.
    pub p_value: Option<f64>,
}

/// Compares two files of predictions or of verdicts.
///
/// # Errors
///
/// When a file cannot be read, or the files are not about the same questions.
pub fn compare(a: &Path, b: &Path) -> Result<Vec<Difference>, EvalError> {
    let (of_a, of_b) = (load(a)?, load(b)?);
    let incomparable = |reason| EvalError::Incomparable {
        a: a.to_owned(),
        b: b.to_owned(),
        reason,
    };
    let lacks = |this: &BTreeMap<String, Scored>, other: &BTreeMap<String, Scored>| {
        let missing: Vec<String> = other
            .keys()
            .filter(|id| !this.contains_key(*id))
            .map(|id| format!("`{id}`"))
            .collect();
        missing
    };
    for (path, missing) in [(a, lacks(&of_a, &of_b)), (b, lacks(&of_b, &of_a))] {
        if !missing.is_empty() {
            let named = missing
                .iter()
                .take(NAMED)
                .cloned()
                .collect::<Vec<_>>()
                .join(", ");
            let more = if missing.len() > NAMED { ", …" } else { "" };
            return Err(incomparable(format!(
                "{} lacks {} of the questions in the other: {named}{more}",
                path.display(),
                missing.len()
            )));
        }
    }
    let mut differences: Vec<(Measure, Vec<Pair<'_>>)> = Vec::new();
    for (id, one) in &of_a {
        let other = &of_b[id];
        for (measure, value) in &one.values {
            let Some((_, value_b)) = other.values.iter().find(|(m, _)| m == measure) else {
                continue;
            };
            let pair = (one, *value, *value_b);
            match differences.iter_mut().find(|(m, _)| m == measure) {
                Some((_, pairs)) => pairs.push(pair),
                None => differences.push((*measure, vec![pair])),
            }
        }
    }
    differences.retain(|(_, pairs)| pairs.len() == of_a.len());
    if differences.is_empty() {
        return Err(incomparable("they have no common measure".to_owned()));
    }
    Ok(differences
        .into_iter()
        .map(|(m, pairs)| difference(m, &pairs))
        .collect())
}

/// A question, and the value of each result on it.
type Pair<'s> = (&'s Scored, f64, f64);

fn difference(measure: Measure, pairs: &[Pair<'_>]) -> Difference {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / pairs.len() as f64;
    let (a, b) = (
        mean(&mut pairs.iter().map(|(_, a, _)| *a)),
        mean(&mut pairs.iter().map(|(_, _, b)| *b)),
    );
    let a_better = pairs.iter().filter(|(_, a, b)| a > b).count();
    let b_better = pairs.iter().filter(|(_, a, b)| b > a).count();
    Difference {
        measure,
        a,
        b,
        difference: b - a,
        interval: bootstrap(pairs.iter().map(|(one, a, b)| (one.video.as_str(), b - a))),
        count: pairs.len(),
        a_better,
        b_better,
        p_value: measure.is_proportion().then(|| mcnemar(a_better, b_better)),
    }
}

/// Returns the scores of each prediction in a file: either predictions, one per line, or verdicts by question
/// (`…_gpt.json`).
fn load(path: &Path) -> Result<BTreeMap<String, Scored>, EvalError> {
    let none = || EvalError::NoPredictions {
        path: path.to_owned(),
    };
    let text = read_if_there(path)?.ok_or_else(none)?;
    let verdicts = serde_json::from_str::<Map<String, Value>>(&without_nan(&text)).ok();
    let is_verdicts = verdicts
        .as_ref()
        .is_some_and(|v| v.values().all(Value::is_array));
    let scored: BTreeMap<String, Scored> = match verdicts.filter(|_| is_verdicts) {
        Some(verdicts) => verdicts
            .into_iter()
            .filter_map(|(id, verdict)| Some((id.clone(), verdict_of(id, &verdict)?)))
            .collect(),
        None => read_lines(path)?
            .iter()
            .filter_map(|line| score(&line.fields))
            .map(|scored| (scored.id.clone(), scored))
            .collect(),
    };
    if scored.is_empty() {
        return Err(none());
    }
    Ok(scored)
}

/// `[{"pred": "yes", "score": 4}, {…the prediction…}]`
fn verdict_of(id: String, verdict: &Value) -> Option<Scored> {
    let judgement = verdict.get(0)?;
    let video = verdict.pointer("/1/video_name").and_then(Value::as_str);
    let is_judged = verdict.pointer("/1/answer_char").is_none();
    let mut values = vec![(
        if is_judged {
            Measure::Judge
        } else {
            Measure::Letter
        },
        f64::from(judgement.get("pred")?.as_str()? == "yes"),
    )];
    if is_judged {
        values.push((Measure::JudgeScore, judgement.get("score")?.as_f64()?));
    }
    Some(Scored {
        video: video.map_or_else(|| id.clone(), str::to_owned),
        id,
        values,
        unparsable: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::{fs, path::PathBuf};
    use tempfile::{TempDir, tempdir};

    fn verdicts(folder: &TempDir, name: &str, judgements: &[(&str, &str, u8)]) -> PathBuf {
        let verdicts: Map<String, Value> = judgements
            .iter()
            .map(|(id, pred, score)| {
                let verdict =
                    json!([{"pred": pred, "score": score}, {"video_name": format!("{id}.mp4")}]);
                ((*id).to_owned(), verdict)
            })
            .collect();
        let path = folder.path().join(name);
        fs::write(&path, Value::Object(verdicts).to_string()).unwrap();
        path
    }

    #[test]
    fn verdicts_are_compared_by_yes_or_no_and_by_score() {
        let folder = tempdir().unwrap();
        let a = verdicts(
            &folder,
            "a.json",
            &[
                ("1", "yes", 5),
                ("2", "no", 1),
                ("3", "no", 0),
                ("4", "yes", 4),
            ],
        );
        let b = verdicts(
            &folder,
            "b.json",
            &[
                ("1", "yes", 5),
                ("2", "yes", 4),
                ("3", "yes", 3),
                ("4", "no", 2),
            ],
        );
        let differences = compare(&a, &b).unwrap();
        let [judgement, score] = &differences[..] else {
            panic!("{differences:?}");
        };
        assert_eq!(
            (
                judgement.measure,
                judgement.a,
                judgement.b,
                judgement.difference
            ),
            (Measure::Judge, 0.5, 0.75, 0.25)
        );
        assert_eq!(
            (judgement.count, judgement.a_better, judgement.b_better),
            (4, 1, 2)
        );
        // With 1 against 2, the two tails of a fair coin add up to 1.
        assert_eq!(judgement.p_value, Some(1.0));
        assert_eq!(
            (score.measure, score.a, score.b, score.difference),
            (Measure::JudgeScore, 2.5, 3.5, 1.0)
        );
        assert_eq!(
            (score.a_better, score.b_better, score.p_value),
            (1, 2, None)
        );
    }

    #[test]
    fn multiple_choice_verdicts_are_compared_by_letter() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a_gpt.json");
        let verdict = |pred| json!([{"pred": pred, "score": 0}, {"answer_char": "A"}]);
        fs::write(
            &path,
            json!({"1": verdict("yes"), "2": verdict("no")}).to_string(),
        )
        .unwrap();
        let differences = compare(&path, &path).unwrap();
        assert_eq!(differences.len(), 1);
        assert_eq!(
            (differences[0].measure, differences[0].a),
            (Measure::Letter, 0.5)
        );
    }

    #[test]
    fn up_to_three_missing_questions_are_listed() {
        let folder = tempdir().unwrap();
        let all = ["1", "2", "3", "4", "5"].map(|id| (id, "yes", 5));
        let a = verdicts(&folder, "a.json", &all);
        for (kept, expected) in [
            (2, "lacks 3 of the questions in the other: `3`, `4`, `5`"),
            (1, "`2`, `3`, `4`, …"),
        ] {
            let b = verdicts(&folder, "b.json", &all[..kept]);
            for error in [compare(&a, &b).unwrap_err(), compare(&b, &a).unwrap_err()] {
                let error = error.to_string();
                assert!(
                    error.contains("b.json lacks") && error.ends_with(expected),
                    "{error}"
                );
            }
        }
    }
}
