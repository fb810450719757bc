//! The training of encoders.

use super::{ENCODERS, Video, assert_gradients, error_of, gradients, state, trained};
use merv_plugin_api::{ParameterRange, StatePart, TensorView};
use merv_tests::{chain, torch_plugin};

#[test]
fn gradients_of_encoders_match_torch() {
    for (plugin, case, id) in ENCODERS {
        let video = Video::load(plugin, case, id);
        let early = video.encoder.forward_train(&video.clips()).err().unwrap();
        assert!(chain(&early).contains("training has not begun"));
        video.training.begin(&trained()).unwrap();
        let features = video.encoder.encode(&video.clips()).unwrap();
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

/// The original's gradients of Hiera are not among the fixtures: its plugin for candle cannot be trained. They must be the
/// slopes of the features.
#[test]
fn gradients_of_hiera_are_the_slopes_of_its_features() {
    if torch_plugin().is_none() {
        return;
    }
    let video = Video::without_gradients(None, "hiera", "finetuned", "hiera-base-video");
    video.training.begin(&trained()).unwrap();
    let clips = video.clips();
    let (features, tape) = video.encoder.forward_train(&clips).unwrap();
    let shape = features.view().shape().to_vec();
    let count = shape.iter().product::<usize>();
    let gradient: Vec<f32> = (0..count).map(|i| ((i * 37) % 11) as f32 - 5.0).collect();
    let view = TensorView::new(&gradient, &shape).unwrap();
    tape.backward(view, &mut |_| Ok(())).unwrap();
    let found = gradients(&video.training);
    let sum = || -> f64 {
        let features = video.encoder.encode(&clips).unwrap();
        let features = features.view().f32s().unwrap().to_vec();
        let products = features.iter().zip(&gradient);
        products.map(|(f, g)| f64::from(*f) * f64::from(*g)).sum()
    };
    let weights = state(&video.training, StatePart::WEIGHTS);
    let parameters = video.training.parameters().unwrap();
    for (place, info) in (0u32..).zip(&parameters) {
        // The slope in the direction of the gradient is the length of the gradient.
        let (gradient, before) = (&found[&info.name], &weights[&info.name]);
        let length = length_of(gradient);
        let range = ParameterRange {
            parameter: place,
            start: 0,
            end: gradient.len() as u64,
        };
        let moved = |by: f64| {
            let step = gradient
                .iter()
                .map(|g| (by / length * f64::from(*g)) as f32);
            let values: Vec<f32> = before.values.iter().zip(step).map(|(w, s)| w + s).collect();
            let view = TensorView::new(&values, &info.shape).unwrap();
            let training = &video.training;
            training.import(StatePart::WEIGHTS, range, view).unwrap();
            sum()
        };
        let by = 3e-4 * length_of(&before.values);
        let slope = (moved(by) - moved(-by)) / (2.0 * by);
        moved(0.0);
        let error = (slope / length - 1.0).abs();
        assert!(error < 0.03, "{}: {length} is not {slope}", info.name);
    }
    assert!(parameters.len() > 50, "{}", parameters.len());
}

fn length_of(vector: &[f32]) -> f64 {
    let squares = vector.iter().map(|x| f64::from(*x).powi(2));
    squares.sum::<f64>().sqrt()
}

#[test]
fn a_tape_accepts_one_gradient_of_the_right_shape() {
    let (plugin, case, id) = ENCODERS[0];
    let video = Video::load(plugin, case, id);
    video.training.begin(&trained()).unwrap();
    let gradient = video.expected.get("features_grad");
    let view = TensorView::new(&gradient.values, &gradient.shape).unwrap();
    let (_, first) = video.encoder.forward_train(&video.clips()).unwrap();
    let (_, second) = video.encoder.forward_train(&video.clips()).unwrap();
    drop(first);
    let half = gradient.values.len() / 2;
    let shape = [1, gradient.shape[1], gradient.shape[2]];
    let part = TensorView::new(&gradient.values[..half], &shape).unwrap();
    let text = chain(&second.backward(part, &mut |_| Ok(())).unwrap_err());
    assert!(
        text.contains("expected a gradient of the features"),
        "{text}"
    );
    // No gradient was added yet. Two passes add twice the gradient of one.
    assert!(
        gradients(&video.training)
            .values()
            .flatten()
            .all(|&g| g == 0.0)
    );
    video.pass();
    let once = gradients(&video.training);
    let (_, third) = video.encoder.forward_train(&video.clips()).unwrap();
    let mut told = Vec::new();
    let mut ready = |parameters: &[u32]| {
        told.extend_from_slice(parameters);
        Ok(())
    };
    third.backward(view, &mut ready).unwrap();
    let all = 0..video.training.parameters().unwrap().len() as u32;
    assert_eq!(
        told,
        all.collect::<Vec<_>>(),
        "every gradient is ready once"
    );
    for (name, twice) in gradients(&video.training) {
        let expected: Vec<f32> = once[&name].iter().map(|g| 2.0 * g).collect();
        assert!(
            once[&name].iter().all(|&g| g == 0.0) || error_of(&twice, &expected) < 1e-5,
            "{name}"
        );
    }
}
