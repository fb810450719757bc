//! Files that are not usable plugins. Each is refused with its name and the reason.

use super::{SIGLIP, assert_usable, row};
use merv_host::plugin::{Library, PluginManifest};
use merv_plugin_api::API_VERSION;
use merv_tests::{Run, Tiny, artifacts, assert_cases, chain, library_file, plugin_folder};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A file that is not a usable plugin, and words that the message must contain.
struct BadLibrary {
    name: &'static str,
    path: PathBuf,
    words: Vec<String>,
}

/// Writes the files `libmerv_<name>.so` into `folder`, except the missing one.
fn bad_libraries(folder: &Path) -> Vec<BadLibrary> {
    let whole = fs::read(artifacts().library("merv_siglip")).unwrap();
    let written = |name: &'static str, bytes: &[u8], words: &[&str]| {
        let path = folder.join(library_file(&format!("merv_{}", name.replace('-', "_"))));
        fs::write(&path, bytes).unwrap();
        BadLibrary {
            name,
            path,
            words: words.iter().map(|&word| word.to_owned()).collect(),
        }
    };
    let built = |name: &'static str, words: &[&str]| {
        let target = format!("test_plugin_{}", name.replace('-', "_"));
        written(
            name,
            &fs::read(artifacts().library(&target)).unwrap(),
            words,
        )
    };
    vec![
        BadLibrary {
            name: "missing",
            path: folder.join("nowhere").join(library_file("merv_missing")),
            words: vec!["missing".into(), "cannot be read".into()],
        },
        written(
            "text",
            b"This is not a library.\n",
            &["not a shared library", "do: "],
        ),
        written("empty", b"", &["the file is empty", "do: "]),
        written("cut-to-64-bytes", &whole[..64], &["do: "]),
        written("cut-to-5000-bytes", &whole[..5000], &["truncated", "do: "]),
        written(
            "cut-in-half",
            &whole[..whole.len() / 2],
            &["truncated", "do: "],
        ),
        written(
            "cut-by-a-tenth",
            &whole[..whole.len() / 10 * 9],
            &["truncated", "do: "],
        ),
        written(
            "cut-by-one-byte",
            &whole[..whole.len() - 1],
            &["truncated", "do: "],
        ),
        built("no-plugin", &["not a merv plugin", ".merv.plugin", "do: "]),
        built("manifest-only", &["99.0.0", API_VERSION, "newer merv-host"]),
        built(
            "version-1",
            &[
                "version 1 of the plugin API",
                API_VERSION,
                "rebuild the plugin",
            ],
        ),
    ]
}

#[test]
fn files_that_are_not_plugins_are_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    for BadLibrary { name, path, words } in bad_libraries(folder.path()) {
        // Twice, because a refusal must not be cached as a success.
        for _ in 0..2 {
            let error = chain(&Library::open(&path, 1).unwrap_err());
            assert!(
                error.contains(&path.display().to_string()),
                "{name}: {error}"
            );
            for word in &words {
                assert!(
                    error.contains(word.as_str()),
                    "{name}: `{word}` is not in: {error}"
                );
            }
        }
        assert_usable(name);
    }
}

#[test]
fn the_binary_exits_with_code_1_for_them() {
    let folder = TempDir::new().unwrap();
    assert_cases(bad_libraries(folder.path()).into_iter().map(
        |BadLibrary { name, path, words }| {
            let tiny = Tiny::new();
            let plugin = format!("plugin = {{ path = \"{}\" }}", path.display());
            tiny.replace(
                "registry.toml",
                SIGLIP,
                &SIGLIP.replace("plugin = \"siglip\"", &plugin),
            );
            let run = tiny.generate().finish();
            // The registry notices a missing file first, and has a different message.
            let words = if name == "missing" {
                &words[..1]
            } else {
                &words
            };
            let file = [path.display().to_string()];
            (
                name.to_owned(),
                run.check_failed(1, words)
                    .and_then(|()| run.check_failed(1, &file)),
            )
        },
    ));
}

/// Writes the library `manifest-only` into `folder`, with `text` as its manifest.
fn write_manifest(folder: &Path, text: &str) -> PathBuf {
    let mut library = fs::read(artifacts().library("test_plugin_manifest_only")).unwrap();
    let start = br#"{
    "api_version": "99.0.0""#;
    let found = library.windows(start.len()).position(|part| part == start);
    let section = &mut library[found.unwrap()..][..1024];
    section.fill(b' ');
    section[..text.len()].copy_from_slice(text.as_bytes());
    let path = folder.join(library_file("merv_manifest_only"));
    fs::write(&path, library).unwrap();
    path
}

fn manifest(api_version: &str) -> String {
    format!(
        r#"{{"name":"m","version":"1","api_version":"{api_version}","license":"MIT","backend":"own",
           "devices":["cpu"],"provides":[{{"id":"nose","kind":"smell","key_of_a_later_version":[1]}}],
           "key_of_a_later_version":[1]}}"#
    )
}

#[test]
fn invalid_manifests_are_reported() {
    let folder = TempDir::new().unwrap();
    let cases = [
        (
            "not JSON",
            "plugin!".to_owned(),
            "manifest that cannot be read",
        ),
        (
            "other JSON",
            "[]".to_owned(),
            "manifest that cannot be read",
        ),
        (
            "no version",
            r#"{"name":"m"}"#.to_owned(),
            "missing field `api_version`",
        ),
        (
            "keys missing",
            format!(r#"{{"name":"m","api_version":"{API_VERSION}"}}"#),
            "missing field `version`",
        ),
        ("nothing", String::new(), "manifest that cannot be read"),
        ("odd version", manifest("new"), "that is not a version"),
        ("older major", manifest("1.1.0"), "rebuild the plugin"),
        (
            "a newer major version, with other keys",
            r#"{"api_version":"3.0.0"}"#.to_owned(),
            "a newer merv-host",
        ),
    ];
    assert_cases(cases.into_iter().map(|(name, manifest, words)| {
        write_manifest(folder.path(), &manifest);
        let run = Run::new()
            .arg("--plugin-dir")
            .arg(folder.path())
            .args(["plugins", "--json"]);
        let run = run.finish().succeeded();
        let row = row(&run.stdout, folder.path(), "manifest_only");
        let error = row["error"].as_str().unwrap_or_default().to_owned();
        let right = row["state"] == "broken" && error.contains(words);
        (
            name.to_owned(),
            if right { Ok(()) } else { Err(row.to_string()) },
        )
    }));
}

#[test]
fn unknown_kinds_and_keys_of_a_manifest_are_listed_or_ignored() {
    let folder = TempDir::new().unwrap();
    let path = write_manifest(folder.path(), &manifest("2.999.0"));
    let run = Run::new().arg("--plugin-dir").arg(folder.path());
    let run = run.args(["plugins", "--json"]).finish().succeeded();
    let row = row(&run.stdout, folder.path(), "manifest_only");
    assert_eq!(
        (&row["state"], &row["kind"], &row["models"][0]["id"]),
        (&"ready".into(), &"smell".into(), &"nose".into()),
        "{row}"
    );
    // It has nothing but a manifest, which only opening it shows.
    let error = chain(&Library::open(&path, 1).unwrap_err());
    assert!(
        error.contains("does not export `merv_plugin_2_root`"),
        "{error}"
    );
}

#[test]
fn a_file_with_another_name_than_its_plugin_is_listed_with_a_warning() {
    let folder = TempDir::new().unwrap();
    for name in ["siglip", "other"] {
        let file = folder.path().join(library_file(&format!("merv_{name}")));
        fs::copy(artifacts().library("merv_siglip"), file).unwrap();
    }
    let run = Run::new().arg("--plugin-dir").arg(folder.path());
    let run = run.args(["plugins", "--json"]).finish().succeeded();
    assert!(row(&run.stdout, folder.path(), "siglip")["warning"].is_null());
    let row = row(&run.stdout, folder.path(), "other");
    assert_eq!(row["state"], "ready");
    let warning = row["warning"].as_str().unwrap();
    for words in [
        "`plugin = \"siglip\"`",
        "merv_siglip",
        "merv_other",
        "rename",
    ] {
        assert!(warning.contains(words), "{warning}");
    }
}

#[test]
fn a_different_layout_is_refused_with_the_difference() {
    let path = artifacts().library("test_plugin_wrong_layout");
    assert_eq!(Library::inspect(path).unwrap().name, "wrong-layout");
    let error = chain(&Library::open(path, 1).unwrap_err());
    for words in [
        &format!("states version {API_VERSION}"),
        "another layout than those of version",
        "rebuild it against merv-plugin-api",
        "u32",
        "RResult",
    ] {
        assert!(error.contains(words), "`{words}` is not in: {error}");
    }
    assert!(error.len() < 2000, "{error}");
    assert_usable("wrong-layout");
}

#[test]
fn the_plugins_command_lists_good_and_broken_ones() {
    let folder = plugin_folder(&["faulty"]);
    let bad = bad_libraries(folder.path());
    let list = || {
        Run::new()
            .arg("--plugin-dir")
            .arg(folder.path())
            .arg("plugins")
    };
    let json = list().arg("--json").finish().succeeded().stdout;
    let table = list().finish().succeeded().stdout;
    for BadLibrary { name, path, words } in bad.iter().filter(|bad| bad.name != "missing") {
        let row = row(&json, folder.path(), &name.replace('-', "_"));
        assert_eq!(row["state"], "broken", "{row}");
        let error = row["error"].as_str().unwrap();
        assert!(
            words.iter().all(|word| error.contains(word.as_str())),
            "{words:?}: {row}"
        );
        assert_eq!(row["name"], *name, "{row}");
        assert!(
            table.contains(&path.display().to_string()),
            "{name} is missing in\n{table}"
        );
    }
    let good = row(&json, folder.path(), "faulty");
    assert_eq!(good["state"], "ready", "{good}");
    assert_eq!(good["error"], Value::Null, "{good}");
    let expected = [
        ("name", "faulty"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("api_version", API_VERSION),
        ("kind", "encoder+llm"),
        ("backend", "own"),
        ("license", "MIT"),
    ];
    for (key, value) in expected {
        assert_eq!(good[key], value, "{key}: {good}");
    }
    assert_eq!(good["devices"], Value::from(vec!["cpu"]), "{good}");
    let models = good["models"].as_array().unwrap();
    assert!(
        models
            .iter()
            .any(|m| m["id"] == "fine" && m["kind"] == "encoder"),
        "{good}"
    );
    assert!(
        models
            .iter()
            .any(|m| m["id"] == "fine-llm" && m["kind"] == "llm"),
        "{good}"
    );

    // The project's own plugins are next to the executable.
    let home = artifacts().host.parent().unwrap();
    for (name, kind) in [
        ("siglip", "encoder"),
        ("dinov2", "encoder"),
        ("languagebind", "encoder"),
        ("vivit", "encoder"),
        ("llama2", "llm"),
    ] {
        let row = row(&json, home, name);
        assert_eq!(
            (&row["state"], &row["kind"]),
            (&"ready".into(), &kind.into()),
            "{row}"
        );
        assert_eq!(row["backend"], "candle", "{row}");
        for model in row["models"].as_array().unwrap() {
            assert_ne!(model["license"], "", "{row}");
            assert!(
                table.contains(model["id"].as_str().unwrap()),
                "{model} is missing in\n{table}"
            );
        }
    }
    let tests_own = json.matches("test_plugin").count();
    assert_eq!(
        tests_own, 0,
        "the list contains the tests' plugins, which are next to the executable: {json}"
    );
}

#[test]
#[cfg(unix)]
fn a_pipe_is_refused_without_reading() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join(library_file("merv_pipe"));
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let run = Run::new().arg("--plugin-dir").arg(folder.path());
    let run = run.args(["plugins", "--json"]).finish().succeeded();
    let row = row(&run.stdout, folder.path(), "pipe");
    assert_eq!(
        (&row["state"], &row["name"]),
        (&"broken".into(), &"pipe".into()),
        "{row}"
    );
    let error = row["error"].as_str().unwrap();
    assert!(error.contains("it is not a file"), "{row}");

    let tiny = Tiny::new();
    let plugin = format!("plugin = {{ path = \"{}\" }}", pipe.display());
    let entry = SIGLIP.replace("plugin = \"siglip\"", &plugin);
    tiny.replace("registry.toml", SIGLIP, &entry);
    let run = tiny.generate().finish();
    run.failed(1, &[&pipe.display().to_string()]);
}

/// Whether this process has a thread that the initialiser of a library started.
#[cfg(target_os = "linux")]
fn has_thread(name: &str) -> bool {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok())
        .any(|found| found.trim_end() == name)
}

#[test]
#[cfg(target_os = "linux")]
fn nothing_of_a_library_without_a_manifest_runs() {
    let folder = plugin_folder(&["no-plugin"]);
    let path = folder.path().join(library_file("merv_no_plugin"));
    for result in [
        Library::inspect(&path).map(drop),
        Library::open(&path, 1).map(drop),
    ] {
        let error = chain(&result.unwrap_err());
        assert!(error.contains("not a merv plugin"), "{error}");
    }
    // Its initialiser would have started a thread.
    sleep(Duration::from_millis(20));
    assert!(!has_thread("initialiser"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_library_that_started_a_thread_stays_loaded() {
    let folder = TempDir::new().unwrap();
    let path = write_manifest(folder.path(), &manifest(API_VERSION));
    Library::inspect(&path).unwrap();
    let error = chain(&Library::open(&path, 1).unwrap_err());
    assert!(error.contains("does not export"), "{error}");
    let started = Instant::now();
    while !has_thread("manifest-only") {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "the library did not start a thread"
        );
    }
    // Long enough for the thread to run code of an unloaded library.
    sleep(Duration::from_millis(20));
    assert!(has_thread("manifest-only"));
}

/// Linkers and sanitizers fill a section up with zeros.
#[test]
fn zeros_after_a_manifest_do_not_count() {
    let mut bytes = fs::read(artifacts().library("merv_siglip")).unwrap();
    let beginning = b"{\"api_version\"";
    let mut windows = bytes.windows(beginning.len());
    let start = windows.position(|found| found == beginning).unwrap();
    let mut values = serde_json::Deserializer::from_slice(&bytes[start..]).into_iter::<Value>();
    values.next().unwrap().unwrap();
    let end = start + values.byte_offset();
    let text = String::from_utf8(bytes[start..end].to_vec()).unwrap();
    let shorter = text.replacen("MIT OR Apache-2.0", "MIT", 1);
    assert!(shorter.len() < text.len());
    bytes[start..end].fill(0);
    bytes[start..start + shorter.len()].copy_from_slice(shorter.as_bytes());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(library_file("merv_siglip"));
    fs::write(&path, bytes).unwrap();
    assert_eq!(PluginManifest::read(&path).unwrap().license, "MIT");
}
