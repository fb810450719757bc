//! The training of language models.

use super::{
    ENCODERS, LANGUAGE_MODELS, Llama, Video, assert_gradients, assert_gradients_aligned,
    assert_near, error_of, frozen, gradients, largest, llama_library, source, state, trained,
};
use merv_plugin_api::{
    Backward, DType, LanguageModelRequest, ParameterRange, Ranges, StatePart, TensorView,
    TrainingTexts,
};
use merv_tests::{LEAST_COSINE, chain, load_llm, torch_plugin};

/// The range of all elements of a parameter.
fn whole(parameter: u32, elements: usize) -> ParameterRange {
    ParameterRange {
        parameter,
        start: 0,
        end: elements as u64,
    }
}

#[test]
fn losses_and_gradients_of_language_models_match_torch() {
    for name in LANGUAGE_MODELS {
        let llama = Llama::load(name, trained());
        let rows = llama.expected.get("embeds").shape[0];
        let loss = llama.expected.get("loss_sum").values[0];
        let only = llama.run(0..rows, Backward::LOSS_ONLY);
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

/// The embedding table's gradient is finished later, by `backward_embed`.
#[test]
fn every_gradient_is_ready_once_and_the_last_layer_first() {
    for name in LANGUAGE_MODELS {
        for checkpoint in [false, true] {
            let llama = Llama::load(name, trained().checkpoint_activations(checkpoint));
            let rows = llama.expected.get("embeds").shape[0];
            let mut told: Vec<u32> = Vec::new();
            llama.run_telling(0..rows, Backward::GRADIENTS, &mut |parameters| {
                told.extend_from_slice(parameters);
                Ok(())
            });
            let parameters = llama.training.parameters().unwrap();
            let place = |end: &str| {
                let mut names = parameters.iter();
                names.position(|info| info.name.ends_with(end)).unwrap() as u32
            };
            let when = |place: u32| told.iter().position(|&other| other == place).unwrap();
            let first = when(place("layers.0.mlp.down_proj.weight"));
            assert!(
                when(place("layers.1.self_attn.q_proj.weight")) < first,
                "{name}"
            );
            assert!(when(place("model.norm.weight")) < first, "{name}");
            told.sort_unstable();
            let table = place("embed_tokens.weight");
            let all = (0..parameters.len() as u32).filter(|&place| place != table);
            assert_eq!(told, all.collect::<Vec<_>>(), "{name}");

            told.clear();
            llama.run_telling(0..rows, Backward::LOSS_ONLY, &mut |parameters| {
                told.extend_from_slice(parameters);
                Ok(())
            });
            assert!(told.is_empty(), "{name}: a loss has no gradients");
        }
    }
}

#[test]
fn gradients_in_bf16_match_torch_up_to_rounding() {
    for name in LANGUAGE_MODELS {
        let llama = Llama::load_in(Some(DType::BF16), name, trained());
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
        // libtorch also rounds the outputs of products, and attention then selects other frames in this case.
        if case == "adapters" && torch_plugin().is_some() {
            continue;
        }
        let video = Video::load_in(Some(DType::BF16), plugin, case, id);
        video.training.begin(&trained()).unwrap();
        let (_, tape) = video.encoder.forward_train(&video.clips()).unwrap();
        let gradient = video.expected.get("features_grad");
        let view = TensorView::new(&gradient.values, &gradient.shape).unwrap();
        tape.backward(view, &mut |_| Ok(()))
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
        let frozen = Llama::load(name, frozen());
        let (_, gradient) = frozen.pass();
        let (_, expected) = Llama::load(name, trained()).pass();
        assert!(gradient == expected, "{name}");
        assert!(frozen.training.parameters().unwrap().is_empty());
        assert!(gradients(&frozen.training).is_empty());
        assert!(state(&frozen.training, StatePart::WEIGHTS).is_empty());
    }
}

#[test]
fn checkpointed_activations_change_nothing() {
    for name in LANGUAGE_MODELS {
        let plain = Llama::load(name, trained());
        let checkpointed = Llama::load(name, trained().checkpoint_activations(true));
        let ((_, expected), (_, found)) = (plain.pass(), checkpointed.pass());
        assert!(expected == found, "{name}");
        let [expected, found] = [&plain, &checkpointed].map(|llama| gradients(&llama.training));
        assert!(expected == found, "{name}");
    }
}

#[test]
fn gradients_of_parts_of_a_batch_add_up_and_can_be_cleared() {
    for name in LANGUAGE_MODELS {
        let whole = Llama::load(name, trained());
        let (answer, _) = whole.pass();
        let parts = Llama::load(name, trained());
        parts.pass();
        parts.training.clear_gradients().unwrap();
        let (mut loss_sum, mut tokens) = (0.0, 0);
        for rows in [0..2, 2..3] {
            let part = parts.run(rows.clone(), Backward::GRADIENTS);
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
        let llama = Llama::load(name, trained());
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
            llama
                .training
                .apply_adamw(&llama.step(step), Ranges::All)
                .unwrap();
        }
        let weights = state(&llama.training, StatePart::WEIGHTS);
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

/// Two processes that hold half of the optimizer's state each do together what one does alone.
#[test]
fn the_optimizers_state_can_be_divided() {
    let name = "gqa-tied-llama3-rope";
    let (whole, divided) = (Llama::load(name, trained()), Llama::load(name, trained()));
    let parameters = whole.training.parameters().unwrap();
    let half = |upper: bool| -> Vec<ParameterRange> {
        let ranges = (0..).zip(&parameters).map(|(parameter, info)| {
            let (end, middle) = (info.elements() as u64, info.elements() as u64 / 3);
            match upper {
                true => ParameterRange {
                    parameter,
                    start: middle,
                    end,
                },
                false => ParameterRange {
                    parameter,
                    start: 0,
                    end: middle,
                },
            }
        });
        ranges.collect()
    };
    let halves = [half(false), half(true)];
    for number in 1..=2 {
        for llama in [&whole, &divided] {
            llama.training.clear_gradients().unwrap();
            llama.pass();
        }
        let squares = |ranges| divided.training.gradient_squares(ranges).unwrap();
        let all = squares(Ranges::All);
        let sum: f64 = halves.iter().map(|half| squares(Ranges::Only(half))).sum();
        assert!((sum / all - 1.0).abs() < 1e-12 && all > 0.0, "{sum} {all}");
        let step = whole.step(number);
        whole.training.apply_adamw(&step, Ranges::All).unwrap();
        for half in &halves {
            divided
                .training
                .apply_adamw(&step, Ranges::Only(half))
                .unwrap();
        }
    }
    let fresh = Llama::load(name, trained());
    for part in [
        StatePart::WEIGHTS,
        StatePart::FIRST_MOMENT,
        StatePart::SECOND_MOMENT,
    ] {
        let expected = state(&whole.training, part);
        assert!(state(&divided.training, part) == expected, "{part:?}");
        // The halves of the state are saved and restored one by one.
        for half in &halves {
            let mut ranges = half.iter();
            let mut import = |parameter: u32, values: TensorView<'_>| {
                let range = *ranges.next().unwrap();
                assert_eq!((parameter, values.shape().len()), (range.parameter, 1));
                fresh.training.import(part, range, values).unwrap();
                Ok(())
            };
            let ranges = Ranges::Only(half);
            divided.training.export(part, ranges, &mut import).unwrap();
        }
        assert!(state(&fresh.training, part) == expected, "{part:?}");
    }
}

#[test]
fn training_resumes_bit_for_bit_from_an_export() {
    let name = "gqa-tied-llama3-rope";
    let parts = [
        StatePart::WEIGHTS,
        StatePart::FIRST_MOMENT,
        StatePart::SECOND_MOMENT,
    ];
    let unbroken = Llama::load(name, trained());
    unbroken.pass();
    unbroken
        .training
        .apply_adamw(&unbroken.step(1), Ranges::All)
        .unwrap();
    let saved = parts.map(|part| state(&unbroken.training, part));

    let resumed = Llama::load(name, trained());
    for (part, saved) in parts.into_iter().zip(&saved) {
        for (index, parameter) in (0..).zip(resumed.training.parameters().unwrap()) {
            let tensor = &saved[&parameter.name];
            let view = TensorView::new(&tensor.values, &tensor.shape).unwrap();
            let range = whole(index, tensor.values.len());
            resumed.training.import(part, range, view).unwrap();
        }
        assert!(&state(&resumed.training, part) == saved, "{part:?}");
    }
    for llama in [&unbroken, &resumed] {
        llama.training.clear_gradients().unwrap();
        llama.pass();
        llama
            .training
            .apply_adamw(&llama.step(2), Ranges::All)
            .unwrap();
    }
    for part in parts {
        let [expected, found] = [&unbroken, &resumed].map(|llama| state(&llama.training, part));
        assert!(expected == found, "{part:?}");
        assert!(part != StatePart::WEIGHTS || expected != saved[0]);
    }
}

#[test]
fn wrong_use_is_an_error() {
    let llama = Llama::load("mha", trained());
    let training = &llama.training;
    let named = |error: merv_host::plugin::CallError, what: &str| {
        let text = chain(&error);
        assert!(text.contains(what), "{text}");
    };
    let numbers = [0.0f32; 4];
    let view = TensorView::new(&numbers, &[4]).unwrap();
    let import = |range| {
        let result = training.import(StatePart::WEIGHTS, range, view);
        result.unwrap_err()
    };
    let count = training.parameters().unwrap().len();
    named(
        import(whole(count as u32, 4)),
        &format!("parameter {count} does not exist"),
    );
    named(import(whole(0, usize::MAX)), "found the range 0..");
    named(import(whole(0, 5)), "expected 5 elements");
    named(
        training
            .apply_adamw(&llama.step(0), Ranges::All)
            .unwrap_err(),
        "expected a step from 1 on",
    );
    named(
        training.begin(&frozen()).unwrap_err(),
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
        let texts = TrainingTexts::new(embeds, mask, labels);
        let model = &llama.model;
        model.forward_backward(&texts, Backward::GRADIENTS, &mut |_| Ok(()))
    };
    named(run(labels).err().unwrap(), "found 5000");
    named(run(mask).err().unwrap(), "expected a tensor of i64");
    let (long, wide) = ([1, 3], [1, 2, width + 1]);
    let (long_mask, long_labels, wide_embeds) =
        ([1u8; 3], [0i64; 3], vec![0.0f32; 2 * (width + 1)]);
    let labels = [0i64, 1];
    let labels = TensorView::new(&labels, &[1, 2]).unwrap();
    for (embeds, mask, labels, shapes) in [
        (
            embeds,
            TensorView::new(&long_mask, &long).unwrap(),
            labels,
            "[1, 3] and [1, 2]",
        ),
        (
            embeds,
            mask,
            TensorView::new(&long_labels, &long).unwrap(),
            "[1, 2] and [1, 3]",
        ),
        (
            TensorView::new(&wide_embeds, &wide).unwrap(),
            mask,
            labels,
            "[1, 2] and [1, 2]",
        ),
    ] {
        let model = &llama.model;
        let texts = TrainingTexts::new(embeds, mask, labels);
        let error = model.forward_backward(&texts, Backward::LOSS_ONLY, &mut |_| Ok(()));
        named(error.err().unwrap(), shapes);
    }

    let request = LanguageModelRequest::new(source("llama2", "mha", "llama", "model.safetensors"));
    let fresh = load_llm(&llama_library(), &request).unwrap();
    let texts = TrainingTexts::new(embeds, mask, labels);
    let early = fresh.forward_backward(&texts, Backward::LOSS_ONLY, &mut |_| Ok(()));
    named(early.err().unwrap(), "training has not begun");
    named(
        fresh.training().unwrap().parameters().unwrap_err(),
        "training has not begun",
    );
}

/// Quantised weights cannot be trained, but gradients pass through them.
#[test]
fn quantised_weights_stay_frozen() {
    if torch_plugin().is_some() {
        return;
    }
    let model = source("llama2", "gguf-llama-k-quants", "llama", "model.gguf");
    let model = load_llm(&llama_library(), &LanguageModelRequest::new(model)).unwrap();
    let training = model.training().unwrap();
    let text = chain(&training.begin(&trained()).unwrap_err());
    assert!(text.contains("is quantised"), "{text}");
    training.begin(&frozen()).unwrap();

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
        let (three, two) = ([1, length, width], [1, length]);
        let texts = TrainingTexts::new(
            TensorView::new(embeds, &three).unwrap(),
            TensorView::new(&[1u8; 5], &two).unwrap(),
            TensorView::new(&labels, &two).unwrap(),
        );
        let answer = model.forward_backward(&texts, what, &mut |_| Ok(()));
        answer.unwrap_or_else(|error| panic!("{}", chain(&error)))
    };
    let answer = run(&embeds, Backward::GRADIENTS);
    let gradient = answer.gradient.view().f32s().unwrap();
    let scale = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    for at in [0, width + 3, 3 * width + 7] {
        let mut moved = |by: f32| {
            embeds[at] += by;
            let loss = run(&embeds, Backward::LOSS_ONLY).loss_sum;
            embeds[at] -= by;
            loss
        };
        let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
        let error = (slope - f64::from(gradient[at])).abs() / f64::from(scale);
        assert!(error < 1e-2, "{at}: {} is not {slope}", gradient[at]);
    }
}
