//! A real clip through four encoder plugins, the mixer and a Llama plugin to text, with the binary and with the library.
//! Every stage is compared with PyTorch.

use merv_host::{
    GenerateOptions, LoadOptions, Observer, VidLm, generate,
    video::{self, Selection},
};
use merv_tests::{Run, Tensor, Tensors, artifacts, assert_close, clip, fixture, read, root};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{fs, sync::LazyLock};
use tempfile::TempDir;

const REGISTRY: &str = "tests/fixtures/lively/registry.toml";
const PROMPT: &str = "Describe what is happening in this video.";
const STEPS: usize = 32;

/// The encoders in the order of the registry, which is also the order of the mixer's weights.
const ENCODERS: [&str; 4] = [
    "languagebind-video-noclass",
    "dinov2-video-all-tokens",
    "vivit-google-b-all-no-cls-16frames",
    "siglip-vit-b16-224px-all-no-cls",
];

static EXPECTED: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_slice(&fs::read(fixture("e2e/expected.json")).unwrap()).unwrap()
});

/// The answers of merv-tiny in PyTorch.
static TINY: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(&fs::read(fixture("e2e/tiny.json")).unwrap()).unwrap());

static IO: LazyLock<Tensors> = LazyLock::new(|| read(&fixture("e2e/io.safetensors")));

fn generate() -> Run {
    let steps = STEPS.to_string();
    Run::new()
        .args([
            "--registry",
            REGISTRY,
            "generate",
            "--video",
            "assets/bigbuckbunny.mp4",
        ])
        .args(["--prompt", PROMPT, "--max-new-tokens", &steps])
}

fn text() -> &'static str {
    EXPECTED["text"].as_str().unwrap()
}

fn numbers(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_u64().unwrap() as usize)
        .collect()
}

/// Every `stride`-th token of `[1, tokens, width]`.
fn every(stride: usize, tensor: &Tensor) -> Vec<f32> {
    let width = *tensor.shape.last().unwrap();
    tensor
        .values
        .chunks_exact(width)
        .step_by(stride)
        .flatten()
        .copied()
        .collect()
}

#[test]
fn json_and_dump_match_pytorch() {
    let folder = TempDir::new().unwrap();
    let dump = folder.path().join("dump.safetensors");
    let run = generate()
        .args(["--json", "--dump"])
        .arg(&dump)
        .finish()
        .succeeded();

    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(answer["tokens"], EXPECTED["tokens"], "{run}");
    assert_eq!(answer["text"], EXPECTED["text"]);
    assert_eq!(answer["prompt_tokens"], IO.get("prompt_ids").values.len());
    assert_eq!(answer["visual_tokens"], IO.get("fused").shape[1]);
    let weights = answer["mixer_weights"].as_object().unwrap();
    assert_eq!(weights.len(), ENCODERS.len());
    for (id, expected) in EXPECTED["mixer_weights"].as_object().unwrap() {
        let [found, expected] = [&weights[id], expected].map(|x| x.as_f64().unwrap() as f32);
        assert_close(&format!("mixer weight of {id}"), &[found], &[expected]);
    }
    let timings = answer["timings"].as_object().unwrap();
    for stage in [
        "load",
        "decode",
        "transform",
        "encode",
        "mix",
        "prefill",
        "generate",
    ] {
        assert!(
            timings[stage].as_f64().unwrap() >= 0.0,
            "{stage}: {timings:?}"
        );
    }

    let dump = read(&dump);
    let ids = |name: &str| dump.get(name).ids();
    assert_eq!(ids("frame_indices"), IO.get("frame_indices").ids());
    assert_eq!(ids("prompt_ids"), IO.get("prompt_ids").ids());
    for name in ["fused", "mixer_weights", "logits"] {
        assert_eq!(dump.get(name).shape, IO.get(name).shape, "{name}");
        assert_close(name, &dump.get(name).values, &IO.get(name).values);
    }
    let strides = &EXPECTED["strides"];
    let stride = |name: &str| strides[name].as_u64().unwrap() as usize;
    for id in ENCODERS {
        let name = format!("clip.{id}");
        // The fixture has a batch dimension of one.
        let shape = &numbers(&EXPECTED["clip_shapes"][id])[1..];
        assert_eq!(dump.get(&name).shape, shape, "{name}");
        let sample: Vec<f32> = dump
            .get(&name)
            .values
            .iter()
            .copied()
            .step_by(stride("clip_sample"))
            .collect();
        assert_close(&name, &sample, &IO.get(&format!("clip_sample.{id}")).values);
        for stage in ["features", "projected"] {
            let name = format!("{stage}.{id}");
            assert_close(
                &name,
                &every(stride(stage), dump.get(&name)),
                &IO.get(&name).values,
            );
        }
    }
    assert_eq!(
        dump.names().count(),
        5 + 3 * ENCODERS.len(),
        "names of the dump"
    );
}

#[test]
fn stdout_contains_only_the_answer() {
    let plain = generate().finish().succeeded();
    assert_eq!(plain.stdout, format!("{}\n", text()));
    assert!(
        plain.stderr.contains("random"),
        "an untrained model says so: {plain}"
    );

    let quiet = generate()
        .args(["--quiet", "--threads", "1"])
        .finish()
        .succeeded();
    assert_eq!(
        (quiet.stdout, quiet.stderr.as_str()),
        (plain.stdout.clone(), "")
    );

    let chart = generate().arg("--show-mixer").finish().succeeded();
    assert_eq!(chart.stdout, plain.stdout);
    for id in ENCODERS {
        assert!(chart.stderr.contains(id), "{chart}");
    }
    assert!(
        chart.stderr.contains("49.0 %"),
        "the weight of DINOv2: {chart}"
    );
}

#[test]
fn merv_tiny_is_the_default_and_matches_pytorch() {
    for (index, case) in TINY.as_array().unwrap().iter().enumerate() {
        let video = format!("assets/{}", case["video"].as_str().unwrap());
        let prompt = case["prompt"].as_str().unwrap();
        let registry: &[&str] = match index % 2 {
            0 => &[],
            _ => &["--registry", "merv-tiny"],
        };
        let run = Run::new()
            .args(registry)
            .args(["generate", "--json", "--video", &video, "--prompt", prompt])
            .args(["--max-new-tokens", "32"])
            .finish()
            .succeeded();
        let answer: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(answer["text"], case["text"], "{video}: {prompt}");
        let mut tokens = answer["tokens"].as_array().unwrap().clone();
        // The tokens may include the end of the text.
        tokens.truncate(case["tokens"].as_array().unwrap().len());
        assert_eq!(Value::from(tokens), case["tokens"], "{video}: {prompt}");
        for (id, expected) in case["mixer_weights"].as_object().unwrap() {
            let [found, expected] = [&answer["mixer_weights"][id], expected];
            let [found, expected] = [found, expected].map(|x| x.as_f64().unwrap() as f32);
            assert_close(&format!("mixer weight of {id}"), &[found], &[expected]);
        }
    }
}

#[test]
fn merv_tiny_answers_correctly_about_the_shapes() {
    let answers: Vec<&str> = TINY
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case["video"] == "shapes.mp4")
        .map(|case| case["text"].as_str().unwrap())
        .collect();
    assert_eq!(
        answers,
        [
            "A large blue star moves fast left over a checkerboard. The camera moves.",
            "left",
            "star",
            "blue",
            "fast",
            // The options are a circle, a star, a ring and a cross.
            "B"
        ]
    );
}

#[test]
fn the_same_seed_draws_the_same_tokens() {
    let draw = |seed: &str| {
        let settings = ["--temperature", "1.0", "--top-p", "0.95", "--top-k", "200"];
        generate()
            .args(settings)
            .args(["--seed", seed])
            .finish()
            .succeeded()
            .stdout
    };
    assert_eq!(draw("7"), draw("7"));
    assert_ne!(draw("7"), draw("8"));
    assert_ne!(draw("7").trim_end(), text());
}

#[test]
fn the_library_gives_the_same_answer() {
    #[derive(Default)]
    struct Streamed(String);

    impl Observer for Streamed {
        fn text(&mut self, text: &str) {
            self.0.push_str(text);
        }
    }

    let plugins = artifacts().host.parent().unwrap().to_owned();
    let options = LoadOptions {
        plugin_folders: vec![plugins],
        ..LoadOptions::default()
    };
    let model = VidLm::load_with(root().join(REGISTRY), &options, &mut ()).unwrap();
    let options = GenerateOptions {
        limits: generate::ReplyLimits {
            max_new_tokens: STEPS,
            min_length: 1,
            min_new_tokens: 0,
        },
        ..GenerateOptions::default()
    };
    // Twice, because an answer must not affect the next.
    for _ in 0..2 {
        let mut streamed = Streamed::default();
        let reply = model
            .generate_with(clip(), PROMPT, &options, &mut streamed)
            .unwrap();
        let tokens: Vec<usize> = reply.tokens.iter().map(|&token| token as usize).collect();
        assert_eq!(tokens, numbers(&EXPECTED["tokens"]));
        assert_eq!((reply.text.as_str(), streamed.0.as_str()), (text(), text()));
        let (ids, weights): (Vec<_>, Vec<f32>) = reply.mixer_weights.into_iter().unzip();
        assert_eq!(ids, ENCODERS);
        assert_close("mixer weights", &weights, &IO.get("mixer_weights").values);
    }
}

#[test]
fn frames_match_the_fixture_to_the_byte() {
    let selection = Selection::new(numbers(&EXPECTED["frame_indices"]).len());
    let seen = video::read(&clip(), &selection, &video::ReadLimits::default()).unwrap();
    assert_eq!(seen.indices, numbers(&EXPECTED["frame_indices"]));
    let digests = EXPECTED["frame_sha256"].as_array().unwrap();
    assert_eq!(seen.frames.len(), digests.len());
    for (index, (frame, expected)) in seen.frames.iter().zip(digests).enumerate() {
        let digest = Sha256::digest(&frame.data);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.as_str(), expected.as_str().unwrap(), "frame {index}");
    }
}

#[test]
fn info_describes_the_model() {
    let run = Run::new()
        .args(["--registry", REGISTRY, "info", "--json"])
        .finish()
        .succeeded();
    let info: Value = serde_json::from_str(&run.stdout).unwrap();
    let ids: Vec<_> = info["encoders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["id"])
        .collect();
    assert_eq!(ids, ENCODERS);
    assert_eq!(info["visual_tokens"], IO.get("fused").shape[1]);
    assert_eq!(info["llm"]["width"], IO.get("fused").shape[2]);
    assert_eq!(info["llm"]["vocab_size"], IO.get("logits").shape[0]);
    for total in ["parameters", "macs", "memory_bytes"] {
        assert!(info[total].as_u64().unwrap() > 100_000, "{total}: {run}");
    }
    let table = Run::new()
        .args(["--registry", REGISTRY, "info"])
        .finish()
        .succeeded();
    for id in ENCODERS {
        assert!(table.stdout.contains(id), "{table}");
    }
}
