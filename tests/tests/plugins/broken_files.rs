//! Files that are not usable plugins. Each is refused with its name and the reason.

use super::{SIGLIP, assert_usable, row};
use merv_host::plugin::Library;
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
        built(
            "no-plugin",
            &["not a merv plugin", "merv_plugin_manifest", "do: "],
        ),
        built("manifest-only", &["99.0.0", API_VERSION, "newer merv-host"]),
        built(
            "wrong-layout",
            &[API_VERSION, "different layout", "rebuild"],
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

#[test]
fn invalid_manifests_are_reported() {
    let folder = plugin_folder(&["manifest-only"]);
    let good = |api: &str| {
        format!(
            r#"{{"name":"m","version":"1","api_version":"{api}","license":"MIT","backend":"own",
               "devices":["cpu"],"models":[],"key_of_a_later_version":[1]}}"#
        )
    };
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
            "keys missing",
            r#"{"name":"m"}"#.to_owned(),
            "missing field `version`",
        ),
        ("null", String::new(), "manifest that cannot be read"),
        ("no version", good("new"), "that is not a version"),
        (
            "older major",
            good("0.9.0"),
            "a newer version of the plugin",
        ),
        ("newer minor", good("1.999.0"), "a newer merv-host"),
        ("no root", good(API_VERSION), "merv_plugin_root"),
    ];
    assert_cases(cases.into_iter().map(|(name, manifest, words)| {
        let run = Run::new()
            .arg("--plugin-dir")
            .arg(folder.path())
            .args(["plugins", "--json"]);
        let run = run.env("MERV_TEST_MANIFEST", manifest).finish().succeeded();
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

/// Whether this process has a thread with the name that `no-plugin` gives to its thread.
#[cfg(target_os = "linux")]
fn initialiser_thread_exists() -> bool {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok())
        .any(|name| name.trim_end() == "initialiser")
}

#[test]
#[cfg(target_os = "linux")]
fn a_library_that_started_a_thread_stays_loaded() {
    let folder = plugin_folder(&["no-plugin"]);
    let path = folder.path().join(library_file("merv_no_plugin"));
    let error = chain(&Library::open(&path, 1).unwrap_err());
    assert!(error.contains("not a merv plugin"), "{error}");
    let started = Instant::now();
    while !initialiser_thread_exists() {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "the library did not start a thread"
        );
    }
    // Long enough for the thread to run code of an unloaded library.
    sleep(Duration::from_millis(20));
    assert!(initialiser_thread_exists());

    let run = Run::new().arg("--plugin-dir").arg(folder.path());
    let run = run.args(["plugins", "--json"]).finish().succeeded();
    let row = row(&run.stdout, folder.path(), "no_plugin");
    assert_eq!(row["state"], "broken", "{row}");
}
