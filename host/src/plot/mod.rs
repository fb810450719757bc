//! The curves of a training run as pictures: `metrics.jsonl` to SVG and PNG.
//!
//! ```text
//! metrics: curves → chart: one panel a quantity → marks: lines and texts → svg | png
//! ```
//!
//! Both pictures are made of the same marks, without fonts of the system and without a graphics library:
//! SVG names a font for its reader to find, PNG is drawn with strokes of its own (`strokes`).

mod chart;
mod error;
mod marks;
mod metrics;
mod png;
mod scale;
mod strokes;
mod svg;
#[cfg(test)]
mod tests;

pub use error::PlotError;
pub use metrics::{Curve, Panel, Skipped, read_panels};

use crate::disk::whole_file;
use std::path::{Path, PathBuf};

/// Draws the curves of the run in `run`, a folder with `metrics.jsonl` or that file itself, into `svg` and
/// `png`. Returns what was left out.
///
/// # Errors
///
/// When there are no metrics, one of their lines is wrong, or a picture cannot be written.
pub fn plot(run: &Path, pictures: &[Picture]) -> Result<Option<Skipped>, PlotError> {
    let path = if run.is_dir() {
        run.join("metrics.jsonl")
    } else {
        run.to_owned()
    };
    let (panels, skipped) = read_panels(&path)?;
    let title = run
        .canonicalize()
        .ok()
        .and_then(|run| Some(run.file_name()?.to_string_lossy().into_owned()));
    let chart = chart::draw(title.as_deref().unwrap_or_default(), &panels);
    for picture in pictures {
        let bytes = match picture.format {
            PictureFormat::Svg => svg::write(&chart).into_bytes(),
            PictureFormat::Png => png::write(&chart).map_err(PlotError::write(&picture.path))?,
        };
        whole_file::write(&whole_file::followed(&picture.path), &bytes)
            .map_err(PlotError::write(&picture.path))?;
    }
    Ok(skipped)
}

/// A picture to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Where.
    pub path: PathBuf,
    /// As what.
    pub format: PictureFormat,
}

/// How a picture is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// Lines that stay sharp at any size.
    Svg,
    /// Pixels.
    Png,
}
