//! Tests which examples are accepted and which are refused.

use super::{Example, Modality};

fn why(json: &str) -> String {
    match Example::parse(json.as_bytes()) {
        Ok(example) => format!("accepted as {example:?}"),
        Err(fault) => fault.why,
    }
}

/// An example with these keys and two messages, the first of which contains `marks`.
fn with(keys: &str, marks: &str) -> String {
    format!(
        r#"{{{keys} "conversations": [{{"from": "human", "value": "{marks}What?"}},
        {{"from": "gpt", "value": "That, not a video."}}]}}"#
    )
}

#[test]
fn unknown_keys_of_an_example_are_ignored() {
    let json = br#"{"id": 7, "video": "a/b.mp4", "source": {"x": [1]}, "video_id": "v_1", "system": "",
        "clip": "00:10", "conversations": [
        {"from": "human", "value": "<video>\nWhat?", "more": 1}, {"from": "gpt", "value": "That."}]}"#;
    let example = Example::parse(json).unwrap();
    assert_eq!((example.id.as_str(), &example.system), ("7", &None));
    assert_eq!(example.modality(), Modality::Video);
    assert_eq!(example.turns, ["<video>\nWhat?", "That."]);
}

#[test]
fn all_styles_have_the_same_meaning() {
    for (speaker, text, names) in [
        ("from", "value", ["system", "human", "gpt"]),
        ("role", "content", ["system", "user", "assistant"]),
    ] {
        for list in ["conversations", "messages"] {
            let [system, user, assistant] = names;
            let json = format!(
                r#"{{"videos": ["v.mp4"], "images": [], "{list}": [
                {{"{speaker}": "{system}", "{text}": "Be kind."}}, {{"{speaker}": "{user}", "{text}": "a"}},
                {{"{speaker}": "{assistant}", "{text}": "b"}}]}}"#
            );
            let example = Example::parse(json.as_bytes()).unwrap();
            assert_eq!(example.system.as_deref(), Some("Be kind."));
            assert_eq!(example.turns, ["a", "b"]);
            assert_eq!(example.visual, Some((Modality::Video, "v.mp4".into())));
        }
    }
    let beside = Example::parse(with(r#""system": "Be kind.","#, "").as_bytes()).unwrap();
    assert_eq!(beside.system.as_deref(), Some("Be kind."));
}

#[test]
fn media_are_accepted_or_refused_but_never_ignored() {
    let image = Some((Modality::Image, "a.jpg".into()));
    for keys in [
        r#""image": "a.jpg","#,
        r#""image": ["a.jpg"],"#,
        r#""images": ["a.jpg"], "videos": [], "video": null,"#,
        r#""image": "a.jpg", "image_id": 3, "image_path": "/x/a.jpg", "clip": "x.mp4","#,
    ] {
        let example = Example::parse(with(keys, "<image>\\n").as_bytes());
        assert_eq!(example.unwrap().visual, image, "{keys}");
    }
    for (keys, word) in [
        (
            r#""image": "a.jpg", "video": "b.mp4","#,
            "both `image` and `video`",
        ),
        (
            r#""image": "a.jpg", "images": ["a.jpg"],"#,
            "both `image` and `images`",
        ),
        (
            r#""video": "a.mp4", "Image": "b.jpg","#,
            "`Image`: write `image`",
        ),
        (
            r#""videos": ["a.mp4", "b.mp4"],"#,
            "`videos` lists 2 files; expected one",
        ),
        (r#""video": "","#, "`video` is empty"),
        (r#""video": [" "],"#, "`video` is empty"),
        (r#""video": 7,"#, "`video` is `7`; expected a path"),
        (r#""video": [7],"#, "`video` contains `7`; expected a path"),
        (r#""image": {"path": "a.jpg"},"#, "expected a path"),
        (r#""img": "a.jpg","#, "unknown key `img`: write `image`"),
        (r#""Video": "a.mp4","#, "unknown key `Video`: write `video`"),
        (r#""video_path": "a.mp4","#, "`video_path`: write `video`"),
        (r#""imageFiles": ["a.jpg"],"#, "`imageFiles`: write `image`"),
        (r#""picture": "a.jpg","#, "`picture`: write `image`"),
        (r#""media": ["a/b"],"#, "`media`: write `image` or `video`"),
        (r#""audio": "a.wav","#, "`audio`: the models do not process"),
        (r#""vidoe": "a.mp4","#, "unknown key `vidoe`: write `video`"),
        (r#""vedios": ["a.mp4"],"#, "`vedios`: write `video`"),
        (r#""imge": "a.jpg","#, "`imge`: write `image`"),
        (r#""vidoe_path": "a","#, "`vidoe_path`: write `video`"),
        (r#""path": "a.mp4","#, "`path`: write `image` or `video`"),
        (r#""file_name": "x/a.JPG","#, "`file_name`: write `image`"),
        (
            r#""url": "https://x.org/a.webm?b=1","#,
            "`url`: write `image` or",
        ),
        (r#""mp4": "a.mp4","#, "`mp4`: write `video`"),
        (r#""jpg": "a.jpg","#, "`jpg`: write `image`"),
        (r#""System": "Be kind.","#, "`System`: write `system`"),
        (
            r#""system_prompt": "Be.","#,
            "`system_prompt`: write `system`",
        ),
        (
            r#""video": "a.mp4", "video": "b.mp4","#,
            "`video` occurs twice",
        ),
    ] {
        let found = why(&with(keys, ""));
        assert!(found.contains(word), "{keys}: {found}");
    }
    // Metadata about a text is not a medium.
    for keys in [
        r#""media": "radio","#,
        r#""clip": [1, 2],"#,
        r#""image_id": 3,"#,
        r#""url": "https://x.org/wiki/Video","#,
        r#""path": "src/main.rs", "file": "notes.txt","#,
        r#""source": "web", "data_source": "a/b", "length": 3, "metadata": {"video": "a.mp4"},"#,
        r#""usage": {"tokens": 3}, "page": 7, "stage": "x", "language": "en", "System": null,"#,
    ] {
        let example = Example::parse(with(keys, "").as_bytes()).unwrap();
        assert_eq!(example.visual, None, "{keys}");
        assert!(!example.has_empty_medium, "{keys}");
    }
    // Next to an image or video, a path is metadata.
    let keys = r#""video": "a.mp4", "path": "/data/a.mp4", "url": "https://x.org/a.mp4","#;
    assert!(why(&with(keys, "")).starts_with("accepted"));
    // A table of videos and texts has an empty column for the texts.
    for keys in [r#""videos": null,"#, r#""video": [],"#] {
        let example = Example::parse(with(keys, "").as_bytes()).unwrap();
        assert!(example.has_empty_medium, "{keys}");
        let found = why(&with(keys, "<video>"));
        assert!(
            found.contains("neither `image` nor `video` with a file"),
            "{found}"
        );
    }
}

#[test]
fn marks_must_match_the_medium() {
    let (image, video) = (r#""image": "a.jpg","#, r#""video": "a.mp4","#);
    // `<image>` stands for a video in LLaVA-Video's data.
    for (keys, marks) in [(image, "<image>\\n"), (video, "<image> "), (video, "")] {
        let found = why(&with(keys, marks));
        assert!(found.starts_with("accepted"), "{found}");
    }
    for (keys, marks, word) in [
        (
            "",
            "<video>\\n",
            "message 1 contains `<video>`, but the example has neither",
        ),
        (
            "",
            "a <image> ",
            "message 1 contains `<image>`, but the example has neither",
        ),
        (
            image,
            "<video>\\n",
            "`<video>`, but the example has an image",
        ),
        (video, "<video><video>", "2 marks"),
        (video, "<video><image>", "2 marks"),
    ] {
        let found = why(&with(keys, marks));
        assert!(found.contains(word), "{keys} {marks}: {found}");
    }
    let found = why(&with(r#""clip_of": "a", "source": "b","#, "<video>"));
    let word = "with a file; its other keys are `clip_of`, `source`";
    assert!(found.contains(word), "{found}");
    let later = r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"}, {"role": "user", "content": "<video>"},
        {"role": "assistant", "content": "c"}]}"#;
    assert!(
        why(later).starts_with("message 4 contains"),
        "{}",
        why(later)
    );
}

#[test]
fn unusable_examples_are_refused_with_the_reason() {
    let cases = [
        (
            r#"{"id": "a"}"#,
            "`conversations` (or `messages`) is missing",
        ),
        (r#"{"conversation": []}"#, "did you mean `conversation`?"),
        (r#"{"conversations": []}"#, "`conversations` is empty"),
        (
            r#"{"conversations": [], "messages": []}"#,
            "both `conversations` and `messages`",
        ),
        (
            r#"{"conversations": 3}"#,
            "`conversations` is `3`; expected a list",
        ),
        (
            r#"{"conversations": [{"from": "human", "value": ""}]}"#,
            "its last message has no reply",
        ),
        (
            r#"{"conversations": [{"from": "gpt", "value": ""}, {"from": "gpt", "value": ""}]}"#,
            "message 1 is from `gpt` or `assistant`, expected `human` or `user`",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]}"#,
            "message 2 is from `tool`; expected `human` or `user`, `gpt` or `assistant`, `system`",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}"#,
            "message 2 is from `system`, which only the first may be",
        ),
        (
            r#"{"messages": [{"role": "system", "content": "a"}]}"#,
            "the message from `system` is the only one",
        ),
        (
            r#"{"system": "a", "messages": [{"role": "system", "content": "a"}]}"#,
            "both `system` and a message from `system`",
        ),
        (
            r#"{"system": 3, "messages": [{}]}"#,
            "`system` is `3`; expected a text",
        ),
        (
            r#"{"messages": [3]}"#,
            "message 1 is `3`; expected an object",
        ),
        (
            r#"{"messages": [{"role": "user"}]}"#,
            "message 1 has neither `value` nor `content`",
        ),
        (
            r#"{"messages": [{"from": "human", "role": "user", "content": "a"}]}"#,
            "message 1 has both `from` and `role`",
        ),
        (
            r#"{"messages": [{"from": "human", "value": "a", "content": "b"}]}"#,
            "message 1 has both `value` and `content`",
        ),
        (
            r#"{"messages": [{"from": "System", "value": "a"}]}"#,
            "message 1 is from `System`; expected",
        ),
        (
            r#"{"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "A <video>."}]}"#,
            "message 2, a reply, contains `<video>`",
        ),
        (
            r#"{"video": "a.mp4", "messages": [{"from": "human", "value": "a"},
            {"from": "gpt", "value": "<image>"}]}"#,
            "message 2, a reply, contains `<image>`",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "", "vidoe": "a.mp4"}]}"#,
            "message 1 has `vidoe`; expected an image or video next to the messages",
        ),
        (
            r#"{"messages": [{"content": ""}]}"#,
            "message 1 has neither `from` nor `role`",
        ),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "text"}]}]}"#,
            "message 1: `content` is `[{\"type\":\"text\"}]`; expected a text",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "", "images": ["a"]}]}"#,
            "message 1 has `images`; expected an image or video next to the messages",
        ),
        ("[1]", "expected an example"),
        ("{", "EOF"),
    ];
    for (json, word) in cases {
        let found = why(json);
        assert!(found.contains(word), "{json}: {found}");
    }
}

#[test]
fn unknown_keys_cost_no_more_than_reading_them() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let many: String = (0..200_000)
        .map(|n| format!(r#""k{n}": 1e999, "#))
        .collect();
    let spelled: String = (1..20_000)
        .map(|n| {
            format!(
                r#""{}image{}": 1, "#,
                "-".repeat(n % 30),
                "_".repeat(n / 30)
            )
        })
        .collect();
    for more in [format!(r#""a": {deep}, "b": "\ud800","#), many, spelled] {
        let started = std::time::Instant::now();
        let found = why(&with(&more, ""));
        assert!(
            found.starts_with("accepted") || found.contains("twice"),
            "{found}"
        );
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }
}

#[test]
fn long_values_are_cut() {
    let long = "ä".repeat(1 << 20);
    for json in [
        format!(r#"{{"video": {{"{long}": 1}}}}"#),
        format!(r#"{{"messages": [{{"role": "{long}", "content": ""}}]}}"#),
        format!(r#"{{"Video{long}": "a", "messages": "{long}"}}"#),
        format!(r#""{long}""#),
    ] {
        let found = why(&json);
        assert!(found.chars().count() < 600, "{}", found.chars().count());
    }
}

#[test]
fn a_message_with_a_key_twice_is_refused() {
    for (message, key) in [
        (r#"{"from": "human", "value": "A", "value": "B"}"#, "value"),
        (r#"{"from": "human", "from": "gpt", "value": "A"}"#, "from"),
        (
            r#"{"role": "user", "content": "A", "content": "A"}"#,
            "content",
        ),
    ] {
        let reply = r#"{"from": "gpt", "value": "C"}"#;
        let found = why(&format!(r#"{{"conversations": [{message}, {reply}]}}"#));
        assert_eq!(found, format!("the key `{key}` occurs twice"));
    }
}
