//! Mixers and fusions of plugins, called as the host calls them.

use merv_host::plugin::{CallError, Library, PluginMixer};
use merv_plugin_api::{
    AdamWStep, Device, ErrorKind, MixerInput, MixerRequest, MixerWeights, ModelSource,
    ParameterRange, Ranges, StatePart, TensorView, TensorViewMut, TrainingOptions, kind,
};
use merv_tests::{artifacts, chain};
use std::sync::Arc;

fn library() -> Arc<Library> {
    Library::open(artifacts().library("test_plugin_mixers"), 1).unwrap()
}

/// A request for two encoders, with features of these `[tokens, width]`.
fn request(id: &str, shapes: [[u32; 2]; 2], llm_width: u32) -> MixerRequest {
    let inputs = shapes.map(|[tokens, width]| MixerInput::new("e", width, [1, tokens]));
    MixerRequest::new(ModelSource::new(id, Device::CPU), inputs.into(), llm_width)
}

/// The fusion, with its learned numbers.
fn fusion(learned: &[f32]) -> Arc<PluginMixer> {
    let request = request("scalar-of-a-plugin", [[2, 3], [2, 3]], 3);
    let described = library().describe_mixer(kind::FUSION, &request).unwrap();
    assert_eq!(described.parameters[0].name, "feature_fusion.scalar");
    let names = ["feature_fusion.scalar".to_owned()];
    let shape = [learned.len()];
    let values = [TensorView::new(learned, &shape).unwrap()];
    let weights = MixerWeights::new(&names, &values, 0).unwrap();
    let mixer = library().load_mixer(&request, &described, &weights);
    Arc::new(mixer.unwrap())
}

const FIRST: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
const SECOND: [f32; 6] = [-1.0, 0.0, 1.0, 2.0, -3.0, 0.5];

fn features() -> [TensorView<'static>; 2] {
    [&FIRST, &SECOND].map(|values| TensorView::new(values, &[1, 2, 3]).unwrap())
}

/// The softmax of 0 and ln 3 is 1/4 and 3/4.
const LEARNED: [f32; 2] = [0.0, 1.098_612_3];

#[test]
fn a_fusion_mixes_and_weighs() {
    let mixed = fusion(&LEARNED).forward(&features()).unwrap();
    let weights = mixed.weights.unwrap();
    assert_eq!(weights.view().shape(), [1, 2]);
    let near = |found: &[f32], expected: &[f32]| {
        assert_eq!(found.len(), expected.len());
        let mut pairs = found.iter().zip(expected);
        assert!(
            pairs.all(|(a, b)| (a - b).abs() < 1e-6),
            "{found:?} {expected:?}"
        );
    };
    near(weights.view().f32s().unwrap(), &[0.25, 0.75]);
    let expected: Vec<f32> = FIRST
        .iter()
        .zip(&SECOND)
        .map(|(a, b)| 0.25 * a + 0.75 * b)
        .collect();
    near(mixed.tokens.view().f32s().unwrap(), &expected);
}

/// The gradients, against differences of the loss `Σ direction · tokens`.
#[test]
fn a_fusion_is_differentiated() {
    let direction: [f32; 6] = [0.5, -1.0, 2.0, 0.25, 1.5, -0.75];
    let loss = |learned: &[f32]| -> f64 {
        let mixed = fusion(learned).forward(&features()).unwrap();
        let view = mixed.tokens.view();
        let pairs = view.f32s().unwrap().iter().zip(&direction);
        pairs.map(|(x, d)| f64::from(x * d)).sum()
    };
    let mixer = fusion(&LEARNED);
    let early = mixer.forward_train(&features()).err().unwrap();
    assert!(
        early.to_string().contains("training has not begun"),
        "{early}"
    );
    let training = mixer.training().unwrap();
    training.begin(&TrainingOptions::new(true)).unwrap();
    let (_, tape) = mixer.forward_train(&features()).unwrap();
    let mut told = Vec::new();
    let gradient = TensorView::new(&direction, &[1, 2, 3]).unwrap();
    let inputs = tape
        .backward(gradient, &mut |parameters| {
            told.extend_from_slice(parameters);
            Ok(())
        })
        .unwrap();
    assert_eq!(told, [0], "every parameter is ready once");
    for (input, weight) in inputs.iter().zip([0.25, 0.75]) {
        let found = input.view().f32s().unwrap().to_vec();
        let expected = direction.map(|d| weight * d);
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
    }
    let mut found = Vec::new();
    training
        .visit(StatePart::GRADIENT, Ranges::All, &mut |_, view| {
            found = view.view().f32s()?.to_vec();
            Ok(())
        })
        .unwrap();
    for index in 0..2 {
        let moved = |by: f32| {
            let mut learned = LEARNED;
            learned[index] += by;
            loss(&learned)
        };
        let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        assert!(
            (slope - f64::from(found[index])).abs() < 1e-3,
            "{slope} {found:?}"
        );
    }
    // A mixer before which nothing is trained may leave out the gradients of the features.
    let frozen = TrainingOptions::new(true).input_gradients(false);
    let second = fusion(&LEARNED);
    second.training().unwrap().begin(&frozen).unwrap();
    let (_, tape) = second.forward_train(&features()).unwrap();
    let none = tape.backward(gradient, &mut |_| Ok(())).unwrap();
    assert!(none.iter().all(|gradient| gradient.view().shape() == [0]));
    let squares = found
        .iter()
        .map(|&g| f64::from(g) * f64::from(g))
        .sum::<f64>();
    assert_eq!(training.gradient_squares(Ranges::All).unwrap(), squares);
    let before = loss(&LEARNED);
    training
        .apply_adamw(&AdamWStep::new(1, 0.1), Ranges::All)
        .unwrap();
    let mut learned = Vec::new();
    training
        .export(StatePart::WEIGHTS, Ranges::All, &mut |_, view| {
            learned = view.f32s()?.to_vec();
            Ok(())
        })
        .unwrap();
    assert!(loss(&learned) < before, "a step goes downhill");
    let range = ParameterRange {
        parameter: 0,
        start: 0,
        end: 1,
    };
    let first = TensorView::new(&[7.0f32], &[1]).unwrap();
    training.import(StatePart::WEIGHTS, range, first).unwrap();
    let mut seen = Vec::new();
    let mut see = |_: u32, view: TensorViewMut<'_>| {
        seen.push((view.view().shape().to_vec(), view.view().f32s()?.to_vec()));
        Ok(())
    };
    for ranges in [Ranges::All, Ranges::Only(&[range])] {
        training
            .visit(StatePart::WEIGHTS, ranges, &mut see)
            .unwrap();
    }
    assert_eq!(seen[0], (vec![2], vec![7.0, learned[1]]));
    assert_eq!(seen[1], (vec![1], vec![7.0]));
    let past = ParameterRange { end: 3, ..range };
    let refused = training.visit(
        StatePart::WEIGHTS,
        Ranges::Only(&[past]),
        &mut |_, _| Ok(()),
    );
    assert_eq!(refused.unwrap_err().failure.kind, ErrorKind::INVALID_INPUT);
}

#[test]
fn a_whole_mixer_begins_from_a_seed_or_from_values() {
    let request = request("mean-token", [[2, 3], [1, 2]], 4);
    let described = library().describe_mixer(kind::MIXER, &request).unwrap();
    let names = |range: std::ops::Range<usize>| -> Vec<String> {
        described.parameters[range]
            .iter()
            .map(|p| p.name.clone())
            .collect()
    };
    assert_eq!(names(0..2), ["projectors.0.weight", "projectors.1.weight"]);
    assert_eq!(described.parameters[1].shape, [4, 2]);
    let second = [10.0f32, 1.0];
    let inputs = [
        TensorView::new(&FIRST, &[1, 2, 3]).unwrap(),
        TensorView::new(&second, &[1, 1, 2]).unwrap(),
    ];
    // The first projection is new: 2 / 1000 everywhere. The second picks the first number in its first row.
    let mut stored = [0.0f32; 8];
    stored[0] = 1.0;
    let shape = [4, 2];
    let values = [TensorView::new(&stored, &shape).unwrap()];
    let reused = names(1..2);
    let weights = MixerWeights::new(&reused, &values, 2).unwrap();
    let mixer = library()
        .load_mixer(&request, &described, &weights)
        .unwrap();
    let mixed = mixer.forward(&inputs).unwrap();
    assert_eq!(mixed.tokens.view().shape(), [1, 1, 4]);
    assert!(mixed.weights.is_none());
    let found = mixed.tokens.view().f32s().unwrap().to_vec();
    // The mean feature is 2.5, 3.5, 4.5, whose sum is 10.5.
    for (found, expected) in found.iter().zip([10.021, 0.021, 0.021, 0.021]) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    mixer.training().unwrap();

    let mut frozen = request;
    frozen.model.id = "frozen-mean-token".to_owned();
    let frozen = library().load_mixer(&frozen, &described, &weights).unwrap();
    let refused = frozen.training().err().unwrap();
    assert_eq!(refused.failure.kind, ErrorKind::UNSUPPORTED);
}

#[test]
fn wrong_requests_and_features_are_refused_by_name() {
    let uneven = request("scalar-of-a-plugin", [[2, 3], [1, 3]], 3);
    let describe = |request: &MixerRequest| -> Result<(), CallError> {
        library().describe_mixer(kind::FUSION, request).map(drop)
    };
    let text = chain(&describe(&uneven).unwrap_err());
    for words in [
        "plugin `mixers` could not describe `scalar-of-a-plugin`",
        "same number",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let text = chain(&describe(&request("none", [[1, 1], [1, 1]], 3)).unwrap_err());
    assert!(text.contains("no mixer `none`"), "{text}");
    let mixer = fusion(&LEARNED);
    let one = [features()[0]];
    let text = chain(&mixer.forward(&one).err().unwrap());
    assert!(
        text.contains("could not mix features with `scalar-of-a-plugin`"),
        "{text}"
    );
    let text = chain(
        &Library::open(artifacts().library("test_plugin_faulty"), 1)
            .unwrap()
            .describe_mixer(kind::MIXER, &uneven)
            .unwrap_err(),
    );
    assert!(text.contains("does not provide mixers"), "{text}");
}
