//! Confidence intervals (95 %) and significance tests.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The number of bootstrap resamples.
const RESAMPLES: usize = 2000;

/// Returns the interval of a proportion, `correct` of `count` (Wilson, JASA 22, 1927). Questions are treated
/// as independent.
pub fn wilson(correct: usize, count: usize) -> (f64, f64) {
    if count == 0 {
        return (0.0, 1.0);
    }
    let n = count as f64;
    let p = correct as f64 / n;
    let scale = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Returns the interval of a mean by resampling whole videos (percentile bootstrap), because questions about
/// the same video are not independent. The same values give the same interval.
pub fn bootstrap<'v>(values: impl IntoIterator<Item = (&'v str, f64)>) -> (f64, f64) {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut videos: Vec<(f64, f64)> = Vec::new();
    for (video, value) in values {
        let place = *places.entry(video).or_insert(videos.len());
        if place == videos.len() {
            videos.push((0.0, 0.0));
        }
        videos[place].0 += value;
        videos[place].1 += 1.0;
    }
    if videos.is_empty() {
        return (0.0, 0.0);
    }
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (mut sum, mut count) = (0.0, 0.0);
            for _ in 0..videos.len() {
                let (s, c) = videos[random.random_range(0..videos.len())];
                sum += s;
                count += c;
            }
            sum / count
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |part: f64| means[((part * RESAMPLES as f64) as usize).min(RESAMPLES - 1)];
    (at(0.025), at(0.975))
}

/// Returns the p-value of McNemar's test, exact and two-sided: the probability of a split at least this uneven
/// among the questions that only one of two models answered correctly, if both models are equally good.
pub fn mcnemar(only_a: usize, only_b: usize) -> f64 {
    let (n, k) = (only_a + only_b, only_a.min(only_b));
    // The lower tail of the binomial, in logarithms to avoid underflow with thousands of questions.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = term.exp();
    for i in 1..=k {
        term += ((n - i + 1) as f64 / i as f64).ln();
        tail += term.exp();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values come from `statsmodels` (`proportion_confint(method="wilson")`).
    #[test]
    fn wilson_equals_statsmodels() {
        for (correct, count, low, high) in [
            (8, 10, 0.490_162_4, 0.943_317_8),
            (0, 10, 0.0, 0.277_532_8),
            (50, 100, 0.403_831_5, 0.596_168_5),
        ] {
            let (l, h) = wilson(correct, count);
            assert!((l - low).abs() < 1e-6 && (h - high).abs() < 1e-6, "{l} {h}");
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    /// The expected values come from `scipy.stats.binomtest`.
    #[test]
    fn mcnemar_equals_the_binomial_test() {
        for (a, b, expected) in [
            (0, 0, 1.0),
            (1, 9, 0.021_484_375),
            (5, 5, 1.0),
            (0, 5, 0.0625),
        ] {
            assert!(
                (mcnemar(a, b) - expected).abs() < 1e-12,
                "{a} {b}: {}",
                mcnemar(a, b)
            );
        }
        assert!(mcnemar(4000, 5000) < 1e-20);
    }

    #[test]
    fn the_bootstrap_resamples_videos_not_questions() {
        let names: Vec<String> = (0..200).map(|i| i.to_string()).collect();
        let value = |i: usize| (i % 2) as f64;
        let (low, high) = bootstrap((0..200).map(|i| (names[i].as_str(), value(i))));
        // A proportion of 1/2 over 200 questions: ±0.069.
        assert!(
            (low - 0.431).abs() < 0.02 && (high - 0.569).abs() < 0.02,
            "{low} {high}"
        );
        // If the ten questions of a video are all right or all wrong, they carry the information of one.
        let (low, high) = bootstrap((0..200).map(|i| (names[i / 10].as_str(), value(i / 10))));
        assert!(high - low > 0.35, "{low} {high}");
        assert_eq!(bootstrap([("a", 0.5)]), (0.5, 0.5));
    }
}
