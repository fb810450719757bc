//! The scale of an axis: maps numbers to positions, and chooses round numbers for the tick labels.

/// The scale of an axis from one number to a larger one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub from: f64,
    pub to: f64,
    /// The distance between two ticks.
    step: f64,
}

impl Scale {
    /// Creates a scale with about `ticks` ticks that covers all `values`. There must be at least one value.
    pub fn over(values: impl Iterator<Item = f64>, ticks: usize, from_zero: bool) -> Self {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            least = least.min(value);
            most = most.max(value);
        }
        if from_zero {
            (least, most) = (least.min(0.0), most.max(0.0));
        }
        if least >= most {
            // All values are equal: put them in the middle.
            let room = if most == 0.0 { 1.0 } else { most.abs() / 2.0 };
            (least, most) = (least - room, most + room);
        }
        let step = round_step((most - least) / ticks as f64);
        Self {
            from: (least / step).floor() * step,
            to: (most / step).ceil() * step,
            step,
        }
    }

    /// Returns the position on the axis, from 0 to 1.
    pub fn position(&self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }

    /// Returns the ticks, with their labels.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let count = ((self.to - self.from) / self.step).round() as usize;
        let ticks = (0..=count).map(|index| {
            let value = self.from + index as f64 * self.step;
            // A value that should be 0 may differ by a rounding error.
            let value = if value.abs() < self.step / 1e6 {
                0.0
            } else {
                value
            };
            (value, label(value, self.step))
        });
        ticks.collect()
    }
}

/// Returns the smallest of 1, 2, 5, 10, 20, … (and 0.5, 0.2, 0.1, …) that is not below `at_least`.
fn round_step(at_least: f64) -> f64 {
    // For extremely small or large numbers, the round step is not a normal number.
    let power = 10f64.powf(at_least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= at_least * 0.999_999);
    step.filter(|step| step.is_normal()).unwrap_or(at_least)
}

/// Returns a number with enough digits to distinguish it from its neighbours.
fn label(value: f64, step: f64) -> String {
    let large = value.abs().max(step);
    if large >= 1e6 || step < 1e-4 {
        let digits = (large.log10().floor() - step.log10().floor()).clamp(0.0, 6.0);
        return match value {
            0.0 => "0".to_owned(),
            _ => format!("{value:.*e}", digits as usize),
        };
    }
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    format!("{value:.decimals$}")
}
