//! Training against torch's autograd and AdamW.

mod encoders;
mod language_models;

use merv_host::plugin::{Encoder, LanguageModel, Training};
use merv_plugin_api::{
    AdamWStep, Backward, Clips, DType, EncoderRequest, LanguageModelRequest, LossAndGradient,
    ModelSource, Ranges, ReadyGradients, StatePart, TensorView, TrainingOptions, TrainingTexts,
};
use merv_tests::{
    Tensor, Tensors, chain, cosine, fixture, load_encoder, load_llm, model_library, model_source,
    read,
};
use std::collections::BTreeMap;

type Library = std::sync::Arc<merv_host::plugin::Library>;

/// The tolerance relative to the scale of a gradient.
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

fn trained() -> TrainingOptions {
    TrainingOptions::new(true)
}

fn frozen() -> TrainingOptions {
    TrainingOptions::new(false)
}

fn source(plugin: &str, case: &str, id: &str, weights: &str) -> ModelSource {
    let path = |file: &str| fixture(plugin).join(case).join(file);
    let config = Some(path("config.json")).filter(|_| !weights.ends_with(".gguf"));
    model_source(id, &path(weights), config.as_deref())
}

fn expected(plugin: &str, case: &str) -> Tensors {
    read(&fixture("training").join(format!("{plugin}-{case}.safetensors")))
}

fn largest(numbers: impl IntoIterator<Item = f32>) -> f64 {
    let numbers = numbers.into_iter();
    numbers.fold(0.0, |m: f64, x| m.max(f64::from(x.abs())))
}

/// The largest difference divided by the largest expected value, or by `floor` if that is larger.
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
    let (parameters, mut all) = (training.parameters().unwrap(), BTreeMap::new());
    training
        .visit(StatePart::GRADIENT, Ranges::All, &mut |index, gradient| {
            let name = parameters[index as usize].name.clone();
            all.insert(name, gradient.view().f32s()?.to_vec());
            Ok(())
        })
        .unwrap();
    all
}

fn state(training: &Training, part: StatePart) -> BTreeMap<String, Tensor> {
    let (parameters, mut all) = (training.parameters().unwrap(), BTreeMap::new());
    training
        .export(part, Ranges::All, &mut |index, values| {
            let (shape, values) = (values.shape().to_vec(), values.f32s()?.to_vec());
            let name = parameters[index as usize].name.clone();
            all.insert(name, Tensor { shape, values });
            Ok(())
        })
        .unwrap();
    all
}

/// Checks that every gradient matches torch's, and that those without a gradient in torch are zero.
fn assert_gradients(what: &str, training: &Training, expected: &Tensors) {
    let found = gradients(training);
    let listed: Vec<_> = training.parameters().unwrap();
    assert_eq!(listed.len(), found.len());
    let names: Vec<_> = expected
        .names()
        .filter_map(|n| n.strip_prefix("grad."))
        .collect();
    let torchs = |name: &str| &expected.get(&format!("grad.{name}")).values;
    // A bias of keys changes all scores of a query equally, so its gradient is 0 up to rounding.
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

/// Checks that every gradient above a floor has the direction of torch's in `f32`, up to the rounding of `bf16`.
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
        assert!(cosine >= least, "{what}, {name}: the cosine is {cosine}");
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
        model.dtype = dtype;
        let request = LanguageModelRequest::new(model);
        let model = load_llm(&library, &request)
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
        self.run_telling(rows, what, &mut |_| Ok(()))
    }

    fn run_telling(
        &self,
        rows: std::ops::Range<usize>,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> LossAndGradient {
        let [embeds, mask, labels] = ["embeds", "mask", "labels"].map(|n| self.expected.get(n));
        let (length, width) = (embeds.shape[1], embeds.shape[2]);
        let mask: Vec<u8> = mask.values.iter().map(|&x| x as u8).collect();
        let labels: Vec<i64> = labels.values.iter().map(|&x| x as i64).collect();
        let cut = rows.start * length..rows.end * length;
        let (two, three) = ([rows.len(), length], [rows.len(), length, width]);
        let embeds = &embeds.values[cut.start * width..cut.end * width];
        let texts = TrainingTexts::new(
            TensorView::new(embeds, &three).unwrap(),
            TensorView::new(&mask[cut.clone()], &two).unwrap(),
            TensorView::new(&labels[cut], &two).unwrap(),
        );
        self.model
            .forward_backward(&texts, what, ready)
            .unwrap_or_else(|error| panic!("{}: {}", self.name, chain(&error)))
    }

    /// Passes the gradient of all looked-up embeddings back.
    fn backward_embeddings(&self, gradient: &[f32], rows: std::ops::Range<usize>) {
        let ids = self.expected.get("ids");
        let (length, width) = (ids.shape[1], self.model.info().width as usize);
        for (index, row) in rows.enumerate() {
            let (mut looked_up, mut gradients) = (Vec::new(), Vec::<f32>::new());
            for position in 0..length {
                // Rows 0 and 1 have visual tokens after the first position.
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
        AdamWStep::new(step, 0.01)
            .weight_decay(0.1)
            .gradient_scale(1.0 / self.tokens() as f64)
    }

    /// One forward and backward pass over the whole batch.
    fn pass(&self) -> (LossAndGradient, Vec<f32>) {
        let rows = self.expected.get("embeds").shape[0];
        let answer = self.run(0..rows, Backward::GRADIENTS);
        let gradient = answer.gradient.view().f32s().unwrap().to_vec();
        self.backward_embeddings(&gradient, 0..rows);
        (answer, gradient)
    }
}

fn llama_library() -> Library {
    model_library("llama2")
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
        Self {
            expected: expected(plugin, case),
            ..Self::without_gradients(dtype, plugin, case, id)
        }
    }

    /// A case that the fixtures have no gradients for.
    fn without_gradients(dtype: Option<DType>, plugin: &str, case: &str, id: &str) -> Self {
        let clips = read(&fixture(plugin).join(case).join("io.safetensors"));
        let clips = clips.get("clips").clone();
        let mut model = source(plugin, case, id, "model.safetensors");
        model.dtype = dtype;
        let mut request = EncoderRequest::new(model, clips.shape[1] as u32);
        request.image_size = Some(clips.shape[3] as u32);
        let encoder = load_encoder(&model_library(plugin), &request)
            .unwrap_or_else(|error| panic!("{plugin}/{case}: {}", chain(&error)));
        Self {
            training: encoder.training().unwrap(),
            encoder,
            clips,
            expected: Tensors::default(),
        }
    }

    fn clips(&self) -> Clips<'_> {
        Clips::new(TensorView::new(&self.clips.values, &self.clips.shape).unwrap())
    }

    fn pass(&self) {
        let (features, tape) = self.encoder.forward_train(&self.clips()).unwrap();
        let plain = self.encoder.encode(&self.clips()).unwrap();
        let [found, plain] = [&features, &plain].map(|f| f.view().f32s().unwrap().to_vec());
        assert!(error_of(&found, &plain) < 2e-6);
        let gradient = self.expected.get("features_grad");
        let gradient = TensorView::new(&gradient.values, &gradient.shape).unwrap();
        tape.backward(gradient, &mut |_| Ok(()))
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
}
