//! Plugins of other versions of the API in one process. `tests/snapshot` is a copy of version 2.0, from which plugins of that
//! version and of pretended later ones are built.

use merv_host::plugin::{CallError, Library, LoadError};
use merv_plugin_api::{
    Clips, Device, EncoderRequest, ErrorKind, MANIFEST_SECTION, ModelSource, TensorView,
};
use merv_tests::{Run, Tiny, artifacts, assert_cases, chain, load_encoder};
use std::{fs, path::Path, sync::Arc};

/// The plugins that a host of this version loads.
const ACCEPTED: [&str; 3] = [
    "test_plugin_snapshot_2_0",
    "test_plugin_snapshot_2_1",
    "test_plugin_faulty",
];

/// The first value of each frame, as the snapshot's plugins compute it.
fn first_pixels(library: &Library, clip: &[f32]) -> Result<Vec<f32>, CallError> {
    let id = &library.manifest().provides[0].id;
    let request = EncoderRequest::new(ModelSource::new(id, Device::CPU), 2);
    let encoder = load_encoder(library, &request)?;
    let view = TensorView::new(clip, &[1, 2, 3, 2, 2]).unwrap();
    let features = encoder.encode(&Clips::new(view))?;
    let values = features.view().f32s().unwrap().to_vec();
    let refused = encoder.training().err().unwrap();
    assert_eq!(refused.failure.kind, ErrorKind::UNSUPPORTED);
    Ok(values)
}

fn open(target: &str) -> Result<Arc<Library>, LoadError> {
    Library::open(artifacts().library(target), 1)
}

#[test]
fn plugins_of_the_snapshot_and_of_a_newer_minor_version_work() {
    let clip: Vec<f32> = (0..24).map(|i| i as f32).collect();
    for (target, version) in [
        ("test_plugin_snapshot_2_0", "2.0.0"),
        ("test_plugin_snapshot_2_1", "2.1.0"),
    ] {
        let library = open(target).unwrap();
        assert_eq!(library.manifest().api_version, version);
        assert_eq!(first_pixels(&library, &clip).unwrap(), [0.0, 12.0]);
        let error = first_pixels(&library, &[-1.0; 24]).unwrap_err();
        assert_eq!(error.failure.kind, ErrorKind::PANIC, "{error}");
    }
}

#[test]
fn another_major_version_and_another_layout_are_refused() {
    let error = chain(&open("test_plugin_snapshot_3_0").unwrap_err());
    assert!(
        error.contains("version 3.0.0") && error.contains("a newer merv-host"),
        "{error}"
    );
    let error = chain(&open("test_plugin_snapshot_wider").unwrap_err());
    for words in ["another layout", "Layout", "rebuild it"] {
        assert!(error.contains(words), "`{words}` is not in: {error}");
    }
}

/// Replaces the encoders of the lively model's registry with `plugins`, in this order.
fn registry(tiny: &Tiny, plugins: &[&str]) -> String {
    let text = fs::read_to_string(tiny.path("registry.toml")).unwrap();
    let table = "[[encoders]]";
    let start = text.find(table).unwrap();
    let llm = text.find("[llm]").unwrap();
    let entries = plugins.iter().map(|target| {
        let path = artifacts().library(target).display();
        let id = match *target {
            "test_plugin_faulty" => "fine",
            "test_plugin_snapshot_2_0" => "first-pixel-2.0.0",
            "test_plugin_snapshot_2_1" => "first-pixel-2.1.0",
            "test_plugin_snapshot_3_0" => "first-pixel-3.0.0",
            _ => "first-pixel-wider",
        };
        format!("{table}\nid = \"{id}\"\nplugin = {{ path = \"{path}\" }}\nnum_frames = 2\n\n")
    });
    let entries: String = entries.collect();
    format!("{}{entries}{}", &text[..start], &text[llm..])
}

/// All orders of some names.
fn orders<'n>(names: &[&'n str]) -> Vec<Vec<&'n str>> {
    if names.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, first) in names.iter().enumerate() {
        let mut rest = names.to_vec();
        rest.remove(index);
        for mut order in orders(&rest) {
            order.insert(0, first);
            all.push(order);
        }
    }
    all
}

/// Each order is tried in a new process, because the first library could decide what the later ones are compared with.
#[test]
fn versions_can_be_loaded_in_all_orders() {
    let names = [
        ACCEPTED.as_slice(),
        &["test_plugin_snapshot_3_0", "test_plugin_snapshot_wider"],
    ]
    .concat();
    let all = orders(&names);
    assert_eq!(all.len(), 120);
    assert_cases(all.into_iter().map(|order| {
        let tiny = Tiny::new();
        fs::write(tiny.path("registry.toml"), registry(&tiny, &order)).unwrap();
        let run = info(&tiny.path("registry.toml")).finish();
        // Every problem with a plugin is reported, so the others were accepted.
        let accepted = ACCEPTED.iter().all(|target| !run.stderr.contains(target));
        let refused = run.check_failed(1, &["snapshot_3_0", "version 3.0.0", "another layout"]);
        let result = match accepted {
            true => refused,
            false => Err(run.to_string()),
        };
        (order.join(", "), result)
    }));
}

fn info(registry: &Path) -> Run {
    Run::new().arg("--registry").arg(registry).arg("info")
}

#[test]
fn every_shipped_plugin_has_its_manifest_in_the_section() {
    for target in [
        "merv_siglip",
        "merv_dinov2",
        "merv_languagebind",
        "merv_vivit",
        "merv_llama2",
    ] {
        let path = artifacts().library(target);
        let manifest = Library::inspect(path).unwrap();
        assert!(
            manifest
                .provides
                .iter()
                .all(|model| model.has("train") && model.has("cancel")),
            "{manifest:?}"
        );
        assert!(!MANIFEST_SECTION.is_empty());
    }
}
