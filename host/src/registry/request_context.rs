//! Checks whether a plugin provides what the registry requests. The plugin's description is compared with the
//! request, and a refusal is reported with the line of the registry.

use super::entries::TableLines;
use crate::plugin::{CallError, PluginManifest};
use crate::settings_file::Problem;
use merv_plugin_api::ErrorKind;
use std::{collections::BTreeMap, error::Error};

/// Keys of a table that a plugin can refuse. If a message contains several, the first one is reported.
const REFUSABLE: [&str; 5] = ["num_frames", "image_size", "dtype", "device", "id"];

/// The request of one registry table, for messages about its model.
pub(crate) struct RequestContext<'r> {
    /// The lines of the table.
    pub(crate) lines: &'r TableLines,
    /// The model's id.
    pub(crate) id: &'r str,
    /// The plugin's manifest.
    pub(crate) manifest: &'r PluginManifest,
    /// Keys whose values come from the command line, with their options.
    pub(crate) overridden: Vec<(&'static str, &'static str)>,
}

impl RequestContext<'_> {
    /// Returns the line of `key`, and the text that names it in messages.
    fn origin(&self, key: &str) -> (Option<usize>, String) {
        match self.overridden.iter().find(|(name, _)| *name == key) {
            Some((_, option)) => (None, format!("`{option}`")),
            None => (
                Some(self.lines.of(key)),
                format!("`{key}` in {}", self.lines.name),
            ),
        }
    }

    /// Returns the problem that the plugin describes another value than the requested one.
    pub(crate) fn differs(&self, key: &str, requested: &str, described: &str) -> Problem {
        let (line, name) = self.origin(key);
        let Self { id, manifest, .. } = self;
        let plugin = &manifest.name;
        Problem::new(
            line,
            format!("{name} does not match what plugin `{plugin}` describes for `{id}`"),
        )
        .expected(format!("{described}, as the plugin describes this model"))
        .found(requested)
        .hint(format!(
            "write that value, omit it, or choose a plugin that supports {requested}"
        ))
    }

    /// Returns a problem if the plugin does not support the requested device.
    pub(crate) fn device_problem(&self, kind: &str, requested: &str) -> Option<Problem> {
        let devices = &self.manifest.devices;
        let known = devices.iter().any(|device| device == kind);
        // If a plugin lists no devices, loading the model shows which one it supports.
        (!known && !devices.is_empty())
            .then(|| self.differs("device", requested, &devices.join(" or ")))
    }

    /// Returns the problem that the plugin does not honour an option with its requested value. `honoured` are those that
    /// it honours.
    pub(crate) fn option_problem(
        &self,
        key: &str,
        requested: &str,
        honoured: &BTreeMap<String, String>,
    ) -> Problem {
        let Self { id, manifest, .. } = self;
        let (plugin, table) = (&manifest.name, &self.lines.name);
        let what = format!("`{key}` in `options` of {table}");
        let line = self.lines.of_option(key);
        let found = format!("`{requested}`");
        match honoured.get(key) {
            Some(value) => Problem::new(
                line,
                format!("{what} does not match what plugin `{plugin}` describes for `{id}`"),
            )
            .expected(format!("`{value}`, as the plugin describes this model"))
            .found(found)
            .hint("write that value, or omit it"),
            None => Problem::new(
                line,
                format!("{what} has no effect on `{id}` of plugin `{plugin}`"),
            )
            .expected("an option that the plugin's description of this model repeats")
            .found(found)
            .hint("remove it, or correct its name"),
        }
    }

    /// Returns the problem that `weights` is missing although the model needs weights.
    pub(crate) fn no_weights(&self) -> Problem {
        let Self { id, manifest, .. } = self;
        let (plugin, table) = (&manifest.name, &self.lines.name);
        Problem::new(self.lines.table, format!("`weights` is missing in {table}"))
            .expected(format!(
                "the location of the weights, because plugin `{plugin}` needs them for `{id}`"
            ))
            .found("no `weights`")
            .hint("add `weights = { path = \"…\" }` or `weights = { repo = \"…\", file = \"…\" }`")
    }

    /// Returns the problem that the plugin refuses a value of the request, with its line. Returns `None` if a
    /// file of the model or the plugin itself is the cause.
    pub(crate) fn refusal(&self, error: &CallError) -> Option<Problem> {
        let kinds = [
            ErrorKind::INVALID_INPUT,
            ErrorKind::UNSUPPORTED,
            ErrorKind::INTERNAL,
        ];
        if !kinds.contains(&error.failure.kind) {
            return None;
        }
        let names = |key: &str| {
            error.failure.message.contains(&format!("`{key}`"))
                || error.failure.message.contains(&format!("`{key} = "))
        };
        let option = self.lines.options.iter().find(|(key, _)| names(key));
        let key = REFUSABLE.iter().find(|key| names(key));
        let causes = std::iter::successors(error.source(), |&cause: &&(dyn Error + 'static)| {
            cause.source()
        });
        let what = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        let (line, name) = match (option, key) {
            (Some((key, line)), _) => {
                let table = &self.lines.name;
                (Some(*line), format!("`{key}` in `options` of {table}"))
            }
            (None, Some(key)) => self.origin(key),
            (None, None) => (Some(self.lines.table), self.lines.name.clone()),
        };
        Some(Problem::new(line, what).hint(format!("correct {name}")))
    }
}
