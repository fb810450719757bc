//! An encoder behind the ABI, in one process.

use super::*;
use crate::{
    AdamWStep, Call, EncoderObject, ErrorKind, ParameterInfo, ParameterRange, Ranges, StatePart,
    TakeTensor, TrainingOptions, VisitTensor,
};
use std::sync::Arc;

/// An encoder of one number. Its tapes are copies of `alive`, and its destructor panics if `is_bomb`.
struct Number {
    alive: Arc<()>,
    is_bomb: bool,
}

impl Drop for Number {
    fn drop(&mut self) {
        assert!(!self.is_bomb, "boom");
    }
}

impl Encoder for Number {
    fn info(&self) -> EncoderInfo {
        EncoderInfo::new(1, 1, [1, 1], PreprocessSpec::new(1))
    }

    fn encode(&self, _: &Clips<'_>) -> Result<TensorBuf, PluginError> {
        TensorBuf::from_vec(vec![1.0f32], &[1, 1, 1])
    }
}

impl TrainableEncoder for Number {
    type Tape = Arc<()>;

    fn forward_train(&self, clips: &Clips<'_>) -> Result<(TensorBuf, Arc<()>), PluginError> {
        Ok((self.encode(clips)?, Arc::clone(&self.alive)))
    }

    fn backward(
        &self,
        _: Arc<()>,
        _: &TensorView<'_>,
        _: &mut ReadyGradients<'_>,
    ) -> Result<(), PluginError> {
        Ok(())
    }
}

impl Trainable for Number {
    fn begin_training(&self, _: &TrainingOptions) -> Result<(), PluginError> {
        Ok(())
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, PluginError> {
        Ok(Vec::new())
    }

    fn visit(
        &self,
        _: StatePart,
        _: Ranges<'_>,
        _: &mut VisitTensor<'_>,
    ) -> Result<(), PluginError> {
        Ok(())
    }

    fn gradient_squares(&self, _: Ranges<'_>) -> Result<f64, PluginError> {
        Ok(0.0)
    }

    fn clear_gradients(&self) -> Result<(), PluginError> {
        Ok(())
    }

    fn apply_adamw(&self, _: &AdamWStep, _: Ranges<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn export(
        &self,
        _: StatePart,
        _: Ranges<'_>,
        _: &mut TakeTensor<'_>,
    ) -> Result<(), PluginError> {
        Ok(())
    }

    fn import(
        &self,
        _: StatePart,
        _: ParameterRange,
        _: &TensorView<'_>,
    ) -> Result<(), PluginError> {
        Ok(())
    }
}

#[test]
fn a_tape_lives_until_it_is_used_or_forgotten() {
    let alive = Arc::new(());
    let number = Number {
        alive: Arc::clone(&alive),
        is_bomb: false,
    };
    // The test and the encoder have one each.
    let tapes = || Arc::strong_count(&alive) - 2;
    let encoder = EncoderObject::trainable(number);
    let values = [0.5f32; 3];
    let clips = || Clips::new(TensorView::new(&values, &[1, 1, 3, 1, 1]).unwrap());
    let call = Call::ENDLESS;
    let [first, second, third] =
        [(); 3].map(|()| encoder.forward_train(call, &clips()).unwrap().tape);
    assert_eq!(tapes(), 3);
    let gradient = || TensorView::new(&values[..1], &[1, 1, 1]).unwrap();
    let backward = |tape| encoder.backward(call, tape, gradient(), &mut |_| Ok(()));
    backward(second).unwrap();
    assert_eq!(tapes(), 2);
    encoder.forget(third);
    assert_eq!(tapes(), 1);
    // Tapes that are gone, and one that never was.
    encoder.forget(second);
    encoder.forget(99);
    for gone in [second, third, 99] {
        let error = backward(gone).unwrap_err();
        assert_eq!(error.kind, ErrorKind::INVALID_INPUT);
    }
    backward(first).unwrap();
    assert_eq!(tapes(), 0);
}

#[test]
fn a_model_whose_destructor_panics_does_not_end_the_host() {
    for parameters_last in [false, true] {
        let alive = Arc::new(());
        let encoder = EncoderObject::trainable(Number {
            alive: Arc::clone(&alive),
            is_bomb: true,
        });
        let parameters = encoder.training().unwrap();
        if parameters_last {
            drop(encoder);
            assert_eq!(Arc::strong_count(&alive), 2);
            drop(parameters);
        } else {
            drop(parameters);
            assert_eq!(Arc::strong_count(&alive), 2);
            drop(encoder);
        }
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[test]
fn every_frame_has_a_time_or_none_has() {
    let (pixels, shape) = ([0.0f32; 12], [2, 2, 3, 1, 1]);
    let clips = Clips::new(TensorView::new(&pixels, &shape).unwrap());
    assert_eq!(clips.at(&[0.0, 0.5, 3.0, 3.5]).unwrap().seconds.len(), 4);
    assert!(clips.at(&[]).unwrap().seconds.is_empty());
    let error = clips.at(&[0.0, 1.0, 2.0]).unwrap_err();
    assert!(error.message.contains("4 frames, found 3"), "{error:?}");
}
