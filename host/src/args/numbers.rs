//! Parsers of option values that are numbers within bounds.

use std::{num::ParseFloatError, ops::RangeInclusive};

/// Parses a whole number of at least 1.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("expected 1 or more".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// Parses a fraction, from 0 to 1.
pub fn fraction(text: &str) -> Result<f64, String> {
    within(text, 0.0..=1.0)
}

/// Parses a number per second, above 0.
pub fn rate(text: &str) -> Result<f64, String> {
    above_zero(text)
}

/// Parses a time to wait in seconds, at most a day.
pub fn wait(text: &str) -> Result<f64, String> {
    within(text, 0.0..=86_400.0)
}

/// Parses the start of a part of a video, in seconds.
pub fn start(text: &str) -> Result<f64, String> {
    let number = number(text)?;
    match number >= 0.0 && number.is_finite() {
        true => Ok(number),
        false => Err("expected 0 or more".to_owned()),
    }
}

/// Parses the end of a part of a video, in seconds.
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
