//! Training, through the libraries that users load, against torch's autograd and its AdamW.

use merv_host::plugin::{Encoder, LanguageModel, Training};
use merv_plugin_api::{
    AdamWStep, Backward, DType, Device, EncoderRequest, LanguageModelRequest, LossAndGradient,
    ModelSource, StatePart, TensorView, TrainingOptions,
};
use merv_tests::{
    LEAST_COSINE, Tensor, Tensors, artifacts, chain, cosine, encoder_library, fixture, read,
};
use std::collections::BTreeMap;

type Library = std::sync::Arc<merv_host::plugin::Library>;

/// What error is left of a gradient's own scale.
const TOLERANCE: f64 = 1e-4;

const LANGUAGE_MODELS: [&str; 3] = ["gqa-tied-llama3-rope", "mha", "qwen2-tied"];

const ENCODERS: [(&str, &str, &str); 4] = [
    (
        "dinov2",
        "variants-small-activations",
        "dinov2-video-classemb-at-first",
    ),
    ("languagebind", "adapters", "languagebind-video-noclass"),
    (
        "siglip",
        "variants-small-activations",
        "siglip-vit-b16-224px",
    ),
    (
        "vivit",
        "variants-small-activations",
        "vivit-google-b-all-no-cls",
    ),
];

const TRAINED: TrainingOptions = TrainingOptions {
    trainable: true,
    checkpoint_activations: false,
};

fn source(plugin: &str, case: &str, id: &str, weights: &str) -> ModelSource {
    let path = |file: &str| fixture(plugin).join(case).join(file).display().to_string();
    ModelSource {
        id: id.into(),
        weights: vec![path(weights).into()].into(),
        config: Some(path("config.json"))
            .filter(|_| !weights.ends_with(".gguf"))
            .map(Into::into)
            .into(),
        device: Device::CPU,
        dtype: None.into(),
    }
}

fn expected(plugin: &str, case: &str) -> Tensors {
    read(&fixture("training").join(format!("{plugin}-{case}.safetensors")))
}

fn largest(numbers: impl IntoIterator<Item = f32>) -> f64 {
    let numbers = numbers.into_iter();
    numbers.fold(0.0, |m: f64, x| m.max(f64::from(x.abs())))
}

/// The largest difference over the largest expected value, or over `floor` if that is larger.
fn error_over(found: &[f32], expected: &[f32], floor: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let difference = largest(found.iter().zip(expected).map(|(f, e)| f - e));
    difference / largest(expected.iter().copied()).max(floor)
}

fn error_of(found: &[f32], expected: &[f32]) -> f64 {
    error_over(found, expected, f64::MIN_POSITIVE)
}

#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f32], floor: f64) {
    let error = error_over(found, expected, floor);
    assert!(error < TOLERANCE, "{what}: relative error {error:e}");
}

fn gradients(training: &Training) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    training
        .visit_gradients(&mut |name, gradient| {
            all.insert(name.to_owned(), gradient.to_vec());
            Ok(())
        })
        .unwrap();
    all
}

fn state(training: &Training, part: StatePart) -> BTreeMap<String, Tensor> {
    let mut all = BTreeMap::new();
    training
        .export(part, &mut |name, values| {
            let (shape, values) = (values.shape().to_vec(), values.f32s()?.to_vec());
            all.insert(name.to_owned(), Tensor { shape, values });
            Ok(())
        })
        .unwrap();
    all
}

/// Every gradient is torch's; those that torch has none of are zero.
fn assert_gradients(what: &str, training: &Training, expected: &Tensors) {
    let found = gradients(training);
    let listed: Vec<_> = training.parameters().unwrap();
    assert_eq!(listed.len(), found.len());
    let names: Vec<_> = expected
        .names()
        .filter_map(|n| n.strip_prefix("grad."))
        .collect();
    let torchs = |name: &str| &expected.get(&format!("grad.{name}")).values;
    // A bias of keys moves all scores of a query alike: its gradient is 0 but for rounding.
    let floor = 1e-3 * largest(names.iter().flat_map(|name| torchs(name)).copied());
    for name in &names {
        let gradient = found
            .get(*name)
            .unwrap_or_else(|| panic!("{what}: `{name}` is not a parameter"));
        assert_near(&format!("{what}, {name}"), gradient, torchs(name), floor);
    }
    for parameter in &listed {
        let name = parameter.name.as_str();
        let gradient = &found[name];
        assert_eq!(
            gradient.len(),
            parameter.shape.iter().product::<usize>(),
            "{what}, {name}"
        );
        if !names.contains(&name) {
            assert!(gradient.iter().all(|&g| g == 0.0), "{what}, {name}");
        }
    }
}

/// Every gradient that matters points where torch's of `f32` does, up to what `bf16` rounds away.
fn assert_gradients_aligned(what: &str, training: &Training, expected: &Tensors, least: f64) {
    let found = gradients(training);
    let torchs = |name: &str| &expected.get(&format!("grad.{name}")).values;
    let names = || expected.names().filter_map(|n| n.strip_prefix("grad."));
    let floor = 1e-3 * largest(names().flat_map(torchs).copied());
    let mut compared = 0;
    for name in names() {
        let (found, expected) = (&found[name], torchs(name));
        if largest(expected.iter().copied()) < floor {
            let difference = largest(found.iter().zip(expected).map(|(f, e)| f - e));
            assert!(difference < floor, "{what}, {name}: off by {difference}");
            continue;
        }
        let cosine = cosine(found, expected);
        assert!(cosine >= least, "{what}, {name}: a cosine of {cosine}");
        compared += 1;
    }
    assert!(compared > 5, "{what}: {compared} gradients were compared");
}

struct Llama {
    name: &'static str,
    model: LanguageModel,
    training: Training,
    expected: Tensors,
}

impl Llama {
    fn load(name: &'static str, options: TrainingOptions) -> Self {
        Self::load_in(None, name, options)
    }

    fn load_in(dtype: Option<DType>, name: &'static str, options: TrainingOptions) -> Self {
        let library = Library::clone(&llama_library());
        let mut model = source("llama2", name, "llama", "model.safetensors");
        model.dtype = dtype.into();
        let request = LanguageModelRequest { model };
        let model = library
            .load_llm(&request)
            .unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        let training = model.training().unwrap();
        training.begin(&options).unwrap();
        Self {
            name,
            model,
            training,
            expected: expected("llama2", name),
        }
    }

    fn run(&self, rows: std::ops::Range<usize>, what: Backward) -> LossAndGradient {
        let [embeds, mask, labels] = ["embeds", "mask", "labels"].map(|n| self.expected.get(n));
        let (length, width) = (embeds.shape[1], embeds.shape[2]);
        let mask: Vec<u8> = mask.values.iter().map(|&x| x as u8).collect();
        let labels: Vec<i64> = labels.values.iter().map(|&x| x as i64).collect();
        let cut = rows.start * length..rows.end * length;
        let (two, three) = ([rows.len(), length], [rows.len(), length, width]);
        let embeds = &embeds.values[cut.start * width..cut.end * width];
        self.model
            .forward_backward(
                TensorView::new(embeds, &three).unwrap(),
                TensorView::new(&mask[cut.clone()], &two).unwrap(),
                TensorView::new(&labels[cut], &two).unwrap(),
                what,
            )
            .unwrap_or_else(|error| panic!("{}: {}", self.name, chain(&error)))
    }

    /// Hands the gradient of all embeddings that were looked up back.
    fn look_back(&self, gradient: &[f32], rows: std::ops::Range<usize>) {
        let ids = self.expected.get("ids");
        let (length, width) = (ids.shape[1], self.model.info().width as usize);
        for (index, row) in rows.enumerate() {
            let (mut looked_up, mut gradients) = (Vec::new(), Vec::<f32>::new());
            for position in 0..length {
                // Rows 0 and 1 have visual tokens after the first.
                if row < 2 && (1..5).contains(&position) {
                    continue;
                }
                looked_up.push(ids.row(row)[position] as u32);
                gradients.extend(&gradient[(index * length + position) * width..][..width]);
            }
            let shape = [looked_up.len(), width];
            let view = TensorView::new(&gradients, &shape).unwrap();
            self.model.backward_embed(&looked_up, view).unwrap();
        }
    }

    fn tokens(&self) -> u64 {
        self.expected.get("tokens").values[0] as u64
    }

    fn step(&self, step: u64) -> AdamWStep {
        AdamWStep {
            step,
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            gradient_scale: 1.0 / self.tokens() as f64,
        }
    }

    /// One pass over the whole batch, there and back.
    fn pass(&self) -> (LossAndGradient, Vec<f32>) {
        let rows = self.expected.get("embeds").shape[0];
        let answer = self.run(0..rows, Backward::Gradients);
        let gradient = answer.gradient.view().f32s().unwrap().to_vec();
        self.look_back(&gradient, 0..rows);
        (answer, gradient)
    }
}

fn llama_library() -> Library {
    merv_host::plugin::Library::open(artifacts().library("merv_llama2"), 2).unwrap()
}

#[test]
fn losses_and_gradients_of_language_models_are_torchs() {
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
fn gradients_in_bf16_are_torchs_but_for_rounding() {
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
        // As for its features, in encoders.rs: rounding decides which of two frames is attended to.
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
fn a_frozen_model_hands_the_same_gradient_back_and_keeps_none() {
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
            parts.look_back(part.gradient.view().f32s().unwrap(), rows);
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
fn steps_are_torchs_and_the_model_uses_what_they_make() {
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
fn training_goes_on_bit_for_bit_from_what_was_exported() {
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

/// Nothing is trained of quantised weights, but gradients go through them.
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

    // The slope of the loss when one number moves.
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

struct Video {
    encoder: Encoder,
    training: Training,
    clips: Tensor,
    expected: Tensors,
}

impl Video {
    fn load(plugin: &str, case: &str, id: &str) -> Self {
        Self::load_in(None, plugin, case, id)
    }

    fn load_in(dtype: Option<DType>, plugin: &str, case: &str, id: &str) -> Self {
        let clips = read(&fixture(plugin).join(case).join("io.safetensors"));
        let clips = clips.get("clips").clone();
        let mut model = source(plugin, case, id, "model.safetensors");
        model.dtype = dtype.into();
        let request = EncoderRequest {
            model,
            num_frames: clips.shape[1] as u32,
            image_size: Some(clips.shape[3] as u32).into(),
        };
        let encoder = encoder_library(plugin)
            .load_encoder(&request)
            .unwrap_or_else(|error| panic!("{plugin}/{case}: {}", chain(&error)));
        Self {
            training: encoder.training().unwrap(),
            encoder,
            clips,
            expected: expected(plugin, case),
        }
    }

    fn clips(&self) -> TensorView<'_> {
        TensorView::new(&self.clips.values, &self.clips.shape).unwrap()
    }

    fn pass(&self) {
        let (features, tape) = self.encoder.forward_train(self.clips()).unwrap();
        let plain = self.encoder.encode(self.clips()).unwrap();
        let [found, plain] = [&features, &plain].map(|f| f.view().f32s().unwrap().to_vec());
        assert!(error_of(&found, &plain) < 2e-6);
        let gradient = self.expected.get("features_grad");
        tape.backward(TensorView::new(&gradient.values, &gradient.shape).unwrap())
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
}

#[test]
fn gradients_of_encoders_are_torchs() {
    for (plugin, case, id) in ENCODERS {
        let video = Video::load(plugin, case, id);
        let early = video.encoder.forward_train(video.clips()).err().unwrap();
        assert!(chain(&early).contains("training has not begun"));
        video.training.begin(&TRAINED).unwrap();
        let features = video.encoder.encode(video.clips()).unwrap();
        let found = features.view().f32s().unwrap();
        let error = error_of(found, &video.expected.get("features").values);
        assert!(error < 2e-5, "{plugin}: features are off by {error:e}");
        video.pass();
        assert_gradients(
            &format!("{plugin}/{case}"),
            &video.training,
            &video.expected,
        );
    }
}

#[test]
fn a_tape_serves_once_and_only_its_own_gradient() {
    let (plugin, case, id) = ENCODERS[0];
    let video = Video::load(plugin, case, id);
    video.training.begin(&TRAINED).unwrap();
    let gradient = video.expected.get("features_grad");
    let view = TensorView::new(&gradient.values, &gradient.shape).unwrap();
    let (_, first) = video.encoder.forward_train(video.clips()).unwrap();
    let (_, second) = video.encoder.forward_train(video.clips()).unwrap();
    drop(first);
    let half = gradient.values.len() / 2;
    let shape = [1, gradient.shape[1], gradient.shape[2]];
    let part = TensorView::new(&gradient.values[..half], &shape).unwrap();
    let text = chain(&second.backward(part).unwrap_err());
    assert!(
        text.contains("expected a gradient of the features"),
        "{text}"
    );
    // Nothing has come in yet; two passes are twice one.
    assert!(
        gradients(&video.training)
            .values()
            .flatten()
            .all(|&g| g == 0.0)
    );
    video.pass();
    let once = gradients(&video.training);
    let (_, third) = video.encoder.forward_train(video.clips()).unwrap();
    third.backward(view).unwrap();
    for (name, twice) in gradients(&video.training) {
        let expected: Vec<f32> = once[&name].iter().map(|g| 2.0 * g).collect();
        assert!(
            once[&name].iter().all(|&g| g == 0.0) || error_of(&twice, &expected) < 1e-5,
            "{name}"
        );
    }
}
