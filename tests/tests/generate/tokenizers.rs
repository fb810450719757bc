//! Tokenizers of GGUF files against sentencepiece and `tokenizers`. The script that makes the fixtures also compares
//! them with llama.cpp. Contradictory files, and files that make the library panic, are refused.

use merv_host::tokenizer::TextTokenizer;
use merv_tests::{Tiny, edit_gguf, fixture};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Instant};
use tempfile::TempDir;

const FAMILIES: [&str; 5] = ["llama", "llama-bpe", "qwen2", "smollm", "gpt-2"];

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

fn expected(family: &str) -> Value {
    let file = fixture("tokenizers").join(family).join("expected.json");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn ids_match_the_originals() {
    for family in FAMILIES {
        let expected = expected(family);
        for file in ["tokenizer.gguf", "tokenizer.json"] {
            let path = fixture("tokenizers").join(family).join(file);
            if family == "llama" && file == "tokenizer.json" {
                continue;
            }
            let tokenizer = TextTokenizer::load(&path).unwrap_or_else(|error| panic!("{error}"));
            let cases = expected.as_array().unwrap();
            assert!(cases.len() > 25);
            for case in cases {
                let (text, wanted) = (case["text"].as_str().unwrap(), ids(&case["ids"]));
                let found = tokenizer.encode_continuation(text).unwrap();
                assert_eq!(found, wanted, "{family} {file}: {text:?}");
                assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["whole"]));
                let decoded = tokenizer.decode(&found).unwrap();
                assert_eq!(
                    decoded,
                    case["decoded"].as_str().unwrap(),
                    "{family} {file}: {text:?}"
                );
            }
        }
    }
}

/// Loads the tokenizer of a family with edited metadata, and checks that the error contains all of `words`.
#[track_caller]
fn refused(family: &str, words: &[&str], edit: impl FnOnce(&mut Vec<u8>)) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.gguf");
    let original = fixture("tokenizers").join(family).join("tokenizer.gguf");
    let mut bytes = fs::read(original).unwrap();
    edit(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let Err(error) = TextTokenizer::load(&path) else {
        panic!("{family} {words:?}: loaded");
    };
    let message = error.to_string();
    for word in ["x.gguf is not a valid tokenizer", "do: "]
        .iter()
        .chain(words)
    {
        assert!(
            message.contains(word),
            "{family}: `{word}` is not in: {message}"
        );
    }
}

#[test]
fn contradictory_metadata_are_refused() {
    let no = u32::MAX.to_le_bytes();
    for family in ["llama", "qwen2"] {
        refused(family, &["tokenizer.ggml.model", "missing"], |bytes| {
            edit_gguf::rename(bytes, "tokenizer.ggml.model", "tokenizer.ggml.mxdel");
        });
        refused(family, &["tokenizer.ggml.tokens", "missing"], |bytes| {
            edit_gguf::rename(bytes, "tokenizer.ggml.tokens", "tokenizer.ggml.tokenz");
        });
        refused(
            family,
            &["eos_token_id", "4294967295", "less than 512"],
            |bytes| {
                edit_gguf::set(bytes, "tokenizer.ggml.eos_token_id", 4, no);
            },
        );
        refused(
            family,
            &["token 0 is of type", "expected 1 to 6"],
            |bytes| {
                edit_gguf::set_element(bytes, "tokenizer.ggml.token_type", no);
            },
        );
        refused(family, &["x.gguf"], |bytes| bytes.truncate(200));
    }
    refused("qwen2", &["`bert`", "`llama` or `gpt2`"], |bytes| {
        edit_gguf::rename(bytes, "gpt2", "bert");
    });
    refused("llama", &["tokenizer.ggml.scores", "missing"], |bytes| {
        edit_gguf::rename(bytes, "tokenizer.ggml.scores", "tokenizer.ggml.scorez");
    });
    refused("qwen2", &["tokenizer.ggml.merges", "missing"], |bytes| {
        edit_gguf::rename(bytes, "tokenizer.ggml.merges", "tokenizer.ggml.mergez");
    });
    refused("qwen2", &["`qwen9`", "llama-bpe"], |bytes| {
        edit_gguf::rename(bytes, "qwen2", "qwen9");
    });
    refused("qwen2", &["its merges do not match its tokens"], |bytes| {
        edit_gguf::rename(bytes, "Ġ t", "Ġ \u{1}");
    });
    refused("qwen2", &["merge", "two parts"], |bytes| {
        edit_gguf::rename(bytes, "Ġ t", "Ġ_t");
    });
}

/// A small `tokenizer.json` with a change.
fn json_with(change: impl FnOnce(&mut Value)) -> Value {
    let path = fixture("tokenizers/gpt-2/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut tokenizer);
    tokenizer
}

#[test]
fn files_that_make_the_library_panic_are_errors() {
    let cases = [
        ("not an object", json!("{")),
        ("no model", json!({})),
        ("a list", json!([])),
        (
            "a truncated charsmap",
            json_with(|json| {
                json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})
            }),
        ),
        (
            "a charsmap that points outside itself",
            json_with(|json| {
                json["normalizer"] =
                    json!({"type": "Precompiled", "precompiled_charsmap": "CAAAAP////////8="});
            }),
        ),
        (
            "no vocabulary",
            json_with(|json| json["model"] = json!({"type": "Unigram", "unk_id": 7, "vocab": []})),
        ),
        (
            "a missing unknown token",
            json_with(|json| {
                json["model"] = json!({"type": "WordPiece", "unk_token": "?", "vocab": {},
                    "continuing_subword_prefix": "##", "max_input_chars_per_word": 100});
            }),
        ),
    ];
    for (what, json) in cases {
        let tiny = Tiny::new();
        fs::write(tiny.path("llm/tokenizer.json"), json.to_string()).unwrap();
        tiny.generate()
            .finish()
            .check_failed(1, &["tokenizer.json", "do: "])
            .unwrap_or_else(|complaint| panic!("{what}: {complaint}"));
    }
}

#[test]
fn hostile_sizes_are_refused_quickly() {
    // These files would need more than the 4 GB of memory that a run has, or minutes.
    let started = Instant::now();
    let many = vec!["ab".to_owned(); (1 << 20) + 1];
    let long = vec!["a".repeat(513)];
    let added: Vec<String> = (0..9000).map(|i| format!("{i:0>200}")).collect();
    for (tokens, kind, word) in [
        (&many, 1, "1048577 tokens"),
        (&long, 1, "token 0 has 513 bytes"),
        (&added, 3, "control and user-defined tokens"),
    ] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.gguf");
        fs::write(&path, edit_gguf::tokenizer(tokens, kind)).unwrap();
        let error = TextTokenizer::load(&path).err().expect(word).to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(started.elapsed().as_secs() < 20);
}

/// The small `tokenizer.json` with a sequence of steps in one of its parts.
fn with_steps(part: &str, steps: Vec<Value>) -> Value {
    let list = if part == "normalizer" {
        "normalizers"
    } else {
        "decoders"
    };
    json_with(|json| json[part] = json!({"type": "Sequence", list: steps}))
}

#[test]
fn a_tokenizer_cannot_multiply_the_cost_of_its_file() {
    let added = |content: &str, normalized: bool| {
        json!({"id": 9000, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": normalized, "special": false})
    };
    let replace =
        |from: Value, to: &str| json!({"type": "Replace", "pattern": from, "content": to});
    let long = "ab".repeat(25_000);
    let doubling = || {
        let double = replace(json!({"String": "x"}), "xx");
        vec![double; 40]
    };
    let cases = [
        (
            "an added token",
            json_with(|json| json["added_tokens"] = json!([added(&long, false)])),
            "added token 0",
        ),
        (
            "a normalised added token",
            json_with(|json| json["added_tokens"] = json!([added(&long, true)])),
            "added token 0",
        ),
        (
            "many added tokens",
            json_with(|json| {
                let many = (0..9000).map(|i| added(&format!("{i:0>200}"), false));
                json["added_tokens"] = many.collect();
            }),
            "the list of added tokens",
        ),
        (
            "a token",
            json_with(|json| json["model"]["vocab"][&long] = json!(9000)),
            "a token or merge",
        ),
        (
            "a merge",
            json_with(|json| json["model"]["merges"] = json!([[long, "a"]])),
            "a token or merge",
        ),
        (
            "doubling",
            with_steps("normalizer", doubling()),
            "`normalizer` lengthens texts",
        ),
        (
            "doubling in a decoder",
            with_steps("decoder", doubling()),
            "`decoder` lengthens texts",
        ),
        (
            "a long replacement",
            with_steps("normalizer", vec![replace(json!({"String": "x"}), &long)]),
            "`normalizer`",
        ),
        (
            "an empty match with a long replacement",
            with_steps(
                "normalizer",
                vec![replace(json!({"Regex": ""}), &"a".repeat(4096)); 3],
            ),
            "`normalizer` lengthens texts",
        ),
        (
            "a long expression",
            with_steps(
                "normalizer",
                vec![replace(json!({"Regex": "(a?){60}".repeat(2000)}), "")],
            ),
            "`normalizer` has a string",
        ),
        (
            "many steps",
            with_steps("normalizer", vec![json!({"type": "Lowercase"}); 5000]),
            "too many steps; expected at most 1000",
        ),
    ];
    for (what, json, word) in cases {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, json.to_string()).unwrap();
        let started = Instant::now();
        let error = TextTokenizer::load(&path).err().expect(what).to_string();
        assert!(error.contains(word), "{what}: {error}");
        assert!(started.elapsed().as_secs() < 2, "{what}");
    }
}

#[test]
fn deeply_nested_files_are_errors() {
    for (open, close) in [
        ("[", "]"),
        ("{\"a\":", "}"),
        ("{\"normalizer\":{\"normalizers\":[", "]}}"),
    ] {
        for times in [200, 200_000] {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("tokenizer.json");
            fs::write(&path, open.repeat(times) + "1" + &close.repeat(times)).unwrap();
            assert!(TextTokenizer::load(&path).is_err(), "{open}");
        }
    }
}

#[test]
fn a_registry_can_use_a_gguf_tokenizer() {
    let tiny = Tiny::new();
    let path = |file: &str| fixture("tokenizers/llama").join(file).display().to_string();
    let named = format!(
        "prompt = \"pure\"\ntokenizer = {:?}",
        path("tokenizer.gguf")
    );
    tiny.replace("registry.toml", "prompt = \"pure\"", &named);
    let run = tiny
        .ask("Hello, who is there?", 3)
        .arg("--json")
        .finish()
        .succeeded();
    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    let tokenizer = TextTokenizer::load(Path::new(&path("tokenizer.gguf"))).unwrap();
    let prompt = tokenizer.encode("In: Hello, who is there?\nOut:").unwrap();
    assert_eq!(answer["prompt_tokens"], prompt.len());
    // The file does not contain a chat template.
    tiny.replace(
        "registry.toml",
        "prompt = \"pure\"",
        "prompt = \"template\"",
    );
    let words = [
        "tokenizer.gguf does not contain a chat template",
        "tokenizer.chat_template",
    ];
    tiny.generate().finish().failed(1, &words);
}

/// Loads the lively model's tokenizer with an edit.
fn with_json(edit: impl FnOnce(&mut Value)) -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tokenizer.json");
    let text = fs::read(fixture("lively/llm/tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_slice(&text).unwrap();
    edit(&mut tokenizer);
    fs::write(&path, tokenizer.to_string()).unwrap();
    let loaded = TextTokenizer::load(&path);
    loaded.map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn a_tokenizer_that_contradicts_itself_is_refused() {
    with_json(|_| ()).unwrap();
    let twice = with_json(|tokenizer| {
        tokenizer["model"]["vocab"]["zzz"] = json!(500);
    });
    let error = twice.unwrap_err();
    assert!(error.contains("both have the id 500"), "{error}");
    assert!(error.contains("`zzz`"), "{error}");
    let added = with_json(|tokenizer| {
        let mut more = tokenizer["added_tokens"][0].clone();
        more["content"] = json!("<more>");
        tokenizer["added_tokens"].as_array_mut().unwrap().push(more);
    });
    let error = added.unwrap_err();
    assert!(
        error.contains("`<unk>` and `<more>` both have the id 0"),
        "{error}"
    );
    let prefixed = with_json(|tokenizer| {
        tokenizer["model"]["continuing_subword_prefix"] = json!("##");
    });
    let error = prefixed.unwrap_err();
    let word = "its `continuing_subword_prefix` is `##`, but the second part of a merge";
    assert!(error.contains(word), "{error}");
}
