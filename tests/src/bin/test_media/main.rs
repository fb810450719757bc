//! Compares the host's frames with those of the `ffmpeg` command, byte for byte, for clips in every codec and container,
//! whole and damaged. `make test-media` runs it.
//!
//! `test_media FOLDER [CODEC …]` writes the clips into FOLDER and compares them; `test_media --files FILE …` compares
//! existing files. It fails if a difference is not listed in `known`, or a listed file does not differ.
//!
//! `test_media --frames FILE …` prints the host's frames of each file as a line of JSON: the digests of the frames, with
//! null for a frame that the host refuses, or null for a file that it refuses.

mod clips;
mod compare;
mod damage;
mod known;
mod totals;

use compare::{by_host, judge};
use damage::{Numbers, loses_frames};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use totals::Totals;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(first) = arguments.next() else {
        eprintln!("expected FOLDER [CODEC …], --files FILE … or --frames FILE …");
        return ExitCode::from(2);
    };
    let rest: Vec<PathBuf> = arguments.collect();
    if first == Path::new("--frames") {
        for path in rest {
            println!("{}", serde_json::json!(by_host(&path, false).ok()));
        }
        return ExitCode::SUCCESS;
    }
    let totals = Mutex::new(Totals::default());
    let look = |path: &Path| {
        let name = path.file_name().unwrap_or_default().display().to_string();
        let is_damaged = name.split('.').nth(1).is_some_and(loses_frames);
        let verdict = judge(path, is_damaged);
        let mut totals = totals.lock().expect("no thread panics");
        totals.add(&name, is_damaged, verdict);
    };
    if first == Path::new("--files") {
        rest.iter().for_each(|path| look(path));
    } else {
        std::fs::create_dir_all(&first).expect("the folder can be created");
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
                    while let Some((codec, ending)) = work.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let mut numbers = Numbers::of(codec.0, ending);
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
    ExitCode::from(u8::from(!totals.are_as_expected()))
}
