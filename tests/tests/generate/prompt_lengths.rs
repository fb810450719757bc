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
