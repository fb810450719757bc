//! Output that cannot be written to standard output is reported.

use merv_tests::{Tiny, artifacts, root};
use std::{
    fs::File,
    process::{Command, Output, Stdio},
};

/// Runs `merv-host` with a shell redirection of its standard output.
fn run(arguments: &[&str], redirection: &str) -> Output {
    let script = format!("exec \"$@\" {redirection}");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(&artifacts().host);
    command.args(arguments).current_dir(root());
    command.env("NO_COLOR", "1").env("HF_HUB_OFFLINE", "1");
    command.stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn fails(arguments: &[&str], redirection: &str) {
    let output = run(arguments, redirection);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{arguments:?} {redirection}: {stderr}"
    );
    for word in ["standard output", "cannot be written", "do: "] {
        assert!(
            stderr.contains(word),
            "{arguments:?} {redirection}: {stderr}"
        );
    }
}

#[test]
fn lost_output_is_an_error() {
    let tiny = Tiny::new();
    let registry = tiny.registry().display().to_string();
    let clip = root().join("assets/shapes.mp4").display().to_string();
    let answer = [
        "--registry",
        &registry,
        "generate",
        "--video",
        &clip,
        "--prompt",
        "?",
        "--max-new-tokens",
        "2",
    ];
    let json = [&answer[..], &["--json"]].concat();
    for redirection in [">/dev/full", ">&-"] {
        for arguments in [
            &["--help"][..],
            &["--version"],
            &["help", "train"],
            &["generate", "--help"],
            &["completions", "bash"],
            &["--registry", &registry, "info"],
            &answer,
            &json,
        ] {
            fails(arguments, redirection);
        }
    }
}

#[test]
fn a_closed_pipe_and_dev_null_are_not_failures() {
    for redirection in [">/dev/null", "1<>/dev/null", "| head -n 1 >/dev/null"] {
        let output = run(&["--help"], redirection);
        assert_eq!(output.status.code(), Some(0), "{redirection}");
        assert!(output.stderr.is_empty(), "{redirection}");
    }
    // A wrong argument keeps its exit code when standard output is closed.
    assert_eq!(run(&["--vidoe"], ">&-").status.code(), Some(2));
    let mut command = Command::new(&artifacts().host);
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let status = command.arg("--help").stdout(null).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn show_mixer_works_with_quiet() {
    let run = Tiny::new()
        .ask("?", 2)
        .args(["-q", "--show-mixer"])
        .finish()
        .succeeded();
    assert!(run.stderr.contains(" %  "), "{run}");
}
