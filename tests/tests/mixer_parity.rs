//! The mixer against the original's projectors and fusion.

use candle_core::{Device, Tensor};
use merv_host::mixer::{EncoderShape, Mixed, Mixer};
use merv_tests::{Tensors, assert_close, fixture, read};
use serde_json::Value;
use std::{fs, path::PathBuf};

const CASES: [&str; 3] = ["four", "single", "uneven"];

struct Case {
    name: &'static str,
    path: PathBuf,
    shapes: Vec<EncoderShape>,
    side: usize,
    width: usize,
    io: Tensors,
}

impl Case {
    fn read(name: &'static str) -> Self {
        let folder = fixture("mixer").join(name);
        let meta: Value =
            serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
        let number = |value: &Value| value.as_u64().unwrap() as usize;
        let widths = meta["widths"].as_array().unwrap().iter().map(number);
        let spatial = meta["spatial"].as_array().unwrap().iter().map(number);
        Self {
            name,
            shapes: widths
                .zip(spatial)
                .map(|(width, spatial)| EncoderShape {
                    width,
                    temporal: number(&meta["temporal"]),
                    spatial,
                })
                .collect(),
            side: number(&meta["token_length"]).isqrt(),
            width: number(&meta["llm_width"]),
            io: read(&folder.join("io.safetensors")),
            path: folder.join("mixer.safetensors"),
        }
    }

    fn load(&self) -> Mixer {
        Mixer::new(self.side, &self.shapes, self.width, &self.path).unwrap()
    }

    fn features(&self) -> Vec<Tensor> {
        let names = (0..self.shapes.len()).map(|i| format!("features.{i}"));
        names
            .map(|name| {
                let stored = self.io.get(&name);
                let shape = stored.shape.as_slice();
                Tensor::from_vec(stored.values.clone(), shape, &Device::Cpu).unwrap()
            })
            .collect()
    }

    #[track_caller]
    fn check(&self, what: &str, found: &Tensor, name: &str) {
        let expected = self.io.get(name);
        assert_eq!(found.dims(), expected.shape, "{}, {what}", self.name);
        let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
        assert_close(&format!("{}, {what}", self.name), &found, &expected.values);
    }
}

#[test]
fn no_case_is_left_out() {
    let mut found: Vec<_> = fs::read_dir(fixture("mixer"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, CASES);
}

#[test]
fn tokens_and_weights_are_the_originals() {
    for case in CASES.map(Case::read) {
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
        case.check("weights", &weights, "weights");
    }
}

#[test]
fn other_features_than_it_was_loaded_for_are_errors() {
    for case in CASES.map(Case::read) {
        let (mixer, features) = (case.load(), case.features());
        assert!(
            mixer.forward(&features[1..]).is_err(),
            "{}: one encoder less",
            case.name
        );
        let narrow: Vec<_> = features
            .iter()
            .map(|f| f.narrow(2, 1, 3).unwrap())
            .collect();
        assert!(
            mixer.forward(&narrow).is_err(),
            "{}: other widths",
            case.name
        );
        let short: Vec<_> = features
            .iter()
            .map(|f| f.narrow(1, 1, 5).unwrap())
            .collect();
        assert!(
            mixer.forward(&short).is_err(),
            "{}: other lengths",
            case.name
        );
        assert!(
            mixer.forward(&features).is_ok(),
            "{}: still usable",
            case.name
        );
    }
}
