//! One mistake at a time: keys, types, values, sources.

use super::*;

/// The replaced text, its replacement, and parts of the message.
type Mistake = (&'static str, &'static str, &'static [&'static str]);

#[track_caller]
fn assert_mistakes(mistakes: &[Mistake]) {
    for (from, to, parts) in mistakes {
        let message = message(changed(from, to));
        assert_has(&message, parts);
        assert!(
            !message.contains("problems"),
            "several problems for one mistake:\n{message}"
        );
    }
}

#[test]
fn wrong_keys_and_types_are_reported() {
    assert_mistakes(&[
        (
            "num_frames = 32",
            "num_frames = 32\nnum_frame = 3",
            &[
                "x.toml:15: unknown key `num_frame` in [[encoders]] #2",
                "expected: one of `id`, `num_frames`, `plugin`",
                "do: write `num_frames`, the closest known key",
            ],
        ),
        (
            "[llm]\n",
            "[llm]\nresize = 1\n",
            &["x.toml:21:", "do: move it to [transform]"],
        ),
        (
            "dtype = \"bf16\"",
            "options = \"fast\"",
            &[
                "x.toml:18: `options` in [[encoders]] #2 has the wrong type",
                "expected: a table of strings",
                "options = { name = ",
            ],
        ),
        (
            "dtype = \"bf16\"",
            "options = { heads = 3 }",
            &[
                "x.toml:18: `heads` in `options` of [[encoders]] #2 has the wrong type",
                "expected: a string",
            ],
        ),
        (
            "[llm]\n",
            "[llm]\nzzz = 1\n",
            &["x.toml:21: unknown key `zzz` in [llm]", "remove it"],
        ),
        (
            "id = \"good\"",
            "",
            &["x.toml:1: `id` is missing in the top level", "do: add `id`"],
        ),
        ("schema = 1", "", &["`schema` is missing"]),
        (
            "[llm]\n",
            "[LLM]\n",
            &[
                "unknown key `LLM` in the top level",
                "write `llm`: keys are case-sensitive",
            ],
        ),
        (
            "num_frames = 32",
            "num_frames = 32.0",
            &[
                "the number `32.0`",
                "write `num_frames = 32`, without a point",
            ],
        ),
        (
            "num_frames = 32",
            "num_frames = 1e9",
            &[
                "the number `1e9`",
                "write `num_frames = 1000000000`, without",
            ],
        ),
        (
            "num_frames = 32",
            "num_frames = 0.5",
            &["write a whole number, such as `num_frames = 16`"],
        ),
        (
            "id = \"good\"",
            "id = \"good\\nand more\"",
            &[
                "`id` in the top level contains a line break",
                "`good\\nand more`",
            ],
        ),
        (
            "prompt = \"pure\"",
            "",
            &["x.toml:20: `prompt` is missing in [llm]"],
        ),
        (
            "num_frames = 32",
            "",
            &["x.toml:11: `num_frames` is missing in [[encoders]] #2"],
        ),
        (
            "resize = \"resize-naive\"",
            "",
            &["x.toml:26: `resize` is missing in [transform]"],
        ),
        (
            "token_length = 16",
            "",
            &["`token_length` is missing in [mixer]"],
        ),
        (
            "schema = 1",
            "schema = 2\nnew_key = 3",
            &[
                "x.toml:1: `schema`",
                "expected: `schema = 1`",
                "found: `2`",
                "do: use",
            ],
        ),
        (
            "schema = 1",
            "schema = \"1\"",
            &["x.toml:1: `schema`", "wrong type", "the string `1`"],
        ),
        (
            "num_frames = 32",
            "num_frames = \"32\"",
            &[
                "x.toml:14: `num_frames` in [[encoders]] #2 has the wrong type",
                "without quotes",
            ],
        ),
        (
            "num_frames = 32",
            "num_frames = 1.5",
            &["a whole number", "found: the number `1.5`"],
        ),
        (
            "id = \"one\"",
            "id = 1",
            &["x.toml:6: `id`", "expected: a string", "the number `1`"],
        ),
        (
            "id = \"llama\"",
            "id = true",
            &["x.toml:21:", "found: `true`"],
        ),
        (
            "id = \"llama\"",
            "id = []",
            &["x.toml:21:", "found: a list"],
        ),
        (
            "id = \"llama\"",
            "id = \"  \"",
            &["x.toml:21: `id` in [llm] is empty"],
        ),
        (
            "path = \"one.safetensors\"",
            "path = \"\"",
            &["x.toml:9: `path`", "is empty"],
        ),
        (
            "{ path = \"one.safetensors\" }",
            "\"one.safetensors\"",
            &[
                "x.toml:9: `weights`",
                "the string `one.safetensors`",
                "do: write `weights = { path",
            ],
        ),
        (
            "path = \"one.safetensors\"",
            "pth = \"one.safetensors\"",
            &[
                "x.toml:9: unknown key `pth` in `weights` of [[encoders]] #1",
                "do: write `path`",
            ],
        ),
        (
            "{ path = \"libmerv_two.so\" }",
            "{}",
            &["x.toml:13: `path` is missing in `plugin` of [[encoders]] #2"],
        ),
    ]);
    let message = message("encoders = 3\nllm = 4\n[mixer]\n");
    assert_has(
        &message,
        &[
            "x.toml:1: `encoders`",
            "x.toml:2: `llm`",
            "the line [[encoders]]",
        ],
    );
    assert_has(
        &message,
        &["x.toml:3: `projector` is missing", "`schema` is missing"],
    );
    let single = GOOD.replace("[[encoders]]\nid = \"one\"", "[encoders]\nid = \"one\"");
    assert!(Registry::from_file(&write(&folder_with(&FILES), single)).is_err());
}

#[test]
fn wrong_values_are_reported() {
    assert_mistakes(&[
        (
            "num_frames = 32",
            "num_frames = 0",
            &["x.toml:14: `num_frames`", "from 1", "`0`"],
        ),
        (
            "num_frames = 32",
            "num_frames = -4",
            &["x.toml:14: `num_frames`", "`-4`"],
        ),
        (
            "num_frames = 32",
            "num_frames = 99999999999999999999",
            &["x.toml:14: `num_frames` in [[encoders]] #2 is out of range"],
        ),
        (
            "num_frames = 32",
            "num_frames = 24",
            &[
                "x.toml:8: `num_frames` in [[encoders]] #1 does not divide the largest one",
                "expected: a divisor of 24",
                "found: 16",
            ],
        ),
        (
            "id = \"two\"",
            "id = \"one\"",
            &[
                "x.toml:12: `id` in [[encoders]] #2 is used twice",
                "`one`",
                "line 6",
            ],
        ),
        (
            "id = \"two\"",
            "id = \"ONE\"",
            &[
                "x.toml:12: `id` in [[encoders]] #2 gives the same file names as another id",
                "`ONE`, similar to `one` on line 6",
            ],
        ),
        (
            "image_size = 224",
            "image_size = 0",
            &["x.toml:16: `image_size`", "from 1 to"],
        ),
        (
            "device = \"cuda:1\"",
            "device = \"GPU\"",
            &["x.toml:17: `device`", "`cuda:0`"],
        ),
        (
            "device = \"cuda:1\"",
            "device = \"cuda:+1\"",
            &["`auto`, `cpu`, or a kind and a number"],
        ),
        (
            "dtype = \"bf16\"",
            "dtype = \"bfloat16\"",
            &["x.toml:18: `dtype`", "mean `bf16`?"],
        ),
        (
            "prompt = \"pure\"",
            "prompt = \"template\"",
            &["x.toml:24: `prompt`", "chat_template.jinja", "neither"],
        ),
        (
            "prompt = \"pure\"",
            "prompt = \"prue\"",
            &["one of the chat formats", "found: `prue`"],
        ),
        (
            "prompt = \"pure\"",
            "prompt = \"pure\"\nsystem_prompt = \"Be kind.\"",
            &[
                "x.toml:25: `system_prompt`",
                "would have no effect",
                "remove `system_prompt`",
            ],
        ),
        (
            "prompt = \"pure\"",
            "prompt = \"pure\"\nmax_length = 0",
            &["x.toml:25: `max_length`"],
        ),
        (
            "\"resize-naive\"",
            "\"stretch\"",
            &["x.toml:27: `resize` in [transform]", "`stretch`"],
        ),
        (
            "token_length = 16",
            "token_length = 20",
            &[
                "x.toml:32: `token_length` in [mixer] is not a square",
                "found: 20",
                "16 or 25",
            ],
        ),
        (
            "visual_feature_length = 256",
            "visual_feature_length = 250",
            &[
                "x.toml:33: `visual_feature_length`",
                "multiple of `token_length`",
                "write 256",
            ],
        ),
        (
            "\"no-align+3davg+linear\"",
            "\"3davgg+linear\"",
            &["`3davgg`", "did you mean `3davg`?"],
        ),
        (
            "\"cross_attention_avg_lq\"",
            "\"cross\"",
            &["did you mean `cross_attention_avg_lq`?"],
        ),
        (
            "\"siglip\"",
            "\"./siglip.so\"",
            &["x.toml:7: `plugin`", "plugin = { path = \"…\" }"],
        ),
    ]);
}

#[test]
fn missing_encoders_are_reported() {
    let rest = &GOOD[GOOD.find("[llm]").unwrap()..];
    let text = format!("schema = 1\nid = \"x\"\nencoders = []\n{rest}");
    assert_has(
        &message(text),
        &[
            "x.toml:3: `encoders` is an empty list",
            "add a [[encoders]]",
        ],
    );
    let text = format!("schema = 1\nid = \"x\"\n{rest}");
    assert_has(
        &message(text),
        &["x.toml:1: `encoders` is missing in the top level"],
    );
}

#[test]
fn wrong_sources_and_missing_files_are_reported() {
    let one = "{ path = \"one.safetensors\" }";
    assert_mistakes(&[
        (
            one,
            "{ path = \"none.safetensors\" }",
            &[
                "x.toml:9: `weights` in [[encoders]] #1 is a file that does not exist: \
                 `none.safetensors`",
                "found: nothing at none.safetensors",
                "do: correct the path",
            ],
        ),
        (
            one,
            "{ path = \"llm\" }",
            &["x.toml:9:", "is a folder: `llm`", "the file in it"],
        ),
        (
            one,
            "{ path = \"/dev/null\" }",
            &["x.toml:9:", "is not a regular file", "a device"],
        ),
        (
            one,
            "{ path = \"one.safetensors/x\" }",
            &["x.toml:9:", "one.safetensors/x"],
        ),
        (
            one,
            "{}",
            &[
                "x.toml:9: `weights`",
                "does not say where",
                "found: none of them",
            ],
        ),
        (
            one,
            "{ path = \"llm\", repo = \"a/b\" }",
            &["found: path, repo", "exactly one"],
        ),
        (
            one,
            "{ path = \"one.safetensors\", file = \"x\" }",
            &["found: path, file"],
        ),
        (
            one,
            "{ checkpoint = false }",
            &["x.toml:9:", "`checkpoint = false`"],
        ),
        (
            one,
            "{ checkpoint = 1 }",
            &["x.toml:9: `checkpoint`", "expected: `true` or `false`"],
        ),
        (
            one,
            "{ repo = \"a/b\" }",
            &["x.toml:9:", "which file", "do: add `file`"],
        ),
        (
            one,
            "{ repo = \"a/b/c\", file = \"x\" }",
            &["x.toml:9:", "`repo`", "`owner/name`"],
        ),
        (
            one,
            "{ repo = \"a/b\", file = \"../x\" }",
            &["an invalid `file`", "`../x`"],
        ),
        (
            one,
            "{ repo = \"a/b\", file = \"/x\" }",
            &["an invalid `file`"],
        ),
        (
            one,
            "{ repo = \"a/b\", file = \"x\", revision = \"a//b\" }",
            &["`revision`"],
        ),
        (
            one,
            "{ path = \"one.safetensors\", sha256 = \"abc\" }",
            &[
                "x.toml:9: `sha256` in `weights` of [[encoders]] #1",
                "64 hex",
                "found 3 characters",
            ],
        ),
        (
            one,
            "{ path = \"one.safetensors\", sha256 = 3 }",
            &["x.toml:9: `sha256`", "a string"],
        ),
        (
            "\"libmerv_two.so\"",
            "\"libmerv_2.so\"",
            &["x.toml:13: `plugin`", "does not exist: `libmerv_2.so`"],
        ),
        (
            "image_size = 224",
            "config = \"c.json\"",
            &["x.toml:16: `config`", "`c.json`"],
        ),
        (
            "prompt = \"pure\"",
            "prompt = \"pure\"\ntokenizer = \"t.json\"",
            &["x.toml:25: `tokenizer`", "does not exist: `t.json`"],
        ),
        (
            "{ path = \"llm/model.safetensors\" }",
            "{ path = \"one.safetensors\" }",
            &[
                "x.toml:20: there is no `tokenizer.json` in the folder of the weights",
                "found: neither",
            ],
        ),
        (
            "{ path = \"llm/model.safetensors\" }",
            "{ checkpoint = true }",
            &[
                "x.toml:20: `tokenizer` is missing in [llm]",
                "file = \"tokenizer.json\"",
            ],
        ),
        (
            "{ path = \"mixer.safetensors\" }",
            "{ checkpoint = true }",
            &["x.toml:34: `weights` in [mixer] cannot be `checkpoint = true`"],
        ),
    ]);
}

#[test]
fn all_problems_are_reported_together() {
    let text = GOOD
        .replace("num_frames = 16", "num_frame = 16")
        .replace("\"cuda:1\"", "\"gpu\"")
        .replace("\"mixer.safetensors\"", "\"nothing\"");
    let message = message(text);
    assert_has(
        &message,
        &["x.toml: 4 problems\n", "x.toml:5: `num_frames` is missing"],
    );
    assert_has(
        &message,
        &[
            "x.toml:8: unknown key",
            "x.toml:17: `device`",
            "x.toml:34: `weights`",
        ],
    );
}

#[test]
fn forty_problems_are_printed_and_the_others_are_counted() {
    for (count, more) in [(40, ""), (41, "… and 1 more"), (100, "… and 60 more")] {
        let keys = (0..count).map(|n| format!("wrong{n} = 1\n"));
        let text = format!("{}{GOOD}", keys.collect::<String>());
        let message = message(text);
        assert!(message.contains(&format!("{count} problems")), "{message}");
        assert_eq!(message.matches("unknown key").count(), 40);
        assert_eq!(message.contains("… and"), !more.is_empty());
        assert!(message.ends_with(more), "{message}");
    }
    let message = message(format!("wrong = 1\n{GOOD}"));
    assert!(
        message.starts_with("x.toml:1: unknown key `wrong`"),
        "{message}"
    );
}
