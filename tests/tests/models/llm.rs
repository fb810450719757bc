//! The language model, as the library that users load, against transformers' Llama and Qwen2.

use merv_host::plugin::{LanguageModel, Library, Session};
use merv_plugin_api::{
    DType, Device, LanguageModelRequest, LogitsAt, ModelSource, TensorBuf, TensorView,
};
use merv_tests::{
    Dtype, LEAST_COSINE, Stored, Tensors, artifacts, assert_aligned, assert_close, chain, edit,
    fixture, read,
};
use serde_json::Value;
use std::{fs, path::Path};
use tempfile::TempDir;

const CASES: [&str; 7] = [
    "gguf-llama-k-quants",
    "gguf-qwen2-mixed",
    "gqa-tied-llama3-rope",
    "linear-rope",
    "mha",
    "qwen2-padded",
    "qwen2-tied",
];

struct Case {
    name: &'static str,
    model: LanguageModel,
    io: Tensors,
}

impl Case {
    fn load(name: &'static str) -> Self {
        Self::of(name, request_of(name))
    }

    fn with_config(name: &'static str, config: &Path) -> Self {
        let weights = fixture("llama2").join(name).join("model.safetensors");
        Self::with(name, &weights, Some(config))
    }

    fn with(name: &'static str, weights: &Path, config: Option<&Path>) -> Self {
        Self::of(name, request(weights, config))
    }

    fn of(name: &'static str, request: LanguageModelRequest) -> Self {
        let library = Library::open(artifacts().library("merv_llama2"), 2).unwrap();
        let model = library
            .load_llm(&request)
            .unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        let described = library.describe_llm(&request).unwrap();
        // Padding is found when the weights are opened.
        if described.vocab_size == model.info().vocab_size {
            assert_eq!(&described, model.info(), "{name}");
        }
        Self {
            name,
            model,
            io: read(&fixture("llama2").join(name).join("io.safetensors")),
        }
    }

    fn width(&self) -> usize {
        self.model.info().width as usize
    }

    /// Positions of the fixture's text.
    fn length(&self) -> usize {
        self.io.get("embeds").shape[0]
    }

    /// A session that has seen the positions `range` of the fixture's text, and the logits.
    fn prefill(&self, session: &mut Session<'_>, range: std::ops::Range<usize>) -> Vec<f32> {
        let width = self.width();
        let embeds = &self.io.get("embeds").values[range.start * width..range.end * width];
        let shape = [range.len(), width];
        let view = TensorView::new(embeds, &shape).unwrap();
        numbers(&session.prefill(view, LogitsAt::All).unwrap())
    }

    fn session_of(&self, length: usize) -> Session<'_> {
        let mut session = self.model.open().unwrap();
        self.prefill(&mut session, 0..length);
        session
    }

    /// Decodes the fixture's tokens, which must give the fixture's logits.
    fn replay(&self, what: &str, session: &mut Session<'_>) {
        let expected = self.io.get("decode_logits");
        for (step, id) in self.io.get("ids").ids().into_iter().enumerate() {
            let logits = numbers(&self.model.decode(&mut [&mut *session], &[id]).unwrap());
            let what = format!("{}, {what}, step {step}", self.name);
            assert_close(&what, &logits, expected.row(step));
        }
    }

    /// The logits of decoding `ids` after `length` positions, alone.
    fn alone(&self, length: usize, ids: &[u32]) -> Vec<Vec<f32>> {
        let mut session = self.session_of(length);
        ids.iter()
            .map(|&id| numbers(&self.model.decode(&mut [&mut session], &[id]).unwrap()))
            .collect()
    }
}

fn request_of(name: &str) -> LanguageModelRequest {
    let folder = fixture("llama2").join(name);
    let [gguf, weights, config] =
        ["model.gguf", "model.safetensors", "config.json"].map(|file| folder.join(file));
    if gguf.is_file() {
        request(&gguf, None)
    } else {
        request(&weights, Some(&config))
    }
}

fn request(weights: &Path, config: Option<&Path>) -> LanguageModelRequest {
    LanguageModelRequest {
        model: ModelSource {
            id: "llama".into(),
            weights: vec![weights.display().to_string().into()].into(),
            config: config.map(|path| path.display().to_string().into()).into(),
            device: Device::CPU,
            dtype: None.into(),
        },
    }
}

fn numbers(tensor: &TensorBuf) -> Vec<f32> {
    tensor.view().f32s().unwrap().to_vec()
}

fn every_case(check: impl Fn(&Case)) {
    CASES.iter().for_each(|name| check(&Case::load(name)));
}

#[test]
fn no_case_is_left_out() {
    let mut found: Vec<_> = fs::read_dir(fixture("llama2"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, CASES);
}

#[test]
fn embeddings_and_logits_are_transformers() {
    every_case(|case| {
        let ids = case.io.get("embed_ids").ids();
        let embedded = case.model.embed(&ids).unwrap();
        assert_eq!(
            embedded.view().shape(),
            case.io.get("embedded").shape,
            "{}",
            case.name
        );
        assert_close(
            case.name,
            &numbers(&embedded),
            &case.io.get("embedded").values,
        );

        let mut session = case.model.open().unwrap();
        assert!(session.is_empty());
        let logits = case.prefill(&mut session, 0..case.length());
        let what = format!("{}, prefill", case.name);
        assert_close(&what, &logits, &case.io.get("prefill_logits").values);
        assert_eq!(session.len(), case.length());
        case.replay("after prefill", &mut session);
        assert_eq!(
            session.len(),
            case.length() + case.io.get("ids").values.len()
        );
    });
}

#[test]
fn logits_in_bf16_are_transformers_of_f32_but_for_rounding() {
    for name in CASES {
        let mut request = request_of(name);
        request.model.dtype = Some(DType::BF16).into();
        let case = Case::of(name, request);
        assert_eq!(case.model.info().dtype, DType::BF16, "{name}");
        let mut session = case.model.open().unwrap();
        let logits = case.prefill(&mut session, 0..case.length());
        let expected = case.io.get("prefill_logits");
        assert_aligned(
            name,
            &logits,
            &expected.values,
            expected.shape[1],
            LEAST_COSINE,
        );
    }
}

/// transformers 5 writes `rope_theta` and `rope_scaling` together.
#[test]
fn rope_parameters_are_read_as_the_older_keys() {
    for name in CASES {
        let path = fixture("llama2").join(name).join("config.json");
        if !path.is_file() {
            continue;
        }
        let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let keys = config.as_object_mut().unwrap();
        let theta = keys.remove("rope_theta").unwrap();
        let mut rope = keys.remove("rope_scaling").unwrap();
        if rope.is_null() {
            rope = serde_json::json!({ "rope_type": "default" });
        }
        rope["rope_theta"] = theta;
        keys.insert("rope_parameters".to_owned(), rope);
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, config.to_string()).unwrap();

        let [new, old] = [Case::with_config(name, &path), Case::load(name)].map(|case| {
            let mut session = case.model.open().unwrap();
            case.prefill(&mut session, 0..case.length())
        });
        assert!(new == old, "{name}: the logits differ");
    }
}

/// MERV's tables have more rows than the configs beside them say; others' have fewer.
#[test]
fn a_vocabulary_is_as_large_as_the_table() {
    let sizes = |case: &Case| {
        let info = case.model.info();
        (info.vocab_size, info.parameters)
    };
    let case = Case::load("qwen2-padded");
    let found = sizes(&case);
    assert_eq!(found.0, 128);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.json");
    let config = fs::read_to_string(fixture("llama2/qwen2-padded/config.json")).unwrap();
    for vocab in [1, 128, 5000] {
        let other = config.replace("\"vocab_size\": 97", &format!("\"vocab_size\": {vocab}"));
        assert_ne!(other, config);
        fs::write(&path, other).unwrap();
        let case = Case::with_config("qwen2-padded", &path);
        assert_eq!(sizes(&case), found, "{vocab}");
        let mut session = case.model.open().unwrap();
        let logits = case.prefill(&mut session, 0..case.length());
        assert_close("padded", &logits, &case.io.get("prefill_logits").values);
    }
}

/// The language model inside MERV's own checkpoint, between parts that are not its own.
#[test]
fn a_language_model_is_found_in_mervs_checkpoint() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    fs::copy(fixture("llama2/mha/model.safetensors"), &path).unwrap();
    edit(&path, |tensors| {
        *tensors = std::mem::take(tensors)
            .into_iter()
            .map(|(name, stored)| (format!("model.llm_backbone.llm.{name}"), stored))
            .collect();
        let other = Stored::zeros(Dtype::F32, &[3]);
        tensors.insert("model.projectors.0.projector.bias".to_owned(), other);
    });
    let config = fixture("llama2/mha/config.json");
    let case = Case::with("mha", &path, Some(&config));
    let mut session = case.model.open().unwrap();
    let logits = case.prefill(&mut session, 0..case.length());
    assert_close("nested", &logits, &case.io.get("prefill_logits").values);
    case.replay("nested", &mut session);
}

#[test]
fn a_session_of_another_model_is_refused() {
    let [mine, other] = [(); 2].map(|()| Case::load("mha"));
    let mut session = mine.session_of(mine.length());
    let mut theirs = other.session_of(3);
    let error = mine
        .model
        .decode(&mut [&mut session, &mut theirs], &[1, 1])
        .unwrap_err();
    let message = chain(&error);
    assert!(message.contains("another language model"), "{message}");
    assert_eq!((session.len(), theirs.len()), (mine.length(), 3));
    mine.replay("after the error", &mut session);
}

#[test]
fn logits_are_of_the_positions_asked_for() {
    every_case(|case| {
        let embeds = case.io.get("embeds");
        let view = TensorView::new(&embeds.values, &embeds.shape).unwrap();
        let expected = case.io.get("prefill_logits");

        let mut session = case.model.open().unwrap();
        let last = session.prefill(view, LogitsAt::Last).unwrap();
        assert_eq!(last.view().shape(), [1, expected.shape[1]], "{}", case.name);
        assert_close(case.name, &numbers(&last), expected.row(case.length() - 1));

        let mut session = case.model.open().unwrap();
        let none = session.prefill(view, LogitsAt::None).unwrap();
        assert_eq!(none.view().shape(), [0, expected.shape[1]], "{}", case.name);
        case.replay("after a prefill without logits", &mut session);
    });
}

#[test]
fn a_prefill_may_come_in_parts() {
    every_case(|case| {
        let expected = case.io.get("prefill_logits");
        for cut in [1, case.length() / 2, case.length() - 1] {
            let mut session = case.model.open().unwrap();
            let parts = [0..cut, cut..case.length()];
            let logits = parts.map(|part| case.prefill(&mut session, part)).concat();
            let what = format!("{}, cut at {cut}", case.name);
            assert_close(&what, &logits, &expected.values);
            case.replay(&what, &mut session);
        }
    });
}

#[test]
fn sessions_of_different_length_decode_together_as_alone() {
    every_case(|case| {
        let ids = case.io.get("ids").ids();
        let other: Vec<u32> = ids.iter().rev().copied().collect();
        // More than a product of few rows takes at once.
        let texts: Vec<(usize, &Vec<u32>)> = (0..7)
            .map(|i| {
                (
                    case.length() - i % case.length(),
                    if i % 2 == 0 { &ids } else { &other },
                )
            })
            .collect();
        let alone: Vec<_> = texts
            .iter()
            .map(|(length, ids)| case.alone(*length, ids))
            .collect();
        let mut sessions: Vec<_> = texts
            .iter()
            .map(|(length, _)| case.session_of(*length))
            .collect();
        let vocab = case.model.info().vocab_size as usize;
        for step in 0..ids.len() {
            let mut tokens: Vec<u32> = texts.iter().map(|(_, ids)| ids[step]).collect();
            let mut together: Vec<&mut Session<'_>> = sessions.iter_mut().collect();
            // A batch in another order, and of other sessions, at every other step.
            together.rotate_left(step % 2);
            tokens.rotate_left(step % 2);
            let logits = numbers(&case.model.decode(&mut together, &tokens).unwrap());
            let mut rows: Vec<&[f32]> = logits.chunks_exact(vocab).collect();
            rows.rotate_right(step % 2);
            for (text, row) in rows.into_iter().enumerate() {
                // To the last bit: an answer must not depend on what is asked beside it.
                assert_eq!(
                    row, alone[text][step],
                    "{}, text {text}, step {step}",
                    case.name
                );
            }
        }
    });
}

#[test]
fn a_fork_and_its_origin_go_their_own_ways() {
    every_case(|case| {
        let ids = case.io.get("ids").ids();
        let other: Vec<u32> = ids.iter().rev().copied().collect();
        let expected = case.alone(case.length(), &other);
        let mut origin = case.session_of(case.length());
        let mut fork = origin.fork().unwrap();
        assert_eq!(fork.len(), origin.len());
        for (step, &id) in other.iter().enumerate() {
            let logits = numbers(&case.model.decode(&mut [&mut fork], &[id]).unwrap());
            assert_close(
                &format!("{}, fork, step {step}", case.name),
                &logits,
                &expected[step],
            );
        }
        case.replay("origin", &mut origin);
        drop(origin);
        fork.truncate(case.length()).unwrap();
        case.replay("fork, truncated, its origin closed", &mut fork);
    });
}

#[test]
fn a_truncated_session_has_forgotten_the_rest() {
    every_case(|case| {
        let expected = &case.io.get("prefill_logits").values;
        let vocab = case.model.info().vocab_size as usize;
        let mut session = case.session_of(case.length());
        // What follows the cut before and after it differs: a remnant would show.
        let other: Vec<u32> = case.io.get("ids").ids().into_iter().rev().collect();
        for id in other {
            case.model.decode(&mut [&mut session], &[id]).unwrap();
        }
        session.truncate(case.length()).unwrap();
        assert_eq!(session.len(), case.length());
        case.replay("truncated", &mut session);

        session.truncate(5).unwrap();
        case.prefill(&mut session, 0..case.length() - 5);
        session.truncate(2).unwrap();
        let logits = case.prefill(&mut session, 2..case.length());
        assert_close(case.name, &logits, &expected[2 * vocab..]);

        session.truncate(0).unwrap();
        assert!(session.is_empty());
        case.prefill(&mut session, 3..case.length());
        session.truncate(0).unwrap();
        let logits = case.prefill(&mut session, 0..case.length());
        assert_close(case.name, &logits, expected);

        let error = session.truncate(case.length() + 1).unwrap_err().to_string();
        assert!(error.contains(&(case.length() + 1).to_string()), "{error}");
        assert_eq!(session.len(), case.length());
        case.replay("after a failed truncate", &mut session);
    });
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    every_case(|case| {
        let (info, width) = (case.model.info(), case.width());
        let (context, vocab) = (info.context_length as usize, info.vocab_size);
        let mut session = case.session_of(case.length());

        let long = vec![0.1; (context - case.length() + 1) * width];
        let shape = [long.len() / width, width];
        let view = TensorView::new(&long, &shape).unwrap();
        let error = session
            .prefill(view, LogitsAt::Last)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&context.to_string()),
            "{}: {error}",
            case.name
        );
        assert_eq!(session.len(), case.length());

        let shape = [2, width + 1];
        let wide = vec![0.1; 2 * (width + 1)];
        let view = TensorView::new(&wide, &shape).unwrap();
        let error = session
            .prefill(view, LogitsAt::Last)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&width.to_string()), "{}: {error}", case.name);

        for error in [
            case.model.embed(&[0, vocab]).unwrap_err(),
            case.model
                .decode(&mut [&mut session], &[vocab])
                .unwrap_err(),
        ] {
            assert!(
                error.to_string().contains(&vocab.to_string()),
                "{}: {error}",
                case.name
            );
        }
        let error = case.model.decode(&mut [&mut session], &[1, 2]).unwrap_err();
        assert!(
            error.to_string().contains("one token for each session"),
            "{error}"
        );
        // One bad token of a batch leaves the other session alone too.
        let mut other = case.session_of(3);
        assert!(
            case.model
                .decode(&mut [&mut other, &mut session], &[1, vocab])
                .is_err()
        );
        assert_eq!((other.len(), session.len()), (3, case.length()));

        case.replay("after errors", &mut session);
        let rest = case.prefill(&mut other, 3..case.length());
        let expected = &case.io.get("prefill_logits").values[3 * vocab as usize..];
        assert_close(case.name, &rest, expected);
    });
}

#[test]
fn a_context_can_be_filled_to_the_last_position() {
    every_case(|case| {
        let context = case.model.info().context_length as usize;
        let mut session = case.model.open().unwrap();
        let embeds = vec![0.1; (context - 1) * case.width()];
        let shape = [context - 1, case.width()];
        let view = TensorView::new(&embeds, &shape).unwrap();
        session.prefill(view, LogitsAt::None).unwrap();
        case.model.decode(&mut [&mut session], &[1]).unwrap();
        let error = case
            .model
            .decode(&mut [&mut session], &[1])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&context.to_string()),
            "{}: {error}",
            case.name
        );
        assert_eq!(session.len(), context);
        session.truncate(case.length()).unwrap();
        assert_eq!(session.len(), case.length());
    });
}
