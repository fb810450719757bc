//! Data sets that are lists or lines, and their mistakes.

use super::*;
use std::fs;

fn read(json: &str) -> Result<Index, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.json");
    fs::write(&path, json).unwrap();
    Index::read(&path, Task::Conversation).map_err(|error| error.to_string())
}

fn example(id: &str, question: &str, rest: &str) -> String {
    format!(
        r#"{{"id": "{id}", {rest} "conversations": [{{"from": "human", "value": "{question}"}},
           {{"from": "gpt", "value": "two words"}}]}}"#
    )
}

#[test]
fn brackets_in_strings_do_not_confuse_the_scan() {
    let tricky = r#"a ] } , \" \\"#;
    let json = format!(
        "\u{feff} [ {},\n{}\t, {} ]\n",
        example("a", tricky, ""),
        example("ä", "<image> one", r#""image": "x.jpg","#),
        example("c", "", r#""video": "v.mp4", "nested": {"a": [{}]},"#),
    );
    let index = read(&json).unwrap();
    let kinds: Vec<_> = index.entries().iter().map(|entry| entry.modality).collect();
    assert_eq!(kinds, [Modality::Text, Modality::Image, Modality::Video]);
    let words: Vec<_> = index.entries().iter().map(|entry| entry.words).collect();
    assert_eq!(words, [8, 3, 2]);
    let ids = index
        .entries()
        .iter()
        .map(|entry| index.example(entry).unwrap().id);
    assert_eq!(ids.collect::<Vec<_>>(), ["a", "ä", "c"]);
    let first = index.example(&index.entries()[0]).unwrap();
    assert_eq!(first.turns[0], "a ] } , \" \\");
}

#[test]
fn a_broken_example_is_skipped_and_reported() {
    let json = format!(r#"[{{"id": 1}}, {}, {{"a" 1}}]"#, example("b", "x", ""));
    let index = read(&json).unwrap();
    assert_eq!((index.entries().len(), index.total()), (1, 3));
    let names: Vec<_> = index.broken().iter().map(|broken| &broken.name).collect();
    assert!(names[0].ends_with("d.json, example 1"), "{names:?}");
    assert!(names[1].ends_with("d.json, example 3"), "{names:?}");
}

#[test]
fn a_file_that_is_not_a_list_is_refused_with_the_position() {
    for (json, words) in [
        ("", "the file is empty"),
        (
            "3",
            "found `3` where `[` or `{` was expected, at line 1, column 1",
        ),
        (
            "[{}\n {}]",
            "found `{` where `,` or `]` was expected, at line 2, column 2",
        ),
        (
            "[{},]",
            "found `]` where `{` was expected, at line 1, column 5",
        ),
        ("[{\"a\": \"}]", "ends in the middle, at line 1, column 11"),
        (
            "[{}]\n\nx",
            "found `x` where the end was expected, at line 3, column 1",
        ),
        // A byte-order mark is only allowed at the beginning.
        (
            "[{}\u{feff}]",
            "where `,` or `]` was expected, at line 1, column 4",
        ),
        (
            "[\u{feff}{}]",
            "where `{` was expected, at line 1, column 2",
        ),
        (
            "   \u{feff}[{}]",
            "where `[` or `{` was expected, at line 1, column 4",
        ),
        ("[]", "no example can be trained on"),
        (
            "[{}]",
            "d.json, example 1: `conversations` (or `messages`) is missing",
        ),
        ("{}", "d.json, line 1: `conversations`"),
        (
            "\u{feff}{\n",
            "d.json, line 1: EOF while parsing an object, column 4",
        ),
    ] {
        let error = read(json).err().unwrap();
        assert!(error.contains(words), "{json}: {error}");
    }
}

#[test]
fn one_example_per_line_is_read_like_a_list() {
    let line = |id, rest| example(id, "x", rest).replace('\n', "");
    let json = format!(
        "\u{feff}{}\r\n\n  {}\n{{\"id\": \"torn\n[1]\n{}",
        line("a", ""),
        line("b", r#""video": "v.mp4","#),
        line("c", ""),
    );
    let index = read(&json).unwrap();
    let ids = index
        .entries()
        .iter()
        .map(|entry| index.example(entry).unwrap().id);
    assert_eq!(ids.collect::<Vec<_>>(), ["a", "b", "c"]);
    let names = index.entries().iter().map(|entry| index.name(entry));
    let names: Vec<_> = names.collect();
    for (name, line) in names.iter().zip([1, 3, 6]) {
        assert!(name.ends_with(&format!("d.json, line {line}")), "{name}");
    }
    let broken = index.broken();
    assert!(broken[0].name.ends_with("d.json, line 4"), "{broken:?}");
    assert_eq!(broken[0].why, "EOF while parsing a string, column 12");
    assert!(broken[1].why.contains("expected an example"), "{broken:?}");
}

#[test]
fn a_syntax_error_is_reported_with_its_position_in_the_file() {
    let json = format!("[{}, {{\"a\" 1}},\n{{\n \"b\": }}]", example("b", "x", ""));
    let index = read(&json).unwrap();
    let line = json.lines().nth(1).unwrap();
    let column = line.find('1').unwrap() + 1;
    let whys: Vec<_> = index.broken().iter().map(|broken| &broken.why).collect();
    assert_eq!(whys[0], &format!("expected `:`, line 2, column {column}"));
    assert_eq!(whys[1], "expected value, line 4, column 7");
}

#[test]
fn a_file_that_changes_after_it_was_indexed_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.json");
    let [first, second] = ["a", "b"].map(|id| example(id, "x", ""));
    let json = format!("[{first}, {second}]");
    let changed = |text: &str| {
        fs::write(&path, &json).unwrap();
        let index = Index::read(&path, Task::Conversation).unwrap();
        fs::write(&path, text).unwrap();
        let entries = index.entries().iter();
        let changed = entries.map(|entry| match index.example(entry) {
            Ok(example) => Ok(example.id),
            Err(DataError::Changed(file)) => Err(file),
            Err(other) => panic!("{other}"),
        });
        changed.collect::<Vec<_>>()
    };
    let (a, b) = (Ok("a".to_owned()), Ok("b".to_owned()));
    assert_eq!(changed(&json), [a.clone(), b]);
    // One byte is missing from the last example, and then everything is.
    assert_eq!(changed(&json[..json.len() - 2]), [a, Err(path.clone())]);
    assert_eq!(changed(""), [Err(path.clone()), Err(path.clone())]);
    // The second example begins one byte later.
    let longer = format!("[{first},  {second}]");
    assert_eq!(changed(&longer).last(), Some(&Err(path.clone())));
}

#[test]
fn the_first_thousand_broken_examples_are_kept() {
    let broken = "{\"id\": 1}\n".repeat(1003);
    let index = read(&(broken + &example("a", "x", "").replace('\n', " "))).unwrap();
    assert_eq!(index.broken_count(), 1003);
    assert_eq!(index.broken().len(), 1000);
    assert!(index.broken()[999].name.ends_with("d.json, line 1000"));
    assert_eq!((index.entries().len(), index.total()), (1, 1004));
}

/// A reader whose every other call fails with this error.
struct Failing<'r>(&'r [u8], io::ErrorKind, bool);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.2 = !self.2;
        if self.2 {
            return Err(self.1.into());
        }
        let few = buffer.len().min(7);
        self.0.read(&mut buffer[..few])
    }
}

#[test]
fn an_interrupted_read_is_repeated_and_another_fault_is_reported() {
    let json = format!("[{}, {}]", example("a", "x", ""), example("b", "x", ""));
    let scanned = |kind| {
        let mut count = 0;
        let reader = Failing(json.as_bytes(), kind, false);
        scan_file(Path::new("d.json"), reader, |_, _, _| count += 1).map(|_| count)
    };
    assert_eq!(scanned(io::ErrorKind::Interrupted).unwrap(), 2);
    let broken = scanned(io::ErrorKind::BrokenPipe);
    assert!(matches!(broken, Err(DataError::Read { .. })));
}
