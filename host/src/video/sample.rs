//! Chooses the frames of a clip. The arithmetic in doubles equals, bit for bit, `load_video` in
//! `merv/preprocessing/datasets/datasets.py` of the original (numpy's `linspace(…, dtype=int)`).

use std::path::Path;

use super::error::VideoError;
use super::{Seconds, Selection};

/// Returns `selection.num_frames` frame numbers, spread evenly over the time window.
///
/// `n` is the number of frames in the video and `fps` their average rate. If [`Selection::end_frame`] is not
/// negative, the window is ignored and the frames are spread over `0..=end_frame`. All numbers are in `0..n`. They
/// may repeat.
///
/// # Errors
/// When no frames are requested, when the video has none, or when the window is outside the video.
pub fn frame_indices(
    path: &Path,
    n: usize,
    fps: f64,
    selection: &Selection,
) -> Result<Vec<usize>, VideoError> {
    let wanted = selection.num_frames;
    if wanted == 0 {
        return Err(VideoError::NoFramesRequested {
            path: path.to_owned(),
        });
    }
    if n == 0 {
        return Err(VideoError::NoFrames {
            path: path.to_owned(),
        });
    }
    let last = (n - 1) as f64;
    if let Some(end_frame) = selection.end_frame.filter(|&frame| frame >= 0) {
        return Ok(linspace(0.0, last.min(end_frame as f64), wanted, n));
    }

    let length = n as f64 / fps;
    let (start, end) = selection.window();
    let start = start.unwrap_or(0.0);
    // Compared in frames, as in the original, because `n / fps` is rounded.
    let is_past = start * fps >= n as f64;
    check_window(path, start, end, length, is_past)?;
    // Not simplified: `(n / fps) * fps` can be less than `n`, as in the original.
    let stop = last.min(end.unwrap_or(length) * fps - 1.0);
    Ok(linspace(start * fps, stop, wanted, n))
}

/// The presentation times of a video's frames.
pub(super) struct PresentationTimes {
    /// The time of each frame in seconds after the first.
    pub(super) shown: Vec<f64>,
    /// The end of the last frame.
    pub(super) length: f64,
    /// The precision of the times in the file.
    pub(super) tick: f64,
}

impl PresentationTimes {
    /// Whether the frame rate is constant at `fps`, except for rounding.
    fn are_steady(&self, fps: f64) -> bool {
        let even = (0..).map(|n| f64::from(n) / fps);
        let mut pairs = self.shown.iter().zip(even);
        pairs.all(|(time, even)| (time - even).abs() <= 1.5 * self.tick)
    }
}

/// Like [`frame_indices`], but with a window in presentation times, unless the frame rate is constant or
/// [`Seconds::AverageRate`] is selected.
///
/// # Errors
/// As [`frame_indices`].
pub(super) fn timed_frame_indices(
    path: &Path,
    times: &PresentationTimes,
    fps: f64,
    selection: &Selection,
) -> Result<Vec<usize>, VideoError> {
    let n = times.shown.len();
    let (start, end) = selection.window();
    if selection.num_frames == 0
        || n == 0
        || !selection.goes_by_seconds()
        || selection.seconds == Seconds::AverageRate
        || times.are_steady(fps)
    {
        return frame_indices(path, n, fps, selection);
    }
    let start = start.unwrap_or(0.0);
    check_window(path, start, end, times.length, start >= times.length)?;
    let half = times.tick / 2.0;
    let begun = times.shown.partition_point(|&time| time <= start + half);
    let first = begun.saturating_sub(1);
    let before_end = |end| times.shown.partition_point(|&time| time < end - half);
    let last = end.map_or(n, before_end).saturating_sub(1).max(first);
    Ok(linspace(first as f64, last as f64, selection.num_frames, n))
}

/// Refuses a window outside a video of `length` seconds. `is_past` tells whether it starts after the end.
fn check_window(
    path: &Path,
    start: f64,
    end: Option<f64>,
    length: f64,
    is_past: bool,
) -> Result<(), VideoError> {
    let path = || path.to_owned();
    if start < 0.0 {
        return Err(VideoError::NegativeStart {
            path: path(),
            start,
        });
    }
    if is_past {
        return Err(VideoError::StartPastEnd {
            path: path(),
            start,
            length,
        });
    }
    match end.filter(|&end| end < start) {
        Some(end) => Err(VideoError::EndBeforeStart {
            path: path(),
            start,
            end,
        }),
        None => Ok(()),
    }
}

/// Returns frame numbers spread evenly over all `n` frames.
pub fn evenly(n: usize, num_frames: usize) -> Vec<usize> {
    linspace(0.0, n.saturating_sub(1) as f64, num_frames, n)
}

/// Computes numpy's `linspace(begin, stop, count, dtype=int)`, clamped to `0..n`. For a window shorter than a frame
/// at the start, numpy's last number is −1, which the original interprets as the last frame.
fn linspace(begin: f64, stop: f64, count: usize, n: usize) -> Vec<usize> {
    let step = (stop - begin) / (count.max(2) - 1) as f64;
    let whole = |x: f64| (x.floor().max(0.0) as usize).min(n.saturating_sub(1));
    (0..count)
        .map(|i| {
            if i > 0 && i + 1 == count {
                stop
            } else {
                i as f64 * step + begin
            }
        })
        .map(whole)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices_of(n: usize, fps: f64, selection: &Selection) -> Result<Vec<usize>, VideoError> {
        frame_indices(Path::new("clip.mp4"), n, fps, selection)
    }

    #[test]
    fn equals_numpy() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/frame_indices.json"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert!(cases.len() > 50);
        for case in cases {
            // JSON does not support NaN: the fixture stores it as a string.
            let time = |key: &str| {
                case[key]
                    .as_str()
                    .map_or(case[key].as_f64(), |_| Some(f64::NAN))
            };
            let whole = |key: &str| case[key].as_u64().unwrap() as usize;
            let selection = Selection {
                num_frames: whole("num_frames"),
                start: time("start"),
                end: time("end"),
                end_frame: case["end_frame"].as_i64(),
                ..Selection::default()
            };
            let expected: Vec<usize> = serde_json::from_value(case["indices"].clone()).unwrap();
            let found = indices_of(whole("n"), case["fps"].as_f64().unwrap(), &selection).unwrap();
            assert_eq!(found, expected, "{case}");
        }
    }

    fn timed_indices_of(shown: &[f64], selection: &Selection) -> Result<Vec<usize>, VideoError> {
        let times = PresentationTimes {
            shown: shown.to_vec(),
            length: shown[shown.len() - 1] + 1.0,
            tick: 0.001,
        };
        let fps = shown.len() as f64 / times.length;
        timed_frame_indices(Path::new("clip.mp4"), &times, fps, selection)
    }

    /// Ten frames in the first second, then one per second.
    #[test]
    fn seconds_are_presentation_times() {
        let shown: Vec<f64> = (0..10)
            .map(|n| f64::from(n) / 10.0)
            .chain((1..=10).map(f64::from))
            .collect();
        let window = |start, end| Selection {
            start,
            end,
            ..Selection::new(3)
        };
        let late = window(Some(2.0), None);
        assert_eq!(timed_indices_of(&shown, &late).unwrap(), [11, 15, 19]);
        assert_eq!(
            timed_indices_of(&shown, &window(Some(0.55), Some(2.5))).unwrap(),
            [5, 8, 11]
        );
        assert_eq!(
            timed_indices_of(&shown, &window(Some(4.2), Some(4.6))).unwrap(),
            [13, 13, 13]
        );
        assert_eq!(
            timed_indices_of(&shown, &window(None, Some(0.3))).unwrap(),
            [0, 1, 2]
        );
        assert_eq!(
            timed_indices_of(&shown, &window(Some(10.9), None)).unwrap(),
            [19, 19, 19]
        );
        let past = timed_indices_of(&shown, &window(Some(11.0), None)).unwrap_err();
        assert!(
            matches!(past, VideoError::StartPastEnd { length: 11.0, .. }),
            "{past}"
        );
        assert!(matches!(
            timed_indices_of(&shown, &window(Some(2.0), Some(1.0))),
            Err(VideoError::EndBeforeStart { .. })
        ));
        let as_the_original = Selection {
            seconds: Seconds::AverageRate,
            ..late
        };
        assert_eq!(
            timed_indices_of(&shown, &as_the_original).unwrap(),
            [3, 11, 19]
        );
    }

    #[test]
    fn times_do_not_matter_without_a_window_or_at_a_constant_rate() {
        let uneven: Vec<f64> = (0..20).map(|n| f64::from(n * n) / 10.0).collect();
        let even: Vec<f64> = (0..20)
            .map(|n| (f64::from(n) / 30.0 * 1000.0).round() / 1000.0)
            .collect();
        let all = Selection::new(7);
        let first = Selection {
            end_frame: Some(9),
            start: Some(1.0),
            ..all
        };
        for selection in [all, first] {
            let expected = indices_of(20, 20.0 / 37.1, &selection).unwrap();
            assert_eq!(timed_indices_of(&uneven, &selection).unwrap(), expected);
        }
        let window = Selection {
            start: Some(0.21),
            end: Some(0.47),
            ..all
        };
        let times = PresentationTimes {
            shown: even,
            length: 20.0 / 30.0,
            tick: 0.001,
        };
        let found = timed_frame_indices(Path::new("clip.mkv"), &times, 30.0, &window).unwrap();
        assert_eq!(found, indices_of(20, 30.0, &window).unwrap());
    }

    #[test]
    fn rounding_may_miss_the_last_frame() {
        assert_eq!(
            indices_of(61, 29.97, &Selection::new(8)).unwrap().last(),
            Some(&59)
        );
        assert_eq!(evenly(61, 8).last(), Some(&60));
    }

    #[test]
    fn a_window_shorter_than_a_frame_stays_inside_the_video() {
        let selection = Selection {
            end: Some(0.001),
            ..Selection::new(4)
        };
        assert_eq!(indices_of(100, 25.0, &selection).unwrap(), [0, 0, 0, 0]);
        let selection = Selection {
            start: Some(3.999),
            ..Selection::new(3)
        };
        assert_eq!(indices_of(100, 25.0, &selection).unwrap(), [99, 99, 99]);
    }

    #[test]
    fn windows_outside_the_video_are_errors() {
        let window = |start, end| {
            indices_of(
                100,
                25.0,
                &Selection {
                    start,
                    end,
                    ..Selection::new(4)
                },
            )
        };
        let past = window(Some(4.0), None).unwrap_err();
        assert!(
            matches!(past, VideoError::StartPastEnd { length: 4.0, .. }),
            "{past}"
        );
        assert!(past.to_string().contains("4.000 s long"), "{past}");
        assert!(matches!(
            window(Some(2.0), Some(1.0)),
            Err(VideoError::EndBeforeStart { .. })
        ));
        assert!(matches!(
            window(Some(-1.0), None),
            Err(VideoError::NegativeStart { .. })
        ));
        assert!(matches!(
            window(None, Some(-1.0)),
            Err(VideoError::EndBeforeStart { .. })
        ));
        assert!(matches!(
            window(Some(f64::INFINITY), None),
            Err(VideoError::StartPastEnd { .. })
        ));
        assert_eq!(window(None, Some(f64::INFINITY)).unwrap(), [0, 33, 66, 99]);
        let none = indices_of(100, 25.0, &Selection::new(0));
        assert!(matches!(none, Err(VideoError::NoFramesRequested { .. })));
    }
}
