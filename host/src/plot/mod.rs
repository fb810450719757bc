//! Draws the curves of a training run: `metrics.jsonl` to SVG and PNG.
//!
//! ```text
//! metrics: curves → chart: one panel per quantity → marks: lines and texts → svg | png
//! ```
//!
//! Both formats draw the same marks, without system fonts or a graphics library. The SVG refers to a generic font
//! family; in the PNG, letters are drawn as line strokes (`strokes`).

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

/// Draws the curves of `run`, a folder with `metrics.jsonl` or that file itself, as `pictures`. Returns what was
/// skipped.
///
/// # Errors
///
/// When the run has no metrics, a line of them is invalid, or a picture cannot be written.
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
        whole_file::place(&picture.path)
            .and_then(|place| whole_file::write(&place, &bytes))
            .map_err(PlotError::write(&picture.path))?;
    }
    Ok(skipped)
}

/// A picture to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The path of the file.
    pub path: PathBuf,
    /// The format of the file.
    pub format: PictureFormat,
}

/// The format of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// A vector graphic, which is sharp at any size.
    Svg,
    /// A raster image.
    Png,
}
