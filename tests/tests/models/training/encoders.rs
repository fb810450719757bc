//! The training of encoders.

use super::{ENCODERS, Video, assert_gradients, error_of, gradients, trained};
use merv_plugin_api::TensorView;
use merv_tests::chain;

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
