//! A registry's text for another folder, with other files in it: what a conversion and a training run
//! leave behind. Comments stay.

use super::{Registry, WeightSource};
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

/// The files that take the place of a registry's own, relative to the folder it moves to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved<'m> {
    /// The mixer's.
    pub(crate) mixer: Option<MovedFile<'m>>,
    /// The language model's.
    pub(crate) llm: Option<MovedFile<'m>>,
    /// The encoders', in order; as many as there are encoders, or none.
    pub(crate) encoders: Vec<Option<MovedFile<'m>>>,
    /// Whether what the registry says of its weights no longer holds.
    pub(crate) drop_notice: bool,
}

impl Moved<'_> {
    /// The text of `registry`'s file with the new files in it, and with the paths of all others from the
    /// root.
    pub(crate) fn text(&self, text: &str, registry: &Registry) -> String {
        // It was read before, so that it is TOML.
        let (document, _) = DeTable::parse_recoverable(text);
        let document = document.get_ref();
        let mut edits = Vec::new();
        let folder = registry.path.parent().unwrap_or(Path::new(""));
        from_root(document, folder, &mut edits);
        if let Some(mixer) = self.mixer
            && let Some(table) = table(document, "mixer")
        {
            replace(table, &path_table(mixer), &mut edits);
        }
        if let Some(table) = table(document, "llm") {
            let llm = &registry.llm;
            let beside = [
                ("tokenizer", Some(&llm.tokenizer)),
                ("config", llm.config.as_ref()),
            ];
            let new = match (self.llm, &llm.weights) {
                (Some(file), _) => Some(path_table(file)),
                // The checkpoint is named by the mixer, which is another file now.
                (None, WeightSource::Checkpoint) if self.mixer.is_some() => {
                    registry.mixer.weights.trained().and_then(inline)
                }
                (None, _) => None,
            };
            if let Some(new) = new
                && let Some(end) = replace(table, &new, &mut edits)
            {
                edits.push((end..end, pinned(table, &beside)));
            }
        }
        let tables = match document.get("encoders").map(|encoders| encoders.get_ref()) {
            Some(DeValue::Array(items)) => items.iter().map(|item| item.get_ref()).collect(),
            _ => Vec::new(),
        };
        let encoders = tables.into_iter().zip(&registry.encoders);
        for ((item, entry), file) in encoders.zip(&self.encoders) {
            if let (DeValue::Table(table), Some(file)) = (item, file)
                && let Some(end) = replace(table, &path_table(*file), &mut edits)
            {
                let beside = [("config", entry.config.as_ref())];
                edits.push((end..end, pinned(table, &beside)));
            }
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

fn path_table(file: MovedFile<'_>) -> String {
    let digest = file.sha256.map_or_else(String::new, |digest| {
        format!(", sha256 = {}", quoted(digest))
    });
    format!("{{ path = {}{digest} }}", quoted(file.path))
}

fn table<'d>(document: &'d DeTable<'d>, key: &str) -> Option<&'d DeTable<'d>> {
    match document.get(key)?.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// Replaces the value of `weights` of a table. Returns where it ends.
fn replace(table: &DeTable<'_>, new: &str, edits: &mut Vec<Edit>) -> Option<usize> {
    let range = table.get("weights")?.span();
    // Before what was found inside of it.
    edits.retain(|(inner, _)| inner.start < range.start || inner.end > range.end);
    edits.push((range.clone(), new.to_owned()));
    Some(range.end)
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

/// A source as a table in braces.
fn inline(source: &WeightSource) -> Option<String> {
    let digest = source.sha256().map_or_else(String::new, |digest| {
        format!(", sha256 = {}", quoted(&digest.to_string()))
    });
    let source = match source {
        WeightSource::Local { path, .. } => format!("path = {}", quoted(&rooted(path))),
        WeightSource::Hub {
            repo,
            file,
            alternatives,
            revision,
            ..
        } => {
            let revision = revision.as_ref();
            let revision = revision.map(|text| format!(", revision = {}", quoted(text)));
            let files: Vec<_> = [file]
                .into_iter()
                .chain(alternatives)
                .map(|file| quoted(file))
                .collect();
            let file = match files.as_slice() {
                [file] => file.clone(),
                files => format!("[{}]", files.join(", ")),
            };
            let repo = quoted(repo);
            format!(
                "repo = {repo}, file = {file}{}",
                revision.unwrap_or_default()
            )
        }
        WeightSource::Checkpoint => return None,
    };
    Some(format!("{{ {source}{digest} }}"))
}

/// Lines that name the files that a model's weights had beside them, now that these lie elsewhere.
fn pinned(table: &DeTable<'_>, beside: &[(&str, Option<&WeightSource>)]) -> String {
    let lines = beside.iter().filter_map(|(key, source)| {
        let source = source.filter(|_| table.get(*key).is_none())?;
        Some(format!("\n{key} = {}", inline(source)?))
    });
    lines.collect()
}
