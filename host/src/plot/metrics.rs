//! Reads the curves in `metrics.jsonl`.

use super::PlotError;
use crate::disk::checksum::{ChecksumState, Mismatch, check_json};
use merv_checkpoint::text;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

/// One quantity over the steps of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// The name in the legend.
    pub name: String,
    /// The steps and values, in the order of the file. Values are finite.
    pub points: Vec<(f64, f64)>,
}

/// Curves that share an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// The quantity on the axis.
    pub title: String,
    /// The curves: at least one, each with at least one point.
    pub curves: Vec<Curve>,
    /// Whether the axis starts at 0.
    pub from_zero: bool,
}

/// The metrics that are not in the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Whether the last line is truncated, because the run is in progress or was killed.
    pub cut_line: bool,
    /// The number of values that are not finite numbers.
    pub not_finite: usize,
    /// Lines of a step that an earlier line has.
    pub repeated: usize,
}

/// A line of the metrics. `null` stands for a value that is not a finite number.
#[derive(Deserialize)]
struct Line {
    step: u64,
    loss: Option<f64>,
    learning_rate: Option<f64>,
    gradient_norm: Option<f64>,
    tokens_per_second: Option<f64>,
    validation_loss: Option<f64>,
    #[serde(default)]
    mixer_weights: BTreeMap<String, Option<f64>>,
}

/// Reads the metrics at `path`. Returns their panels, and what was skipped, if anything.
///
/// # Errors
///
/// When the file cannot be read, a line is invalid (a truncated last line is skipped), or there is nothing to draw.
pub fn read_panels(path: &Path) -> Result<(Vec<Panel>, Option<Skipped>), PlotError> {
    let failed = |source| PlotError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let mut curves = Curves::default();
    let mut skipped = Skipped {
        cut_line: false,
        not_finite: 0,
        repeated: 0,
    };
    let mut steps = HashSet::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        let whole = line.last() == Some(&b'\n');
        if str::from_utf8(&line).is_ok_and(|line| check_json(line) == ChecksumState::Invalid) {
            return Err(PlotError::Line {
                path: path.to_owned(),
                line: number,
                why: Mismatch.to_string(),
            });
        }
        match serde_json::from_slice::<Line>(text::without_mark(&line)) {
            Ok(values) if !steps.insert(values.step) => skipped.repeated += 1,
            Ok(values) => curves.add(values, &mut skipped.not_finite),
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) if !whole => skipped.cut_line = true,
            Err(why) => {
                return Err(PlotError::Line {
                    path: path.to_owned(),
                    line: number,
                    why: why.to_string(),
                });
            }
        }
    }
    let panels = curves.panels();
    if panels.is_empty() {
        let path = path.to_owned();
        return Err(PlotError::Empty { path });
    }
    let all = Skipped {
        cut_line: false,
        not_finite: 0,
        repeated: 0,
    };
    Ok((panels, (skipped != all).then_some(skipped)))
}

#[derive(Default)]
struct Curves {
    loss: Vec<(f64, f64)>,
    validation: Vec<(f64, f64)>,
    learning_rate: Vec<(f64, f64)>,
    gradient_norm: Vec<(f64, f64)>,
    speed: Vec<(f64, f64)>,
    mixer: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Curves {
    fn add(&mut self, line: Line, not_finite: &mut usize) {
        let step = line.step as f64;
        let mut push = |points: &mut Vec<(f64, f64)>, value: Option<f64>| match value {
            Some(value) if value.is_finite() => points.push((step, value)),
            _ => *not_finite += 1,
        };
        push(&mut self.loss, line.loss);
        push(&mut self.learning_rate, line.learning_rate);
        push(&mut self.gradient_norm, line.gradient_norm);
        push(&mut self.speed, line.tokens_per_second);
        if line.validation_loss.is_some() {
            push(&mut self.validation, line.validation_loss);
        }
        for (id, weight) in line.mixer_weights {
            push(self.mixer.entry(id).or_default(), weight);
        }
    }

    fn panels(self) -> Vec<Panel> {
        let named = |name: &str, points| (name.to_owned(), points);
        let groups = [
            (
                "loss",
                false,
                vec![
                    named("training", self.loss),
                    named("validation", self.validation),
                ],
            ),
            (
                "learning rate",
                true,
                vec![named("learning rate", self.learning_rate)],
            ),
            (
                "gradient norm",
                true,
                vec![named("gradient norm", self.gradient_norm)],
            ),
            (
                "tokens per second",
                true,
                vec![named("tokens per second", self.speed)],
            ),
            ("mixer weights", true, self.mixer.into_iter().collect()),
        ];
        let mut panels = Vec::new();
        for (title, from_zero, curves) in groups {
            let curves = curves.into_iter().filter(|(_, points)| !points.is_empty());
            let curves: Vec<Curve> = curves
                .map(|(name, points)| Curve { name, points })
                .collect();
            if !curves.is_empty() {
                panels.push(Panel {
                    title: title.to_owned(),
                    curves,
                    from_zero,
                });
            }
        }
        panels
    }
}
