//! Scores predictions without a judge.

use super::protocol::first_letter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// A measure of a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Whether the first letter of the reply is that of the correct option.
    Letter,
    /// Whether the likeliest letter is that of the correct option.
    Likelihood,
    /// Whether the reply equals one of the answers, ignoring case, punctuation and articles.
    ExactMatch,
    /// The F1 score of the words of the reply and the answer; with several answers, the highest.
    TokenF1,
    /// Whether the judge says yes.
    Judge,
    /// The score of the judge, from 0 to 5.
    JudgeScore,
}

impl Measure {
    /// Returns the name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Letter => "first letter",
            Self::Likelihood => "likeliest letter",
            Self::ExactMatch => "exact match",
            Self::TokenF1 => "token F1",
            Self::Judge => "judge says yes",
            Self::JudgeScore => "judge's score (0 to 5)",
        }
    }

    /// Formats a mean for tables: as a percentage, except for the judge's score.
    pub fn shown(self, mean: f64) -> String {
        match self {
            Self::JudgeScore => format!("{mean:.2}"),
            _ => format!("{:.1} %", mean * 100.0),
        }
    }

    /// Returns whether each value is either right or wrong.
    pub fn is_proportion(self) -> bool {
        !matches!(self, Self::TokenF1 | Self::JudgeScore)
    }
}

/// The scores of a prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The id of the question.
    pub id: String,
    /// Its video, or its own id if the file does not give one.
    pub video: String,
    /// The value of each measure.
    pub values: Vec<(Measure, f64)>,
    /// Whether the reply does not name an option.
    pub unparsable: bool,
}

/// Scores a line of predictions. Returns `None` if it lacks a required key.
pub fn score(line: &Map<String, Value>) -> Option<Scored> {
    let text = |key| super::dataset::text(line, key).ok();
    let (id, pred) = (text("question_id")?, text("pred")?);
    let video = text("video_name").unwrap_or_else(|| id.clone());
    let (values, unparsable) = match text("answer_char") {
        Some(right) => {
            let options = line
                .get("options")
                .and_then(Value::as_array)
                .map_or(26, Vec::len);
            let equal = |letter: &str| f64::from(letter.eq_ignore_ascii_case(&right));
            let chosen =
                first_letter(&pred, options).map(|o| super::protocol::letter(o).to_string());
            let unparsable = chosen.is_none();
            let mut values = vec![(Measure::Letter, chosen.map_or(0.0, |letter| equal(&letter)))];
            if let Some(likeliest) = text("likelihood_char") {
                values.push((Measure::Likelihood, equal(&likeliest)));
            }
            (values, unparsable)
        }
        None => {
            // With several correct answers, the closest one counts.
            let answers = super::dataset::references(line).ok()?;
            let best = |of: &dyn Fn(&str) -> f64| answers.iter().map(|a| of(a)).fold(0.0, f64::max);
            let exact = |answer: &str| f64::from(normalised(&pred) == normalised(answer));
            let values = vec![
                (Measure::ExactMatch, best(&exact)),
                (Measure::TokenF1, best(&|answer| token_f1(&pred, answer))),
            ];
            (values, false)
        }
    };
    Some(Scored {
        id,
        video,
        values,
        unparsable,
    })
}

/// Returns the words of a text in lower case, without punctuation and articles, as the evaluation script of SQuAD
/// (arXiv 1606.05250) normalises answers.
fn normalised(text: &str) -> Vec<String> {
    let plain: String = text
        .to_lowercase()
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    plain
        .split_whitespace()
        .filter(|word| !["a", "an", "the"].contains(word))
        .map(str::to_owned)
        .collect()
}

/// Returns the harmonic mean of the precision and recall of the words.
fn token_f1(reply: &str, answer: &str) -> f64 {
    let (reply, answer) = (normalised(reply), normalised(answer));
    if reply.is_empty() || answer.is_empty() {
        return f64::from(reply == answer);
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in &answer {
        *counts.entry(word).or_default() += 1;
    }
    let common = reply
        .iter()
        .filter(|word| match counts.get_mut(word.as_str()) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        })
        .count();
    2.0 * common as f64 / (reply.len() + answer.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_as_in_squad() {
        for (reply, answer, exact, f1) in [
            ("A dog.", "dog", true, 1.0),
            ("The dog runs", "a dog", false, 2.0 / 3.0),
            ("cat", "dog", false, 0.0),
            ("", "", true, 1.0),
            ("the", "dog", false, 0.0),
            ("dog dog", "dog", false, 2.0 / 3.0),
            ("It's", "its", true, 1.0),
        ] {
            assert_eq!(normalised(reply) == normalised(answer), exact, "{reply:?}");
            assert!(
                (token_f1(reply, answer) - f1).abs() < 1e-12,
                "{reply:?} {answer:?}"
            );
        }
    }

    #[test]
    fn the_keys_of_a_line_determine_its_measures() {
        let scored = |line: &str| score(&serde_json::from_str(line).unwrap());
        let line = r#"{"question_id": 3, "video_name": "v", "pred": "b) no", "answer_char": "B",
            "options": ["x", "y"], "likelihood_char": "A"}"#;
        let found = scored(line).unwrap();
        assert_eq!((found.id.as_str(), found.video.as_str()), ("3", "v"));
        assert_eq!(
            found.values,
            [(Measure::Letter, 1.0), (Measure::Likelihood, 0.0)]
        );
        assert!(!found.unparsable);
        // `C` is not an option here.
        let line = line.replace("b) no", "C");
        assert!(scored(&line).unwrap().unparsable);
        let open = scored(r#"{"question_id": "q", "pred": "show", "answer": "show"}"#).unwrap();
        assert_eq!(
            open.values,
            [(Measure::ExactMatch, 1.0), (Measure::TokenF1, 1.0)]
        );
        assert_eq!(scored(r#"{"question_id": "q", "pred": "show"}"#), None);
        let several = |pred: &str| {
            let line = format!(
                r#"{{"question_id": "q", "pred": "{pred}", "answer": ["a dog", "the big cat", 3]}}"#
            );
            let values = scored(&line).unwrap().values;
            (values[0].1, values[1].1)
        };
        assert_eq!(several("The dog."), (1.0, 1.0));
        assert_eq!(several("3"), (1.0, 1.0));
        assert_eq!(several("a cat"), (0.0, 2.0 / 3.0));
        assert_eq!(several("a bird"), (0.0, 0.0));
    }
}
