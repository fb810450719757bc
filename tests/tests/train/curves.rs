//! Training with the real plugins against PyTorch (`make_training_runs.py`): the loss and the gradient norm of each step.
//! A batch is also compared with the same examples in smaller batches.

use merv_tests::{TrainingRun, fixture, read};
use serde_json::Value;
use std::fs;

/// The tolerance of the loss.
const LOSS_TOLERANCE: f64 = 1e-3;

/// The relative tolerance of the gradient norm.
const NORM_TOLERANCE: f64 = 1e-3;

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().expect("a list").iter();
    values
        .map(|value| value.as_f64().expect("a number"))
        .collect()
}

#[track_caller]
fn follows_pytorch(stage: &str, device_batch: usize) {
    follows_pytorch_in("auto", stage, device_batch, LOSS_TOLERANCE, NORM_TOLERANCE);
}

/// Checks the curves, and returns the largest error of the loss.
#[track_caller]
fn follows_pytorch_in(
    precision: &str,
    stage: &str,
    device_batch: usize,
    loss_tolerance: f64,
    norm_tolerance: f64,
) -> f64 {
    let text = fs::read_to_string(fixture("training_runs/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let expected = &expected["runs"][stage];
    let (losses, norms) = (
        numbers(&expected["loss"]),
        numbers(&expected["gradient_norm"]),
    );
    let run = TrainingRun::new(stage)
        .set("epochs", 5)
        .set("max_steps", losses.len())
        .set("device_batch", device_batch)
        .set("learning_rate", &expected["learning_rate"])
        .set("weight_decay", &expected["weight_decay"])
        .set("max_length", 512)
        .set("precision", precision);
    run.run().finish().succeeded();
    let (found, found_norms) = (run.curve("loss"), run.curve("gradient_norm"));
    assert_eq!(found.len(), losses.len());
    let mut furthest = 0.0f64;
    for step in 0..losses.len() {
        let (loss, norm) = (found[step], found_norms[step]);
        furthest = furthest.max((loss - losses[step]).abs());
        assert!(
            (loss - losses[step]).abs() <= loss_tolerance,
            "{stage}, step {step}: loss {loss}, expected {}",
            losses[step]
        );
        assert!(
            (norm - norms[step]).abs() <= norm_tolerance * norms[step],
            "{stage}, step {step}: norm {norm}, expected {}",
            norms[step]
        );
    }
    furthest
}

#[test]
fn align_follows_pytorch() {
    follows_pytorch("align", 3);
}

#[test]
fn finetune_follows_pytorch() {
    follows_pytorch("finetune", 2);
}

#[test]
fn full_finetune_follows_pytorch() {
    follows_pytorch("full-finetune", 3);
}

/// The expected curve is computed in `f32`. `bf16` has 8 bits of precision: the measured errors were at most 0.006 for the
/// loss and 3.4 % for the norm. The tolerances are about three times as large.
#[test]
fn full_finetune_in_bf16_follows_pytorch() {
    let furthest = follows_pytorch_in("bf16", "full-finetune", 3, 0.02, 0.1);
    assert!(furthest > LOSS_TOLERANCE, "computed in f32: {furthest}");
}

/// After one step, AdamW's first moments are a tenth of the gradient.
#[test]
fn gradients_of_smaller_batches_add_up() {
    let moments = |device_batch: usize| {
        let run = TrainingRun::new("finetune")
            .set("global_batch", 4)
            .set("device_batch", device_batch)
            .set("max_steps", 1);
        run.run().finish().succeeded();
        let parts = ["mixer", "llm"].map(|part| {
            read(
                &run.checkpoint(1)
                    .join(format!("{part}.first-moment.safetensors")),
            )
        });
        (run.curve("loss")[0], parts)
    };
    let (whole_loss, whole) = moments(4);
    for device_batch in [1, 3] {
        let (loss, pieces) = moments(device_batch);
        assert!(
            (loss / whole_loss - 1.0).abs() < 1e-6,
            "{loss} {whole_loss}"
        );
        for (whole, pieces) in whole.iter().zip(&pieces) {
            for name in whole.names() {
                let (a, b) = (&whole.get(name).values, &pieces.get(name).values);
                let scale = a.iter().fold(0f32, |most, x| most.max(x.abs()));
                let error = a
                    .iter()
                    .zip(b)
                    .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(error <= 1e-5 * scale, "{name}: off by {error} of {scale}");
            }
        }
    }
}
