//! Counts and prints the results of the comparisons.

use super::compare::Verdict;
use super::known;
use std::collections::BTreeMap;

/// The counts.
#[derive(Default)]
pub struct Totals {
    files: usize,
    frames: usize,
    same_files: usize,
    unreadable: usize,
    damaged_files: usize,
    damaged_frames: usize,
    cut_files: usize,
    undecided_files: usize,
    undecided_frames: usize,
    /// The numbers of files by the known reason for their difference.
    known: BTreeMap<&'static str, usize>,
    unexpected: Vec<String>,
    gone: Vec<String>,
}

impl Totals {
    /// Counts a file. Frames may be missing, refused or undecided only if the file `is_damaged`.
    pub fn add(&mut self, name: &str, is_damaged: bool, verdict: Verdict) {
        self.files += 1;
        let reason = known::reason(name);
        let mut is_agreed = true;
        match verdict {
            Verdict::Same(frames) => {
                self.same_files += 1;
                self.frames += frames;
            }
            Verdict::NeitherReads => self.unreadable += 1,
            Verdict::DamageNamed { same, refused } if is_damaged => {
                self.damaged_files += 1;
                self.damaged_frames += refused;
                self.frames += same;
            }
            Verdict::CutFrameSkipped(frames) if is_damaged => {
                self.cut_files += 1;
                self.frames += frames;
            }
            Verdict::Undecided { same, undecided } if is_damaged => {
                println!(
                    "undecided {name}: ffmpeg decodes {undecided} frames differently with more threads"
                );
                self.undecided_files += 1;
                self.undecided_frames += undecided;
                self.frames += same;
            }
            verdict => {
                is_agreed = false;
                match reason {
                    Some(reason) => *self.known.entry(reason).or_default() += 1,
                    None => {
                        println!("DIFFERS  {name}: {}", how(&verdict));
                        self.unexpected.push(name.to_owned());
                    }
                }
            }
        }
        if is_agreed && reason.is_some() {
            println!("AGREES   {name}, which is listed as differing");
            self.gone.push(name.to_owned());
        }
    }

    /// Whether exactly the listed files differ.
    pub fn are_as_expected(&self) -> bool {
        self.unexpected.is_empty() && self.gone.is_empty()
    }

    /// Prints the counts.
    pub fn print(&self) {
        println!("{} files, {} frames are identical", self.files, self.frames);
        println!("{} files: all frames are the same", self.same_files);
        println!("{} files: neither program decodes a frame", self.unreadable);
        println!(
            "{} files: {} damaged frames are refused with their numbers, and concealed by ffmpeg; all others are the same",
            self.damaged_files, self.damaged_frames
        );
        println!(
            "{} files: the frame in which the file was cut is skipped; all others are the same",
            self.cut_files
        );
        println!(
            "{} files: ffmpeg with 1, 2 and 4 threads disagrees on {} frames; all others are the same",
            self.undecided_files, self.undecided_frames
        );
        for (reason, files) in &self.known {
            println!("{files} files: known to differ: {reason}");
        }
        println!(
            "{} files: differ unexpectedly {:?}",
            self.unexpected.len(),
            self.unexpected
        );
        println!(
            "{} files: listed as differing, but do not differ {:?}",
            self.gone.len(),
            self.gone
        );
    }
}

/// A description of the difference.
fn how(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Refused(why, frames) => format!("refused, ffmpeg decodes {frames} frames; {why}"),
        Verdict::Differs(how) => how.clone(),
        Verdict::DamageNamed { refused, .. } => {
            format!("{refused} frames of an undamaged file are refused")
        }
        Verdict::CutFrameSkipped(_) => "a frame of an undamaged file is skipped".to_owned(),
        Verdict::Undecided { .. } => "ffmpeg disagrees with itself on an undamaged file".to_owned(),
        Verdict::Same(_) | Verdict::NeitherReads => "nothing".to_owned(),
    }
}
