//! How plugins are found, opened and started, and how their messages are shown.

use super::{assert_usable, encoder_request, faulty, row, source, swapped};
use merv_host::plugin::Library;
use merv_plugin_api::EncoderRequest;
use merv_tests::{Run, artifacts, assert_cases, fixture, plugin_folder};
use std::sync::Arc;

#[test]
fn several_plugins_are_open_at_the_same_time() {
    let open = |target| Library::open(artifacts().library(target), 1).unwrap();
    let [siglip, dinov2] = ["merv_siglip", "merv_dinov2"].map(open);
    assert_eq!(siglip.manifest().name, "siglip");
    assert_eq!(dinov2.manifest().name, "dinov2");
    let describe = |library: &Library, id: &str, fixture_path: &str| {
        let config = fixture(fixture_path).join("config.json");
        let model = source(id, Some(&config));
        library.describe_encoder(&EncoderRequest::new(model, 4))
    };
    let siglip_id = "siglip-vit-b16-224px-all-no-cls";
    let dinov2_id = "dinov2-video-all-tokens";
    let a = describe(&siglip, siglip_id, "siglip/tiny").unwrap();
    let b = describe(&dinov2, dinov2_id, "dinov2/frames3").unwrap();
    assert_eq!((a.width, b.width), (48, 36));
    assert_ne!(a.preprocess.mean, b.preprocess.mean);
    // Each knows only its own architectures.
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
        Arc::ptr_eq(&faulty, &super::faulty()),
        "the same file is opened once"
    );
    assert_usable("two others");
}

#[test]
fn a_plugin_that_cannot_start_is_listed_and_fails_a_run() {
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
            ["plugin `faulty`", "start", "init refused, as requested"],
        ),
    ] {
        // Listing reads the manifest, and starts nothing.
        let run = Run::new().arg("--plugin-dir").arg(folder.path());
        let run = run.args(["plugins", "--json"]);
        let run = run.env("MERV_FAULTY_INIT", how).finish().succeeded();
        let row = row(&run.stdout, folder.path(), "faulty");
        assert_eq!(
            (&row["state"], &row["version"]),
            (&"ready".into(), &"0.1.0".into()),
            "{row}"
        );

        let run = swapped(folder.path(), Some("fine"), None)
            .env("MERV_FAULTY_INIT", how)
            .finish();
        run.failed(1, &words);
    }
}

#[test]
fn a_plugin_that_cannot_start_is_started_once() {
    let folder = plugin_folder(&["faulty"]);
    let run = swapped(folder.path(), Some("fine"), Some("fine-llm")).arg("-v");
    let run = run.env("MERV_FAULTY_INIT", "error").finish();
    run.check_failed(1, &["plugin `faulty`: init was called"])
        .unwrap();
    // The entries of the encoder and the language model fail for the same reason.
    for (words, count) in [
        ("init was called", 1),
        ("init refused, as requested", 2),
        ("plugin `faulty` could not start", 2),
    ] {
        assert_eq!(run.stderr.matches(words).count(), count, "{words}: {run}");
    }
}

#[test]
fn links_and_copies_of_a_library_are_started_once_each() {
    let folder = tempfile::TempDir::new().unwrap();
    let original = artifacts().library("test_plugin_faulty");
    let at = |name: &str| folder.path().join(merv_tests::library_file(name));
    // A link needs one file system.
    std::fs::copy(original, at("first")).unwrap();
    std::fs::hard_link(at("first"), at("hard")).unwrap();
    std::os::unix::fs::symlink(at("first"), at("soft")).unwrap();
    std::fs::copy(original, at("copy")).unwrap();
    let open = |name| Library::open(&at(name), 1).unwrap();
    let first = open("first");
    assert!(Arc::ptr_eq(&first, &open("hard")));
    assert!(Arc::ptr_eq(&first, &open("soft")));
    assert!(!Arc::ptr_eq(&first, &open("copy")));
    // Its own thread pool can be started once only.
    let siglip = artifacts().library("merv_siglip");
    std::fs::copy(siglip, at("siglip")).unwrap();
    std::fs::hard_link(at("siglip"), at("siglip_again")).unwrap();
    std::fs::copy(siglip, at("siglip_copy")).unwrap();
    let opened = ["siglip", "siglip_again", "siglip_copy"].map(open);
    assert!(Arc::ptr_eq(&opened[0], &opened[1]));
}

#[test]
fn a_missing_plugin_folder_is_an_error() {
    let file = artifacts().host.display().to_string();
    assert_cases(["/nonexistent", &file].into_iter().flat_map(|folder| {
        ["plugins", "info"].map(|command| {
            let run = Run::new().args(["--plugin-dir", folder, command]).finish();
            (
                format!("{command} {folder}"),
                run.check_failed(1, &[folder, "--plugin-dir", "the folder does not exist"]),
            )
        })
    }));
}

/// The clip has 48 frames, 25 a second. 32 frames are spread over it, of which this encoder takes every second one.
#[test]
fn an_encoder_gets_the_time_of_each_frame() {
    let folder = plugin_folder(&["faulty"]);
    let run = swapped(folder.path(), Some("tells-the-time"), None).arg("-v");
    let run = run.finish().succeeded();
    let line = run
        .stderr
        .lines()
        .find(|line| line.contains("plugin `faulty`"));
    let (_, times) = line.unwrap().split_once(": ").unwrap();
    let expected = (0..32)
        .step_by(2)
        .map(|i| format!("{:.2}", f64::from(i * 47 / 31) / 25.0));
    assert_eq!(times, expected.collect::<Vec<_>>().join(" "));
}

#[test]
fn an_encoder_that_takes_bytes_gets_the_same_pixels() {
    let folder = plugin_folder(&["faulty"]);
    let dump = |id| {
        let out = tempfile::TempDir::new().unwrap();
        let path = out.path().join("dump");
        let run = swapped(folder.path(), Some(id), None)
            .arg("--dump")
            .arg(&path);
        run.finish().succeeded();
        std::fs::read(path).unwrap()
    };
    let [fine, bytes] = ["fine", "takes-bytes"].map(dump);
    let [fine, bytes] =
        [&fine, &bytes].map(|file| safetensors::SafeTensors::deserialize(file).unwrap());
    let (floats, raw) = (
        fine.tensor("clip.fine").unwrap(),
        bytes.tensor("clip.takes-bytes").unwrap(),
    );
    assert_eq!(raw.dtype(), safetensors::Dtype::U8);
    assert_eq!(raw.shape(), floats.shape());
    let features = [
        fine.tensor("features.fine"),
        bytes.tensor("features.takes-bytes"),
    ];
    let [fine, bytes] = features.map(|tensor| tensor.unwrap().data().to_vec());
    assert!(fine == bytes, "the features are the same, bit for bit");

    let error = swapped(folder.path(), Some("takes-bytes-of-torch"), None).finish();
    error.failed(1, &["plugin `faulty`", "takes clips of bytes", "pillow-u8"]);
}

#[test]
fn messages_of_plugins_follow_the_verbosity() {
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
