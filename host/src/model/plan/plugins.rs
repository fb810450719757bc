//! Finding the plugin of each part of a model: by its name or file in the registry, or by what it can do.

use crate::{
    Error, memory,
    plugin::{Choice, Library, Listed, NoChoice, PluginPath, Wanted},
    registry::{PluginRef, Problem, Problems, RegistryError, TableLines, verify},
};
use merv_plugin_api::kind;
use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The plugins of a registry.
pub(super) struct Plugins {
    /// The registry file.
    registry: PathBuf,
    path: PluginPath,
    threads: usize,
    /// The libraries on the plugin path, once they were needed.
    listed: OnceCell<Vec<Listed>>,
}

impl Plugins {
    pub(super) fn new(registry: &Path, path: PluginPath, threads: usize) -> Self {
        Self {
            registry: registry.to_owned(),
            path,
            threads,
            listed: OnceCell::new(),
        }
    }

    /// Opens the plugin of a part, and returns why it was taken.
    ///
    /// # Errors
    ///
    /// Returns an error if no plugin can be taken or the plugin cannot be loaded.
    pub(super) fn open(
        &self,
        plugin: &PluginRef,
        wanted: &Wanted<'_>,
        lines: &TableLines,
    ) -> Result<(Arc<Library>, Choice), Error> {
        let choice = self.choice(plugin, wanted, lines)?;
        memory::check().map_err(Error::LittleMemory)?;
        Ok((Library::open(&choice.path, self.threads)?, choice))
    }

    fn choice(
        &self,
        plugin: &PluginRef,
        wanted: &Wanted<'_>,
        lines: &TableLines,
    ) -> Result<Choice, Error> {
        match plugin {
            PluginRef::Any => self.chosen(wanted, lines),
            PluginRef::Name(name) => {
                let named = self.path.find(name);
                let Some(backend) = wanted.backend else {
                    return Ok(Choice::given(&named?, "the registry names it"));
                };
                // The option overrides the registry, unless it already names such a plugin.
                if let Ok(path) = named
                    && has_backend(&path, backend)
                {
                    let reason = format!("the registry names it, and its backend is `{backend}`");
                    return Ok(Choice::given(&path, &reason));
                }
                self.chosen(wanted, lines)
            }
            PluginRef::Library { path, sha256 } => {
                if let Some(digest) = sha256 {
                    verify(path, digest)?;
                }
                match wanted.backend {
                    Some(backend) if !has_backend(path, backend) => {
                        Err(self.refused(other_backend(path, backend, lines)))
                    }
                    _ => Ok(Choice::given(path, "the registry gives its file")),
                }
            }
        }
    }

    /// Chooses among the plugins on the plugin path.
    fn chosen(&self, wanted: &Wanted<'_>, lines: &TableLines) -> Result<Choice, Error> {
        let listed = self.listed.get_or_init(|| {
            let files = self.path.list();
            files.iter().map(|path| Listed::read(path)).collect()
        });
        let choice = wanted.choose(listed);
        choice.map_err(|error| self.refused(no_choice(wanted, &error, lines)))
    }

    fn refused(&self, problem: Problem) -> Error {
        RegistryError::from(Problems::new(&self.registry, vec![problem])).into()
    }
}

/// Returns whether a library states a backend. A library that cannot be read does not.
fn has_backend(path: &Path, backend: &str) -> bool {
    let manifest = Library::inspect(path);
    manifest.is_ok_and(|manifest| manifest.backend == backend)
}

fn other_backend(path: &Path, backend: &str, lines: &TableLines) -> Problem {
    let found = match Library::inspect(path) {
        Ok(manifest) => format!("the backend `{}`", manifest.backend),
        Err(_) => "a file whose manifest cannot be read".to_owned(),
    };
    let what = format!("`plugin` in {} is a file with another backend", lines.name);
    Problem::new(lines.of("plugin"), what)
        .expected(format!("the backend `{backend}`, because of `--backend`"))
        .found(format!("{found} in {}", path.display()))
        .hint("omit `--backend`, or remove `plugin` so that a plugin is chosen by its id")
}

/// Returns what messages call a model of this kind.
pub(super) fn noun(kind: &str) -> &'static str {
    match kind {
        kind::ENCODER => "encoder",
        kind::FUSION => "fusion",
        kind::MIXER => "mixer",
        _ => "language model",
    }
}

fn no_choice(wanted: &Wanted<'_>, error: &NoChoice, lines: &TableLines) -> Problem {
    let Wanted { id, .. } = wanted;
    let model = noun(wanted.kind);
    let device = wanted.device.map(|device| format!(" on {device}"));
    let backend = wanted
        .backend
        .map(|name| format!(" with the backend `{name}`"));
    let what = format!("no plugin can be chosen for `id` in {}", lines.name);
    let problem = Problem::new(lines.of("id"), what)
        .expected(format!(
            "a plugin on the plugin path that provides the {model} `{id}`{}{}",
            device.unwrap_or_default(),
            backend.unwrap_or_default()
        ))
        .found(error.to_string());
    problem.hint(match error.similar {
        Some(_) => "correct the id, or give the folder of such a plugin with --plugin-dir",
        None => {
            "give the folder of such a plugin with --plugin-dir, or choose another device or backend"
        }
    })
}
