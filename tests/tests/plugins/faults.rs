//! Plugins that fail while they run. Each fault is an error, and the host stays usable.

use super::{answer, assert_usable, encode_zeros, load_encoder, load_llm, swapped};
use merv_host::plugin::{CallError, Cancellation};
use merv_plugin_api::{ErrorKind, LogitsAt};
use merv_tests::{assert_cases, chain, plugin_folder};

/// A model of the faulty plugin, the operation that fails, and words that the message must contain.
const FAULTS: [(&str, &str, &[&str]); 16] = [
    (
        "panics-in-describe",
        "describe",
        &["panicked in `describe`: describe blew up"],
    ),
    (
        "panics-in-load",
        "load",
        &["panicked in `load_encoder`: load blew up"],
    ),
    (
        "panics-in-info",
        "load",
        &["panicked in `load_encoder`: info blew up"],
    ),
    (
        "loads-another-size",
        "load",
        &[
            "a bug in the plugin",
            "preprocessing",
            "image_size: 64",
            "image_size: 32",
        ],
    ),
    (
        "runs-out-of-memory",
        "encode",
        &["memory allocation failed"],
    ),
    ("fails-with-endless-causes", "encode", &["the same again"]),
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
    ("wrong-shape", "encode", &["it described", "64"]),
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
        "llm-of-other-tokens",
        "load",
        &["expected ids below 1024, found 1024", "`eos_token_id`"],
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
        "panics-in-prefill" | "panics-in-decode" | "llm-of-no-width" | "llm-of-other-tokens"
    )
}

/// Describes, loads and runs a model of the faulty plugin.
fn exercise(id: &str) -> Result<(), CallError> {
    if is_llm(id) {
        answer(&load_llm(id)?).map(|_| ())
    } else {
        encode_zeros(&load_encoder(id)?).map(|_| ())
    }
}

#[test]
fn a_fault_of_a_plugin_is_an_error_and_the_host_stays_usable() {
    for (id, doing, words) in FAULTS {
        for _ in 0..2 {
            let error = exercise(id).unwrap_err();
            assert_eq!(
                error.failure.kind == ErrorKind::PANIC,
                id.starts_with("panics"),
                "{id}"
            );
            let message = chain(&error);
            let named = format!("plugin `faulty` could not {doing}");
            for word in [named.as_str(), id].iter().chain(words) {
                assert!(
                    message.contains(word),
                    "{id}: `{word}` is not in: {message}"
                );
            }
            assert_usable(id);
        }
    }
}

#[test]
fn lack_of_memory_is_not_a_bug() {
    let error = exercise("runs-out-of-memory").unwrap_err();
    assert_eq!(error.failure.kind, ErrorKind::OUT_OF_MEMORY);
    assert!(
        error.to_string().contains("close other programs"),
        "{error}"
    );
}

#[test]
fn causes_without_end_are_cut() {
    let error = exercise("fails-with-endless-causes").unwrap_err();
    assert_eq!(merv_host::causes(&error).count(), 64);
}

#[test]
fn the_text_of_a_panic_goes_to_the_log_and_nowhere_else() {
    let folder = plugin_folder(&["faulty"]);
    for id in ["panics-in-encode", "panics-in-another-thread"] {
        let run = swapped(folder.path(), Some(id), None);
        let run = run.env("RUST_BACKTRACE", "1").finish();
        assert!(!run.stderr.contains("panicked at"), "{run}");
        assert!(!run.stderr.contains("stack backtrace"), "{run}");
        let run = swapped(folder.path(), Some(id), None).arg("-vv").finish();
        let line = run
            .stderr
            .lines()
            .find(|line| line.contains("panicked_at="));
        let line = line.unwrap_or_else(|| panic!("{run}"));
        assert!(line.contains("blew up, as requested"), "{line}");
        assert!(line.contains("encoder.rs:"), "{line}");
    }
}

#[test]
fn a_long_call_ends_when_it_is_cancelled() {
    let encoder = load_encoder("patient").unwrap();
    let (cancellation, other) = (Cancellation::new(), Cancellation::new());
    other.cancel();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| cancellation.scope(|| encode_zeros(&encoder)));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!call.is_finished());
        cancellation.cancel();
        let error = call.join().unwrap().unwrap_err();
        assert_eq!(error.failure.kind, ErrorKind::CANCELLED);
        assert!(
            error.to_string().contains("the call was cancelled"),
            "{error}"
        );
    });
    // An encoder that does not ask whether it was cancelled does its work.
    cancellation.scope(|| assert_usable("a cancelled call"));
}

#[test]
fn the_binary_exits_with_code_1_after_a_fault() {
    let folder = plugin_folder(&["faulty"]);
    assert_cases(FAULTS.iter().map(|&(id, doing, words)| {
        let (encoder, llm) = if is_llm(id) {
            (None, Some(id))
        } else {
            (Some(id), None)
        };
        let run = swapped(folder.path(), encoder, llm).finish();
        let named = format!("plugin `faulty` could not {doing}");
        let words: Vec<&str> = [named.as_str(), id].iter().chain(words).copied().collect();
        (id.to_owned(), run.check_failed(1, &words))
    }));
}

#[test]
fn a_session_is_unusable_after_a_panic() {
    let model = load_llm("panics-in-decode").unwrap();
    let embeds = model.embed(&[5, 6]).unwrap();
    let mut session = model.open().unwrap();
    session.prefill(embeds.view(), LogitsAt::NONE).unwrap();
    assert_eq!(
        model
            .decode(&mut [&mut session], &[7])
            .unwrap_err()
            .failure
            .kind,
        ErrorKind::PANIC
    );
    let error = session.prefill(embeds.view(), LogitsAt::LAST).unwrap_err();
    assert!(error.to_string().contains("earlier panic"), "{error}");
    let mut other = model.open().unwrap();
    other.prefill(embeds.view(), LogitsAt::LAST).unwrap();
}

#[test]
fn a_panic_in_a_destructor_has_no_effect() {
    let model = load_llm("panics-on-drop").unwrap();
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

/// Only the message is checked: other errors follow, because the dependencies are not given.
#[test]
fn a_build_that_aborts_on_panics_is_refused() {
    let compile = |arguments: &[&str]| {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let source = merv_tests::root().join("plugin-api/src/lib.rs");
        let output = std::process::Command::new(rustc)
            .args([
                "--edition",
                "2024",
                "--crate-type",
                "lib",
                "--emit",
                "metadata",
            ])
            .args(["-o", "/dev/null"])
            .args(arguments)
            .arg(source)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let message = "remove `panic = \"abort\"`";
    let refused = compile(&["-C", "panic=abort"]);
    assert!(refused.contains(message), "{refused}");
    assert!(!compile(&[]).contains(message));
}
