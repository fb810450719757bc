//! Which frames of a file to read.

/// Which frames of a file to read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Selection {
    /// The number of frames, at least 1.
    pub num_frames: usize,
    /// The start of the time window in seconds. The beginning of the video if absent or NaN.
    pub start: Option<f64>,
    /// The end of the time window in seconds. The end of the video if absent or NaN.
    pub end: Option<f64>,
    /// If not negative, frames are chosen from `0..=end_frame` and the window is ignored.
    pub end_frame: Option<i64>,
    /// Frames per second of a folder of images. Without it, frames are chosen from the whole folder.
    pub folder_fps: Option<f64>,
    /// How the seconds of the window are interpreted.
    pub seconds: Seconds,
}

impl Selection {
    /// Selects `num_frames` frames of the whole file.
    pub fn new(num_frames: usize) -> Self {
        Self {
            num_frames,
            ..Self::default()
        }
    }

    /// Returns start and end in seconds. NaN counts as absent (a question of TVQA has NaN for both).
    pub(crate) fn window(&self) -> (Option<f64>, Option<f64>) {
        (
            self.start.filter(|x| !x.is_nan()),
            self.end.filter(|x| !x.is_nan()),
        )
    }

    pub(super) fn has_window(&self) -> bool {
        self.window() != (None, None)
    }

    /// Whether the choice of frames depends on seconds.
    pub(crate) fn goes_by_seconds(&self) -> bool {
        self.has_window() && self.end_frame.is_none_or(|frame| frame < 0)
    }
}

/// How seconds are interpreted in a video with a variable frame rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seconds {
    /// As presentation times.
    #[default]
    Presentation,
    /// As frame numbers divided by the average rate, as in the published evaluations.
    AverageRate,
}

impl Seconds {
    /// Returns the name used in settings and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Presentation => "presentation time",
            Self::AverageRate => "average rate",
        }
    }
}
