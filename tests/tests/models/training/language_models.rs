//! The training of language models.

use super::{
    ENCODERS, LANGUAGE_MODELS, Llama, TRAINED, Video, assert_gradients, assert_gradients_aligned,
    assert_near, error_of, gradients, largest, llama_library, source, state,
};
use merv_plugin_api::{
    AdamWStep, Backward, DType, LanguageModelRequest, StatePart, TensorView, TrainingOptions,
};
use merv_tests::{LEAST_COSINE, chain};

#[test]
fn losses_and_gradients_of_language_models_match_torch() {
    for name in LANGUAGE_MODELS {
        let llama = Llama::load(name, TRAINED);
        let rows = llama.expected.get("embeds").shape[0];
        let loss = llama.expected.get("loss_sum").values[0];
        let only = llama.run(0..rows, Backward::LossOnly);
        assert_eq!(only.gradient.view().shape(), [0], "{name}");
        assert!(
            gradients(&llama.training)
                .values()
                .flatten()
                .all(|&g| g == 0.0)
        );

        let (answer, gradient) = llama.pass();
        for answer in [&only, &answer] {
            assert_eq!(answer.tokens, llama.tokens(), "{name}");
            let error = (answer.loss_sum / f64::from(loss) - 1.0).abs();
            assert!(error < 1e-6, "{name}: {} is not {loss}", answer.loss_sum);
        }
        assert_near(
            name,
            &gradient,
            &llama.expected.get("embeds_grad").values,
            0.0,
        );
        assert_gradients(name, &llama.training, &llama.expected);
    }
}

#[test]
fn gradients_in_bf16_match_torch_up_to_rounding() {
    for name in LANGUAGE_MODELS {
        let llama = Llama::load_in(Some(DType::BF16), name, TRAINED);
        let (answer, _) = llama.pass();
        let loss = f64::from(llama.expected.get("loss_sum").values[0]);
        let error = (answer.loss_sum / loss - 1.0).abs();
        assert!(
            error < 1e-2 && error > 1e-5,
            "{name}: {} is not {loss}",
            answer.loss_sum
        );
        assert_gradients_aligned(name, &llama.training, &llama.expected, LEAST_COSINE);
    }
    for (plugin, case, id) in ENCODERS {
        let video = Video::load_in(Some(DType::BF16), plugin, case, id);
        video.training.begin(&TRAINED).unwrap();
        let (_, tape) = video.encoder.forward_train(video.clips()).unwrap();
        let gradient = video.expected.get("features_grad");
        let view = TensorView::new(&gradient.values, &gradient.shape).unwrap();
        tape.backward(view)
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        // Rounding decides which of two frames attention selects, as for the features in encoders.rs.
        let least = if case == "adapters" {
            0.9
        } else {
            LEAST_COSINE
        };
        let what = format!("{plugin}/{case}");
        assert_gradients_aligned(&what, &video.training, &video.expected, least);
    }
}

#[test]
fn a_frozen_model_returns_the_same_gradient_and_stores_none() {
    for name in LANGUAGE_MODELS {
        let frozen = Llama::load(
            name,
            TrainingOptions {
                trainable: false,
                ..TRAINED
            },
        );
        let (_, gradient) = frozen.pass();
        let (_, expected) = Llama::load(name, TRAINED).pass();
        assert!(gradient == expected, "{name}");
        assert!(frozen.training.parameters().unwrap().is_empty());
        assert!(gradients(&frozen.training).is_empty());
        assert!(state(&frozen.training, StatePart::Weights).is_empty());
    }
}

#[test]
fn checkpointed_activations_change_nothing() {
    for name in LANGUAGE_MODELS {
        let plain = Llama::load(name, TRAINED);
        let checkpointed = Llama::load(
            name,
            TrainingOptions {
                checkpoint_activations: true,
                ..TRAINED
            },
        );
        let ((_, expected), (_, found)) = (plain.pass(), checkpointed.pass());
        assert!(expected == found, "{name}");
        let [expected, found] = [&plain, &checkpointed].map(|llama| gradients(&llama.training));
        assert!(expected == found, "{name}");
    }
}

#[test]
fn gradients_of_parts_of_a_batch_add_up_and_can_be_cleared() {
    for name in LANGUAGE_MODELS {
        let whole = Llama::load(name, TRAINED);
        let (answer, _) = whole.pass();
        let parts = Llama::load(name, TRAINED);
        parts.pass();
        parts.training.clear_gradients().unwrap();
        let (mut loss_sum, mut tokens) = (0.0, 0);
        for rows in [0..2, 2..3] {
            let part = parts.run(rows.clone(), Backward::Gradients);
            loss_sum += part.loss_sum;
            tokens += part.tokens;
            parts.backward_embeddings(part.gradient.view().f32s().unwrap(), rows);
        }
        assert_eq!(tokens, answer.tokens);
        assert!((loss_sum / answer.loss_sum - 1.0).abs() < 1e-6, "{name}");
        let [expected, found] = [&whole, &parts].map(|llama| gradients(&llama.training));
        let floor = 1e-3 * largest(expected.values().flatten().copied());
        for (parameter, expected) in &expected {
            let what = format!("{name}, {parameter}");
            assert_near(&what, &found[parameter], expected, floor);
        }
    }
}

#[test]
fn optimiser_steps_match_torch_and_change_the_model() {
    for name in LANGUAGE_MODELS {
        let llama = Llama::load(name, TRAINED);
        let before = llama.pass().0.loss_sum;
        let embedded = |ids: &[u32]| {
            llama
                .model
                .embed(ids)
                .unwrap()
                .view()
                .f32s()
                .unwrap()
                .to_vec()
        };
        let first = embedded(&[3]);
        for step in 1..=2 {
            llama.training.apply_adamw(&llama.step(step)).unwrap();
        }
        let weights = state(&llama.training, StatePart::Weights);
        let stepped: Vec<_> = llama
            .expected
            .names()
            .filter_map(|n| n.strip_prefix("adamw."))
            .collect();
        assert!(stepped.len() >= 2);
        for parameter in stepped {
            let expected = &llama.expected.get(&format!("adamw.{parameter}")).values;
            let error = error_of(&weights[parameter].values, expected);
            assert!(
                error < 1e-5,
                "{name}, {parameter}: relative error {error:e}"
            );
        }
        let table = &weights["model.embed_tokens.weight"];
        assert!(
            embedded(&[3]) == table.row(3) && first != table.row(3),
            "{name}"
        );
        llama.training.clear_gradients().unwrap();
        assert_ne!(llama.pass().0.loss_sum, before, "{name}");
    }
}

#[test]
fn training_resumes_bit_for_bit_from_an_export() {
    let name = "gqa-tied-llama3-rope";
    let parts = [
        StatePart::Weights,
        StatePart::FirstMoment,
        StatePart::SecondMoment,
    ];
    let unbroken = Llama::load(name, TRAINED);
    unbroken.pass();
    unbroken.training.apply_adamw(&unbroken.step(1)).unwrap();
    let saved = parts.map(|part| state(&unbroken.training, part));

    let resumed = Llama::load(name, TRAINED);
    for (part, saved) in parts.into_iter().zip(&saved) {
        for (parameter, tensor) in saved {
            let view = TensorView::new(&tensor.values, &tensor.shape).unwrap();
            resumed.training.import(part, parameter, view).unwrap();
        }
        assert!(&state(&resumed.training, part) == saved, "{part:?}");
    }
    for llama in [&unbroken, &resumed] {
        llama.training.clear_gradients().unwrap();
        llama.pass();
        llama.training.apply_adamw(&llama.step(2)).unwrap();
    }
    for part in parts {
        let [expected, found] = [&unbroken, &resumed].map(|llama| state(&llama.training, part));
        assert!(expected == found, "{part:?}");
        assert!(part != StatePart::Weights || expected != saved[0]);
    }
}

#[test]
fn wrong_use_is_an_error() {
    let llama = Llama::load("mha", TRAINED);
    let training = &llama.training;
    let named = |error: merv_host::plugin::CallError, what: &str| {
        let text = chain(&error);
        assert!(text.contains(what), "{text}");
    };
    let numbers = [0.0f32; 4];
    let view = TensorView::new(&numbers, &[4]).unwrap();
    let import = |name: &str| training.import(StatePart::Weights, name, view).unwrap_err();
    named(import("no.such.weight"), "`no.such.weight` is not one of");
    named(import("model.norm.weight"), "has shape [48], found [4]");
    let step = AdamWStep {
        step: 0,
        ..llama.step(1)
    };
    named(
        training.apply_adamw(&step).unwrap_err(),
        "expected a step from 1 on",
    );
    let frozen = TrainingOptions {
        trainable: false,
        ..TRAINED
    };
    named(
        training.begin(&frozen).unwrap_err(),
        "cannot be frozen again",
    );
    let width = llama.model.info().width as usize;
    let (row, shape) = (vec![0.0f32; width], [1, width]);
    let row = TensorView::new(&row, &shape).unwrap();
    named(
        llama.model.backward_embed(&[1000], row).unwrap_err(),
        "found 1000",
    );

    let (embeds, mask) = (vec![0.0f32; 2 * width], [1u8, 1]);
    let shape = [1, 2, width];
    let embeds = TensorView::new(&embeds, &shape).unwrap();
    let mask = TensorView::new(&mask, &[1, 2]).unwrap();
    let labels = [0i64, 5000];
    let labels = TensorView::new(&labels, &[1, 2]).unwrap();
    let run = |labels| {
        llama
            .model
            .forward_backward(embeds, mask, labels, Backward::Gradients)
    };
    named(run(labels).err().unwrap(), "found 5000");
    named(run(mask).err().unwrap(), "expected a tensor of i64");

    let request = LanguageModelRequest {
        model: source("llama2", "mha", "llama", "model.safetensors"),
    };
    let fresh = llama_library().load_llm(&request).unwrap();
    let early = fresh.forward_backward(embeds, mask, labels, Backward::LossOnly);
    named(early.err().unwrap(), "training has not begun");
    named(
        fresh.training().unwrap().parameters().unwrap_err(),
        "training has not begun",
    );
}

/// Quantised weights cannot be trained, but gradients pass through them.
#[test]
fn quantised_weights_stay_frozen() {
    let request = LanguageModelRequest {
        model: source("llama2", "gguf-llama-k-quants", "llama", "model.gguf"),
    };
    let model = llama_library().load_llm(&request).unwrap();
    let training = model.training().unwrap();
    let text = chain(&training.begin(&TRAINED).unwrap_err());
    assert!(text.contains("is quantised"), "{text}");
    let frozen = TrainingOptions {
        trainable: false,
        ..TRAINED
    };
    training.begin(&frozen).unwrap();

    // Compares with the slope of the loss when one number changes.
    let width = model.info().width as usize;
    let length = 5;
    let mut embeds = model
        .embed(&[1, 2, 3, 4, 5])
        .unwrap()
        .view()
        .f32s()
        .unwrap()
        .to_vec();
    let labels: Vec<i64> = (1..=length as i64).collect();
    let run = |embeds: &[f32], what| {
        let answer = model.forward_backward(
            TensorView::new(embeds, &[1, length, width]).unwrap(),
            TensorView::new(&[1u8; 5], &[1, length]).unwrap(),
            TensorView::new(&labels, &[1, length]).unwrap(),
            what,
        );
        answer.unwrap_or_else(|error| panic!("{}", chain(&error)))
    };
    let answer = run(&embeds, Backward::Gradients);
    let gradient = answer.gradient.view().f32s().unwrap();
    let scale = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    for at in [0, width + 3, 3 * width + 7] {
        let mut moved = |by: f32| {
            embeds[at] += by;
            let loss = run(&embeds, Backward::LossOnly).loss_sum;
            embeds[at] -= by;
            loss
        };
        let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
        let error = (slope - f64::from(gradient[at])).abs() / f64::from(scale);
        assert!(error < 1e-2, "{at}: {} is not {slope}", gradient[at]);
    }
}
