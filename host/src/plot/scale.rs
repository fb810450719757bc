//! Numbers to places on an axis, and the round numbers that are written beside it.

/// An axis from one number to a larger one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub from: f64,
    pub to: f64,
    /// Between two marks.
    step: f64,
}

impl Scale {
    /// An axis of about `marks` marks that holds all `values`, of which there is one at least.
    pub fn over(values: impl Iterator<Item = f64>, marks: usize, from_zero: bool) -> Self {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            least = least.min(value);
            most = most.max(value);
        }
        if from_zero {
            (least, most) = (least.min(0.0), most.max(0.0));
        }
        if least >= most {
            // One number all the way: it goes into the middle.
            let room = if most == 0.0 { 1.0 } else { most.abs() / 2.0 };
            (least, most) = (least - room, most + room);
        }
        let step = round_step((most - least) / marks as f64);
        Self {
            from: (least / step).floor() * step,
            to: (most / step).ceil() * step,
            step,
        }
    }

    /// Where on the axis, 0 to 1.
    pub fn place(&self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }

    /// The numbers to write, with their texts.
    pub fn marks(&self) -> Vec<(f64, String)> {
        let count = ((self.to - self.from) / self.step).round() as usize;
        let marks = (0..=count).map(|index| {
            let value = self.from + index as f64 * self.step;
            // What should be 0 may be off by a rounding.
            let value = if value.abs() < self.step / 1e6 {
                0.0
            } else {
                value
            };
            (value, written(value, self.step))
        });
        marks.collect()
    }
}

/// The smallest of 1, 2, 5, 10, 20, … (and their fractions) that is no smaller.
fn round_step(at_least: f64) -> f64 {
    // Numbers so small, or large, that they have no tenth are drawn as they are.
    let power = 10f64.powf(at_least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= at_least * 0.999_999);
    step.filter(|step| step.is_normal()).unwrap_or(at_least)
}

/// A number with as many digits as tell it from its neighbours.
fn written(value: f64, step: f64) -> String {
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
