//! An encoder behind the ABI, in one process.

use super::*;
use crate::{
    AdamWStep, ErrorKind, Interpolation, ParameterInfo, ResizeDomain, StatePart, TakeTensor,
    TrainingOptions, VisitGradient,
};

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
        EncoderInfo {
            width: 1,
            num_frames: 1,
            image_size: 1,
            temporal: 1,
            spatial: 1,
            preprocess: PreprocessSpec {
                image_size: 1,
                short_side: 1,
                interpolation: Interpolation::Bilinear,
                domain: ResizeDomain::PillowU8,
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            dtype: DType::F32,
            parameters: 1,
            macs_per_clip: 1,
        }
    }

    fn encode(&self, _: &TensorView<'_>) -> Result<TensorBuf, PluginError> {
        TensorBuf::from_vec(vec![1.0f32], &[1, 1, 1])
    }
}

impl TrainableEncoder for Number {
    type Tape = Arc<()>;

    fn forward_train(&self, clips: &TensorView<'_>) -> Result<(TensorBuf, Arc<()>), PluginError> {
        Ok((self.encode(clips)?, Arc::clone(&self.alive)))
    }

    fn backward(&self, _: Arc<()>, _: &TensorView<'_>) -> Result<(), PluginError> {
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

    fn visit_gradients(&self, _: &mut VisitGradient<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn clear_gradients(&self) -> Result<(), PluginError> {
        Ok(())
    }

    fn apply_adamw(&self, _: &AdamWStep) -> Result<(), PluginError> {
        Ok(())
    }

    fn export(&self, _: StatePart, _: &mut TakeTensor<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn import(&self, _: StatePart, _: &str, _: &TensorView<'_>) -> Result<(), PluginError> {
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
    let clips = || TensorView::new(&values, &[1, 1, 3, 1, 1]).unwrap();
    let [first, second, third] = [(); 3].map(|()| encoder.forward_train(clips()).unwrap().tape);
    assert_eq!(tapes(), 3);
    let gradient = || TensorView::new(&values[..1], &[1, 1, 1]).unwrap();
    encoder.backward(second, gradient()).unwrap();
    assert_eq!(tapes(), 2);
    encoder.forget(third);
    assert_eq!(tapes(), 1);
    // Tapes that are gone, and one that never was.
    encoder.forget(second);
    encoder.forget(99);
    for gone in [second, third, 99] {
        let error = encoder.backward(gone, gradient()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidInput);
    }
    encoder.backward(first, gradient()).unwrap();
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
