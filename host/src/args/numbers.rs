//! Numbers within bounds, as the command line has them.

use std::{num::ParseFloatError, ops::RangeInclusive};

/// A whole number from 1 on.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("expected 1 or more".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// A part of a whole.
pub fn fraction(text: &str) -> Result<f64, String> {
    within(text, 0.0..=1.0)
}

/// So many a second.
pub fn rate(text: &str) -> Result<f64, String> {
    above_zero(text)
}

/// Seconds to wait.
pub fn wait(text: &str) -> Result<f64, String> {
    within(text, 0.0..=86_400.0)
}

/// Where a part of a video begins, in seconds.
pub fn start(text: &str) -> Result<f64, String> {
    let number = number(text)?;
    match number >= 0.0 && number.is_finite() {
        true => Ok(number),
        false => Err("expected 0 or more".to_owned()),
    }
}

/// Where a part of a video ends, in seconds.
pub fn end(text: &str) -> Result<f64, String> {
    above_zero(text)
}

fn number(text: &str) -> Result<f64, String> {
    text.parse()
        .map_err(|error: ParseFloatError| error.to_string())
}

fn within(text: &str, bounds: RangeInclusive<f64>) -> Result<f64, String> {
    let number = number(text)?;
    match bounds.contains(&number) {
        true => Ok(number),
        false => Err(format!("expected {} to {}", bounds.start(), bounds.end())),
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = number(text)?;
    match number > 0.0 && number.is_finite() {
        true => Ok(number),
        false => Err("expected a number above 0".to_owned()),
    }
}
