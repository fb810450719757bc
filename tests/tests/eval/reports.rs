//! `eval compare` and `eval table`, and the documentation of all options.

use merv_tests::{Benchmark, root};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

#[test]
fn two_results_are_compared_question_by_question() {
    let toy = Benchmark::open_ended(1);
    let write = |file: &str, right: &[bool]| {
        let lines = right.iter().enumerate().map(|(i, right)| {
            let pred = if *right { "A" } else { "b" };
            json!({"question_id": i, "video_name": i / 2, "pred": pred, "answer_char": "A"})
                .to_string()
                + "\n"
        });
        let path = toy.path(file);
        fs::write(&path, lines.collect::<String>()).unwrap();
        path
    };
    let a = write(
        "a.jsonl",
        &[true, true, false, false, false, false, false, false],
    );
    let b = write(
        "b.jsonl",
        &[true, false, true, true, true, true, false, false],
    );
    let compare = |b: &std::path::Path| {
        merv_tests::Run::new()
            .args(["eval", "compare"])
            .arg(&a)
            .arg(b)
    };
    let run = compare(&b).arg("--json").finish().succeeded();
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    let letter = &found["measures"][0];
    assert_eq!(letter["measure"], "letter");
    assert_eq!(
        (&letter["a"], &letter["b"], &letter["difference"]),
        (&json!(0.25), &json!(0.625), &json!(0.375))
    );
    assert_eq!(
        (&letter["a_better"], &letter["b_better"], &letter["count"]),
        (&json!(1), &json!(4), &json!(8))
    );
    assert_eq!(letter["p_value"], 0.375);
    let (low, high) = (
        letter["interval"][0].as_f64().unwrap(),
        letter["interval"][1].as_f64().unwrap(),
    );
    assert!(
        low < 0.375 && 0.375 < high && low >= -0.5 && high <= 1.0,
        "{low} {high}"
    );
    let table = compare(&b).finish().succeeded().stdout;
    assert!(table.contains("first letter  25.0  62.5  +37.5"), "{table}");
    let c = write("c.jsonl", &[true; 7]);
    compare(&c)
        .finish()
        .failed(1, &["c.jsonl lacks 1 of the questions in the other: `7`"]);
    compare(&toy.path("eval_data"))
        .finish()
        .failed(1, &["cannot be read"]);
    compare(&toy.path("none.jsonl"))
        .finish()
        .failed(1, &["does not contain predictions"]);
}

#[test]
fn several_results_are_shown_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let write = |model: &str, benchmark: &str, values: [f64; 3]| {
        let measures = |value: f64, count: usize| {
            json!([
                {"measure": "exact_match", "value": value, "interval": [0.0, 1.0], "count": count},
                {"measure": "token_f1", "value": 0.9, "interval": [0.0, 1.0], "count": count},
            ])
        };
        let [all, colour, order] = values;
        let report = json!({
            "benchmark": benchmark, "model": model, "accuracy": all, "count": 30, "unparsable": 0,
            "failed": 0, "failures": [], "measures": measures(all, 30), "kinds": [
                {"kind": "colour", "measures": measures(colour, 20)},
                {"kind": "order", "measures": measures(order, 10)},
            ],
        });
        let path = folder.path().join(format!("{model}-{benchmark}.json"));
        fs::write(&path, report.to_string()).unwrap();
        path
    };
    let table = |reports: &[&PathBuf]| {
        let reports = reports.iter().map(|path| path.display().to_string());
        merv_tests::Run::new()
            .args(["eval", "table"])
            .args(reports.collect::<Vec<_>>())
    };
    let mix = write("mix", "shapes", [0.9, 0.95, 0.8]);
    let one = write("one", "shapes", [0.85, 0.955, 0.8]);
    assert_eq!(
        table(&[&mix, &one]).finish().succeeded().stdout,
        "| kind | questions | mix | one |\n\
         | --- | --- | --- | --- |\n\
         | all | 30 | **90.0 %** | 85.0 % |\n\
         | colour | 20 | 95.0 % | **95.5 %** |\n\
         | order | 10 | **80.0 %** | **80.0 %** |\n"
    );
    // The only model is not the best of several.
    assert_eq!(
        table(&[&mix]).finish().succeeded().stdout,
        "| kind | questions | mix |\n\
         | --- | --- | --- |\n\
         | all | 30 | 90.0 % |\n\
         | colour | 20 | 95.0 % |\n\
         | order | 10 | 80.0 % |\n"
    );
    let object = table(&[&one, &mix])
        .arg("--json")
        .finish()
        .succeeded()
        .stdout;
    let object: Value = serde_json::from_str(&object).unwrap();
    assert_eq!(object["models"], json!(["one", "mix"]));
    assert_eq!(object["measure"], "exact_match");
    assert_eq!(
        object["rows"][1],
        json!({"kind": "colour", "count": 20, "values": [0.955, 0.95]})
    );
    let models = |reports: &[&PathBuf]| {
        let object = table(reports).arg("--json").finish().succeeded().stdout;
        serde_json::from_str::<Value>(&object).unwrap()["models"].clone()
    };
    // Models of the same name are distinguished by folder, by file, or by position.
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let copies = [
        first.join("r.json"),
        first.join("s.json"),
        second.join("r.json"),
    ];
    for copy in &copies {
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&mix, copy).unwrap();
    }
    let [in_a, also_in_a, in_b] = &copies;
    let named = |path: &std::path::Path| format!("mix ({})", path.display());
    assert_eq!(
        models(&[in_a, &one, in_b]),
        json!([named(&first), "one", named(&second)])
    );
    assert_eq!(
        models(&[in_a, also_in_a]),
        json!([named(in_a), named(also_in_a)])
    );
    assert_eq!(models(&[&mix, &mix]), json!(["mix (1)", "mix (2)"]));
    let other = write("mix", "other", [0.9, 0.95, 0.8]);
    table(&[&mix, &other])
        .finish()
        .failed(1, &["cannot be compared", "shapes", "other"]);
    let none = folder.path().join("none.json");
    table(&[&mix, &none])
        .finish()
        .failed(1, &["none.json is not a result: the file does not exist"]);
    fs::write(&none, "{}").unwrap();
    table(&[&none])
        .finish()
        .failed(1, &["none.json is not a result", "_report.json"]);
}

#[test]
fn the_documentation_lists_every_option() {
    let text = fs::read_to_string(root().join("docs/evaluation.md")).unwrap();
    let help = |command: &[&str]| {
        merv_tests::Run::new()
            .args(command)
            .arg("--help")
            .finish()
            .succeeded()
            .stdout
    };
    let options = |text: &str| -> std::collections::BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        words
            .filter(|w| w.starts_with("--") && w.len() > 2)
            .map(str::to_owned)
            .collect()
    };
    let mut own = std::collections::BTreeSet::new();
    for command in ["open-ended", "mcq", "judge", "compare", "table"] {
        own.extend(options(&help(&["eval", command])));
    }
    let global = options(&help(&[]));
    let own: std::collections::BTreeSet<_> = own.difference(&global).cloned().collect();
    let described = text
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .flat_map(options);
    assert_eq!(
        described
            .filter(|o| !global.contains(o))
            .collect::<std::collections::BTreeSet<_>>(),
        own
    );
}
