//! Registries whose fusion, or whole mixer, a plugin brings.

use merv_tests::{
    Finished, Stored, Tensors, Tiny, TrainingRun, edit, plugin_folder, read, tiny_with_one_encoder,
};
use serde_json::Value;
use std::{fs, path::Path};
use tempfile::TempDir;

const FUSION: &str = "fusion = \"cross_attention_avg_lq\"";

const OWN: &str = "fusion = \"scalar\"";

/// The width of the lively model's language model.
const LLM_WIDTH: usize = 96;

/// The fusion with this id, of the plugin that is found by it.
fn of_a_plugin(id: &str) -> String {
    format!("fusion = {{ id = \"{id}\" }}")
}

/// The lively model with another fusion, and learned numbers for four encoders.
fn model(fusion: &str) -> Tiny {
    let tiny = Tiny::new();
    tiny.replace("registry.toml", FUSION, fusion);
    edit(&tiny.path("mixer.safetensors"), |tensors| {
        tensors.retain(|name, _| !name.starts_with("feature_fusion."));
        let learned = [0.5f32, -0.25, 0.0, 1.0];
        let stored = Stored {
            dtype: safetensors::Dtype::F32,
            shape: vec![4],
            bytes: learned.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        tensors.insert("feature_fusion.scalar".to_owned(), stored);
    });
    tiny
}

#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= tolerance * scale,
            "{what}: {found}, {expected}"
        );
    }
}

#[test]
fn a_model_answers_as_with_the_hosts_own_fusion() {
    let folder = plugin_folder(&["mixers"]);
    let dump = |fusion: &str| -> (Value, Tensors) {
        let (tiny, out) = (model(fusion), TempDir::new().unwrap());
        let path = out.path().join("dump");
        let run = tiny
            .generate()
            .args(["--json", "--plugin-dir"])
            .arg(folder.path());
        let run = run.arg("--dump").arg(&path).finish().succeeded();
        (serde_json::from_str(&run.stdout).unwrap(), read(&path))
    };
    let (own, of_a_plugin) = (dump(OWN), dump(&of_a_plugin("scalar-of-a-plugin")));
    assert_eq!(own.0["text"], of_a_plugin.0["text"]);
    for name in ["fused", "mixer_weights", "logits"] {
        let [own, of_a_plugin] = [&own.1, &of_a_plugin.1].map(|dump| &dump.get(name).values);
        assert_near(name, of_a_plugin, own, 1e-5);
    }
}

/// The lively model with the whole mixer of a plugin, with weights for encoders of these widths.
fn whole(widths: &[usize]) -> Tiny {
    let tiny = model(&of_a_plugin("mean-token"));
    tiny.replace(
        "registry.toml",
        "projector = \"3davg+linear\"",
        "projector = \"none\"",
    );
    let length = "visual_feature_length = 256";
    tiny.replace("registry.toml", length, "visual_feature_length = 1");
    edit(&tiny.path("mixer.safetensors"), |tensors| {
        tensors.clear();
        for (index, &width) in widths.iter().enumerate() {
            let weights = weights_of(index, width);
            let stored = Stored {
                dtype: safetensors::Dtype::F32,
                shape: vec![LLM_WIDTH, width],
                bytes: weights.iter().flat_map(|x| x.to_le_bytes()).collect(),
            };
            tensors.insert(format!("projectors.{index}.weight"), stored);
            let zeros = Stored::zeros(safetensors::Dtype::F32, &[LLM_WIDTH]);
            tensors.insert(format!("projectors.{index}.bias"), zeros);
        }
    });
    tiny
}

fn weights_of(encoder: usize, width: usize) -> Vec<f32> {
    let waves = (0..LLM_WIDTH * width).map(|index| ((index * 7 + encoder) as f32).sin());
    waves.collect()
}

#[test]
fn a_whole_mixer_gets_the_features_of_the_encoders() {
    let folder = plugin_folder(&["mixers"]);
    let dump = |tiny: &Tiny| -> Tensors {
        let out = TempDir::new().unwrap();
        let path = out.path().join("dump");
        let run = tiny.generate().arg("--plugin-dir").arg(folder.path());
        run.arg("--dump").arg(&path).finish().succeeded();
        read(&path)
    };
    let features = dump(&Tiny::new());
    let names = features
        .names()
        .filter(|name| name.starts_with("features."));
    let text = fs::read_to_string(Tiny::new().registry()).unwrap();
    let mut names: Vec<&str> = names.collect();
    names.sort_by_key(|name| text.find(name.trim_start_matches("features.")).unwrap());
    let shapes: Vec<&[usize]> = names
        .iter()
        .map(|name| &features.get(name).shape[..])
        .collect();
    let widths: Vec<usize> = shapes.iter().map(|shape| shape[2]).collect();
    assert_eq!(widths.len(), 4);

    let mut expected = vec![0.0f32; LLM_WIDTH];
    for (index, name) in names.iter().enumerate() {
        let (width, values) = (widths[index], &features.get(name).values);
        let tokens = values.chunks_exact(width);
        let count = tokens.len() as f32;
        let mut mean = vec![0.0f32; width];
        for token in tokens {
            mean.iter_mut()
                .zip(token)
                .for_each(|(sum, x)| *sum += x / count);
        }
        for (row, sum) in weights_of(index, width)
            .chunks_exact(width)
            .zip(&mut expected)
        {
            *sum += row.iter().zip(&mean).map(|(w, x)| w * x).sum::<f32>();
        }
    }
    let tiny = whole(&widths);
    let mixed = dump(&tiny);
    assert_eq!(mixed.get("fused").shape, [1, 1, LLM_WIDTH]);
    assert_near("fused", &mixed.get("fused").values, &expected, 1e-4);

    let run = tiny.run().args(["info", "--json", "--plugin-dir"]);
    let run = run.arg(folder.path()).finish().succeeded();
    let info: Value = serde_json::from_str(&run.stdout).unwrap();
    let parameters: usize = widths.iter().map(|width| LLM_WIDTH * (width + 1)).sum();
    assert_eq!(info["mixer"]["parameters"], parameters);
    assert_eq!(info["mixer"]["tokens"], 1);

    tiny.replace("registry.toml", "mean-token", "frozen-mean-token");
    let words = ["`frozen-mean-token` cannot be trained"];
    let run = training(&tiny, folder.path(), 1).run().arg("--dry-run");
    run.finish().failed(1, &words);
}

/// With one encoder, the mixer of the plugin computes the same as our own pooling to a single token.
#[test]
fn a_whole_mixer_learns_with_the_encoder_before_it() {
    learns_as_our_pooling("full-finetune");
}

/// No gradient is needed before the mixer then.
#[test]
fn a_whole_mixer_learns_alone() {
    learns_as_our_pooling("align");
}

#[track_caller]
fn learns_as_our_pooling(stage: &str) {
    let folder = plugin_folder(&["mixers"]);
    let learned =
        |projector: &str, fusion: &str, names: [&str; 2]| -> ((Tiny, TrainingRun), Vec<Vec<f32>>) {
            let tiny = tiny_with_one_encoder();
            for (from, to) in [
                ("projector = \"3davg+linear\"", projector),
                (FUSION, fusion),
                ("visual_feature_length = 256", "visual_feature_length = 1"),
                ("token_length = 16", "token_length = 1"),
            ] {
                tiny.replace("registry.toml", from, to);
            }
            edit(&tiny.path("mixer.safetensors"), |tensors| {
                let own = ["weight", "bias"]
                    .map(|part| format!("projectors.0.projector.projector.{part}"));
                let kept = own.map(|name| tensors.remove(&name).unwrap());
                tensors.clear();
                tensors.extend(names.map(str::to_owned).into_iter().zip(kept));
            });
            let run = TrainingRun::new(stage)
                .arg("--registry")
                .arg(tiny.registry().display().to_string())
                .arg("--plugin-dir")
                .arg(folder.path().display().to_string())
                .set("epochs", 9)
                .set("max_steps", 3)
                .set("save_every", 1)
                .set("learning_rate", 1e-3);
            run.run().finish().succeeded();
            let mixer = read(&run.checkpoint(3).join("mixer.safetensors"));
            let mut learned = names.map(|name| mixer.get(name).values.clone()).to_vec();
            let encoder = "encoder-siglip-vit-b16-224px-all-no-cls.safetensors";
            if stage == "full-finetune" {
                let encoder = read(&run.checkpoint(3).join(encoder));
                learned.push(encoder.get("pos_embed").values.clone());
            }
            ((tiny, run), learned)
        };
    let ((_own_model, own_run), own) = learned(
        "projector = \"3davg+frame16+linear\"",
        "fusion = \"none\"",
        [
            "projectors.0.projector.projector.weight",
            "projectors.0.projector.projector.bias",
        ],
    );
    let ((_model, run), found) = learned(
        "projector = \"none\"",
        &of_a_plugin("mean-token"),
        ["projectors.0.weight", "projectors.0.bias"],
    );
    for (found, expected) in run.curve("loss").iter().zip(own_run.curve("loss")) {
        assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
    }
    assert_ne!(
        found[0],
        weights_of(0, found[0].len() / LLM_WIDTH),
        "nothing was learned"
    );
    assert!(run.curve("gradient_norm").iter().any(|&norm| norm > 0.0));
    let parts = ["weight", "bias", "pos_embed"];
    for (part, (found, own)) in parts.into_iter().zip(found.iter().zip(&own)) {
        assert_near(part, found, own, 1e-4);
    }
    // Resumed after any step, it ends the same.
    let (curve, digests) = (run.curve("loss"), run.digests(3));
    fs::remove_dir_all(run.checkpoint(3)).unwrap();
    let more = run.resumed().arg("--plugin-dir").arg(folder.path());
    more.finish().succeeded();
    assert_eq!(run.curve("loss"), curve);
    assert_eq!(run.digests(3), digests);
}

#[test]
fn a_fusion_is_no_whole_mixer() {
    let folder = plugin_folder(&["mixers"]);
    let tiny = whole(&[]);
    let (mixer, fusion) = ("mean-token", "scalar-of-a-plugin");
    tiny.replace("registry.toml", mixer, fusion);
    let run = tiny.run().args(["info", "--plugin-dir"]).arg(folder.path());
    run.finish().failed(1, &["mixer `scalar-of-a-plugin`"]);
    // Only the mixer of a plugin can do without a projector.
    let tiny = Tiny::new();
    let (from, to) = ("projector = \"3davg+linear\"", "projector = \"none\"");
    tiny.replace("registry.toml", from, to);
    let words = [
        "`projector`",
        "does not change the features",
        "a mixer of a plugin",
    ];
    tiny.run().arg("info").finish().failed(1, &words);
}

#[test]
fn info_counts_its_parameters() {
    let folder = plugin_folder(&["mixers"]);
    let mixer = |fusion: &str| -> Value {
        let run = model(fusion).run().args(["info", "--json", "--plugin-dir"]);
        let run = run.arg(folder.path()).finish().succeeded();
        serde_json::from_str::<Value>(&run.stdout).unwrap()["mixer"].clone()
    };
    let (own, found) = (mixer(OWN), mixer(&of_a_plugin("scalar-of-a-plugin")));
    assert_eq!(found["fusion"], "scalar-of-a-plugin");
    assert_eq!(found["plugin"], "mixers");
    let reason = found["plugin_choice"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("the only plugin that provides it"),
        "{reason}"
    );
    assert!(own["plugin"].is_null() && own["plugin_choice"].is_null());
    assert_eq!(found["parameters"], own["parameters"]);
    assert_eq!(found["tokens"], own["tokens"]);
}

fn training(tiny: &Tiny, plugins: &Path, steps: u64) -> TrainingRun {
    TrainingRun::new("align")
        .arg("--registry")
        .arg(tiny.registry().display().to_string())
        .arg("--plugin-dir")
        .arg(plugins.display().to_string())
        .set("epochs", 9)
        .set("max_steps", steps)
        .set("learning_rate", 1e-2)
}

#[test]
fn it_learns_as_the_hosts_own_fusion_and_is_resumed() {
    let folder = plugin_folder(&["mixers"]);
    let learned = |fusion: &str| -> (TrainingRun, Tensors) {
        let tiny = model(fusion);
        let run = training(&tiny, folder.path(), 4);
        run.run().finish().succeeded();
        let mixer = read(&run.checkpoint(4).join("mixer.safetensors"));
        (run, mixer)
    };
    let plugins = of_a_plugin("scalar-of-a-plugin");
    let ((own_run, own), (run, found)) = (learned(OWN), learned(&plugins));
    let name = "feature_fusion.scalar";
    assert_near(name, &found.get(name).values, &own.get(name).values, 1e-4);
    for (found, expected) in run.curve("loss").iter().zip(own_run.curve("loss")) {
        assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
    }
    assert_ne!(own.get(name).values, [0.5, -0.25, 0.0, 1.0]);

    // Its weights and its state of the optimizer are in the checkpoint.
    let tiny = model(&plugins);
    let resumed = training(&tiny, folder.path(), 4).set("save_every", 2);
    resumed.run().finish().succeeded();
    fs::remove_dir_all(resumed.checkpoint(4)).unwrap();
    let more = resumed.resumed().arg("--plugin-dir").arg(folder.path());
    more.finish().succeeded();
    assert_eq!(resumed.curve("loss"), run.curve("loss"));
    assert_eq!(resumed.digests(4), run.digests(4));
    // The run is a registry that names the same fusion.
    let text = fs::read_to_string(run.out().join("registry.toml")).unwrap();
    assert!(text.contains(&plugins), "{text}");
}

#[test]
fn mistakes_are_refused_with_their_line() {
    let folder = plugin_folder(&["mixers"]);
    let info = |fusion: &str, change: &dyn Fn(&Tiny)| -> Finished {
        let tiny = model(fusion);
        change(&tiny);
        let run = tiny.run().args(["info", "--plugin-dir"]).arg(folder.path());
        run.finish()
    };
    let unchanged = |_: &Tiny| ();
    info(&of_a_plugin("scalar-of-plugin"), &unchanged).failed(
        1,
        &[
            "`id` in `fusion` of [mixer]",
            "fusion `scalar-of-plugin`",
            "a similar id is `scalar-of-a-plugin`",
        ],
    );
    // A whole mixer is not a fusion.
    info(&of_a_plugin("mean-token"), &unchanged).failed(1, &["fusion `mean-token`"]);
    info("fusion = { plugin = \"mixers\" }", &unchanged).failed(1, &["`id`", "missing"]);
    let longer = |tiny: &Tiny| {
        let (old, new) = ("visual_feature_length = 256", "visual_feature_length = 272");
        tiny.replace("registry.toml", old, new);
    };
    info(&of_a_plugin("scalar-of-a-plugin"), &longer).failed(
        1,
        &[
            "`visual_feature_length`",
            "plugin `mixers`",
            "expected: 256",
            "found: 272",
        ],
    );
    let options = "fusion = { id = \"scalar-of-a-plugin\", options = { sharpness = \"2\" } }";
    info(options, &unchanged).failed(1, &["sharpness", "plugin `mixers`"]);
}

#[test]
fn a_fusion_that_cannot_be_trained_answers_but_is_not_trained() {
    let folder = plugin_folder(&["mixers"]);
    let frozen = of_a_plugin("frozen-scalar");
    let run = model(&frozen)
        .generate()
        .arg("--plugin-dir")
        .arg(folder.path());
    run.finish().succeeded();
    let tiny = model(&frozen);
    let run = training(&tiny, folder.path(), 1);
    for run in [run.run().arg("--dry-run"), run.run()] {
        let words = [
            "`frozen-scalar` cannot be trained",
            "choose a fusion that can be trained",
        ];
        run.finish().failed(1, &words);
    }
}
