//! Whatever is wrong with a video, a weights file, a config, a registry or the command line: a message
//! that names it and says what to do, exit code 1 (2 for the command line), nothing on stdout, no panic.

use merv_tests::{
    Dtype, Finished, Run, Stored, Tiny, clip, edit, fixture, none_of, plugin_folder, small_clip,
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// The models of the lively model: the folder, and a tensor that it needs.
const MODELS: [(&str, &str); 5] = [
    (
        "languagebind",
        "vision_model.encoder.layers.0.self_attn.k_proj.weight",
    ),
    ("dinov2", "blocks.1.attn.qkv.weight"),
    (
        "vivit",
        "vivit.encoder.layer.1.attention.attention.key.weight",
    ),
    ("siglip", "blocks.0.attn.proj.bias"),
    ("llm", "model.layers.2.mlp.gate_proj.weight"),
];

const MIXER: (&str, &str) = (
    "mixer.safetensors",
    "projectors.2.projector.projector.weight",
);

/// Every weights file of the lively model and a tensor that is needed from it.
fn weights() -> impl Iterator<Item = (String, &'static str)> {
    let models = MODELS.map(|(folder, tensor)| (format!("{folder}/model.safetensors"), tensor));
    models.into_iter().chain([(MIXER.0.to_owned(), MIXER.1)])
}

/// The outcome of each case of a table of (name, run, words).
fn all_fail<S: AsRef<str>>(code: i32, cases: impl IntoIterator<Item = (String, Finished, Vec<S>)>) {
    none_of(
        cases
            .into_iter()
            .map(|(name, run, words)| (name, run.judge(code, &words))),
    );
}

fn about(video: &Path) -> Run {
    Run::new()
        .args([
            "generate",
            "--prompt",
            "?",
            "--max-new-tokens",
            "1",
            "--video",
        ])
        .arg(video)
}

#[test]
fn videos_that_are_none() {
    let folder = TempDir::new().unwrap();
    let made = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = fs::read(clip()).unwrap();
    let cut = |name: &str, length: usize| made(name, &whole[..length]);
    let empty_folder = folder.path().join("no images");
    fs::create_dir(&empty_folder).unwrap();
    let cases: Vec<(PathBuf, &[&str])> = vec![
        (
            folder.path().join("nowhere.mp4"),
            &["no such file", "check the path"],
        ),
        (made("empty.mp4", b""), &["empty", "fetch it again"]),
        (
            made("text.mp4", b"Not a video at all, but a note about one.\n"),
            &["not a video"],
        ),
        (cut("cut to 30 bytes.mp4", 30), &["cut short", "fetch"]),
        (
            cut("cut in half.mp4", whole.len() / 2),
            &["fetch the file again"],
        ),
        (
            cut("cut by a tenth.mp4", whole.len() / 10 * 9),
            &["fetch the file again"],
        ),
        (empty_folder, &["holds no images"]),
        (
            fixture("video/sound.m4a"),
            &["holds no video", "give a file with pictures"],
        ),
        (fixture("video/empty.mp4"), &["empty"]),
        (fixture("video/cut_no_index.mp4"), &["fetch the file again"]),
        (
            fixture("video/cut_with_index.mp4"),
            &["fetch the file again"],
        ),
        (fixture("video/playlist.mp4"), &["not a video"]),
        (fixture("video/concat.mp4"), &["not a video"]),
        (fixture("e2e/io.safetensors"), &["not a video"]),
        (PathBuf::from("/dev/null"), &["a device or socket"]),
    ];
    all_fail(
        1,
        cases.into_iter().map(|(path, words)| {
            let path_text = path.display().to_string();
            let words = words
                .iter()
                .map(|&word| word.to_owned())
                .chain([path_text.clone()]);
            (path_text, about(&path).finish(), words.collect())
        }),
    );
}

#[test]
fn windows_that_hold_no_frames() {
    let cases: [(&[&str], &[&str]); 3] = [
        (
            &["--start", "3600"],
            &["starts at 3600 s", "choose an earlier start"],
        ),
        (&["--start", "1e300"], &["choose an earlier start"]),
        (
            &["--start", "3600", "--end", "3601"],
            &["choose an earlier start"],
        ),
    ];
    all_fail(
        1,
        cases.map(|(window, words)| {
            let run = about(&clip()).args(window).finish();
            (
                window.join(" "),
                run,
                [words, &["bigbuckbunny.mp4"]].concat(),
            )
        }),
    );
}

#[test]
fn windows_that_hold_some_are_answered() {
    for window in [
        &["--start", "0"][..],
        &["--start", "1", "--end", "1.01"],
        &["--end", "3600"],
    ] {
        about(&small_clip()).args(window).finish().succeeded();
    }
}

#[test]
fn every_limit_is_kept_and_can_be_set() {
    let video = |name: &str| fixture(&format!("video/{name}"));
    let still = video("still.png");
    let cases = [
        (small_clip(), "--max-pixels", "5183"),
        (small_clip(), "--max-frames", "3"),
        (small_clip(), "--max-clip-bytes", "15552"),
        (still.clone(), "--max-pixels", "5"),
        (still.clone(), "--max-image-bytes", "5"),
        (video("motion.gif"), "--max-pixels", "5"),
        (video("motion.gif"), "--max-animation-pixels", "5"),
        (video("motion.gif"), "--max-animation-bytes", "5"),
        (small_clip(), "--max-decoded-pixels", "5"),
        (video("frames"), "--max-frames", "3"),
    ];
    all_fail(
        1,
        cases.iter().map(|(path, flag, limit)| {
            let words = [*flag, "over the limit of", limit]
                .map(str::to_owned)
                .to_vec();
            let named = [words, vec![path.file_name().unwrap().display().to_string()]].concat();
            (
                format!("{} {flag}", path.display()),
                about(path).args([*flag, *limit]).finish(),
                named,
            )
        }),
    );
    // Files that declare more than they hold, against the limits that hold without being set.
    let huge = [
        ("huge.webm", "--max-pixels"),
        ("huge.gif", "--max-pixels"),
        ("huge.png", "--max-pixels"),
        ("many_frames.mp4", "--max-frames"),
    ];
    all_fail(
        1,
        huge.map(|(name, flag)| {
            (
                name.to_owned(),
                about(&video(name)).finish(),
                vec![name, flag, "over the limit"],
            )
        }),
    );
    let high = "100000000";
    for flag in [
        "--max-pixels",
        "--max-frames",
        "--max-clip-bytes",
        "--max-image-bytes",
        "--max-animation-pixels",
        "--max-animation-bytes",
        "--max-decoded-pixels",
    ] {
        about(&small_clip()).args([flag, high]).finish().succeeded();
    }
}

/// All weights files of a copy of the lively model, each spoilt by `spoil`, must be named in one message.
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
fn weights_files_that_are_damaged() {
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
    all_fail(
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
fn weights_files_of_another_model() {
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
    all_fail(
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
fn values_that_are_no_numbers_are_found_where_they_begin() {
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
                format!("{who} gave values that are not finite numbers"),
                path.display().to_string(),
            ];
            (
                format!("{number} in {tensor}"),
                tiny.generate().finish(),
                words.to_vec(),
            )
        })
    };
    all_fail(1, spoilt(f32::NAN));
    all_fail(1, spoilt(f32::INFINITY));
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
fn files_that_are_gone() {
    let mut files: Vec<String> = weights().map(|(file, _)| file).collect();
    files.push("llm/tokenizer.json".to_owned());
    all_fail(
        1,
        files.into_iter().map(|file| {
            let tiny = Tiny::new();
            let path = tiny.path(&file);
            fs::remove_file(&path).unwrap();
            let words = vec![
                path.display().to_string(),
                "registry.toml:".to_owned(),
                "do: ".to_owned(),
            ];
            (file, tiny.generate().finish(), words)
        }),
    );
}

#[test]
fn configs_that_are_damaged() {
    let contents = [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "{\"architecture\": 7}",
        "\u{0}\u{1}",
    ];
    all_fail(
        1,
        contents.map(|text| {
            let tiny = Tiny::new();
            let mut words = vec![];
            for (model, _) in MODELS {
                let path = tiny.path(model).join("config.json");
                fs::write(&path, text).unwrap();
                words.push(path.display().to_string());
            }
            (format!("{text:?}"), tiny.generate().finish(), words)
        }),
    );
}

/// Sizes in the configs of the lively model: the folder, the key, its value.
const SIZES: [(&str, &str, &str); 27] = [
    ("siglip", "img_size", "64"),
    ("siglip", "patch_size", "8"),
    ("siglip", "embed_dim", "64"),
    ("siglip", "depth", "3"),
    ("siglip", "num_heads", "4"),
    ("siglip", "mlp_ratio", "2"),
    ("dinov2", "img_size", "64"),
    ("dinov2", "embed_dim", "64"),
    ("dinov2", "reg_tokens", "4"),
    ("languagebind", "num_frames", "8"),
    ("languagebind", "hidden_size", "64"),
    ("languagebind", "num_hidden_layers", "3"),
    ("languagebind", "num_attention_heads", "4"),
    ("languagebind", "intermediate_size", "128"),
    ("languagebind", "patch_size", "8"),
    ("vivit", "hidden_size", "64"),
    ("vivit", "image_size", "64"),
    ("vivit", "num_hidden_layers", "3"),
    ("vivit", "num_attention_heads", "4"),
    ("vivit", "intermediate_size", "128"),
    ("llm", "hidden_size", "96"),
    ("llm", "head_dim", "24"),
    ("llm", "intermediate_size", "192"),
    ("llm", "num_hidden_layers", "4"),
    ("llm", "num_attention_heads", "4"),
    ("llm", "num_key_value_heads", "2"),
    ("llm", "vocab_size", "1024"),
];

/// Each size set to each of `values` is an error that names the config or the weights beside it.
fn refused_sizes(values: &[&str]) {
    let cases = SIZES
        .iter()
        .flat_map(|size| values.iter().map(move |value| (size, value)));
    all_fail(
        1,
        cases.map(|(&(model, key, old), value)| {
            let tiny = Tiny::new();
            let [from, to] = [old, value].map(|value| format!("\"{key}\": {value}"));
            tiny.replace(&format!("{model}/config.json"), &from, &to);
            let words = vec![tiny.path(model).display().to_string()];
            (
                format!("{model}: {key} = {value}"),
                tiny.generate().finish(),
                words,
            )
        }),
    );
}

#[test]
fn configs_whose_sizes_make_no_model() {
    refused_sizes(&["0", "-1"]);
}

/// A size that nobody's memory holds must be refused before anything of that size is made.
#[test]
fn configs_whose_sizes_are_absurd() {
    refused_sizes(&["3000000000000", "18446744073709551615"]);
}

#[test]
fn configs_that_do_not_fit_the_weights() {
    let cases = [
        (
            "siglip",
            "\"embed_dim\": 64",
            "\"embed_dim\": 68",
            "blocks.0.attn.qkv.weight",
        ),
        (
            "dinov2",
            "\"depth\": 4",
            "\"depth\": 5",
            "`blocks.4.norm1.weight` is missing",
        ),
        (
            "languagebind",
            "\"intermediate_size\": 128",
            "\"intermediate_size\": 120",
            "mlp.fc1",
        ),
        (
            "vivit",
            "\"num_hidden_layers\": 3",
            "\"num_hidden_layers\": 4",
            "is missing",
        ),
        (
            "llm",
            "\"num_key_value_heads\": 2",
            "\"num_key_value_heads\": 3",
            "heads",
        ),
        ("siglip", "\"num_heads\": 4", "\"num_heads\": 5", "5 heads"),
        (
            "siglip",
            "\"depth\": 3",
            "\"depth\": 3, \"qk_norm\": true",
            "qk_norm",
        ),
        (
            "siglip",
            "vit_base_patch16_siglip_224",
            "resnet50",
            "resnet50",
        ),
        (
            "llm",
            "\"model_type\": \"llama\"",
            "\"model_type\": \"mamba\"",
            "mamba",
        ),
    ];
    all_fail(
        1,
        cases.map(|(model, from, to, word)| {
            let tiny = Tiny::new();
            tiny.replace(&format!("{model}/config.json"), from, to);
            let words = vec![tiny.path(model).display().to_string(), word.to_owned()];
            (format!("{model}: {to}"), tiny.generate().finish(), words)
        }),
    );
}

/// What would change the logits and is not computed is refused before the weights are fetched.
#[test]
fn configs_that_ask_for_more_than_a_llama() {
    const NO_ROPE: &str = "\"rope_scaling\": null";
    let cases = [
        ("\"quantization_config\": {}", "found `quantization_config`"),
        (
            "\"partial_rotary_factor\": 0.5",
            "found `partial_rotary_factor`",
        ),
        (
            "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2}",
            "yarn",
        ),
        (
            "\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2, \"rope_theta\": 1e4}",
            "yarn",
        ),
        (
            "\"rope_parameters\": {\"rope_theta\": 1e4, \"partial_rotary_factor\": 0.5}",
            "found `partial_rotary_factor`",
        ),
        ("\"rope_scaling\": {\"factor\": 2}", "`(none)`"),
    ];
    let commands = [|tiny: &Tiny| tiny.run().arg("info"), Tiny::generate];
    let cases = cases
        .iter()
        .flat_map(|case| commands.iter().map(move |command| (case, command)));
    all_fail(
        1,
        cases.map(|(&(keys, word), command)| {
            let tiny = Tiny::new();
            tiny.replace("llm/config.json", NO_ROPE, keys);
            let file = tiny.path("llm/config.json").display().to_string();
            (
                keys.to_owned(),
                command(&tiny).finish(),
                vec![file, word.to_owned(), "plugin `llama2`".to_owned()],
            )
        }),
    );
}

#[test]
fn tokenizers_that_are_none() {
    let whole = fs::read(Tiny::new().path("llm/tokenizer.json")).unwrap();
    let half = String::from_utf8_lossy(&whole[..whole.len() / 2]).into_owned();
    all_fail(
        1,
        ["", "{}", "hello", &half].map(|text| {
            let tiny = Tiny::new();
            let path = tiny.path("llm/tokenizer.json");
            fs::write(&path, text).unwrap();
            let words = vec![
                path.display().to_string(),
                "do: fetch `tokenizer.json`".to_owned(),
            ];
            (format!("{:.20}", text), tiny.generate().finish(), words)
        }),
    );
}

#[test]
fn a_tokenizer_of_another_model() {
    // Its ids go beyond the embedding table.
    let tiny = Tiny::new();
    let path = tiny.path("llm/tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for id in json["model"]["vocab"].as_object_mut().unwrap().values_mut() {
        *id = (id.as_u64().unwrap() + 5000).into();
    }
    fs::write(&path, json.to_string()).unwrap();
    tiny.generate()
        .finish()
        .failed(1, &["plugin `llama2`", "1024"]);
}

#[test]
fn mistakes_in_registries() {
    const SIGLIP: &str = "plugin = \"siglip\"";
    const VIVIT_FRAMES: &str = "plugin = \"vivit\"\nnum_frames = 32";
    let cases: [(&str, &str, &[&str]); 17] = [
        (
            SIGLIP,
            "plugin = \"siglib\"",
            &[
                "no plugin `siglib`",
                "did you mean `siglip`?",
                "--plugin-dir",
            ],
        ),
        (
            SIGLIP,
            "plugin = \"dinov2\"",
            &[
                "plugin `dinov2`",
                "siglip-vit-b16-224px-all-no-cls",
                "dinov2-video-all-tokens",
            ],
        ),
        (
            SIGLIP,
            "plugin = \"llama2\"",
            &["plugin `llama2`", "no encoder"],
        ),
        (
            "id = \"llama\"",
            "id = \"llama3\"",
            &[
                "llama3",
                "llama2-7b-pure, llama2-13b-pure,",
                "llama3.1-8b-chat",
            ],
        ),
        (
            VIVIT_FRAMES,
            "plugin = \"vivit\"\nnum_frames = 31",
            &["num_frames", "31"],
        ),
        (
            VIVIT_FRAMES,
            "plugin = \"vivit\"\nnum_frames = 0",
            &["num_frames", "0"],
        ),
        (VIVIT_FRAMES, "plugin = \"vivit\"\nnum_frames = 64", &["64"]),
        (
            VIVIT_FRAMES,
            "plugin = \"vivit\"\nnum_frames = 4000000000000",
            &["num_frames"],
        ),
        (
            "plugin = \"siglip\"\nnum_frames = 16",
            "plugin = \"siglip\"\nnum_frames = 8",
            &["time steps"],
        ),
        (
            "token_length = 16",
            "token_length = 15",
            &["token_length", "square"],
        ),
        (
            "token_length = 16",
            "token_length = 25",
            &["visual_feature_length", "token_length"],
        ),
        (
            "visual_feature_length = 256",
            "visual_feature_length = 128",
            &["visual_feature_length", "256"],
        ),
        (
            "cross_attention_avg_lq",
            "concat_everything",
            &["concat_everything", "expected"],
        ),
        ("prompt = \"pure\"", "prompt = \"pur\"", &["pur", "pure"]),
        (
            "num_frames = 32",
            "num_frame = 32",
            &["num_frame", "do: write `num_frames`"],
        ),
        ("schema = 1", "schema = 1\n[", &["registry.toml:2"]),
        (
            "dinov2/model.safetensors\" }",
            "dinov2/model.safetensors\", sha256 = \"aa\" }",
            &["sha256"],
        ),
    ];
    all_fail(
        1,
        cases.map(|(from, to, words)| {
            let tiny = Tiny::new();
            tiny.replace("registry.toml", from, to);
            (to.to_owned(), tiny.generate().finish(), words.to_vec())
        }),
    );
}

#[test]
fn registries_that_are_not_there() {
    all_fail(
        1,
        ["merv-tinny", "nowhere/x.toml", "/dev/null", "assets"].map(|name| {
            let run = Run::new().args(["--registry", name, "info"]).finish();
            let words = if name == "merv-tinny" {
                vec!["merv-tinny", "did you mean", "`merv-tiny`"]
            } else {
                vec![name]
            };
            (format!("`{name}`"), run, words)
        }),
    );
}

#[test]
fn mixers_of_another_model() {
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

    // A language model of another width than the mixer's.
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

#[test]
fn prompts_of_any_length_are_answered_or_refused() {
    let answered = [
        "",
        " ",
        "\n",
        "é🎬\u{7}x\u{202e}",
        "--prompt",
        "<s></s>",
        "x".repeat(300).as_str(),
    ]
    .map(|prompt| Tiny::new().ask(prompt, 2));
    answered.into_iter().for_each(|run| {
        let run = run.finish().succeeded();
        assert!(run.stdout.ends_with('\n'), "{run}");
    });
    let long = "why? ".repeat(2000);
    Tiny::new().ask(&long, 2).finish().failed(
        1,
        &[
            "the prompt is too long",
            "tokens",
            "expected: at most",
            "shorten the prompt",
        ],
    );
    // The registry's `max_length` and the context bound it, whichever is less.
    let tiny = Tiny::new();
    tiny.replace("registry.toml", "max_length = 512", "max_length = 5");
    let words = ["expected: at most 5", "`max_length`"];
    tiny.ask("Hello, who is there?", 2)
        .finish()
        .failed(1, &words);
    let tiny = Tiny::new();
    tiny.replace(
        "llm/config.json",
        "\"max_position_embeddings\": 1024",
        "\"max_position_embeddings\": 260",
    );
    let words = ["expected: at most 3", "context of 260", "256 visual tokens"];
    tiny.ask("Hello, who is there?", 2)
        .finish()
        .failed(1, &words);
    let tiny = Tiny::new();
    tiny.replace(
        "llm/config.json",
        "\"max_position_embeddings\": 1024",
        "\"max_position_embeddings\": 100",
    );
    tiny.ask("?", 2)
        .finish()
        .failed(1, &["context of 100", "256 visual tokens"]);
}

#[test]
fn an_answer_ends_with_the_context() {
    let tiny = Tiny::new();
    tiny.replace(
        "llm/config.json",
        "\"max_position_embeddings\": 1024",
        "\"max_position_embeddings\": 280",
    );
    let run = tiny.ask("Hi", 100).arg("--json").finish().succeeded();
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(answer["stop"], "context", "{run}");
    // The last token is made from the last position, and needs none itself.
    let room = 280 - 256 - answer["prompt_tokens"].as_u64().unwrap() as usize + 1;
    assert_eq!(answer["tokens"].as_array().unwrap().len(), room, "{run}");
    assert!(run.stderr.contains("context is full"), "{run}");
}

#[test]
fn nothing_asked_for_is_nothing_answered() {
    let run = Tiny::new().ask("Hi", 0).finish().succeeded();
    assert_eq!(run.stdout, "\n");
}

#[test]
fn settings_that_make_no_distribution() {
    let cases: [(&[&str], &str); 6] = [
        (&["--temperature", "-1"], "temperature"),
        (&["--temperature", "nan"], "temperature"),
        (&["--temperature", "inf"], "temperature"),
        (&["--top-p", "0"], "top-p"),
        (&["--top-p", "1.5"], "top-p"),
        (&["--top-p", "nan"], "top-p"),
    ];
    all_fail(
        2,
        cases.map(|(settings, word)| {
            (
                settings.join(" "),
                about(&small_clip()).args(settings).finish(),
                vec![word, "found"],
            )
        }),
    );
}

#[test]
fn places_that_cannot_be_written_to() {
    let folder = TempDir::new().unwrap();
    for path in [
        folder.path().to_owned(),
        folder.path().join("nowhere/dump.safetensors"),
    ] {
        let run = about(&small_clip())
            .args(["--json", "--dump"])
            .arg(&path)
            .finish();
        run.failed(1, &[&path.display().to_string(), "cannot be written"]);
    }
    let run = about(&small_clip()).args(["--dump", "/dev/full"]).finish();
    run.failed(
        1,
        &["/dev/full", "name another place: something else is there"],
    );
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "a partial file was left behind");
}

#[test]
fn a_link_to_nothing_is_written_through() {
    let folder = TempDir::new().unwrap();
    let (link, place) = (folder.path().join("link"), folder.path().join("dump"));
    std::os::unix::fs::symlink("dump", &link).unwrap();
    let run = about(&small_clip()).arg("--dump").arg(&link);
    run.finish().succeeded();
    assert!(link.is_symlink() && place.is_file());
}

#[test]
fn names_that_are_too_long_are_said_to_be() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("features").display().to_string();
    let long = "a".repeat(300);
    let train = [
        "train",
        "--config",
        "configs/merv-tiny.toml",
        "--stage",
        "align",
    ];
    let set = "data=tests/fixtures/training_runs/data.json";
    let cases: [(&str, Vec<&str>); 5] = [
        ("video", vec!["generate", "--prompt", "?", "--video", &long]),
        (
            "train",
            [&train[..], &["--set", set, "--out", &long]].concat(),
        ),
        ("encode", vec!["encode", "--out", &out, "--video", &long]),
        (
            "features",
            vec!["encode", "--video", "assets/shapes.mp4", "--out", &long],
        ),
        ("plot", vec!["plot", &long]),
    ];
    none_of(cases.map(|(case, arguments)| {
        let run = Run::new().args(&arguments).finish();
        (case.to_owned(), run.judge(1, &["a name in it is too long"]))
    }));
}

#[test]
fn devices_that_are_not_there() {
    all_fail(
        1,
        ["cuda:0", "cuda:7"].map(|device| {
            let run = about(&small_clip()).args(["--device", device]).finish();
            (device.to_owned(), run, vec![device, "cpu"])
        }),
    );
}

#[test]
fn a_precision_that_no_plugin_has() {
    let run = about(&small_clip()).args(["--precision", "f16"]).finish();
    run.failed(1, &["asked for in f16", "f32 or bf16"]);
}

#[test]
fn mistakes_on_the_command_line() {
    let generate = ["generate", "--video", "x.mp4", "--prompt", "?"];
    let with = |more: &[&'static str]| [&generate[..], more].concat();
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec![], "Usage"),
        (vec!["--registry", "", "info"], "--registry"),
        (vec!["describe"], "unrecognized subcommand"),
        (vec!["generate", "--prompt", "?"], "--video"),
        (vec!["generate", "--video", "x.mp4"], "--prompt"),
        (with(&["--max-new-tokens", "many"]), "--max-new-tokens"),
        (with(&["--max-new-tokens", "-1"]), "--max-new-tokens"),
        (with(&["--temperature", "hot"]), "--temperature"),
        (with(&["--max-pixels", "-5"]), "--max-pixels"),
        (with(&["--seed", "1.5"]), "--seed"),
        (with(&["--vidoe", "y.mp4"]), "--video"),
        (with(&["--threads", "0"]), "--threads"),
        (with(&["--device", "tpu"]), "--device"),
        (with(&["--device", "cuda:99999999999"]), "--device"),
        (with(&["--start", "-1"]), "--start"),
        (with(&["--start", "inf"]), "--start"),
        (with(&["--start", "nan"]), "--start"),
        (with(&["--end", "nan"]), "--end"),
        (with(&["--end", "-1"]), "--end"),
        (with(&["--end", "0"]), "--end"),
        (
            with(&["--start", "2", "--end", "1"]),
            "--end 1 is before --start 2",
        ),
        (with(&["--folder-fps", "0"]), "--folder-fps"),
        (with(&["--folder-fps", "nan"]), "--folder-fps"),
        (
            vec![
                "generate",
                "--video",
                "assets/bigbuckbunny.mp4",
                "--prompt",
                "?",
                "--folder-fps",
                "3",
            ],
            "--folder-fps is for a folder of images",
        ),
        (
            vec![
                "chat",
                "--video",
                "assets/bigbuckbunny.mp4",
                "--folder-fps",
                "3",
            ],
            "bigbuckbunny.mp4",
        ),
        (
            vec!["synth", "--out", "x", "--clips", "0"],
            "number of clips",
        ),
        (
            vec!["synth", "--out", "x", "--clips", "1", "--size", "1"],
            "size",
        ),
        (
            vec!["eval", "mcq", "--benchmark", "..", "--out", "x"],
            "`..` is not the name of a benchmark",
        ),
        (
            vec![
                "train",
                "--config",
                "configs/merv-tiny.toml",
                "--stage",
                "align",
                "--dry-run",
                "--set",
                "epochs=0",
            ],
            "epochs",
        ),
        (
            vec!["train", "--resume", "--out", "x", "--set", "epoch=3"],
            "unknown key `epoch`",
        ),
        (with(&["--precision", "double"]), "--precision"),
        (with(&["--color", "red"]), "--color"),
        (with(&["-q", "-v"]), "cannot be used with"),
        (with(&["surplus"]), "surplus"),
    ];
    all_fail(
        2,
        cases.into_iter().map(|(arguments, word)| {
            (
                arguments.join(" "),
                Run::new().args(&arguments).finish(),
                vec![word],
            )
        }),
    );
    for (argument, word) in [
        ("--help", "generate"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(
            Run::new()
                .arg(argument)
                .finish()
                .succeeded()
                .stdout
                .contains(word)
        );
    }
}

#[test]
fn a_checkpoint_without_tensors_is_named() {
    let folder = tempfile::TempDir::new().unwrap();
    let empty = folder.path().join("empty.safetensors");
    std::fs::write(
        &empty,
        [8u64.to_le_bytes().as_slice(), b"{}      "].concat(),
    )
    .unwrap();
    let run = Run::new().arg("convert").arg(&empty).arg("--out");
    let found = run.arg(folder.path().join("out")).finish();
    let words = [empty.display().to_string(), "holds no tensors".to_owned()];
    found.failed(1, &words);
}

#[test]
fn a_tensor_under_the_name_of_the_metadata_is_not_converted() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("views.pt");
    let mut bytes = std::fs::read(fixture("checkpoint/views.legacy.pt")).unwrap();
    let name = b"every_second";
    let at = bytes.windows(name.len()).position(|window| window == name);
    bytes[at.unwrap()..][..name.len()].copy_from_slice(b"__metadata__");
    std::fs::write(&input, bytes).unwrap();
    let out = folder.path().join("out");
    let run = Run::new().arg("convert").arg(&input).arg("--out").arg(&out);
    let words = ["views.pt", "a tensor is named `__metadata__`", "rename it"];
    run.finish().failed(1, &words);
    assert!(!out.exists());
}
