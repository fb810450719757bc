//! Weights files that are damaged, of another model, or contain values that are not numbers.

use super::weights;
use merv_tests::{Dtype, Finished, Stored, Tiny, assert_all_fail, edit, plugin_folder};
use std::{fs, path::Path};

/// Damages every weights file of a copy of the lively model with `spoil`, and runs it. Returns the run, and the words that
/// its message must contain, among them the path of every file.
fn spoilt_weights(words: &[&str], spoil: impl Fn(&Path, &str)) -> (Finished, Vec<String>) {
    let tiny = Tiny::new();
    let mut all: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    for (file, tensor) in weights() {
        spoil(&tiny.path(&file), tensor);
        all.push(tiny.path(&file).display().to_string());
    }
    (tiny.generate().finish(), all)
}

#[test]
fn damaged_weights_files_are_refused() {
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let cases: [(&str, Spoil); 8] = [
        ("empty", |_| Vec::new()),
        ("seven bytes", |whole| whole[..7].to_vec()),
        ("cut in the header", |whole| whole[..200].to_vec()),
        ("cut in half", |whole| whole[..whole.len() / 2].to_vec()),
        ("cut by one byte", |whole| whole[..whole.len() - 1].to_vec()),
        ("one byte more", |whole| [whole.as_slice(), &[0]].concat()),
        ("text", |_| {
            b"version https://git-lfs.github.com/spec/v1\n".to_vec()
        }),
        ("a header longer than memory", |mut whole| {
            whole[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            whole
        }),
    ];
    assert_all_fail(
        1,
        cases.map(|(name, spoil)| {
            let (run, words) = spoilt_weights(&["safetensors", "fetch it again"], |path, _| {
                fs::write(path, spoil(fs::read(path).unwrap())).unwrap();
            });
            (name.to_owned(), run, words)
        }),
    );
}

#[test]
fn weights_files_of_another_model_are_refused() {
    type Change = fn(&mut std::collections::BTreeMap<String, Stored>, &str);
    const SURPLUS: &str = "surplus.weight";
    let cases: [(&str, &[&str], Change); 7] = [
        ("missing", &["is missing"], |tensors, name| {
            tensors.remove(name).unwrap();
        }),
        (
            "surplus",
            &[SURPLUS, "is not part of the model"],
            |tensors, _| {
                tensors.insert(SURPLUS.to_owned(), Stored::zeros(Dtype::F32, &[3, 2]));
            },
        ),
        (
            "surplus integers",
            &[SURPLUS, "is not part of the model"],
            |tensors, _| {
                tensors.insert(SURPLUS.to_owned(), Stored::zeros(Dtype::I64, &[3, 2]));
            },
        ),
        (
            "another shape",
            &["has shape [5, 7]", "expected ["],
            |tensors, name| {
                tensors.insert(name.to_owned(), Stored::zeros(Dtype::F32, &[5, 7]));
            },
        ),
        (
            "transposed to one dimension less",
            &["expected ["],
            |tensors, name| {
                let shape = [tensors[name].shape.iter().product::<usize>() + 1];
                tensors.insert(name.to_owned(), Stored::zeros(Dtype::F32, &shape));
            },
        ),
        ("doubles", &["F64", "expected F32"], |tensors, name| {
            let shape = tensors[name].shape.clone();
            tensors.insert(name.to_owned(), Stored::zeros(Dtype::F64, &shape));
        }),
        ("integers", &["is of I64, expected F32"], |tensors, name| {
            let shape = tensors[name].shape.clone();
            tensors.insert(name.to_owned(), Stored::zeros(Dtype::I64, &shape));
        }),
    ];
    assert_all_fail(
        1,
        cases.map(|(case, words, change)| {
            let (run, mut words) = spoilt_weights(words, |path, tensor| {
                edit(path, |tensors| change(tensors, tensor))
            });
            if !case.starts_with("surplus") {
                words.extend(weights().map(|(_, tensor)| format!("`{tensor}`")));
            }
            (case.to_owned(), run, words)
        }),
    );
}

#[test]
fn values_that_are_not_finite_are_traced_to_their_file() {
    const MIX: (&str, &str, &str) = (
        "the mixer",
        "mixer.safetensors",
        "projectors.2.projector.projector.bias",
    );
    let cases = [
        (
            "languagebind-video-noclass",
            "languagebind/model.safetensors",
            "vision_model.encoder.layers.0.self_attn.q_proj.bias",
        ),
        (
            "dinov2-video-all-tokens",
            "dinov2/model.safetensors",
            "blocks.1.norm1.bias",
        ),
        (
            "vivit-google-b-all-no-cls-16frames",
            "vivit/model.safetensors",
            "vivit.encoder.layer.2.output.dense.bias",
        ),
        (
            "siglip-vit-b16-224px-all-no-cls",
            "siglip/model.safetensors",
            "blocks.0.norm1.bias",
        ),
        MIX,
    ];
    let spoilt = |number: f32| {
        cases.map(|(who, file, tensor)| {
            let tiny = Tiny::new();
            let path = tiny.path(file);
            edit(&path, |tensors| {
                let stored = tensors.get_mut(tensor).unwrap();
                stored.bytes[4..8].copy_from_slice(&number.to_le_bytes());
            });
            let words = [
                format!("{who} computed values that are not finite numbers"),
                path.display().to_string(),
            ];
            (
                format!("{number} in {tensor}"),
                tiny.generate().finish(),
                words.to_vec(),
            )
        })
    };
    assert_all_fail(1, spoilt(f32::NAN));
    assert_all_fail(1, spoilt(f32::INFINITY));
}

#[test]
fn half_precision_weights_are_read() {
    let tiny = Tiny::new();
    for (file, _) in weights() {
        edit(&tiny.path(&file), |tensors| {
            for stored in tensors
                .values_mut()
                .filter(|stored| stored.dtype == Dtype::F32)
            {
                // The upper half of an f32 is the bf16.
                stored.bytes = stored.bytes.chunks(4).flat_map(|x| [x[2], x[3]]).collect();
                stored.dtype = Dtype::BF16;
            }
        });
    }
    tiny.generate().finish().succeeded();
}

#[test]
fn mixers_of_another_model_are_refused() {
    let shape =
        |tensors: &mut std::collections::BTreeMap<String, Stored>, name: &str, shape: &[usize]| {
            tensors.insert(name.to_owned(), Stored::zeros(Dtype::F32, shape));
        };
    let weight = |index| format!("projectors.{index}.projector.projector.weight");
    let bias = |index| format!("projectors.{index}.projector.projector.bias");

    let tiny = Tiny::new();
    let path = tiny.path("mixer.safetensors");
    edit(&path, |tensors| {
        (0..4).for_each(|i| {
            shape(tensors, &weight(i), &[80, 64]);
            shape(tensors, &bias(i), &[80]);
        })
    });
    let wide = path.display().to_string();
    let words = [wide.as_str(), &weight(0), "[80, 64]", "expected [96, 64]"];
    tiny.generate().finish().failed(1, &words);

    for (count, word) in [(3, "is missing"), (5, "is not part of the model")] {
        let tiny = Tiny::new();
        edit(&tiny.path("mixer.safetensors"), |tensors| {
            if count == 3 {
                tensors.retain(|name, _| !name.starts_with("projectors.3."));
            } else {
                shape(tensors, &weight(4), &[96, 64]);
                shape(tensors, &bias(4), &[96]);
            }
        });
        tiny.generate()
            .finish()
            .failed(1, &["mixer.safetensors", &weight(count.clamp(3, 4)), word]);
    }

    // The language model has a different width than the mixer.
    let plugins = plugin_folder(&["faulty"]);
    let tiny = Tiny::new();
    tiny.replace(
        "llm/config.json",
        "\"hidden_size\": 96",
        "\"hidden_size\": 48",
    );
    let run = tiny
        .generate()
        .arg("--plugin-dir")
        .arg(plugins.path())
        .finish();
    run.failed(
        1,
        &[
            "mixer.safetensors",
            "expected [48, 64]",
            "model.embed_tokens.weight",
        ],
    );
}
