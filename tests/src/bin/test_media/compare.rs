//! What the `ffmpeg` command sees in a file, and what the host sees.

use merv_host::video::{Limits, RgbFrame, Seconds, Selection, VideoError, read};
use merv_tests::{chain, sha256};
use std::path::Path;
use std::process::Command;

/// A frame as the digest of its RGB bytes; `None` where the host refuses it as damaged.
pub type Seen = Vec<Option<String>>;

/// The numbers of threads with which `ffmpeg` is asked again.
const OTHER_THREADS: [usize; 2] = [2, 4];

/// How the two compare.
pub enum Verdict {
    /// Every frame is the same.
    Same(usize),
    /// Neither sees a frame.
    NeitherReads,
    /// The host refuses the file, and says why; `ffmpeg` sees so many frames.
    Refused(String, usize),
    /// The host refuses these frames as damaged; all others are the same.
    DamageNamed { same: usize, refused: usize },
    /// The host leaves out the picture in which the file was cut; all others are the same.
    CutPictureLeftOut(usize),
    /// `ffmpeg` itself shows other frames with another number of threads; on all others it and the host
    /// agree.
    Undecided { same: usize, undecided: usize },
    /// Neither of these.
    Differs(String),
}

/// The frames that the `ffmpeg` command decodes with so many threads, in its order, turned to RGB as the
/// host does it.
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

/// Frame `index` alone, which the host seeks.
fn only(index: usize, fps: f64) -> Selection {
    Selection {
        start: Some((index as f64 + 0.5) / fps),
        seconds: Seconds::AverageRate,
        ..Selection::new(1)
    }
}

/// All frames that the host sees, in its order, and its refusal of the file. What it sees when it
/// seeks must be the same: else that is the error. Every frame of a file that `is_damaged` is sought, and
/// some of others.
pub fn by_host(path: &Path, is_damaged: bool) -> Result<Seen, String> {
    let limits = Limits {
        threads: 2,
        ..Limits::default()
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
    // The last picture may turn out to be no whole one.
    if let Ok(frames) = read(&all(total)) {
        total = frames.total_frames;
    }
    let seen: Seen = match read(&all(total)) {
        Ok(frames) => frames.frames.iter().map(|frame| digest(frame)).collect(),
        Err(VideoError::Damaged { total: still, .. }) => {
            total = still;
            let single = |index| match read(&only(index, fps)) {
                Ok(frames) if frames.indices == [index] => Ok(digest(&frames.frames[0])),
                Ok(frames) if frames.total_frames < total => Ok(None),
                Ok(frames) => Err(format!("SEEKING: {:?} for frame {index}", frames.indices)),
                // The latter where fewer frames are left when this one is sought.
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
                return Err(format!("SEEKING: frame {index} of {total} is another"));
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
                    "SEEKING: frame {index} of {total} is another among four"
                ));
            }
        }
    }
    Ok(seen)
}

/// Compares what the two see in a file. Where they differ and the file `is_damaged`, `ffmpeg` is asked
/// whether it agrees with itself.
pub fn judge(path: &Path, is_damaged: bool) -> Verdict {
    let (single, host) = (by_ffmpeg(path, 1), by_host(path, is_damaged));
    let verdict = compare(&single, host.clone());
    let (Verdict::Differs(_), Ok(host), true) = (&verdict, host, is_damaged) else {
        return verdict;
    };
    let others = OTHER_THREADS.map(|threads| by_ffmpeg(path, threads));
    undecided(&host, &single, &others).unwrap_or(verdict)
}

/// The verdict where `ffmpeg` contradicts itself, if the host sees all frames on which it does not.
fn undecided(host: &Seen, single: &[String], others: &[Vec<String>]) -> Option<Verdict> {
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

/// Compares what the two see.
fn compare(ffmpeg: &[String], host: Result<Seen, String>) -> Verdict {
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
    // Of those that `ffmpeg` shows one is left out: the last that was decoded, which is among the
    // last that are shown.
    let without = |left_out: usize| {
        let mut rest = ffmpeg.to_vec();
        rest.remove(left_out);
        agree(&host, &rest)
    };
    if ffmpeg.len() == host.len() + 1 && (host.len().saturating_sub(4)..ffmpeg.len()).any(without) {
        return Verdict::CutPictureLeftOut(host.len() - refused);
    }
    // The packet of a damaged frame gave no picture at all, which `ffmpeg` passes over.
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
