//! Compares the frames that the `ffmpeg` command decodes from a file with those of the host.

use merv_host::video::{ReadLimits, RgbFrame, Seconds, Selection, VideoError, read};
use merv_tests::{chain, sha256};
use std::path::Path;
use std::process::Command;

/// The digests of the frames' RGB bytes; `None` for a frame that the host refuses as damaged.
pub type Digests = Vec<Option<String>>;

/// The numbers of threads with which `ffmpeg` decodes a file again.
const OTHER_THREADS: [usize; 2] = [2, 4];

/// The result of a comparison.
pub enum Verdict {
    /// All frames are the same.
    Same(usize),
    /// Neither decodes a frame.
    NeitherReads,
    /// The host refuses the file with this message. `ffmpeg` decodes this many frames.
    Refused(String, usize),
    /// The host refuses these frames as damaged; all others are the same.
    DamageNamed { same: usize, refused: usize },
    /// The host skips the frame in which the file was cut; all others are the same.
    CutFrameSkipped(usize),
    /// `ffmpeg` decodes some frames differently with another number of threads; all others are the same.
    Undecided { same: usize, undecided: usize },
    /// None of these.
    Differs(String),
}

/// The frames that the `ffmpeg` command decodes with this number of threads, in its order, converted to RGB as in the
/// host.
fn by_ffmpeg(path: &Path, threads: usize) -> Vec<String> {
    let file = path.display().to_string();
    let output = Command::new("ffmpeg")
        .args([
            "-v",
            "quiet",
            "-nostdin",
            "-threads",
            &threads.to_string(),
            "-i",
            &file,
            "-map",
            "0:v:0",
            "-fps_mode",
            "passthrough",
        ])
        .args([
            "-autoscale",
            "0",
            "-sws_flags",
            "bilinear",
            "-pix_fmt",
            "rgb24",
        ])
        .args(["-f", "framehash", "-hash", "sha256", "-"])
        .output()
        .expect("ffmpeg is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    let hash = |line: &str| line.rsplit(',').next().map(|hash| hash.trim().to_owned());
    frames.filter_map(hash).collect()
}

fn digest(frame: &RgbFrame) -> Option<String> {
    Some(sha256(&frame.data))
}

/// Selects the single frame `index`, which the host seeks.
fn only(index: usize, fps: f64) -> Selection {
    Selection {
        start: Some((index as f64 + 0.5) / fps),
        seconds: Seconds::AverageRate,
        ..Selection::new(1)
    }
}

/// All frames that the host decodes, in its order.
///
/// # Errors
///
/// If the host refuses the file, or decodes a different frame when it seeks. In a file that `is_damaged` it seeks every
/// frame, in others a few.
pub fn by_host(path: &Path, is_damaged: bool) -> Result<Digests, String> {
    let limits = ReadLimits {
        threads: 2,
        ..ReadLimits::default()
    };
    let read = |selection: &Selection| read(path, selection, &limits);
    let (mut total, fps) = match read(&Selection::new(1)) {
        Ok(frames) => (frames.total_frames, frames.fps),
        Err(VideoError::Damaged {
            total,
            frame,
            seconds,
            ..
        }) => (
            total,
            if frame > 0 {
                frame as f64 / seconds
            } else {
                25.0
            },
        ),
        Err(error) => return Err(chain(&error)),
    };
    let all = |total: usize| Selection {
        end_frame: Some(i64::MAX),
        ..Selection::new(total)
    };
    // The last frame may turn out to be incomplete.
    if let Ok(frames) = read(&all(total)) {
        total = frames.total_frames;
    }
    let seen: Digests = match read(&all(total)) {
        Ok(frames) => frames.frames.iter().map(|frame| digest(frame)).collect(),
        Err(VideoError::Damaged { total: still, .. }) => {
            total = still;
            let single = |index| match read(&only(index, fps)) {
                Ok(frames) if frames.indices == [index] => Ok(digest(&frames.frames[0])),
                Ok(frames) if frames.total_frames < total => Ok(None),
                Ok(frames) => Err(format!("SEEKING: {:?} for frame {index}", frames.indices)),
                // The second case occurs if the file has fewer frames after seeking.
                Err(VideoError::Damaged { .. } | VideoError::StartPastEnd { .. }) => Ok(None),
                Err(error) => Err(chain(&error)),
            };
            (0..total).map(single).collect::<Result<_, _>>()?
        }
        Err(error) => return Err(chain(&error)),
    };
    let sought = match is_damaged {
        true => (0..total).collect(),
        false => vec![total / 3, total / 2, total - 1],
    };
    for index in sought {
        if let Ok(frames) = read(&only(index, fps)) {
            let found = digest(&frames.frames[0]);
            if frames.total_frames == total && found != seen[index] {
                return Err(format!("SEEKING: frame {index} of {total} is different"));
            }
        }
    }
    if total > 8
        && let Ok(frames) = read(&Selection::new(4))
        && frames.total_frames == total
    {
        for (frame, &index) in frames.frames.iter().zip(&frames.indices) {
            if digest(frame) != seen[index] {
                return Err(format!(
                    "SEEKING: frame {index} of {total} is different in a selection of four"
                ));
            }
        }
    }
    Ok(seen)
}

/// Compares the two on a file. If they differ and the file `is_damaged`, also checks whether `ffmpeg` agrees with itself.
pub fn judge(path: &Path, is_damaged: bool) -> Verdict {
    let (single, host) = (by_ffmpeg(path, 1), by_host(path, is_damaged));
    let verdict = compare(&single, host.clone());
    let (Verdict::Differs(_), Ok(host), true) = (&verdict, host, is_damaged) else {
        return verdict;
    };
    let others = OTHER_THREADS.map(|threads| by_ffmpeg(path, threads));
    undecided(&host, &single, &others).unwrap_or(verdict)
}

/// The verdict if `ffmpeg` contradicts itself on some frames, and the host decodes all other frames like it.
fn undecided(host: &Digests, single: &[String], others: &[Vec<String>]) -> Option<Verdict> {
    let is_as_long = |other: &Vec<String>| other.len() == single.len();
    if host.len() != single.len() || !others.iter().all(is_as_long) {
        return None;
    }
    let is_decided = |index: usize| others.iter().all(|other| other[index] == single[index]);
    let (decided, open): (Vec<_>, Vec<_>) = (0..single.len()).partition(|&index| is_decided(index));
    let mut frames = decided.iter().map(|&index| (&host[index], &single[index]));
    let agree = frames.all(|(host, ffmpeg)| host.as_ref() == Some(ffmpeg));
    (agree && !open.is_empty()).then_some(Verdict::Undecided {
        same: decided.len(),
        undecided: open.len(),
    })
}

/// Compares the frames of the two.
fn compare(ffmpeg: &[String], host: Result<Digests, String>) -> Verdict {
    let host = match host {
        Ok(host) => host,
        Err(error) if error.starts_with("SEEKING") => return Verdict::Differs(error),
        Err(_) if ffmpeg.is_empty() => return Verdict::NeitherReads,
        Err(error) => return Verdict::Refused(error, ffmpeg.len()),
    };
    let agree = |host: &[Option<String>], ffmpeg: &[String]| {
        let mut pairs = host.iter().zip(ffmpeg);
        host.len() == ffmpeg.len()
            && pairs.all(|(host, ffmpeg)| host.as_ref().is_none_or(|host| host == ffmpeg))
    };
    let refused = host.iter().filter(|frame| frame.is_none()).count();
    if ffmpeg.is_empty() && refused == host.len() {
        return Verdict::NeitherReads;
    }
    if agree(&host, ffmpeg) {
        return match refused {
            0 => Verdict::Same(host.len()),
            _ => Verdict::DamageNamed {
                same: host.len() - refused,
                refused,
            },
        };
    }
    // One of `ffmpeg`'s frames is missing: the last decoded one, which is among the last in display order.
    let without = |skipped: usize| {
        let mut rest = ffmpeg.to_vec();
        rest.remove(skipped);
        agree(&host, &rest)
    };
    if ffmpeg.len() == host.len() + 1 && (host.len().saturating_sub(4)..ffmpeg.len()).any(without) {
        return Verdict::CutFrameSkipped(host.len() - refused);
    }
    // `ffmpeg` skips packets of damaged frames that give no frame at all.
    let whole: Vec<&String> = host.iter().flatten().collect();
    let mut rest = ffmpeg.iter();
    if refused > 0 && whole.iter().all(|frame| rest.any(|other| other == *frame)) {
        return Verdict::DamageNamed {
            same: whole.len(),
            refused,
        };
    }
    let first = host
        .iter()
        .zip(ffmpeg)
        .position(|(host, ffmpeg)| host.as_ref() != Some(ffmpeg));
    Verdict::Differs(format!(
        "{} frames and {} of ffmpeg, {refused} refused; the first difference is at frame {}",
        host.len(),
        ffmpeg.len(),
        first.map_or("the end".to_owned(), |first| first.to_string()),
    ))
}
