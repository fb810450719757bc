//! Which frames of a file are wanted.

/// Which frames of a file are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Selection {
    /// How many frames, at least 1.
    pub num_frames: usize,
    /// Where the time window starts, in seconds; the beginning when absent or NaN.
    pub start: Option<f64>,
    /// Where the time window ends, in seconds; the end of the video when absent or NaN.
    pub end: Option<f64>,
    /// When not negative: frames `0..=end_frame`, whatever the window says.
    pub end_frame: Option<i64>,
    /// Frames per second of a folder of images; without it the frames are spread over the whole
    /// folder.
    pub folder_fps: Option<f64>,
    /// What the seconds of the window mean.
    pub seconds: Seconds,
}

impl Selection {
    /// `num_frames` frames of the whole file.
    pub fn new(num_frames: usize) -> Self {
        Self {
            num_frames,
            ..Self::default()
        }
    }

    /// Start and end in seconds, NaN read as absent (one question of TVQA has NaN for both).
    pub(crate) fn window(&self) -> (Option<f64>, Option<f64>) {
        (
            self.start.filter(|x| !x.is_nan()),
            self.end.filter(|x| !x.is_nan()),
        )
    }

    pub(super) fn has_window(&self) -> bool {
        self.window() != (None, None)
    }

    /// Whether what is chosen depends on seconds.
    pub(crate) fn goes_by_seconds(&self) -> bool {
        self.has_window() && self.end_frame.is_none_or(|frame| frame < 0)
    }
}

/// What seconds mean in a video whose frames do not come at a constant rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seconds {
    /// When frames are shown.
    #[default]
    Presentation,
    /// Frames over the average rate, as the published evaluations counted.
    AverageRate,
}

impl Seconds {
    /// As settings and reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Presentation => "presentation time",
            Self::AverageRate => "average rate",
        }
    }
}
