//! The learning rate of each step: linear warm-up, then half a cosine to zero.

use std::f64::consts::PI;

/// How the learning rate goes (transformers' `get_cosine_schedule_with_warmup`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps in which it rises.
    pub warmup: usize,
    /// All steps.
    pub total: usize,
}

impl Schedule {
    /// `warmup_ratio` of `total`, rounded down, are the warm-up.
    pub fn new(peak: f64, warmup_ratio: f64, total: usize) -> Self {
        Self {
            peak,
            warmup: (total as f64 * warmup_ratio) as usize,
            total,
        }
    }

    /// The rate of the step with this number. That of step 0 is 0 even without a warm-up, as upstream.
    pub fn rate(&self, step: usize) -> f64 {
        if step == 0 {
            return 0.0;
        }
        if step < self.warmup {
            return self.peak * (step as f64 / self.warmup as f64);
        }
        let done = (step - self.warmup) as f64 / (self.total - self.warmup).max(1) as f64;
        self.peak * (0.5 * (1.0 + (PI * done).cos())).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_falls_to_zero() {
        let schedule = Schedule::new(2.0, 0.03, 100);
        assert_eq!(schedule.warmup, 3);
        assert_eq!(schedule.rate(0), 0.0);
        assert!((schedule.rate(1) - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(schedule.rate(3), 2.0);
        // Half of the 97 steps after the warm-up.
        assert!((schedule.rate(3 + 97) - 0.0).abs() < 1e-12);
        let middle = schedule.rate(51) + schedule.rate(52);
        assert!((middle - 2.0).abs() < 1e-3, "{middle}");
    }

    #[test]
    fn without_a_warm_up_the_first_step_still_has_none() {
        let schedule = Schedule::new(1.0, 0.03, 20);
        assert_eq!((schedule.warmup, schedule.rate(0)), (0, 0.0));
        assert!(schedule.rate(1) > 0.99);
    }
}
