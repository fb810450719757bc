//! A registry for a converted checkpoint: the text of its template, with other files in it.

use super::ConvertError;
use crate::registry::{Registry, RegistryError, WeightSource};
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf, absolute},
};
use toml::de::{DeTable, DeValue};

/// The name of the file.
pub(super) const FILE: &str = "registry.toml";

/// What a conversion made.
pub(super) struct Made<'m> {
    /// The mixer's file, below the folder.
    pub mixer: &'m str,
    /// The language model's file or index, below the folder.
    pub language_model: Option<&'m str>,
    /// How many encoders the mixer is for.
    pub projectors: usize,
}

impl Made<'_> {
    /// Writes the registry into `folder` and returns its name.
    pub fn write(&self, template: &Path, folder: &Path) -> Result<PathBuf, ConvertError> {
        let refuse = |source: RegistryError| ConvertError::Template {
            path: template.to_path_buf(),
            source: Box::new(source),
        };
        let registry = Registry::load(template).map_err(refuse)?;
        let encoders = registry.encoders.len();
        if encoders != self.projectors {
            return Err(ConvertError::Refused(format!(
                "the checkpoint has projectors for {} encoders, but the registry `{}` names {encoders}; \
                 name the one that the checkpoint belongs to in --registry",
                self.projectors, registry.id
            )));
        }
        if self.language_model.is_none() && registry.llm.weights == WeightSource::Checkpoint {
            return Err(ConvertError::Refused(format!(
                "the registry `{}` takes its language model from the checkpoint, which holds none; name \
                 one whose [llm] has weights of its own in --registry",
                registry.id
            )));
        }
        let text = fs::read_to_string(&registry.path).map_err(|source| {
            refuse(RegistryError::Read {
                path: registry.path.clone(),
                source,
            })
        })?;
        let path = folder.join(FILE);
        fs::write(&path, self.edited(&text, &registry)).map_err(ConvertError::write(&path))?;
        // What was made must be what is read.
        Registry::load(&path).map_err(refuse)?;
        Ok(PathBuf::from(FILE))
    }

    /// The text of the template with the converted files in it, and with the paths of all others from
    /// the root, since the text moves to another folder. Comments stay.
    fn edited(&self, text: &str, registry: &Registry) -> String {
        // It was read before, so that it is TOML.
        let (document, _) = DeTable::parse_recoverable(text);
        let document = document.get_ref();
        let mut edits = Vec::new();
        let folder = registry.path.parent().unwrap_or(Path::new(""));
        from_root(document, folder, &mut edits);
        replace(document, "mixer", self.mixer, &mut edits);
        if let Some(file) = self.language_model
            && let Some(end) = replace(document, "llm", file, &mut edits)
        {
            edits.push((end..end, beside(document, registry)));
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

/// Makes `weights` of a table the file. Returns where its value ends.
fn replace(
    document: &DeTable<'_>,
    table: &str,
    file: &str,
    edits: &mut Vec<Edit>,
) -> Option<usize> {
    let DeValue::Table(table) = document.get(table)?.get_ref() else {
        return None;
    };
    let range = table.get("weights")?.span();
    // Before what was found inside of it.
    edits.retain(|(inner, _)| inner.start < range.start || inner.end > range.end);
    edits.push((range.clone(), format!("{{ path = {} }}", quoted(file))));
    Some(range.end)
}

/// Gives every relative path its folder: `path` of sources and plugins, and the sources that are paths
/// alone.
fn from_root(table: &DeTable<'_>, folder: &Path, edits: &mut Vec<Edit>) {
    for (key, value) in table {
        match value.get_ref() {
            DeValue::Table(inner) => from_root(inner, folder, edits),
            DeValue::Array(items) => {
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

fn rooted(path: &Path) -> String {
    let path = path.canonicalize().or_else(|_| absolute(path));
    path.map_or_else(
        |_| String::new(),
        |path| path.to_string_lossy().into_owned(),
    )
}

/// The files that the language model's weights had beside them, and that are to be named now that these
/// lie elsewhere.
fn beside(document: &DeTable<'_>, registry: &Registry) -> String {
    let Some(DeValue::Table(table)) = document.get("llm").map(|llm| llm.get_ref()) else {
        return String::new();
    };
    let sources = [
        ("tokenizer", Some(&registry.llm.tokenizer)),
        ("config", registry.llm.config.as_ref()),
    ];
    let lines = sources.into_iter().filter_map(|(key, source)| {
        let source = source.filter(|_| table.get(key).is_none())?;
        let source = match source {
            WeightSource::Local { path, .. } => format!("path = {}", quoted(&rooted(path))),
            WeightSource::Hub {
                repo,
                file,
                revision,
                ..
            } => {
                let revision = revision.as_ref();
                let revision = revision.map(|text| format!(", revision = {}", quoted(text)));
                let (repo, file) = (quoted(repo), quoted(file));
                format!(
                    "repo = {repo}, file = {file}{}",
                    revision.unwrap_or_default()
                )
            }
            WeightSource::Checkpoint => return None,
        };
        Some(format!("\n{key} = {{ {source} }}"))
    });
    lines.collect()
}
