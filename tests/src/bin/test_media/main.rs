//! Compares the host's frames with those of the `ffmpeg` command, byte for byte, over clips in every
//! codec and container, whole and damaged. Run by `make test-media`.
//!
//! `test_media FOLDER [CODEC …]` makes the clips in FOLDER; `test_media --files FILE …` compares files
//! that are there.

mod clips;
mod compare;
mod damage;

use compare::{Verdict, by_ffmpeg, by_host, compare};
use damage::Numbers;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What was counted.
#[derive(Default)]
struct Totals {
    files: usize,
    frames: usize,
    same_files: usize,
    unreadable: usize,
    refused_files: BTreeMap<String, usize>,
    damaged_files: usize,
    damaged_frames: usize,
    cut_files: usize,
    differing: Vec<String>,
}

impl Totals {
    fn add(&mut self, path: &Path, verdict: Verdict) {
        self.files += 1;
        let name = path.file_name().unwrap_or_default().display();
        match verdict {
            Verdict::Same(frames) => {
                self.same_files += 1;
                self.frames += frames;
            }
            Verdict::NeitherReads => self.unreadable += 1,
            Verdict::Refused(reason, frames) => {
                println!("refused  {name}: {frames} frames of ffmpeg; {reason}");
                let kind = [
                    "cut short",
                    "not a video",
                    "no frames",
                    "does not decode",
                    "encrypted",
                ];
                let kind = kind.iter().find(|kind| reason.contains(**kind));
                *self
                    .refused_files
                    .entry(kind.unwrap_or(&"other").to_string())
                    .or_default() += 1;
            }
            Verdict::DamageNamed { same, refused } => {
                println!("damaged  {name}: {refused} frames refused, {same} the same");
                self.damaged_files += 1;
                self.damaged_frames += refused;
                self.frames += same;
            }
            Verdict::CutPictureLeftOut(frames) => {
                println!("cut      {name}: the last picture is left out, {frames} the same");
                self.cut_files += 1;
                self.frames += frames;
            }
            Verdict::Differs(how) => {
                println!("DIFFERS  {name}: {how}");
                self.differing.push(name.to_string());
            }
        }
    }

    fn print(&self) {
        println!();
        println!(
            "{} files, {} frames the same byte for byte",
            self.files, self.frames
        );
        println!("{} files: every frame the same", self.same_files);
        println!("{} files: neither reads them", self.unreadable);
        for (kind, files) in &self.refused_files {
            println!("{files} files: refused by the host ({kind}), read by ffmpeg");
        }
        println!(
            "{} files: {} damaged frames refused by name, shown with guesses by ffmpeg, all others the same",
            self.damaged_files, self.damaged_frames
        );
        println!(
            "{} files: the picture in which they were cut is left out, all others the same",
            self.cut_files
        );
        println!("{} files: differ", self.differing.len());
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(first) = arguments.next() else {
        eprintln!("expected FOLDER [CODEC …] or --files FILE …");
        return ExitCode::from(2);
    };
    let rest: Vec<PathBuf> = arguments.collect();
    let totals = Mutex::new(Totals::default());
    let look = |path: &Path| {
        let verdict = compare(&by_ffmpeg(path), by_host(path));
        totals.lock().expect("no thread panics").add(path, verdict);
    };
    if first == Path::new("--files") {
        rest.iter().for_each(|path| look(path));
    } else {
        std::fs::create_dir_all(&first).expect("the folder can be made");
        let chosen = |codec: &&clips::Codec| {
            rest.is_empty() || rest.iter().any(|name| name == Path::new(codec.0))
        };
        let codecs = clips::CODECS.iter().filter(chosen);
        let work: Vec<_> = codecs
            .flat_map(|codec| codec.2.iter().map(move |end| (codec, *end)))
            .collect();
        let next = AtomicUsize::new(0);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((number, (codec, ending))) = {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        work.get(number).map(|work| (number, work))
                    } {
                        let mut numbers = Numbers(number as u64);
                        for path in damage::files(codec, ending, &first, &mut numbers) {
                            look(&path);
                        }
                    }
                });
            }
        });
    }
    let totals = totals.into_inner().expect("no thread panics");
    totals.print();
    ExitCode::from(u8::from(!totals.differing.is_empty()))
}
