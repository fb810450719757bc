//! Plugins that are right, that are wrong, and that fail: several live side by side, and none of them
//! takes the host down.

use merv_host::plugin::{CallError, Encoder, LanguageModel, Library};
use merv_plugin_api::{
    API_VERSION, Device, EncoderRequest, ErrorKind, LanguageModelRequest, LogitsAt, ModelSource,
    TensorView,
};
use merv_tests::{Run, Tiny, artifacts, chain, fixture, library_file, none_of, plugin_folder};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const SIDE: usize = 64;

fn source(id: &str, config: Option<&Path>) -> ModelSource {
    ModelSource {
        id: id.into(),
        weights: vec![].into(),
        config: config.map(|path| path.display().to_string().into()).into(),
        device: Device::CPU,
        dtype: None.into(),
    }
}

fn encoder_request(id: &str) -> EncoderRequest {
    EncoderRequest {
        model: source(id, None),
        num_frames: 2,
        image_size: None.into(),
    }
}

fn llm_request(id: &str) -> LanguageModelRequest {
    LanguageModelRequest {
        model: source(id, None),
    }
}

fn faulty() -> Arc<Library> {
    Library::open(artifacts().library("test_plugin_faulty"), 1).unwrap()
}

fn encode_zeros(encoder: &Encoder) -> Result<Vec<f32>, CallError> {
    let (clip, shape) = (vec![0.5; 2 * 3 * SIDE * SIDE], [1, 2, 3, SIDE, SIDE]);
    let features = encoder.encode(TensorView::new(&clip, &shape).unwrap())?;
    Ok(features.view().f32s().unwrap().to_vec())
}

/// The likeliest tokens after a prompt of `5 6` and then, decoding, after `7`.
fn answer(model: &LanguageModel) -> Result<[usize; 2], CallError> {
    let embeds = model.embed(&[5, 6])?;
    let mut session = model.open()?;
    let likeliest = |logits: &[f32]| logits.iter().position(|&x| x == 1.0).unwrap();
    let first = session.prefill(embeds.view(), LogitsAt::Last)?;
    let second = model.decode(&mut [&mut session], &[7])?;
    Ok([first, second].map(|logits| likeliest(logits.view().f32s().unwrap())))
}

/// Whatever happened before: the host can load and run models.
#[track_caller]
fn assert_usable(after: &str) {
    let encoder = faulty().load_encoder(&encoder_request("fine")).unwrap();
    let features = encode_zeros(&encoder).unwrap();
    assert!(features.iter().all(|&x| x == 0.5), "after {after}");
    let model = faulty().load_llm(&llm_request("fine-llm")).unwrap();
    assert_eq!(answer(&model).unwrap(), [11, 18], "after {after}");
}

#[test]
fn two_plugins_at_once_are_two() {
    let open = |target| Library::open(artifacts().library(target), 1).unwrap();
    let [siglip, dinov2] = ["merv_siglip", "merv_dinov2"].map(open);
    assert_eq!(siglip.manifest().name, "siglip");
    assert_eq!(dinov2.manifest().name, "dinov2");
    let describe = |library: &Library, id: &str, fixture_path: &str| {
        let config = fixture(fixture_path).join("config.json");
        let model = source(id, Some(&config));
        let request = EncoderRequest {
            model,
            num_frames: 4,
            image_size: None.into(),
        };
        library.describe_encoder(&request)
    };
    let siglip_id = "siglip-vit-b16-224px-all-no-cls";
    let dinov2_id = "dinov2-video-all-tokens";
    let a = describe(&siglip, siglip_id, "siglip/tiny").unwrap();
    let b = describe(&dinov2, dinov2_id, "dinov2/frames3").unwrap();
    assert_eq!((a.width, b.width), (48, 36));
    assert_ne!(a.preprocess.mean, b.preprocess.mean);
    // Each knows its own architectures only.
    assert!(describe(&siglip, siglip_id, "dinov2/frames3").is_err());
    assert!(describe(&dinov2, dinov2_id, "siglip/tiny").is_err());

    let faulty = faulty();
    assert_eq!(faulty.manifest().name, "faulty");
    assert_eq!(
        faulty
            .describe_encoder(&encoder_request("fine"))
            .unwrap()
            .width,
        64
    );
    assert!(
        Arc::ptr_eq(&faulty, &self::faulty()),
        "the same file is opened once"
    );
    assert_usable("two others");
}

/// A file that is no usable plugin, and words that its message must have.
struct Bad {
    name: &'static str,
    path: PathBuf,
    words: Vec<String>,
}

/// Each is called `libmerv_<name>.so` in `folder`, but the missing one.
fn bad_libraries(folder: &Path) -> Vec<Bad> {
    let whole = fs::read(artifacts().library("merv_siglip")).unwrap();
    let written = |name: &'static str, bytes: &[u8], words: &[&str]| {
        let path = folder.join(library_file(&format!("merv_{}", name.replace('-', "_"))));
        fs::write(&path, bytes).unwrap();
        Bad {
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
        Bad {
            name: "missing",
            path: folder.join("nowhere").join(library_file("merv_missing")),
            words: vec!["missing".into(), "cannot be read".into()],
        },
        written(
            "text",
            b"This is not a library.\n",
            &["no shared library", "do: "],
        ),
        written("empty", b"", &["the file is empty", "do: "]),
        written("cut-to-64-bytes", &whole[..64], &["do: "]),
        written("cut-to-5000-bytes", &whole[..5000], &["cut off", "do: "]),
        written(
            "cut-in-half",
            &whole[..whole.len() / 2],
            &["cut off", "do: "],
        ),
        written(
            "cut-by-a-tenth",
            &whole[..whole.len() / 10 * 9],
            &["cut off", "do: "],
        ),
        written(
            "cut-by-one-byte",
            &whole[..whole.len() - 1],
            &["cut off", "do: "],
        ),
        built(
            "no-plugin",
            &["no merv plugin", "merv_plugin_manifest", "do: "],
        ),
        built("manifest-only", &["99.0.0", API_VERSION, "newer merv-host"]),
        built(
            "wrong-layout",
            &[API_VERSION, "laid out", "differently", "rebuild"],
        ),
    ]
}

#[test]
fn what_is_no_plugin_is_said_to_be_none() {
    let folder = TempDir::new().unwrap();
    for Bad { name, path, words } in bad_libraries(folder.path()) {
        // Asked twice: a refusal is not remembered as a success.
        for _ in 0..2 {
            let error = chain(&Library::open(&path, 1).unwrap_err());
            assert!(
                error.contains(&path.display().to_string()),
                "{name}: {error}"
            );
            for word in &words {
                assert!(
                    error.contains(word.as_str()),
                    "{name} lacks `{word}`: {error}"
                );
            }
        }
        assert_usable(name);
    }
}

/// `plugin = …` of the lively model's SigLIP and Llama, to be replaced.
const SIGLIP: &str = "id = \"siglip-vit-b16-224px-all-no-cls\"\nplugin = \"siglip\"";
const LLAMA: &str = "id = \"llama\"\nplugin = \"llama2\"";

#[test]
fn the_binary_refuses_them_with_exit_code_1() {
    let folder = TempDir::new().unwrap();
    none_of(
        bad_libraries(folder.path())
            .into_iter()
            .map(|Bad { name, path, words }| {
                let tiny = Tiny::new();
                let plugin = format!("plugin = {{ path = \"{}\" }}", path.display());
                tiny.replace(
                    "registry.toml",
                    SIGLIP,
                    &SIGLIP.replace("plugin = \"siglip\"", &plugin),
                );
                let run = tiny.generate().finish();
                // A missing file is noticed by the registry, which has words of its own.
                let words = if name == "missing" {
                    &words[..1]
                } else {
                    &words
                };
                let file = [path.display().to_string()];
                (
                    name.to_owned(),
                    run.judge(1, words).and_then(|()| run.judge(1, &file)),
                )
            }),
    );
}

#[test]
fn manifests_are_read_with_distrust() {
    let folder = plugin_folder(&["manifest-only"]);
    let good = |api: &str| {
        format!(
            r#"{{"name":"m","version":"1","api_version":"{api}","license":"MIT","backend":"own",
               "devices":["cpu"],"models":[],"key_of_a_later_version":[1]}}"#
        )
    };
    let cases = [
        (
            "no JSON",
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
        ("no version", good("new"), "that is no version"),
        (
            "older major",
            good("0.9.0"),
            "a newer version of the plugin",
        ),
        ("newer minor", good("1.999.0"), "a newer merv-host"),
        ("no root", good(API_VERSION), "merv_plugin_root"),
    ];
    none_of(cases.into_iter().map(|(name, manifest, words)| {
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

/// The row of `libmerv_<name>` in `folder` of `plugins --json`.
fn row(json: &str, folder: &Path, name: &str) -> Value {
    let listing: Value = serde_json::from_str(json).unwrap();
    let path = folder.join(library_file(&format!("merv_{name}")));
    let mut rows = listing["plugins"].as_array().unwrap().iter();
    let found = rows.find(|row| row["path"].as_str().map(Path::new) == Some(&path));
    found
        .unwrap_or_else(|| panic!("no row of {} in {json}", path.display()))
        .clone()
}

#[test]
fn plugins_lists_good_and_broken_ones() {
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
    for Bad { name, path, words } in bad.iter().filter(|bad| bad.name != "missing") {
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

    // The project's own plugins lie beside the executable.
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
        "the tests' plugins show beside the executable: {json}"
    );
}

#[test]
fn a_plugin_that_fails_to_start_is_a_row_and_exit_code_1() {
    let folder = plugin_folder(&["faulty"]);
    for (how, words) in [
        (
            "panic",
            [
                "plugin `faulty`",
                "start",
                "panicked in `init`: init blew up",
            ],
        ),
        (
            "error",
            [
                "plugin `faulty`",
                "start",
                "init refused, as it was told to",
            ],
        ),
    ] {
        let run = Run::new()
            .arg("--plugin-dir")
            .arg(folder.path())
            .args(["plugins", "--json"]);
        let run = run.env("MERV_FAULTY_INIT", how).finish().succeeded();
        let row = row(&run.stdout, folder.path(), "faulty");
        let error = row["error"].as_str().unwrap();
        assert!(words.iter().all(|word| error.contains(word)), "{row}");
        assert_eq!(
            (&row["state"], &row["version"]),
            (&"broken".into(), &"0.1.0".into()),
            "{row}"
        );

        let run = swapped(folder.path(), Some("fine"), None)
            .env("MERV_FAULTY_INIT", how)
            .finish();
        run.failed(1, &words);
    }
}

#[test]
fn a_plugin_that_refused_to_start_is_not_started_again() {
    let folder = plugin_folder(&["faulty"]);
    let run = swapped(folder.path(), Some("fine"), Some("fine-llm")).arg("-v");
    let run = run.env("MERV_FAULTY_INIT", "error").finish();
    run.judge(1, &["plugin `faulty`: init was called"]).unwrap();
    // The encoder's entry and the language model's have the same reason.
    for (words, count) in [
        ("init was called", 1),
        ("init refused, as it was told to", 2),
        ("plugin `faulty` could not start", 2),
    ] {
        assert_eq!(run.stderr.matches(words).count(), count, "{words}: {run}");
    }
}

#[test]
#[cfg(unix)]
fn a_pipe_is_no_plugin_and_is_not_waited_for() {
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
    assert!(error.contains("it is no file"), "{row}");

    let tiny = Tiny::new();
    let plugin = format!("plugin = {{ path = \"{}\" }}", pipe.display());
    let entry = SIGLIP.replace("plugin = \"siglip\"", &plugin);
    tiny.replace("registry.toml", SIGLIP, &entry);
    let run = tiny.generate().finish();
    run.failed(1, &[&pipe.display().to_string()]);
}

/// Whether a thread of this process bears the name that `no-plugin` gives to its own.
#[cfg(target_os = "linux")]
fn initialisers_thread_runs() -> bool {
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
    assert!(error.contains("no merv plugin"), "{error}");
    let started = Instant::now();
    while !initialisers_thread_runs() {
        assert!(started.elapsed() < Duration::from_secs(10), "no thread");
    }
    // Long enough for the thread to run code that is gone.
    sleep(Duration::from_millis(20));
    assert!(initialisers_thread_runs());

    let run = Run::new().arg("--plugin-dir").arg(folder.path());
    let run = run.args(["plugins", "--json"]).finish().succeeded();
    let row = row(&run.stdout, folder.path(), "no_plugin");
    assert_eq!(row["state"], "broken", "{row}");
}

#[test]
fn a_folder_of_plugins_that_is_not_there_is_an_error() {
    let file = artifacts().host.display().to_string();
    none_of(["/nonexistent", &file].into_iter().flat_map(|folder| {
        ["plugins", "info"].map(|command| {
            let run = Run::new().args(["--plugin-dir", folder, command]).finish();
            (
                format!("{command} {folder}"),
                run.judge(1, &[folder, "--plugin-dir", "there is no such folder"]),
            )
        })
    }));
}

#[test]
fn what_a_plugin_says_is_shown_as_loudly_as_asked_for() {
    let folder = plugin_folder(&["faulty"]);
    let words = ["error", "warning", "information", "detail"];
    for (flag, shown) in [("-q", 1), ("--threads=1", 2), ("-v", 3), ("-vv", 4)] {
        let run = swapped(folder.path(), Some("talks"), None).arg(flag);
        let run = run.finish().succeeded();
        for (index, word) in words.iter().enumerate() {
            let line = format!("plugin `faulty`: a word of {word}");
            let found = run.stderr.matches(&line).count();
            assert_eq!(found, usize::from(index < shown), "{flag}, {word}: {run}");
        }
    }
}

/// `generate` with the lively model, its SigLIP and Llama replaced by models of the faulty plugin.
fn swapped(plugins: &Path, encoder: Option<&str>, llm: Option<&str>) -> Run {
    let tiny = Tiny::new();
    for (old, new) in [(SIGLIP, encoder), (LLAMA, llm)] {
        if let Some(id) = new {
            tiny.replace(
                "registry.toml",
                old,
                &format!("id = \"{id}\"\nplugin = \"faulty\""),
            );
        }
    }
    tiny.generate().arg("--plugin-dir").arg(plugins)
}

/// A model of the faulty plugin, what was asked of it, and what the message must have.
const FAULTS: [(&str, &str, &[&str]); 11] = [
    (
        "panics-in-describe",
        "describe",
        &["panicked in `describe_encoder`: describe blew up"],
    ),
    (
        "panics-in-load",
        "load",
        &["panicked in `load_encoder`: load blew up"],
    ),
    (
        "panics-in-encode",
        "encode",
        &["panicked in `encode`: encode blew up"],
    ),
    (
        "fails-in-encode",
        "encode",
        &["encode refused", "the lowest cause"],
    ),
    ("wrong-shape", "encode", &["promised", "64"]),
    (
        "panics-with-a-bomb",
        "encode",
        &["panicked in `encode`: (the panic carried no message)"],
    ),
    (
        "of-other-frames",
        "describe",
        &["impossible encoder for", "frames: width"],
    ),
    (
        "of-no-width",
        "describe",
        &["impossible encoder", "width 0"],
    ),
    (
        "llm-of-no-width",
        "describe",
        &["impossible language model", "width 0"],
    ),
    (
        "panics-in-prefill",
        "prefill",
        &["panicked in `prefill`: prefill blew up"],
    ),
    (
        "panics-in-decode",
        "decode",
        &["panicked in `decode`: decode blew up"],
    ),
];

fn is_llm(id: &str) -> bool {
    matches!(
        id,
        "panics-in-prefill" | "panics-in-decode" | "llm-of-no-width"
    )
}

/// Loads and runs a model of the faulty plugin, all the way.
fn exercise(id: &str) -> Result<(), CallError> {
    if is_llm(id) {
        faulty().describe_llm(&llm_request(id))?;
        answer(&faulty().load_llm(&llm_request(id))?).map(|_| ())
    } else {
        faulty().describe_encoder(&encoder_request(id))?;
        encode_zeros(&faulty().load_encoder(&encoder_request(id))?).map(|_| ())
    }
}

#[test]
fn a_fault_of_a_plugin_is_an_error_and_the_host_stays_usable() {
    for (id, doing, words) in FAULTS {
        for _ in 0..2 {
            let error = exercise(id).unwrap_err();
            assert_eq!(
                error.kind == ErrorKind::Panic,
                id.starts_with("panics"),
                "{id}"
            );
            let message = chain(&error);
            let named = format!("plugin `faulty` could not {doing}");
            for word in [named.as_str(), id].iter().chain(words) {
                assert!(message.contains(word), "{id} lacks `{word}`: {message}");
            }
            assert_usable(id);
        }
    }
}

#[test]
fn what_is_impossible_is_not_loaded_either() {
    let encoder = |id| faulty().load_encoder(&encoder_request(id)).map(drop);
    for (id, loaded) in [
        ("of-other-frames", encoder("of-other-frames")),
        ("of-no-width", encoder("of-no-width")),
        (
            "llm-of-no-width",
            faulty().load_llm(&llm_request("llm-of-no-width")).map(drop),
        ),
    ] {
        let message = chain(&loaded.unwrap_err());
        for word in ["plugin `faulty` could not load", id, "impossible"] {
            assert!(message.contains(word), "{id} lacks `{word}`: {message}");
        }
        assert_usable(id);
    }
}

#[test]
fn a_fault_of_a_plugin_ends_the_binary_with_exit_code_1() {
    let folder = plugin_folder(&["faulty"]);
    none_of(FAULTS.iter().map(|&(id, doing, words)| {
        let (encoder, llm) = if is_llm(id) {
            (None, Some(id))
        } else {
            (Some(id), None)
        };
        let run = swapped(folder.path(), encoder, llm).finish();
        let named = format!("plugin `faulty` could not {doing}");
        let words: Vec<&str> = [named.as_str(), id].iter().chain(words).copied().collect();
        (id.to_owned(), run.judge(1, &words))
    }));
}

#[test]
fn a_session_that_a_panic_left_half_done_is_not_used_again() {
    let model = faulty().load_llm(&llm_request("panics-in-decode")).unwrap();
    let embeds = model.embed(&[5, 6]).unwrap();
    let mut session = model.open().unwrap();
    session.prefill(embeds.view(), LogitsAt::None).unwrap();
    assert_eq!(
        model.decode(&mut [&mut session], &[7]).unwrap_err().kind,
        ErrorKind::Panic
    );
    let error = session.prefill(embeds.view(), LogitsAt::Last).unwrap_err();
    assert!(error.to_string().contains("earlier panic"), "{error}");
    let mut other = model.open().unwrap();
    other.prefill(embeds.view(), LogitsAt::Last).unwrap();
}

#[test]
fn a_panic_in_a_destructor_changes_nothing() {
    let model = faulty().load_llm(&llm_request("panics-on-drop")).unwrap();
    assert_eq!(answer(&model).unwrap(), [11, 18]);
    let session = model.open().unwrap();
    drop(session.fork().unwrap());
    drop(session);
    drop(model);
    assert_usable("panics-on-drop");

    let folder = plugin_folder(&["faulty"]);
    let fine = swapped(folder.path(), Some("fine"), Some("fine-llm"))
        .finish()
        .succeeded();
    let panics = swapped(folder.path(), Some("fine"), Some("panics-on-drop"))
        .finish()
        .succeeded();
    assert_eq!(panics.stdout, fine.stdout);
    assert!(
        panics
            .stderr
            .contains("plugin `faulty`: panicked in `drop`"),
        "{panics}"
    );
}
