//! Which clips are encoded: those of training data, of folders, and those that are named.

use crate::args::encode::Encode;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use std::{
    collections::HashSet,
    error::Error,
    fmt,
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

/// What the names of videos end in; in a folder, all else is no clip.
const VIDEOS: [&str; 16] = [
    "3gp", "avi", "flv", "gif", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogv", "ts",
    "vob", "webm", "wmv",
];

/// The clips that `args` name, each once, in order.
pub fn of(args: &Encode) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut clips = Clips::default();
    for data in &args.data {
        let folder = data.parent().unwrap_or(Path::new(""));
        let media = args.media.as_deref().unwrap_or(folder);
        read_data(data, &mut |path| clips.add(media.join(path)))
            .map_err(|why| format!("{}: {why}", data.display()))?;
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

/// Calls `found` with the path of each video and image. The file is never in memory as a whole.
fn read_data(path: &Path, found: &mut dyn FnMut(PathBuf)) -> Result<(), Box<dyn Error>> {
    let mut reader = serde_json::Deserializer::from_reader(BufReader::new(File::open(path)?));
    reader.deserialize_seq(Entries(found)).map_err(|why| {
        format!("no training data: {why}\n  expected: a list of examples, in LLaVA's format")
    })?;
    Ok(reader.end()?)
}

/// An example, as far as it matters here.
#[derive(Deserialize)]
struct Entry {
    video: Option<PathBuf>,
    image: Option<PathBuf>,
}

struct Entries<'f>(&'f mut dyn FnMut(PathBuf));

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of examples")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(Entry { video, image }) = list.next_element()? {
            video.into_iter().chain(image).for_each(&mut *self.0);
        }
        Ok(())
    }
}
