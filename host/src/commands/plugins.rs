use super::{CommandResult, print, print_json, table::table};
use crate::args::{Global, plugins::Plugins};
use merv_host::{
    in_one_line,
    plugin::{
        Listed, PATH_VARIABLE, PluginManifest, PluginPath, ProvidedModel, Wanted, file_name,
        name_of,
    },
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
    /// What is wrong although it can be used.
    warning: Option<String>,
    version: Option<String>,
    api_version: Option<String>,
    /// The kinds that it provides, joined by `+`.
    kind: Option<String>,
    models: Vec<ModelRow>,
    backend: Option<String>,
    devices: Vec<String>,
    license: Option<String>,
}

/// A model of a plugin.
#[derive(Serialize)]
struct ModelRow {
    #[serde(flatten)]
    model: ProvidedModel,
    /// Whether a registry gets the model from this plugin if it does not name a plugin.
    taken: bool,
    /// Why or why not.
    reason: String,
}

pub fn run(global: &Global, args: &Plugins) -> CommandResult {
    let path = PluginPath::from_env(&global.plugin_dir);
    let listed: Vec<Listed> = path.list().iter().map(|path| Listed::read(path)).collect();
    let plugins = listed.iter();
    let plugins: Vec<Row> = plugins
        .map(|library| row(library, &listed, global))
        .collect();
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

fn row(library: &Listed, all: &[Listed], global: &Global) -> Row {
    let Listed { path, manifest } = library;
    let error = manifest.as_ref().err().map(|error| in_one_line(error));
    let manifest = manifest.as_ref().ok();
    let warning = manifest.and_then(|manifest| other_name(path, manifest));
    let known = |get: fn(&PluginManifest) -> &String| manifest.map(|m| get(m).clone());
    let models = manifest.iter().flat_map(|m| &m.provides);
    Row {
        name: known(|m| &m.name).unwrap_or_else(|| name_of(path)),
        path: path.clone(),
        state: if error.is_some() { "broken" } else { "ready" },
        error,
        warning,
        version: known(|m| &m.version),
        api_version: known(|m| &m.api_version),
        kind: manifest.map(|m| m.kinds().join("+")),
        backend: known(|m| &m.backend),
        license: known(|m| &m.license),
        devices: manifest.map(|m| m.devices.clone()).unwrap_or_default(),
        models: models
            .map(|model| model_row(model, path, all, global))
            .collect(),
    }
}

/// Returns a warning if the file does not have the plugin's name, by which registries would look for it.
fn other_name(path: &Path, manifest: &PluginManifest) -> Option<String> {
    let name = &manifest.name;
    (name_of(path) != *name).then(|| {
        format!(
            "the plugin is called `{name}`, so a registry with `plugin = \"{name}\"` looks for {}\n  found: {}\n  do: \
             rename the file",
            file_name(name),
            path.display()
        )
    })
}

/// Returns whether a model is taken from the plugin at `path`, with the requested device and backend.
fn model_row(model: &ProvidedModel, path: &Path, all: &[Listed], global: &Global) -> ModelRow {
    let wanted = Wanted {
        kind: &model.kind,
        id: &model.id,
        device: global.device.and_then(|choice| choice.device()),
        backend: global.backend.as_deref(),
    };
    let (taken, not_taken) = match wanted.choose(all) {
        Ok(choice) => (Some((choice.path, choice.reason)), choice.not_taken),
        Err(error) => (None, error.not_taken),
    };
    let taken = taken.filter(|(file, _)| file == path);
    let is_taken = taken.is_some();
    let other = || not_taken.into_iter().find(|other| other.path == path);
    let reason = taken.map(|(_, reason)| reason);
    ModelRow {
        model: model.clone(),
        taken: is_taken,
        reason: reason.or_else(|| Some(other()?.reason)).unwrap_or_default(),
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
            row.models.iter().map(
                |ModelRow {
                     model,
                     taken,
                     reason,
                 }| {
                    let taken = match taken {
                        true => "yes".to_owned(),
                        false => format!("no: {reason}"),
                    };
                    vec![
                        model.id.clone(),
                        row.name.clone(),
                        model.license.clone(),
                        taken,
                    ]
                },
            )
        })
        .collect();
    if !models.is_empty() {
        text.push_str("\n\n");
        text.push_str(&table(
            &["MODEL", "PLUGIN", "LICENCE OF ITS WEIGHTS", "TAKEN"],
            &models,
        ));
    }
    for row in plugins {
        if let Some(warning) = &row.warning {
            text.push_str(&format!("\n\nwarning: {warning}"));
        }
        if let Some(error) = &row.error {
            text.push_str(&format!("\n\n{} is broken: {error}", row.name));
        }
    }
    text
}
