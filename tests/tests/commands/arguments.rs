//! Arguments that the command line refuses.

use merv_tests::{Run, ask_about, assert_all_fail, small_clip};

#[test]
fn sampling_settings_out_of_range_are_refused() {
    let cases: [(&[&str], &str); 6] = [
        (&["--temperature", "-1"], "temperature"),
        (&["--temperature", "nan"], "temperature"),
        (&["--temperature", "inf"], "temperature"),
        (&["--top-p", "0"], "top-p"),
        (&["--top-p", "1.5"], "top-p"),
        (&["--top-p", "nan"], "top-p"),
    ];
    assert_all_fail(
        2,
        cases.map(|(settings, word)| {
            (
                settings.join(" "),
                ask_about(small_clip()).args(settings).finish(),
                vec![word, "found"],
            )
        }),
    );
}

#[test]
fn unavailable_devices_are_refused() {
    assert_all_fail(
        1,
        ["cuda:0", "cuda:7"].map(|device| {
            let run = ask_about(small_clip()).args(["--device", device]).finish();
            (device.to_owned(), run, vec![device, "cpu"])
        }),
    );
}

#[test]
fn an_unsupported_precision_is_refused() {
    let run = ask_about(small_clip())
        .args(["--precision", "f16"])
        .finish();
    run.failed(1, &["requested in f16", "f32 or bf16"]);
}

#[test]
fn mistakes_on_the_command_line_are_refused() {
    let generate = ["generate", "--video", "x.mp4", "--prompt", "?"];
    let with = |more: &[&'static str]| [&generate[..], more].concat();
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec![], "Usage"),
        (vec!["--registry", "", "info"], "--registry"),
        (vec!["describe"], "unrecognized subcommand"),
        (vec!["generate", "--prompt", "?"], "--video"),
        (vec!["generate", "--video", "x.mp4"], "--prompt"),
        (with(&["--max-new-tokens", "many"]), "--max-new-tokens"),
        (with(&["--max-new-tokens", "-1"]), "--max-new-tokens"),
        (with(&["--temperature", "hot"]), "--temperature"),
        (with(&["--max-pixels", "-5"]), "--max-pixels"),
        (with(&["--seed", "1.5"]), "--seed"),
        (with(&["--vidoe", "y.mp4"]), "--video"),
        (with(&["--threads", "0"]), "--threads"),
        (with(&["--device", "tpu"]), "--device"),
        (with(&["--device", "cuda:99999999999"]), "--device"),
        (with(&["--start", "-1"]), "--start"),
        (with(&["--start", "inf"]), "--start"),
        (with(&["--start", "nan"]), "--start"),
        (with(&["--end", "nan"]), "--end"),
        (with(&["--end", "-1"]), "--end"),
        (with(&["--end", "0"]), "--end"),
        (
            with(&["--start", "2", "--end", "1"]),
            "--end 1 is before --start 2",
        ),
        (with(&["--folder-fps", "0"]), "--folder-fps"),
        (with(&["--folder-fps", "nan"]), "--folder-fps"),
        (
            vec![
                "generate",
                "--video",
                "assets/bigbuckbunny.mp4",
                "--prompt",
                "?",
                "--folder-fps",
                "3",
            ],
            "--folder-fps is for a folder of images",
        ),
        (
            vec![
                "chat",
                "--video",
                "assets/bigbuckbunny.mp4",
                "--folder-fps",
                "3",
            ],
            "bigbuckbunny.mp4",
        ),
        (
            vec!["synth", "--out", "x", "--clips", "0"],
            "number of clips",
        ),
        (
            vec!["synth", "--out", "x", "--clips", "1", "--size", "1"],
            "size",
        ),
        (
            vec!["eval", "mcq", "--benchmark", "..", "--out", "x"],
            "`..` is not the name of a benchmark",
        ),
        (
            vec![
                "train",
                "--config",
                "configs/merv-tiny.toml",
                "--stage",
                "align",
                "--dry-run",
                "--set",
                "epochs=0",
            ],
            "epochs",
        ),
        (
            vec!["train", "--resume", "--out", "x", "--set", "epoch=3"],
            "unknown key `epoch`",
        ),
        (with(&["--precision", "double"]), "--precision"),
        (with(&["--color", "red"]), "--color"),
        (with(&["-q", "-v"]), "cannot be used with"),
        (with(&["surplus"]), "surplus"),
    ];
    assert_all_fail(
        2,
        cases.into_iter().map(|(arguments, word)| {
            (
                arguments.join(" "),
                Run::new().args(&arguments).finish(),
                vec![word],
            )
        }),
    );
    for (argument, word) in [
        ("--help", "generate"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(
            Run::new()
                .arg(argument)
                .finish()
                .succeeded()
                .stdout
                .contains(word)
        );
    }
}
