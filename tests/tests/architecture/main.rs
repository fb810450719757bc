//! The order of the modules: each uses only modules that the map, `docs/map.txt`, lists before it.

mod map;
mod modules;

use map::Floors;
use modules::Crate;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests is in the repository")
        .to_path_buf()
}

fn the_map() -> Vec<Floors> {
    let path = repository().join("docs/map.txt");
    map::read(&fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Copies the source files of a crate to `to`.
fn copy_sources(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_sources(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), &target).unwrap()),
        }
    }
}

/// Returns what the map finds wrong with a crate after `line` was added to one of its files.
fn planted(root: &str, file: &str, line: &str) -> Vec<String> {
    let copy = tempfile::tempdir().unwrap();
    let root_file = Path::new(root);
    let folder = root_file.parent().unwrap();
    copy_sources(&repository().join(folder), &copy.path().join(folder));
    let path = copy.path().join(folder).join(file);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n{line}\n")).unwrap();
    let floors = the_map()
        .into_iter()
        .find(|floors| floors.root == root)
        .unwrap();
    floors.broken(&Crate::read(&copy.path().join(root)), copy.path())
}

#[test]
fn every_module_uses_only_modules_before_it() {
    let broken: Vec<String> = the_map()
        .iter()
        .flat_map(|floors| {
            floors.broken(
                &Crate::read(&repository().join(&floors.root)),
                &repository(),
            )
        })
        .collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn the_map_has_every_crate() {
    let listed: Vec<String> = the_map().into_iter().map(|floors| floors.root).collect();
    let mut crates = vec!["plugin-api".to_owned(), "host".to_owned()];
    for entry in fs::read_dir(repository().join("plugins")).unwrap() {
        let path = entry.unwrap().path();
        if path.join("Cargo.toml").is_file() {
            crates.push(format!(
                "plugins/{}",
                path.file_name().unwrap().to_str().unwrap()
            ));
        }
    }
    for name in crates {
        let root = format!("{name}/src/lib.rs");
        assert!(listed.contains(&root), "docs/map.txt lacks {root}");
    }
    assert!(listed.contains(&"host/src/main.rs".to_owned()));
}

/// `lib.rs` lists its modules in the map's order.
#[test]
fn the_library_lists_its_modules_in_the_maps_order() {
    for floors in the_map()
        .iter()
        .filter(|floors| floors.root.ends_with("lib.rs"))
    {
        let found = Crate::read(&repository().join(&floors.root));
        assert_eq!(found.children, floors.top(), "{}", floors.root);
    }
}

#[test]
fn a_use_of_a_later_module_is_found_in_the_host() {
    let broken = planted(
        "host/src/lib.rs",
        "video/decode.rs",
        "use crate::eval::Dataset;",
    );
    assert_eq!(broken.len(), 1, "{broken:?}");
    for part in [
        "host/src/video/decode.rs uses host/src/eval/dataset.rs (Dataset)",
        "docs/map.txt",
    ] {
        assert!(broken[0].contains(part), "{broken:?}");
    }
    // Also by a path within an expression, a macro, or a re-export of the root.
    for line in [
        "fn later() { let _ = crate::train::train; }",
        "fn later() { println!(\"{:?}\", crate::eval::Task::OpenEnded); }",
        "fn later(_: &crate::VidLm) {}",
        "use super::super::model::Chat;",
    ] {
        let broken = planted("host/src/lib.rs", "video/decode.rs", line);
        assert_eq!(broken.len(), 1, "{line}: {broken:?}");
    }
    // Within a folder, and from its `mod.rs`.
    let broken = planted("host/src/lib.rs", "video/limits.rs", "use super::decode;");
    assert!(
        broken[0].contains("video/limits.rs uses host/src/video/decode.rs"),
        "{broken:?}"
    );
    let broken = planted("host/src/lib.rs", "video/limits.rs", "use super::read;");
    assert!(
        broken[0].contains("video/limits.rs uses host/src/video/mod.rs"),
        "{broken:?}"
    );
}

#[test]
fn a_use_of_a_later_module_is_found_in_the_plugin_kit() {
    let root = "plugins/common/src/lib.rs";
    let broken = planted(
        root,
        "kernels/linear.rs",
        "use crate::layers::linear::Linear;",
    );
    assert_eq!(broken.len(), 1, "{broken:?}");
    let expected =
        "plugins/common/src/kernels/linear.rs uses plugins/common/src/layers/linear.rs (Linear)";
    assert!(broken[0].contains(expected), "{broken:?}");
}

#[test]
fn imports_of_tests_do_not_count() {
    let line = "#[cfg(test)] mod more { use crate::eval::Dataset; }";
    assert_eq!(planted("host/src/lib.rs", "video/decode.rs", line), [""; 0]);
}
