//! The learning rate of each step: a linear warm-up, then half a cosine to zero.

use std::f64::consts::PI;

/// The learning-rate schedule (transformers' `get_cosine_schedule_with_warmup`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// The number of steps in which the rate rises.
    pub warmup: usize,
    /// The number of all steps.
    pub total: usize,
}

impl Schedule {
    /// Creates a schedule whose warm-up is `warmup_ratio` of `total` steps, rounded down.
    pub fn new(peak: f64, warmup_ratio: f64, total: usize) -> Self {
        Self {
            peak,
            warmup: (total as f64 * warmup_ratio) as usize,
            total,
        }
    }

    /// Returns whether the rate of every step is 0.
    pub fn is_zero(&self) -> bool {
        self.peak == 0.0 || (0..self.total).all(|step| self.rate(step) == 0.0)
    }

    /// Returns the rate of a step, counted from 0. The rate of step 0 is 0 even without a warm-up, as upstream.
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
        // The end of the 97 steps after the warm-up, and the middle of them.
        assert!((schedule.rate(3 + 97) - 0.0).abs() < 1e-12);
        let middle = schedule.rate(51) + schedule.rate(52);
        assert!((middle - 2.0).abs() < 1e-3, "{middle}");
    }

    #[test]
    fn the_first_rate_is_zero_even_without_a_warm_up() {
        let schedule = Schedule::new(1.0, 0.03, 20);
        assert_eq!((schedule.warmup, schedule.rate(0)), (0, 0.0));
        assert!(schedule.rate(1) > 0.99);
    }

    #[test]
    fn a_single_step_and_a_peak_of_zero_learn_nothing() {
        assert!(Schedule::new(1.0, 0.03, 1).is_zero());
        assert!(Schedule::new(0.0, 0.03, 100).is_zero());
        assert!(!Schedule::new(1.0, 0.03, 2).is_zero());
        assert!(!Schedule::new(1.0, 1.0, 2).is_zero());
    }
}
