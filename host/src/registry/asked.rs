//! Whether a plugin gives what the registry asks of it: its description is compared with the request, and
//! what it refuses is told with the registry's line.

use super::entries::TableLines;
use crate::plugin::CallError;
use crate::settings_file::Problem;
use merv_plugin_api::{ErrorKind, Manifest};
use std::error::Error;

/// Keys of a table that a plugin may refuse; of two in one message the first is blamed.
const REFUSABLE: [&str; 5] = ["num_frames", "image_size", "dtype", "device", "id"];

/// One table of a registry, as messages about its model need it.
pub(crate) struct Asked<'r> {
    /// Its lines.
    pub(crate) lines: &'r TableLines,
    /// The model's id.
    pub(crate) id: &'r str,
    /// What the plugin says about itself.
    pub(crate) manifest: &'r Manifest,
    /// Keys whose values the command line gave, with the options that did.
    pub(crate) overridden: Vec<(&'static str, &'static str)>,
}

impl Asked<'_> {
    /// Where the value of `key` comes from: its line, and how to name it.
    fn origin(&self, key: &str) -> (Option<usize>, String) {
        match self.overridden.iter().find(|(name, _)| *name == key) {
            Some((_, option)) => (None, format!("`{option}`")),
            None => (
                Some(self.lines.of(key)),
                format!("`{key}` in {}", self.lines.name),
            ),
        }
    }

    /// That the plugin describes another value than was asked for.
    pub(crate) fn differs(&self, key: &str, asked: &str, described: &str) -> Problem {
        let (line, name) = self.origin(key);
        let Self { id, manifest, .. } = self;
        let plugin = &manifest.name;
        Problem::new(
            line,
            format!("{name} is not what plugin `{plugin}` gives for `{id}`"),
        )
        .expected(format!("{described}, as the plugin describes this model"))
        .found(asked)
        .hint(format!(
            "write that value, leave it out, or choose a plugin that takes {asked}"
        ))
    }

    /// That the plugin does not run on the device that is asked for, if so.
    pub(crate) fn device(&self, kind: &str, asked: &str) -> Option<Problem> {
        let devices = &self.manifest.devices;
        let known = devices.iter().any(|device| device == kind);
        // A plugin that lists nothing is asked itself.
        (!known && !devices.is_empty())
            .then(|| self.differs("device", asked, &devices.join(" or ")))
    }

    /// That `weights` are missing for a model that reads some.
    pub(crate) fn no_weights(&self) -> Problem {
        let Self { id, manifest, .. } = self;
        let (plugin, table) = (&manifest.name, &self.lines.name);
        Problem::new(self.lines.table, format!("`weights` is missing in {table}"))
            .expected(format!(
                "where the weights are, as plugin `{plugin}` reads some for `{id}`"
            ))
            .found("no `weights`")
            .hint("add `weights = { path = \"…\" }` or `weights = { repo = \"…\", file = \"…\" }`")
    }

    /// What the plugin refuses of the request, with the line that asks for it; none where a file of the model
    /// or the plugin itself is to blame.
    pub(crate) fn refused(&self, error: &CallError) -> Option<Problem> {
        use ErrorKind::{Internal, InvalidInput, Unsupported};
        if !matches!(error.failure.kind, InvalidInput | Unsupported | Internal) {
            return None;
        }
        let key = REFUSABLE.iter().find(|key| {
            error.failure.message.contains(&format!("`{key}`"))
                || error.failure.message.contains(&format!("`{key} = "))
        });
        let causes = std::iter::successors(error.source(), |&cause: &&(dyn Error + 'static)| {
            cause.source()
        });
        let what = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        let (line, name) = match key {
            Some(key) => self.origin(key),
            None => (Some(self.lines.table), self.lines.name.clone()),
        };
        Some(Problem::new(line, what).hint(format!("correct {name}")))
    }
}
