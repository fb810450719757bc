//! Plugins that fail while they run. Each fault is an error, and the host stays usable.

use super::{answer, assert_usable, encode_zeros, encoder_request, faulty, llm_request, swapped};
use merv_host::plugin::CallError;
use merv_plugin_api::{ErrorKind, LogitsAt};
use merv_tests::{assert_cases, chain, plugin_folder};

/// A model of the faulty plugin, the operation that fails, and words that the message must contain.
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

/// Describes, loads and runs a model of the faulty plugin.
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
                error.failure.kind == ErrorKind::Panic,
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
fn models_with_impossible_descriptions_are_not_loaded() {
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
            assert!(
                message.contains(word),
                "{id}: `{word}` is not in: {message}"
            );
        }
        assert_usable(id);
    }
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
    let model = faulty().load_llm(&llm_request("panics-in-decode")).unwrap();
    let embeds = model.embed(&[5, 6]).unwrap();
    let mut session = model.open().unwrap();
    session.prefill(embeds.view(), LogitsAt::None).unwrap();
    assert_eq!(
        model
            .decode(&mut [&mut session], &[7])
            .unwrap_err()
            .failure
            .kind,
        ErrorKind::Panic
    );
    let error = session.prefill(embeds.view(), LogitsAt::Last).unwrap_err();
    assert!(error.to_string().contains("earlier panic"), "{error}");
    let mut other = model.open().unwrap();
    other.prefill(embeds.view(), LogitsAt::Last).unwrap();
}

#[test]
fn a_panic_in_a_destructor_has_no_effect() {
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
