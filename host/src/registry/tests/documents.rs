//! Files that are not registries, syntax errors, and messages about hostile text.

use super::*;

#[test]
fn files_that_are_not_registries_are_refused() {
    assert_has(&message(""), &["x.toml: the file is empty", "do: copy"]);
    assert_has(&message(" \n\n"), &["x.toml: the file is empty"]);
    assert_has(
        &message(b"id = 1\n\xff\xfe"),
        &["x.toml:2: the file is not UTF-8", "at byte 7"],
    );
    let big = format!("id = \"{}\"", "x".repeat(1 << 20));
    assert_has(
        &message(big),
        &["x.toml: the file is too large", "1 MiB", "1048583 bytes"],
    );
    let folder = tempfile::tempdir().unwrap();
    let error = Registry::from_file(folder.path()).unwrap_err().to_string();
    assert_has(
        &error,
        &[
            &folder.path().display().to_string(),
            "is a folder",
            "do: give",
        ],
    );
    let error = Registry::from_file(&folder.path().join("no.toml")).unwrap_err();
    assert!(matches!(error, RegistryError::Read { .. }));
    assert_has(&error.to_string(), &["no.toml: cannot read"]);
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn syntax_errors_are_marked_with_a_caret() {
    let message = message("schema = 1\nid = \nencoders = [\n");
    assert_has(
        &message,
        &["x.toml:2: not valid TOML", "  2 | id = \n", "    |      ^"],
    );
    let twice = changed("id = \"one\"", "id = \"one\"\nid = \"one\"");
    assert_has(
        &self::message(twice),
        &["x.toml:7: not valid TOML: duplicate key", "7 | id ="],
    );
    let hostile = format!("x = {}", "[".repeat(100_000));
    assert_has(&self::message(hostile), &["x.toml:1: not valid TOML"]);
    let long = format!("id = {}\u{1b}", "é".repeat(5_000));
    let shown = self::message(long);
    assert!(
        shown.len() < 2_000 && !shown.contains('\u{1b}'),
        "{} bytes",
        shown.len()
    );
}

#[test]
fn long_and_hostile_values_are_shortened_and_escaped() {
    let text = changed(
        "[llm]\n",
        &format!("[llm]\n\"\\u001b[2J{}\" = 1\n", "k".repeat(500)),
    );
    let message = message(text);
    assert!(
        !message.contains('\u{1b}') && message.contains("\\u{1b}"),
        "{message}"
    );
    assert!(message.len() < 1_000, "{message}");
    let many: String = (0..5_000).map(|i| format!("zz{i} = 1\n")).collect();
    let message = self::message(many + GOOD);
    assert_has(&message, &["5000 problems", "… and 4960 more"]);
}

#[test]
fn bom_and_crlf_are_accepted() {
    let folder = folder_with(&FILES);
    let text = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    Registry::from_file(&write(&folder, text)).unwrap();
    let wrong = GOOD
        .replace('\n', "\r\n")
        .replace("image_size = 224", "image_size = 0");
    assert_has(&message(wrong), &["x.toml:16: `image_size`"]);
}
