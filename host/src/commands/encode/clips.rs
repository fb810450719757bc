//! Collects the clips to encode: those of training data, those in folders, and those on the command line.

use crate::args::encode::Encode;
use merv_host::counted;
use merv_host::{
    train::data::{BrokenExample, DataError, each_example},
    video::is_standard_input,
};
use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
};

/// Maximum number of broken examples of a data set that are listed.
const MAX_LISTED: usize = 5;

/// The file extensions of videos. Other files in a folder are skipped.
const VIDEOS: [&str; 44] = [
    "264", "265", "3g2", "3gp", "apng", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "h264",
    "h265", "hevc", "ivf", "m1v", "m2t", "m2ts", "m2v", "m4v", "mjpeg", "mjpg", "mk3d", "mkv",
    "mov", "mp4", "mpe", "mpeg", "mpg", "mts", "mxf", "nut", "obu", "ogm", "ogv", "qt", "rm",
    "rmvb", "ts", "vob", "webm", "wmv", "y4m",
];

/// The clips that were found.
#[derive(Default)]
struct Clips {
    /// Each clip once, in order.
    ordered: Vec<PathBuf>,
    /// The number of skipped files in folders, by extension.
    skipped: BTreeMap<String, usize>,
    seen: HashSet<PathBuf>,
    /// The folders that were searched, with links resolved.
    folders: HashSet<PathBuf>,
}

/// Returns the clips of `args`. Calls `skip` for skipped files and broken examples.
pub fn of(args: &Encode, skip: &mut dyn FnMut(&str)) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut clips = Clips::default();
    for data in &args.data {
        let folder = data.parent().unwrap_or(Path::new(""));
        let media = args.media.as_deref().unwrap_or(folder);
        read_data(data, &mut |path| clips.add(media.join(path)), skip)?;
    }
    for folder in &args.videos {
        clips
            .add_folder(folder)
            .map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    for video in &args.video {
        // Features are stored by the digest of the file, and a pipe can be read only once.
        if is_standard_input(video) || fs::metadata(video).is_ok_and(|it| is_special(&it)) {
            let video = video.display();
            return Err(format!(
                "{video}: it is a pipe or a device\n  expected: a file or a folder\n  do: copy the clip to a file first"
            )
            .into());
        }
        clips.add(video.clone());
    }
    if clips.ordered.is_empty() {
        let skipped = clips
            .skipped()
            .map_or(String::new(), |skipped| format!(" ({skipped})"));
        return Err(
            format!("no clips: the data or the folders do not contain any{skipped}").into(),
        );
    }
    if let Some(skipped) = clips.skipped() {
        skip(&format!(
            "skipped: {skipped}; use `--video` to encode them anyway"
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

    /// Adds the videos in a folder and its subfolders. Follows links, and searches each folder once.
    fn add_folder(&mut self, folder: &Path) -> io::Result<()> {
        // A list instead of recursion, because folders may be nested deeply.
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
                // macOS stores metadata of a file in another one, whose name starts with `._`.
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

    /// Returns a text such as "3 .txt, 1 without an extension", if files in folders were skipped.
    fn skipped(&self) -> Option<String> {
        let counts = self.skipped.iter().map(|(end, count)| match end.as_str() {
            "" => format!("{count} without an extension"),
            end => format!("{count} .{end}"),
        });
        let counts: Vec<_> = counts.take(20).collect();
        (!counts.is_empty()).then(|| {
            format!(
                "files without the extension of a video: {}",
                counts.join(", ")
            )
        })
    }
}

/// Calls `found` with the path of each video and image, and `skip` with a message for broken examples.
fn read_data(
    path: &Path,
    found: &mut dyn FnMut(PathBuf),
    skip: &mut dyn FnMut(&str),
) -> Result<(), DataError> {
    let mut broken = 0;
    each_example(path, |example| match example {
        Ok(example) => {
            if let Some((_, path)) = example.visual {
                found(path);
            }
        }
        Err(BrokenExample { name, why }) => {
            broken += 1;
            if broken <= MAX_LISTED {
                skip(&format!("{name} is skipped: {why}"));
            }
        }
    })?;
    if broken > MAX_LISTED {
        let path = path.display();
        skip(&format!(
            "{} of {path} skipped",
            counted(broken - MAX_LISTED, "more example")
        ));
    }
    Ok(())
}
