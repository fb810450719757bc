use super::{CommandResult, print, print_json, table::table};
use crate::args::{Global, plugins::Plugins};
use merv_host::{
    in_one_line,
    plugin::{Library, PATH_VARIABLE, PluginManifest, PluginPath, ProvidedModel, name_of},
};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Listing {
    plugins: Vec<Row>,
    searched: Vec<PathBuf>,
}

/// A library on the plugin path, even if it cannot be loaded.
#[derive(Serialize)]
struct Row {
    name: String,
    path: PathBuf,
    /// `ready`, or `broken`; `error` then has the reason.
    state: &'static str,
    error: Option<String>,
    version: Option<String>,
    api_version: Option<String>,
    /// The kinds that it provides, joined by `+`.
    kind: Option<String>,
    models: Vec<ProvidedModel>,
    backend: Option<String>,
    devices: Vec<String>,
    license: Option<String>,
}

pub fn run(global: &Global, args: &Plugins) -> CommandResult {
    let path = PluginPath::from_env(&global.plugin_dir);
    let plugins: Vec<Row> = path.list().iter().map(|path| row(path)).collect();
    if args.json {
        return print_json(&Listing {
            plugins,
            searched: path.folders().to_vec(),
        });
    }
    if plugins.is_empty() {
        let folders: Vec<_> = path
            .folders()
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        return print(&format!(
            "No plugins in {}.\nBuild them with `cargo build --release`, or set their folder with \
             --plugin-dir or ${PATH_VARIABLE}.",
            folders.join(", ")
        ));
    }
    print(&text(&plugins))
}

fn row(path: &Path) -> Row {
    let inspected = Library::inspect(path);
    let error = inspected.as_ref().err().map(|error| in_one_line(error));
    let manifest = inspected.ok();
    let known = |get: fn(&PluginManifest) -> &String| manifest.as_ref().map(|m| get(m).clone());
    Row {
        name: known(|m| &m.name).unwrap_or_else(|| name_of(path)),
        path: path.to_owned(),
        state: if error.is_some() { "broken" } else { "ready" },
        error,
        version: known(|m| &m.version),
        api_version: known(|m| &m.api_version),
        kind: manifest.as_ref().map(|m| m.kinds().join("+")),
        backend: known(|m| &m.backend),
        license: known(|m| &m.license),
        devices: manifest
            .as_ref()
            .map(|m| m.devices.clone())
            .unwrap_or_default(),
        models: manifest.map(|m| m.provides).unwrap_or_default(),
    }
}

fn text(plugins: &[Row]) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows: Vec<Vec<String>> = plugins
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                row.state.to_owned(),
                or_dash(&row.kind),
                or_dash(&row.version),
                or_dash(&row.api_version),
                or_dash(&row.backend),
                row.devices.join(","),
                or_dash(&row.license),
                row.path.display().to_string(),
            ]
        })
        .collect();
    let header = [
        "NAME", "STATE", "KIND", "VERSION", "API", "BACKEND", "DEVICES", "LICENCE", "PATH",
    ];
    let mut text = table(&header, &rows);
    let models: Vec<Vec<String>> = plugins
        .iter()
        .flat_map(|row| {
            row.models
                .iter()
                .map(|m| vec![m.id.clone(), row.name.clone(), m.license.clone()])
        })
        .collect();
    if !models.is_empty() {
        text.push_str("\n\n");
        text.push_str(&table(
            &["MODEL", "PLUGIN", "LICENCE OF ITS WEIGHTS"],
            &models,
        ));
    }
    for row in plugins {
        if let Some(error) = &row.error {
            text.push_str(&format!("\n\n{} is broken: {error}", row.name));
        }
    }
    text
}
