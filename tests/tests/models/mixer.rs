//! The mixer against the original projectors and fusions.

use candle_core::{Device, Tensor};
use merv_host::{
    mixer::{self, CoreMixer, Cost, EncoderShape, FusionPlugin, Mixed, Mixer, MixerModel},
    plugin::Library,
    registry::{FusionKind, MixerKind, ProjectorKind},
};
use merv_plugin_api::{
    Call, MixerInput, MixerObject, MixerRequest, MixerWeights, ModelSource, ParameterInfo,
    ParameterRange, Ranges, StatePart, TensorBuf, TensorView, TensorViewMut, TrainingOptions,
    VisitTensor, VisualTokens, kind,
};
use merv_tests::{Tensors, artifacts, assert_close, chain, fixture, read, torch_plugin};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
};

struct Case {
    name: String,
    path: PathBuf,
    kind: MixerKind,
    shapes: Vec<EncoderShape>,
    width: usize,
    query_width: usize,
    /// The costs that PyTorch counts; `None` if it also counts tensors that are not fully used.
    cost: Option<Cost>,
    io: Tensors,
}

impl Case {
    fn read(name: String) -> Self {
        let folder = fixture("mixer").join(&name);
        let meta: Value =
            serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
        let number = |key: &str| meta[key].as_u64().unwrap() as usize;
        let numbers = |key: &str| -> Vec<usize> {
            let list = meta[key].as_array().unwrap().iter();
            list.map(|value| value.as_u64().unwrap() as usize).collect()
        };
        let text = |key: &str| meta[key].as_str().unwrap();
        let (widths, temporal, spatial) =
            (numbers("widths"), numbers("temporal"), numbers("spatial"));
        Self {
            kind: MixerKind {
                projector: text("projector").parse().unwrap(),
                fusion: text("fusion").parse().unwrap(),
                token_length: number("token_length"),
                visual_feature_length: number("visual_feature_length"),
            },
            shapes: (0..widths.len())
                .map(|i| EncoderShape {
                    width: widths[i],
                    temporal: temporal[i],
                    spatial: spatial[i],
                })
                .collect(),
            width: number("llm_width"),
            query_width: meta["query_width"].as_u64().unwrap_or_default() as usize,
            cost: meta["macs"].as_u64().map(|macs| Cost {
                parameters: number("parameters") as u64,
                macs,
            }),
            io: read(&folder.join("io.safetensors")),
            path: folder.join("mixer.safetensors"),
            name,
        }
    }

    fn load(&self) -> Mixer {
        Mixer::new(self.kind, &self.shapes, self.width, &self.path)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn features(&self) -> Vec<Tensor> {
        let names = (0..self.shapes.len()).map(|i| format!("features.{i}"));
        names.map(|name| self.tensor(&name)).collect()
    }

    fn tensor(&self, name: &str) -> Tensor {
        let stored = self.io.get(name);
        let shape = stored.shape.as_slice();
        Tensor::from_vec(stored.values.clone(), shape, &Device::Cpu).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.io.names().any(|known| known == name)
    }

    #[track_caller]
    fn check(&self, what: &str, found: &Tensor, name: &str) {
        let expected = self.io.get(name);
        assert_eq!(found.dims(), expected.shape, "{}, {what}", self.name);
        let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
        assert_close(&format!("{}, {what}", self.name), &found, &expected.values);
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let folders = fs::read_dir(fixture("mixer")).unwrap();
    let names: BTreeSet<String> = folders
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.into_iter().map(Case::read)
}

#[test]
fn every_kind_has_a_case() {
    let cases: Vec<_> = cases().collect();
    let mut projectors: BTreeSet<String> = ["linear", "gelu-mlp", "fused-gelu-mlp"]
        .map(String::from)
        .into();
    for pooling in ["avg", "attntv", "conv", "3davg", "3dconv"] {
        for mlp in ["linear", "gelu-mlp", "fused-gelu-mlp", "none"] {
            projectors.insert(format!("{pooling}+{mlp}"));
        }
    }
    for pooling in ["3davg", "3dconv"] {
        projectors.insert(format!("{pooling}+frame2+linear"));
    }
    let found = cases.iter().map(|case| case.kind.projector.to_string());
    assert_eq!(found.collect::<BTreeSet<_>>(), projectors);
    let found = cases.iter().map(|case| case.kind.fusion.to_string());
    let fusions = [
        "none",
        "first",
        "concat",
        "concat_channel",
        "concat_channel_ln",
        "scalar",
        "cross_attention_avg_lq",
    ];
    let fusions = fusions.map(String::from).into();
    assert_eq!(found.collect::<BTreeSet<_>>(), fusions);
    let steps = cases.iter().map(|case| case.shapes[0].temporal);
    assert!(
        steps.collect::<BTreeSet<_>>().len() > 2,
        "the cases have different numbers of time steps"
    );
}

#[test]
fn tokens_and_weights_match_the_original() {
    for case in cases() {
        let Mixed {
            projected,
            fused,
            weights,
        } = case.load().forward(&case.features()).unwrap();
        for (index, projected) in projected.iter().enumerate() {
            case.check(
                &format!("encoder {index}"),
                projected,
                &format!("projected.{index}"),
            );
        }
        case.check("fused", &fused, "fused");
        assert_eq!(weights.is_some(), case.has("weights"), "{}", case.name);
        if let Some(weights) = weights {
            case.check("weights", &weights, "weights");
        }
    }
}

/// Runs a mixer behind the API, as a plugin's mixer is run, forward and backward. Compares tokens, weights and gradients
/// of the features with the original's.
fn check_behind_the_api(case: &Case, mixer: Mixer) -> MixerObject {
    let name = &case.name;
    let object = MixerObject::trainable(CoreMixer::new(mixer));
    let stored: Vec<_> = (0..case.shapes.len())
        .map(|index| case.io.get(&format!("features.{index}")))
        .collect();
    let views: Vec<_> = stored
        .iter()
        .map(|stored| TensorView::new(&stored.values, &stored.shape).unwrap())
        .collect();
    let check = |what: &str, found: &TensorBuf| {
        let expected = case.io.get(what);
        let found = found.view();
        assert_eq!(found.shape(), expected.shape, "{name}, {what}");
        assert_close(
            &format!("{name}, {what}"),
            found.f32s().unwrap(),
            &expected.values,
        );
    };
    let compare = |mixed: &VisualTokens| {
        check("fused", &mixed.tokens);
        let weighs = object.info().unwrap().weighs;
        assert_eq!(
            (mixed.weights.is_some(), weighs),
            (case.has("weights"), case.has("weights"))
        );
        mixed
            .weights
            .iter()
            .for_each(|weights| check("weights", weights));
    };
    compare(&object.forward(Call::ENDLESS, &views).unwrap());
    let training = object.training().unwrap();
    let error = object.forward_train(Call::ENDLESS, &views).unwrap_err();
    assert!(error.message.contains("training has not begun"), "{error}");

    let expected = case.io.get("fused_grad");
    let gradient = TensorView::new(&expected.values, &expected.shape).unwrap();
    let mut squares = Vec::new();
    for differentiates in [true, false] {
        let options = TrainingOptions::new(true).input_gradients(differentiates);
        training.begin_training(&options).unwrap();
        training.clear_gradients().unwrap();
        let (mixed, tape) = object.forward_train(Call::ENDLESS, &views).unwrap();
        compare(&mixed);
        let mut ready = Vec::new();
        let mut tell = |places: &[u32]| {
            ready.extend_from_slice(places);
            Ok(())
        };
        let gradients = object.backward(Call::ENDLESS, tape, gradient, &mut tell);
        for (index, found) in gradients.unwrap().iter().enumerate() {
            let what = format!("features_grad.{index}");
            match differentiates && case.has(&what) {
                true => check(&what, found),
                false => assert_eq!(found.view().shape(), [0], "{name}, {what}"),
            }
        }
        let parameters = training.parameters().unwrap();
        assert_eq!(parameters, object.info().unwrap().parameters, "{name}");
        assert_eq!(
            ready,
            (0..parameters.len() as u32).collect::<Vec<_>>(),
            "{name}"
        );
        squares.push(training.gradient_squares(Ranges::All).unwrap());
        let mut visited = Vec::new();
        let mut visit = |index: u32, view: TensorViewMut<'_>| {
            visited.push((index, view.view().shape().to_vec()));
            Ok(())
        };
        training
            .visit(StatePart::GRADIENT, Ranges::All, &mut visit)
            .unwrap();
        let shapes = parameters.into_iter().map(|info| info.shape);
        assert_eq!(visited, (0..).zip(shapes).collect::<Vec<_>>(), "{name}");
        // To begin again keeps what was learned.
        training.begin_training(&options).unwrap();
        let kept = training.gradient_squares(Ranges::All).unwrap();
        assert_eq!(Some(&kept), squares.last(), "{name}");
    }
    assert_eq!(
        squares[0], squares[1],
        "{name}: the gradients of the parameters are the same"
    );
    object
}

/// Every training stage trains the mixer, so gradients must pass through it.
#[test]
fn gradients_match_the_original() {
    for case in cases() {
        check_behind_the_api(&case, case.load());
    }
}

/// The fusion of the plugin in `tests/plugins/mixers` computes the same as the original's `scalar`.
#[test]
fn a_fusion_of_a_plugin_matches_the_original() {
    let library = Library::open(artifacts().library("test_plugin_mixers"), 1).unwrap();
    let scalar = |case: &Case| case.kind.fusion == FusionKind::Scalar;
    let cases: Vec<Case> = cases().filter(scalar).collect();
    assert!(!cases.is_empty());
    for case in cases {
        let tokens = case.shapes.iter();
        let tokens = tokens.map(|shape| case.kind.projected_tokens(shape.temporal, shape.spatial));
        let inputs =
            tokens.map(|tokens| MixerInput::new("e", case.width as u32, [1, tokens as u32]));
        let model = ModelSource::new("scalar-of-a-plugin", merv_plugin_api::Device::CPU);
        let request = MixerRequest::new(model, inputs.collect(), case.width as u32);
        let info = library.describe_mixer(kind::FUSION, &request).unwrap();
        let plugin = FusionPlugin {
            library: Arc::clone(&library),
            request,
            info,
        };
        let kind = MixerKind {
            fusion: FusionKind::Plugin,
            ..case.kind
        };
        let model = MixerModel::new(kind, Some(&plugin));
        let mixer = Mixer::new(model, &case.shapes, case.width, &case.path).unwrap();
        if let Some(expected) = case.cost {
            let found = mixer::cost(model, &case.shapes, case.width, 0);
            assert_eq!(found.parameters, expected.parameters, "{}", case.name);
        }

        let training = check_behind_the_api(&case, mixer).training().unwrap();
        let squares = training.gradient_squares(Ranges::All).unwrap();
        assert!(squares > 0.0, "{}", case.name);
        // The parameters of the fusion come last, and work may be divided there too.
        let last = training.parameters().unwrap().len() as u32 - 1;
        let parts = (0..=last).map(|parameter| {
            let elements = training.parameters().unwrap()[parameter as usize].elements();
            let range = ParameterRange::whole(parameter, elements);
            training.gradient_squares(Ranges::Only(&[range])).unwrap()
        });
        let parts: Vec<f64> = parts.collect();
        assert!(parts[last as usize] > 0.0, "{}", case.name);
        assert!((parts.iter().sum::<f64>() - squares).abs() < 1e-9 * squares);
    }
}

/// The gradients of the parameters, by name.
fn parameter_gradients(
    parameters: &[ParameterInfo],
    visit: impl FnOnce(&mut VisitTensor<'_>),
) -> BTreeMap<String, Vec<f32>> {
    let mut found = BTreeMap::new();
    visit(&mut |place, values| {
        let name = parameters[place as usize].name.clone();
        found.insert(name, values.view().f32s()?.to_vec());
        Ok(())
    });
    found
}

/// The whole mixer of the plugin for libtorch, against the original, and the gradients of its parameters against those of the
/// host's mixer.
#[test]
fn the_mixer_of_libtorch_matches_the_original() {
    let Some(plugin) = torch_plugin() else {
        return;
    };
    let library = Library::open(&plugin, 2).unwrap();
    for case in cases() {
        let mut model = ModelSource::new("merv-mixer", merv_plugin_api::Device::CPU);
        let query_width = mixer::query_width(case.kind, Some(&case.path)).unwrap();
        for (key, value) in [
            ("projector", case.kind.projector.to_string()),
            ("fusion", case.kind.fusion.to_string()),
            ("token_length", case.kind.token_length.to_string()),
            (
                "visual_feature_length",
                case.kind.visual_feature_length.to_string(),
            ),
            ("query_width", query_width.to_string()),
        ] {
            model.options.insert(key.to_owned(), value);
        }
        let inputs = case.shapes.iter().map(|shape| {
            let grid = [shape.temporal as u32, shape.spatial as u32];
            MixerInput::new("e", shape.width as u32, grid)
        });
        let request = MixerRequest::new(model, inputs.collect(), case.width as u32);
        let described = library.describe_mixer(kind::MIXER, &request);
        let info = described.unwrap_or_else(|error| panic!("{}: {}", case.name, chain(&error)));
        assert_eq!(info.options, request.model.options, "{}", case.name);
        let tokens = case.io.get("fused").shape[1];
        assert_eq!(info.tokens as usize, tokens, "{}", case.name);
        if let Some(cost) = case.cost {
            assert_eq!(info.macs_per_clip, cost.macs, "{}", case.name);
        }
        let stored = read(&case.path);
        let names: Vec<String> = info
            .parameters
            .iter()
            .map(|info| info.name.clone())
            .collect();
        let sorted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(sorted, stored.names().collect(), "{}", case.name);
        let values: Vec<_> = info
            .parameters
            .iter()
            .map(|info| TensorView::new(&stored.get(&info.name).values, &info.shape).unwrap())
            .collect();
        let weights = MixerWeights::new(&names, &values, 0).unwrap();
        let mixer = Arc::new(library.load_mixer(&request, &info, &weights).unwrap());

        let features: Vec<_> = (0..case.shapes.len())
            .map(|index| case.io.get(&format!("features.{index}")))
            .collect();
        let views: Vec<_> = features
            .iter()
            .map(|stored| TensorView::new(&stored.values, &stored.shape).unwrap())
            .collect();
        let check = |what: &str, found: &TensorBuf| {
            let (expected, found) = (case.io.get(what), found.view());
            assert_eq!(found.shape(), expected.shape, "{}, {what}", case.name);
            let what = format!("{}, {what}", case.name);
            assert_close(&what, found.f32s().unwrap(), &expected.values);
        };
        let mixed = mixer.forward(&views).unwrap();
        check("fused", &mixed.tokens);
        assert_eq!(
            mixed.weights.is_some(),
            case.has("weights"),
            "{}",
            case.name
        );
        mixed
            .weights
            .iter()
            .for_each(|weights| check("weights", weights));
        assert!(mixer.forward(&views[1..]).is_err(), "{}", case.name);

        let training = mixer.training().unwrap();
        training.begin(&TrainingOptions::new(true)).unwrap();
        let (_, tape) = mixer.forward_train(&views).unwrap();
        let gradient = case.io.get("fused_grad");
        let view = TensorView::new(&gradient.values, &gradient.shape).unwrap();
        let gradients = tape.backward(view, &mut |_| Ok(())).unwrap();
        for (index, found) in gradients.iter().enumerate() {
            let what = format!("features_grad.{index}");
            match case.has(&what) {
                true => check(&what, found),
                false => assert_eq!(found.view().shape(), [0], "{}, {what}", case.name),
            }
        }
        let core = check_behind_the_api(&case, case.load()).training().unwrap();
        let parameters = core.parameters().unwrap();
        let expected = parameter_gradients(&parameters, |visit| {
            core.visit(StatePart::GRADIENT, Ranges::All, visit).unwrap();
        });
        let parameters = training.parameters().unwrap();
        let found = parameter_gradients(&parameters, |visit| {
            training
                .visit(StatePart::GRADIENT, Ranges::All, visit)
                .unwrap();
        });
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let scale = expected
            .values()
            .map(|values| largest(values))
            .fold(0.0, f32::max);
        for (name, found) in &found {
            let Some(expected) = expected.get(name) else {
                assert!(UNUSED.iter().any(|unused| name.ends_with(unused)), "{name}");
                assert_eq!(largest(found), 0.0, "{}, {name}", case.name);
                continue;
            };
            let errors = found.iter().zip(expected).map(|(x, y)| x - y);
            let error = largest(&errors.collect::<Vec<_>>());
            // A bias of keys changes all scores equally, so its gradient is 0 up to rounding.
            let floor = largest(expected).max(1e-3 * scale);
            assert!(
                error <= 1e-4 * floor,
                "{}, {name}: {error} of {floor}",
                case.name
            );
        }
    }
}

/// The tensors of PyTorch's attention that nothing is computed with.
const UNUSED: [&str; 3] = ["v_proj_weight", "out_proj.weight", "out_proj.bias"];

#[test]
fn tokens_and_costs_are_predicted() {
    for case in cases() {
        let projected: Vec<_> = case
            .shapes
            .iter()
            .map(|shape| case.kind.projected_tokens(shape.temporal, shape.spatial))
            .collect();
        for (index, tokens) in projected.iter().enumerate() {
            let shape = &case.io.get(&format!("projected.{index}")).shape;
            assert_eq!(*tokens, shape[1], "{}, encoder {index}", case.name);
        }
        let tokens = case.kind.visual_tokens(&projected);
        assert_eq!(tokens, case.io.get("fused").shape[1], "{}", case.name);
        if let Some(expected) = case.cost {
            let width = mixer::query_width(case.kind, Some(&case.path)).unwrap();
            if case.query_width != 0 {
                assert_eq!(width, case.query_width, "{}", case.name);
            }
            let found = mixer::cost(case.kind, &case.shapes, case.width, width);
            assert_eq!(found, expected, "{}", case.name);
        }
    }
}

#[test]
fn features_of_wrong_shape_are_errors() {
    for case in cases() {
        let (mixer, features) = (case.load(), case.features());
        let refused = |features: &[Tensor], what: &str| {
            assert!(mixer.forward(features).is_err(), "{}: {what}", case.name);
        };
        refused(&features[1..], "one encoder less");
        let changed = |change: fn(&Tensor) -> Tensor| features.iter().map(change).collect();
        let narrow: Vec<_> = changed(|f| f.narrow(2, 1, 3).unwrap());
        refused(&narrow, "other widths");
        let long: Vec<_> = changed(|f| Tensor::cat(&[f, f], 1).unwrap());
        refused(&long, "other lengths");
        let flat: Vec<_> = changed(|f| f.flatten(0, 1).unwrap());
        refused(&flat, "no batch");
        assert!(
            mixer.forward(&features).is_ok(),
            "{}: no longer usable",
            case.name
        );
    }
}

/// Settings that the registry's check refuses are also errors when a mixer is built without a registry.
#[test]
fn kinds_that_cannot_mix_these_encoders_are_errors() {
    let case = Case::read("oblong".into());
    let refused = |kind: MixerKind, shapes: &[EncoderShape], parts: &[&str]| {
        let error = Mixer::new(kind, shapes, case.width, &case.path).err();
        let error = error.expect("the mixer is refused").to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    };
    let projector = |name: &str| MixerKind {
        projector: name.parse::<ProjectorKind>().unwrap(),
        ..case.kind
    };
    let all = |change: fn(&mut EncoderShape)| {
        let mut shapes = case.shapes.clone();
        shapes.iter_mut().for_each(change);
        shapes
    };
    refused(
        case.kind,
        &all(|s| s.spatial = 7),
        &["7", "do not form a grid"],
    );
    refused(case.kind, &all(|s| s.spatial = 1 << 40), &["too large"]);
    refused(
        projector("attntv+linear"),
        &all(|s| s.width = 12),
        &["8 heads", "12"],
    );
    refused(
        projector("3davg+frame4+linear"),
        &case.shapes,
        &["pools 3 time steps to none"],
    );
    refused(projector("none"), &case.shapes, &["without pooling"]);
    refused(
        projector("linear"),
        &case.shapes,
        &["2 encoders", "3davg+linear"],
    );
    for (fusion, part) in [
        ("query_mlp", "no forward pass"),
        ("none", "combine the features of 2 encoders"),
    ] {
        let kind = MixerKind {
            fusion: fusion.parse().unwrap(),
            ..case.kind
        };
        refused(kind, &case.shapes, &[part]);
    }
    // Sizes that exceed any memory.
    refused(case.kind, &all(|s| s.width = 1 << 45), &["projectors.0"]);
    refused(
        projector("conv+linear"),
        &all(|s| s.width = 1 << 40),
        &["projectors.0"],
    );
    refused(
        projector("3dconv+linear"),
        &all(|s| s.width = 1 << 40),
        &["projectors.0"],
    );
}
