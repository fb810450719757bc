//! The initial tensors of an untrained mixer against the original's initialisation.

use merv_host::{
    mixer::{EncoderShape, MixerPlan},
    registry::{MixerInit, MixerKind},
};
use merv_tests::fixture;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// The number of mixers of each kind to measure. `scalar` has few numbers and needs more mixers.
const DRAWS: u64 = 50;

const MANY_DRAWS: u64 = 500;

/// The shape and the values of every tensor of a kind, over many seeds.
fn draws(
    kind: MixerKind,
    shapes: &[EncoderShape],
    width: usize,
    query_width: Option<usize>,
) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut all: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    let seeds = match kind.fusion.to_string().as_str() {
        "scalar" => MANY_DRAWS,
        _ => DRAWS,
    };
    for seed in 0..seeds {
        let init = MixerInit {
            seed,
            query_width,
            reuse: None,
        };
        let plan = MixerPlan::new(kind, shapes, width, &init, None).unwrap();
        let mixer = plan.build(shapes, width).unwrap();
        let mut add = |name: &str, shape: &[usize], values: Vec<f32>| {
            let place = all.entry(name.to_owned()).or_default();
            place.0 = shape.to_vec();
            place.1.extend(values);
        };
        for parameter in mixer.parameters() {
            let values = parameter.var.flatten_all().unwrap().to_vec1().unwrap();
            add(&parameter.name, parameter.var.dims(), values);
        }
        for (name, tensor) in mixer.unused().unwrap() {
            let (bytes, _) = tensor.bytes().as_chunks();
            let values = bytes.iter().map(|&bytes| f32::from_le_bytes(bytes));
            add(&name, &tensor.shape, values.collect());
        }
    }
    all
}

/// The mixer has every tensor of the original, with initial values of the same range and spread.
#[test]
fn initial_tensors_match_the_original() {
    let text = fs::read_to_string(fixture("mixer_init.json")).unwrap();
    let cases: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 30);
    for (name, meta) in cases {
        let number = |key: &str| meta[key].as_u64().map(|number| number as usize);
        let list = |key: &str, at: usize| meta[key][at].as_u64().unwrap() as usize;
        let text = |key: &str| meta[key].as_str().unwrap();
        let kind = MixerKind {
            projector: text("projector").parse().unwrap(),
            fusion: text("fusion").parse().unwrap(),
            token_length: number("token_length").unwrap(),
            visual_feature_length: number("visual_feature_length").unwrap(),
        };
        let shapes = (0..meta["widths"].as_array().unwrap().len()).map(|at| EncoderShape {
            width: list("widths", at),
            temporal: list("temporal", at),
            spatial: list("spatial", at),
        });
        let shapes: Vec<_> = shapes.collect();
        let found = draws(
            kind,
            &shapes,
            number("llm_width").unwrap(),
            number("query_width"),
        );
        let expected = meta["tensors"].as_object().unwrap();
        let names = |keys: Vec<&String>| keys.into_iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(
            names(found.keys().collect()),
            names(expected.keys().collect()),
            "{name}"
        );
        for (tensor, expected) in expected {
            let (shape, values) = &found[tensor];
            let what = format!("{name}, {tensor}");
            assert_eq!(serde_json::json!(shape), expected["shape"], "{what}");
            let expected = ["low", "high", "std"].map(|key| expected[key].as_f64().unwrap());
            check_spread(&what, values, expected);
        }
    }
}

/// Checks that constants are exact. Other values must have the expected standard deviation, as precisely as their number
/// allows, and the extremes of a uniform or a normal distribution.
fn check_spread(what: &str, values: &[f32], [low, high, std]: [f64; 3]) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = values
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>()
        / count;
    let extreme =
        |pick: fn(f32, f32) -> f32| f64::from(values.iter().copied().reduce(pick).unwrap());
    let (least, most) = (extreme(f32::min), extreme(f32::max));
    if std == 0.0 {
        assert_eq!((least, most), (low, high), "{what}");
        return;
    }
    let ratio = variance.sqrt() / std;
    assert!(
        (ratio - 1.0).abs() < 0.02 + 3.0 / count.sqrt(),
        "{what}: the standard deviation is {ratio} times the expected one"
    );
    // A uniform distribution ends at 1.73 standard deviations. A normal one exceeds 2.5 with this many numbers.
    let is_uniform = high.max(-low) < 1.9 * std;
    let reaches = most.max(-least) / std;
    let range = if is_uniform { 1.6..1.8 } else { 2.5..6.5 };
    assert!(
        range.contains(&reaches),
        "{what}: the extremes are at {reaches} standard deviations"
    );
    if is_uniform {
        let bound = high.max(-low);
        assert!(
            most.max(-least) < 1.03 * bound,
            "{what}: {least} to {most}, expected {low} to {high}"
        );
    }
}
