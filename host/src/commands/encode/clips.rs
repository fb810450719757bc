//! Which clips are encoded: those of training data, of folders, and those that are named.

use crate::args::encode::Encode;
use merv_host::train::data::{Broken, DataError, each_example};
use std::{
    collections::HashSet,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

/// Broken examples of a data set that are named.
const TOLD: usize = 5;

/// What the names of videos end in; in a folder, all else is no clip.
const VIDEOS: [&str; 16] = [
    "3gp", "avi", "flv", "gif", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogv", "ts",
    "vob", "webm", "wmv",
];

/// The clips that `args` name, each once, in order; `left_out` hears of examples that are broken.
pub fn of(args: &Encode, left_out: &mut dyn FnMut(&str)) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut clips = Clips::default();
    for data in &args.data {
        let folder = data.parent().unwrap_or(Path::new(""));
        let media = args.media.as_deref().unwrap_or(folder);
        read_data(data, &mut |path| clips.add(media.join(path)), left_out)?;
    }
    for folder in &args.videos {
        in_folder(folder, &mut clips).map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    args.video.iter().for_each(|video| clips.add(video.clone()));
    if clips.ordered.is_empty() {
        return Err("no clips: the data name none, or the folders hold none".into());
    }
    Ok(clips.ordered)
}

#[derive(Default)]
struct Clips {
    ordered: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
}

impl Clips {
    fn add(&mut self, path: PathBuf) {
        if self.seen.insert(path.clone()) {
            self.ordered.push(path);
        }
    }
}

fn in_folder(folder: &Path, clips: &mut Clips) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a folder is not followed: it could lead back here.
        if entry.file_type()?.is_dir() {
            in_folder(&path, clips)?;
        } else if path
            .extension()
            .and_then(|end| end.to_str())
            .is_some_and(|end| VIDEOS.contains(&end.to_ascii_lowercase().as_str()))
        {
            clips.add(path);
        }
    }
    Ok(())
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
            "{} more examples of {path} are left out",
            broken - TOLD
        ));
    }
    Ok(())
}
