//! Which clips are encoded: those of training data, of folders, and those that are named.

use crate::args::encode::Encode;
use merv_host::counted;
use merv_host::{
    train::data::{Broken, DataError, each_example},
    video::is_standard_input,
};
use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
};

/// Broken examples of a data set that are named.
const TOLD: usize = 5;

/// What the names of videos end in; in a folder, all else is no clip.
const VIDEOS: [&str; 44] = [
    "264", "265", "3g2", "3gp", "apng", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "h264",
    "h265", "hevc", "ivf", "m1v", "m2t", "m2ts", "m2v", "m4v", "mjpeg", "mjpg", "mk3d", "mkv",
    "mov", "mp4", "mpe", "mpeg", "mpg", "mts", "mxf", "nut", "obu", "ogm", "ogv", "qt", "rm",
    "rmvb", "ts", "vob", "webm", "wmv", "y4m",
];

/// Which clips there are.
#[derive(Default)]
struct Clips {
    /// Each once, in order.
    ordered: Vec<PathBuf>,
    /// How many files in folders do not have the name of a video, by what their names end in.
    skipped: BTreeMap<String, usize>,
    seen: HashSet<PathBuf>,
    /// The folders that were looked at, by their true paths.
    folders: HashSet<PathBuf>,
}

/// The clips that `args` name; `left_out` hears of what is no clip or a broken example.
pub fn of(args: &Encode, left_out: &mut dyn FnMut(&str)) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut clips = Clips::default();
    for data in &args.data {
        let folder = data.parent().unwrap_or(Path::new(""));
        let media = args.media.as_deref().unwrap_or(folder);
        read_data(data, &mut |path| clips.add(media.join(path)), left_out)?;
    }
    for folder in &args.videos {
        clips
            .add_folder(folder)
            .map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    for video in &args.video {
        // Features are kept under a digest of the file, which a pipe gives only once.
        if is_standard_input(video) || fs::metadata(video).is_ok_and(|it| is_special(&it)) {
            let video = video.display();
            return Err(format!("{video}: a pipe or device; expected a file or folder: copy the clip to a file first").into());
        }
        clips.add(video.clone());
    }
    if clips.ordered.is_empty() {
        let skipped = clips
            .skipped()
            .map_or(String::new(), |skipped| format!(" ({skipped})"));
        return Err(
            format!("no clips: the data name none, or the folders hold none{skipped}").into(),
        );
    }
    if let Some(skipped) = clips.skipped() {
        left_out(&format!(
            "left out: {skipped}; `--video` takes them all the same"
        ));
    }
    Ok(clips.ordered)
}

fn is_special(about: &Metadata) -> bool {
    !about.is_file() && !about.is_dir()
}

impl Clips {
    fn add(&mut self, path: PathBuf) {
        if self.seen.insert(path.clone()) {
            self.ordered.push(path);
        }
    }

    /// Adds the videos in a folder and those below it. Links are followed; a folder to which several
    /// paths lead is looked at once.
    fn add_folder(&mut self, folder: &Path) -> io::Result<()> {
        // A list and not a recursion: how deep folders lie is not for us to say.
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            if !self.folders.insert(folder.canonicalize()?) {
                continue;
            }
            let mut entries = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            let mut below = Vec::new();
            for entry in entries {
                let path = entry.path();
                if path.is_dir() {
                    below.push(path);
                    continue;
                }
                let end = path.extension().unwrap_or_default().to_string_lossy();
                let end = end.to_ascii_lowercase();
                // macOS keeps what its disks know of a file in `._` and the file's name.
                let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                if !hidden && VIDEOS.contains(&&*end) {
                    self.add(path);
                } else {
                    *self.skipped.entry(end).or_default() += 1;
                }
            }
            open.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// "3 .txt, 1 without an ending", if files in folders were left out.
    fn skipped(&self) -> Option<String> {
        let counts = self.skipped.iter().map(|(end, count)| match end.as_str() {
            "" => format!("{count} without an ending"),
            end => format!("{count} .{end}"),
        });
        let counts: Vec<_> = counts.take(20).collect();
        (!counts.is_empty()).then(|| {
            format!(
                "files whose names do not end like a video's: {}",
                counts.join(", ")
            )
        })
    }
}

/// Calls `found` with the path of each video and image, and `left_out` with what is said of examples that
/// cannot be trained on.
fn read_data(
    path: &Path,
    found: &mut dyn FnMut(PathBuf),
    left_out: &mut dyn FnMut(&str),
) -> Result<(), DataError> {
    let mut broken = 0;
    each_example(path, |example| match example {
        Ok(example) => {
            if let Some((_, path)) = example.visual {
                found(path);
            }
        }
        Err(Broken { name, why }) => {
            broken += 1;
            if broken <= TOLD {
                left_out(&format!("{name} is left out: {why}"));
            }
        }
    })?;
    if broken > TOLD {
        let path = path.display();
        left_out(&format!(
            "{} of {path} left out",
            counted(broken - TOLD, "more example")
        ));
    }
    Ok(())
}
