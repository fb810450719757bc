//! A registry's text for another folder, with other files in it: what a conversion and a training run
//! leave behind. Comments stay.

use super::{Registry, WeightSource};
use crate::disk::sealed::unsealed_toml;
use std::{
    ops::Range,
    path::{Path, PathBuf, absolute},
};
use toml::de::{DeTable, DeValue};

/// A file that takes the place of a registry's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MovedFile<'m> {
    /// Where it is, relative to the folder the registry moves to.
    pub(crate) path: &'m str,
    /// Its digest, if it is to be checked whenever it is loaded.
    pub(crate) sha256: Option<&'m str>,
}

/// What a model is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renamed<'m> {
    /// Its id.
    pub(crate) id: &'m str,
    /// Its description.
    pub(crate) description: &'m str,
}

/// The files that take the place of a registry's own, relative to the folder it moves to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved<'m> {
    /// The mixer's.
    pub(crate) mixer: Option<MovedFile<'m>>,
    /// The language model's.
    pub(crate) llm: Option<MovedFile<'m>>,
    /// The encoders', in order; as many as there are encoders, or none.
    pub(crate) encoders: Vec<Option<MovedFile<'m>>>,
    /// What the model is called, if it is another one now.
    pub(crate) renamed: Option<Renamed<'m>>,
    /// Whether what the registry says of its weights no longer holds.
    pub(crate) drop_notice: bool,
}

impl Moved<'_> {
    /// The text of `registry`'s file with the new files in it, and with the paths of all others from the
    /// root.
    pub(crate) fn text(&self, text: &str, registry: &Registry) -> String {
        // The new text has another checksum, if it has one.
        let text = unsealed_toml(text);
        // It was read before, so that it is TOML.
        let (document, _) = DeTable::parse_recoverable(text);
        let document = document.get_ref();
        let mut edits = Vec::new();
        let folder = registry.path.parent().unwrap_or(Path::new(""));
        from_root(document, folder, &mut edits);
        if let Some(mixer) = self.mixer
            && let Some(table) = table(document, "mixer")
        {
            replace(text, table, &mixer.pairs(), &mut edits);
        }
        if let Some(table) = table(document, "llm") {
            let llm = &registry.llm;
            let beside = [
                ("tokenizer", Some(&llm.tokenizer)),
                ("config", llm.config.as_ref()),
            ];
            let new = match (self.llm, &llm.weights) {
                (Some(file), _) => Some(file.pairs()),
                // The checkpoint is named by the mixer, which is another file now.
                (None, WeightSource::Checkpoint) if self.mixer.is_some() => {
                    registry.mixer.weights.trained().and_then(pairs)
                }
                (None, _) => None,
            };
            if let Some(new) = new
                && let Some(place) = replace(text, table, &new, &mut edits)
            {
                edits.push(place.pinned(table, &beside));
            }
        }
        let tables = match document.get("encoders").map(|encoders| encoders.get_ref()) {
            Some(DeValue::Array(items)) => items.iter().map(|item| item.get_ref()).collect(),
            _ => Vec::new(),
        };
        let encoders = tables.into_iter().zip(&registry.encoders);
        for ((item, entry), file) in encoders.zip(&self.encoders) {
            if let (DeValue::Table(table), Some(file)) = (item, file)
                && let Some(place) = replace(text, table, &file.pairs(), &mut edits)
            {
                let beside = [("config", entry.config.as_ref())];
                edits.push(place.pinned(table, &beside));
            }
        }
        if let Some(renamed) = self.renamed {
            rename(document, renamed, &mut edits);
        }
        if self.drop_notice
            && let Some((key, value)) = document.get_key_value("notice")
        {
            edits.push((key.span().start..value.span().end, String::new()));
        }
        apply(text, edits)
    }
}

/// A piece of the text and what it becomes.
type Edit = (Range<usize>, String);

fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let (mut edited, mut at) = (String::with_capacity(text.len()), 0);
    for (range, new) in edits {
        // A path inside a table that is replaced goes with it.
        if range.start >= at {
            edited.push_str(&text[at..range.start]);
            edited.push_str(&new);
            at = range.end;
        }
    }
    edited.push_str(&text[at..]);
    edited
}

/// Text as TOML writes it: JSON's escapes are among TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Keys of a table, with their values as TOML writes them.
type Pairs = Vec<(&'static str, String)>;

impl MovedFile<'_> {
    fn pairs(&self) -> Pairs {
        let path = [("path", quoted(self.path))].into_iter();
        let digest = self.sha256.map(|digest| ("sha256", quoted(digest)));
        path.chain(digest).collect()
    }
}

/// A table in braces.
fn inline(pairs: &Pairs) -> String {
    let pairs = pairs.iter().map(|(key, value)| format!("{key} = {value}"));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

/// The lines of a table that has a header.
fn lines(pairs: &Pairs) -> String {
    let pairs = pairs
        .iter()
        .map(|(key, value)| format!("\n{key} = {value}"));
    pairs.collect()
}

fn table<'d>(document: &'d DeTable<'d>, key: &str) -> Option<&'d DeTable<'d>> {
    match document.get(key)?.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// Replaces the values of `id` and `description`.
fn rename(document: &DeTable<'_>, new: Renamed<'_>, edits: &mut Vec<Edit>) {
    let Some(id) = document.get("id").map(|id| id.span()) else {
        return;
    };
    let description = quoted(new.description);
    edits.push(match document.get("description") {
        Some(old) => (old.span(), description),
        None => (id.end..id.end, format!("\ndescription = {description}")),
    });
    edits.push((id, quoted(new.id)));
}

/// The key whose value is replaced.
const WEIGHTS: &str = "weights";

/// Where a value was replaced.
struct Place {
    /// Where it ends.
    end: usize,
    /// The header of its table up to the key, `[llm.`, if it has a header.
    header: Option<String>,
}

/// Replaces the value of `weights` of a table: in braces, or below a header of its own, `[llm.weights]`.
fn replace(text: &str, table: &DeTable<'_>, new: &Pairs, edits: &mut Vec<Edit>) -> Option<Place> {
    let value = table.get(WEIGHTS)?;
    let header = match value.get_ref() {
        DeValue::Table(_) => header(text, &value.span()),
        _ => None,
    };
    let mut ranges = vec![value.span()];
    if header.is_some()
        && let DeValue::Table(inner) = value.get_ref()
    {
        ranges = blocks(text, value.span(), inner);
    }
    // Before what was found inside of it.
    let is_inside = |edit: &Range<usize>| {
        let mut ranges = ranges.iter();
        ranges.any(|range| range.start <= edit.start && edit.end <= range.end)
    };
    edits.retain(|(edit, _)| !is_inside(edit));
    let mut ranges = ranges.into_iter();
    let first = ranges.next()?;
    edits.extend(ranges.map(|range| (range, String::new())));
    let end = first.end;
    let new = match &header {
        Some(header) => format!("{header}{WEIGHTS}]{}", lines(new)),
        None => inline(new),
    };
    edits.push((first, new));
    Some(Place { end, header })
}

/// The header of a table up to its last key, if that is how it begins.
fn header(text: &str, span: &Range<usize>) -> Option<String> {
    let header = text.get(span.clone())?.strip_suffix(']')?;
    let (before, _) = header.strip_prefix('[')?.rsplit_once('.')?;
    Some(format!("[{before}."))
}

/// The header of a table with the lines below it; then those of the tables in it that have headers.
fn blocks(text: &str, span: Range<usize>, table: &DeTable<'_>) -> Vec<Range<usize>> {
    let (mut own, mut others) = (span, Vec::new());
    for (_, value) in table {
        match value.get_ref() {
            DeValue::Table(inner) if header(text, &value.span()).is_some() => {
                others.extend(blocks(text, value.span(), inner));
            }
            _ => own.end = own.end.max(value.span().end),
        }
    }
    [own].into_iter().chain(others).collect()
}

/// Gives every relative path its folder: `path` of sources and plugins, and the sources that are paths
/// alone.
fn from_root(table: &DeTable<'_>, folder: &Path, edits: &mut Vec<Edit>) {
    for (key, value) in table {
        match value.get_ref() {
            DeValue::Table(inner) => from_root(inner, folder, edits),
            DeValue::Array(items) => {
                let first = || {
                    items
                        .iter()
                        .find_map(|item| existing(folder, item.get_ref()))
                };
                if key.get_ref() == "path"
                    && let Some(path) = first()
                {
                    edits.push((value.span(), quoted(&rooted(&path))));
                }
                for item in items.iter() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        from_root(inner, folder, edits);
                    }
                }
            }
            DeValue::String(path)
                if matches!(
                    key.get_ref().as_ref(),
                    "path" | "config" | "tokenizer" | "template"
                ) =>
            {
                edits.push((value.span(), quoted(&rooted(&folder.join(&**path)))));
            }
            _ => {}
        }
    }
}

/// The file that a text names, if it is there.
fn existing(folder: &Path, value: &DeValue<'_>) -> Option<PathBuf> {
    match value {
        DeValue::String(path) => Some(folder.join(&**path)).filter(|path| path.is_file()),
        _ => None,
    }
}

fn rooted(path: &Path) -> String {
    let path = path.canonicalize().or_else(|_| absolute(path));
    path.map_or_else(
        |_| String::new(),
        |path| path.to_string_lossy().into_owned(),
    )
}

/// A source as the keys of a table.
fn pairs(source: &WeightSource) -> Option<Pairs> {
    let digest = source.sha256();
    let digest = digest.map(|digest| ("sha256", quoted(&digest.to_string())));
    let mut pairs = match source {
        WeightSource::Local { path, .. } => vec![("path", quoted(&rooted(path)))],
        WeightSource::Hub {
            repo,
            file,
            alternatives,
            revision,
            ..
        } => {
            let files: Vec<_> = [file]
                .into_iter()
                .chain(alternatives)
                .map(|file| quoted(file))
                .collect();
            let file = match files.as_slice() {
                [file] => file.clone(),
                files => format!("[{}]", files.join(", ")),
            };
            let revision = revision.as_ref().map(|text| ("revision", quoted(text)));
            let pairs = [("repo", quoted(repo)), ("file", file)].into_iter();
            pairs.chain(revision).collect()
        }
        WeightSource::Checkpoint => return None,
    };
    pairs.extend(digest);
    Some(pairs)
}

impl Place {
    /// Lines that name the files that a model's weights had beside them, now that these lie elsewhere.
    fn pinned(&self, table: &DeTable<'_>, beside: &[(&str, Option<&WeightSource>)]) -> Edit {
        let all = beside.iter().filter_map(|(key, source)| {
            let source = source.filter(|_| table.get(*key).is_none())?;
            let pairs = pairs(source)?;
            Some(match &self.header {
                Some(header) => format!("\n\n{header}{key}]{}", lines(&pairs)),
                None => format!("\n{key} = {}", inline(&pairs)),
            })
        });
        (self.end..self.end, all.collect())
    }
}
