//! What was compared, counted and told.

use super::compare::Verdict;
use super::known;
use std::collections::BTreeMap;

/// What was counted.
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
    /// Files by the reason that is known for their difference.
    known: BTreeMap<&'static str, usize>,
    unexpected: Vec<String>,
    gone: Vec<String>,
}

impl Totals {
    /// Counts a file. Only of one that `is_damaged` may frames be missing, refused or left to doubt.
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
            Verdict::CutPictureLeftOut(frames) if is_damaged => {
                self.cut_files += 1;
                self.frames += frames;
            }
            Verdict::Undecided { same, undecided } if is_damaged => {
                println!(
                    "undecided {name}: ffmpeg shows {undecided} frames otherwise with more threads"
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

    /// Whether nothing differs but what is known to, and all of that.
    pub fn are_as_expected(&self) -> bool {
        self.unexpected.is_empty() && self.gone.is_empty()
    }

    /// Prints the figures.
    pub fn print(&self) {
        println!(
            "{} files, {} frames the same byte for byte",
            self.files, self.frames
        );
        println!("{} files: every frame the same", self.same_files);
        println!("{} files: neither reads them", self.unreadable);
        println!(
            "{} files: {} damaged frames refused by name, shown with guesses by ffmpeg, all others the same",
            self.damaged_files, self.damaged_frames
        );
        println!(
            "{} files: the picture in which they were cut is left out, all others the same",
            self.cut_files
        );
        println!(
            "{} files: {} frames on which ffmpeg with 1, 2 and 4 threads disagrees, all others the same",
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
            "{} files: listed as differing, but agree {:?}",
            self.gone.len(),
            self.gone
        );
    }
}

/// What differs, in words.
fn how(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Refused(why, frames) => format!("refused, {frames} frames of ffmpeg; {why}"),
        Verdict::Differs(how) => how.clone(),
        Verdict::DamageNamed { refused, .. } => format!("{refused} frames of a whole file refused"),
        Verdict::CutPictureLeftOut(_) => "a frame of a whole file left out".to_owned(),
        Verdict::Undecided { .. } => "ffmpeg disagrees with itself on a whole file".to_owned(),
        Verdict::Same(_) | Verdict::NeitherReads => "nothing".to_owned(),
    }
}
