//! Editing the text of a registry for another folder and with other files. A conversion and a training run
//! write such a registry. Comments are kept.

use super::{Registry, WeightSource};
use crate::disk::checksum::without_toml_checksum;
use std::{
    ops::Range,
    path::{Path, PathBuf, absolute},
};
use toml::de::{DeTable, DeValue};

/// A file that replaces a file of the registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MovedFile<'m> {
    /// Its path, relative to the new folder of the registry.
    pub(crate) path: &'m str,
    /// Its digest, if it is to be verified whenever it is loaded.
    pub(crate) sha256: Option<&'m str>,
}

/// The new name of a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renamed<'m> {
    /// Its id.
    pub(crate) id: &'m str,
    /// Its description.
    pub(crate) description: &'m str,
}

/// The changes to a registry that is written to another folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved<'m> {
    /// The new weights of the mixer.
    pub(crate) mixer: Option<MovedFile<'m>>,
    /// The new weights of the language model.
    pub(crate) llm: Option<MovedFile<'m>>,
    /// The new weights of the encoders, in their order. The list is empty if all of them stay.
    pub(crate) encoders: Vec<Option<MovedFile<'m>>>,
    /// The new name of the model, if it changes.
    pub(crate) renamed: Option<Renamed<'m>>,
    /// Whether the notice about the weights is removed because it no longer applies.
    pub(crate) drop_notice: bool,
}

impl Moved<'_> {
    /// Returns the text of `registry`'s file with the new files. The paths of all other files become
    /// absolute.
    pub(crate) fn text(&self, text: &str, registry: &Registry) -> String {
        // The checksum does not match the new text.
        let text = without_toml_checksum(text);
        // The text was parsed before, so it is valid TOML.
        let (document, _) = DeTable::parse_recoverable(text);
        let document = document.get_ref();
        let mut edits = Vec::new();
        let folder = registry.path.parent().unwrap_or(Path::new(""));
        make_absolute(document, folder, &mut edits);
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
                // The checkpoint is the old file of the mixer, which is replaced.
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

/// A range of the text and its replacement.
type Edit = (Range<usize>, String);

fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let (mut edited, mut at) = (String::with_capacity(text.len()), 0);
    for (range, new) in edits {
        // An edit inside a range that was replaced is skipped.
        if range.start >= at {
            edited.push_str(&text[at..range.start]);
            edited.push_str(&new);
            at = range.end;
        }
    }
    edited.push_str(&text[at..]);
    edited
}

/// Returns a TOML string. JSON escapes are also valid in TOML.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The keys of a table with their values in TOML syntax.
type Pairs = Vec<(&'static str, String)>;

impl MovedFile<'_> {
    fn pairs(&self) -> Pairs {
        let path = [("path", toml_string(self.path))].into_iter();
        let digest = self.sha256.map(|digest| ("sha256", toml_string(digest)));
        path.chain(digest).collect()
    }
}

/// Returns an inline table.
fn inline(pairs: &Pairs) -> String {
    let pairs = pairs.iter().map(|(key, value)| format!("{key} = {value}"));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

/// Returns the lines of a table with a header.
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
    let description = toml_string(new.description);
    edits.push(match document.get("description") {
        Some(old) => (old.span(), description),
        None => (id.end..id.end, format!("\ndescription = {description}")),
    });
    edits.push((id, toml_string(new.id)));
}

/// The key whose value is replaced.
const WEIGHTS: &str = "weights";

/// The place where a value was replaced.
struct Place {
    /// The end of the value.
    end: usize,
    /// The header of its table up to the key, such as `[llm.`, if it has a header.
    header: Option<String>,
}

/// Replaces the value of `weights` in a table. It is an inline table, or a table with a header such as
/// `[llm.weights]`.
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

/// Returns the header of a table up to its last key, if the table has a header.
fn header(text: &str, span: &Range<usize>) -> Option<String> {
    let header = text.get(span.clone())?.strip_suffix(']')?;
    let (before, _) = header.strip_prefix('[')?.rsplit_once('.')?;
    Some(format!("[{before}."))
}

/// Returns the range of a table's header and lines, then the ranges of its subtables with headers.
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

/// Makes all relative paths absolute: `path` of sources and plugins, and sources that are only a path.
fn make_absolute(table: &DeTable<'_>, folder: &Path, edits: &mut Vec<Edit>) {
    for (key, value) in table {
        match value.get_ref() {
            // Only the plugin knows what its options are.
            DeValue::Table(_) if key.get_ref() == "options" => {}
            DeValue::Table(inner) => make_absolute(inner, folder, edits),
            DeValue::Array(items) => {
                let first = || {
                    items
                        .iter()
                        .find_map(|item| existing(folder, item.get_ref()))
                };
                if key.get_ref() == "path"
                    && let Some(path) = first()
                {
                    edits.push((value.span(), toml_string(&absolute_text(&path))));
                }
                for item in items.iter() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        make_absolute(inner, folder, edits);
                    }
                }
            }
            DeValue::String(path)
                if matches!(
                    key.get_ref().as_ref(),
                    "path" | "config" | "tokenizer" | "template"
                ) =>
            {
                edits.push((
                    value.span(),
                    toml_string(&absolute_text(&folder.join(&**path))),
                ));
            }
            _ => {}
        }
    }
}

/// Returns the path in a string, if the file exists.
fn existing(folder: &Path, value: &DeValue<'_>) -> Option<PathBuf> {
    match value {
        DeValue::String(path) => Some(folder.join(&**path)).filter(|path| path.is_file()),
        _ => None,
    }
}

fn absolute_text(path: &Path) -> String {
    let path = path.canonicalize().or_else(|_| absolute(path));
    path.map_or_else(
        |_| String::new(),
        |path| path.to_string_lossy().into_owned(),
    )
}

/// Returns a source as the keys of a table.
fn pairs(source: &WeightSource) -> Option<Pairs> {
    let digest = source.sha256();
    let digest = digest.map(|digest| ("sha256", toml_string(&digest.to_string())));
    let mut pairs = match source {
        WeightSource::Local { path, .. } => vec![("path", toml_string(&absolute_text(path)))],
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
                .map(|file| toml_string(file))
                .collect();
            let file = match files.as_slice() {
                [file] => file.clone(),
                files => format!("[{}]", files.join(", ")),
            };
            let revision = revision
                .as_ref()
                .map(|text| ("revision", toml_string(text)));
            let pairs = [("repo", toml_string(repo)), ("file", file)].into_iter();
            pairs.chain(revision).collect()
        }
        WeightSource::Checkpoint => return None,
    };
    pairs.extend(digest);
    Some(pairs)
}

impl Place {
    /// Adds keys for the files in the folder of the old weights. Otherwise they would be looked up in the
    /// folder of the new weights.
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
