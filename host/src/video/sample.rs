//! Which frames of a video become the clip. Pure arithmetic in doubles, equal bit for bit to
//! `load_video` in MERV's `merv/preprocessing/datasets/datasets.py` (numpy's `linspace(…, dtype=int)`).

use std::path::Path;

use super::Selection;
use super::error::VideoError;

/// `selection.num_frames` frame numbers, spread evenly over the time window.
///
/// `n` is how many frames there are and `fps` their average rate. With a non-negative
/// [`Selection::end_frame`] the window is ignored and the frames are spread over `0..=end_frame`.
/// Numbers lie in `0..n`, and may repeat.
///
/// # Errors
/// When no frames are asked for, when there are none, or when the window lies outside the video.
pub fn frame_indices(
    path: &Path,
    n: usize,
    fps: f64,
    selection: &Selection,
) -> Result<Vec<usize>, VideoError> {
    let path = || path.to_owned();
    let wanted = selection.num_frames;
    if wanted == 0 {
        return Err(VideoError::NoFramesAsked { path: path() });
    }
    if n == 0 {
        return Err(VideoError::NoFrames { path: path() });
    }
    let last = (n - 1) as f64;
    if let Some(end_frame) = selection.end_frame.filter(|&frame| frame >= 0) {
        return Ok(linspace(0.0, last.min(end_frame as f64), wanted, n));
    }

    let length = n as f64 / fps;
    let (start, end) = selection.window();
    let start = start.unwrap_or(0.0);
    if start < 0.0 {
        return Err(VideoError::NegativeStart {
            path: path(),
            start,
        });
    }
    if start * fps >= n as f64 {
        return Err(VideoError::StartPastEnd {
            path: path(),
            start,
            length,
        });
    }
    if let Some(end) = end.filter(|&end| end < start) {
        return Err(VideoError::EndBeforeStart {
            path: path(),
            start,
            end,
        });
    }
    // Not simplified: `(n / fps) * fps` can come out below `n`, and the original has that too.
    let stop = last.min(end.unwrap_or(length) * fps - 1.0);
    Ok(linspace(start * fps, stop, wanted, n))
}

/// Frame numbers spread evenly over all `n` frames.
pub fn evenly(n: usize, num_frames: usize) -> Vec<usize> {
    linspace(0.0, n.saturating_sub(1) as f64, num_frames, n)
}

/// numpy's `linspace(begin, stop, count, dtype=int)`, kept inside `0..n`: a window shorter than a
/// frame at the very start makes numpy's last number −1, which the original reads as the last frame.
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

    fn ask(n: usize, fps: f64, selection: &Selection) -> Result<Vec<usize>, VideoError> {
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
            // JSON has no NaN: the fixture writes it as a string.
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
                folder_fps: None,
            };
            let expected: Vec<usize> = serde_json::from_value(case["indices"].clone()).unwrap();
            let found = ask(whole("n"), case["fps"].as_f64().unwrap(), &selection).unwrap();
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn the_last_frame_can_be_missed_by_rounding() {
        assert_eq!(
            ask(61, 29.97, &Selection::new(8)).unwrap().last(),
            Some(&59)
        );
        assert_eq!(evenly(61, 8).last(), Some(&60));
    }

    #[test]
    fn a_window_shorter_than_a_frame_stays_inside() {
        let selection = Selection {
            end: Some(0.001),
            ..Selection::new(4)
        };
        assert_eq!(ask(100, 25.0, &selection).unwrap(), [0, 0, 0, 0]);
        let selection = Selection {
            start: Some(3.999),
            ..Selection::new(3)
        };
        assert_eq!(ask(100, 25.0, &selection).unwrap(), [99, 99, 99]);
    }

    #[test]
    fn windows_outside_the_video_are_errors() {
        let window = |start, end| {
            ask(
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
        let none = ask(100, 25.0, &Selection::new(0));
        assert!(matches!(none, Err(VideoError::NoFramesAsked { .. })));
    }
}
