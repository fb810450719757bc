//! Prompts and answers of any length.

use merv_tests::Tiny;

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
    // The limit is the smaller of the registry's `max_length` and the context.
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
fn a_model_that_no_prompt_fits_is_refused_when_it_is_checked() {
    let short = Tiny::new();
    short.replace("registry.toml", "max_length = 512", "max_length = 1");
    let crowded = Tiny::new();
    crowded.replace(
        "llm/config.json",
        "\"max_position_embeddings\": 1024",
        "\"max_position_embeddings\": 100",
    );
    for (tiny, limit) in [
        (short, "expected: at most 1, "),
        (crowded, "expected: at most 0, "),
    ] {
        let words = ["no prompt fits", limit, "raise `max_length`"];
        let check = tiny.run().args(["info", "--load"]);
        check.finish().failed(1, &words);
        tiny.ask("?", 2).finish().failed(1, &words);
    }
    // Ordinary text becomes a token that has no embedding.
    let added = Tiny::new();
    let path = added.path("llm/tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut tokenizer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let token = |special: bool| {
        serde_json::json!({"id": 5000, "content": "shape", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": special})
    };
    let list = tokenizer["added_tokens"].as_array().unwrap().len();
    for (special, refused) in [(true, false), (false, true)] {
        tokenizer["added_tokens"]
            .as_array_mut()
            .unwrap()
            .truncate(list);
        tokenizer["added_tokens"]
            .as_array_mut()
            .unwrap()
            .push(token(special));
        std::fs::write(&path, tokenizer.to_string()).unwrap();
        let check = added.run().args(["info", "--load"]).finish();
        if refused {
            check.failed(1, &["tokenizer", "1025 tokens"]);
        } else {
            check.succeeded();
        }
    }
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
    // The last token follows the last position, and does not need a position itself.
    let room = 280 - 256 - answer["prompt_tokens"].as_u64().unwrap() as usize + 1;
    assert_eq!(answer["tokens"].as_array().unwrap().len(), room, "{run}");
    assert!(run.stderr.contains("context is full"), "{run}");
}

#[test]
fn an_answer_of_no_tokens_is_empty() {
    let run = Tiny::new().ask("Hi", 0).finish().succeeded();
    assert_eq!(run.stdout, "\n");
}
