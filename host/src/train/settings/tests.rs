use super::*;
use std::fs;
use tempfile::TempDir;

const STAGE: TrainingStage = TrainingStage::Finetune;

fn load(text: &str, sets: &[&str]) -> Result<Settings, String> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.toml");
    fs::write(&path, text).unwrap();
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let settings = Settings::load(&path, STAGE, &sets);
    settings.map_err(|error| error.to_string().replace(&path.display().to_string(), "F"))
}

#[test]
fn set_overrides_the_stage_and_the_stage_overrides_the_top_level() {
    let text = "schema = 1\ndata = \"d.json\"\nepochs = 2\nseed = 3\nlearning_rate = 1\n\
                [align]\nepochs = 9\n[finetune]\nepochs = 4\nlearning_rate = 0.5";
    let settings = load(text, &["learning_rate=1e-3", "data=x=y.json"]).unwrap();
    assert_eq!(settings.epochs, 4);
    assert_eq!(settings.seed, 3);
    assert_eq!(settings.learning_rate, 1e-3);
    // Paths of --set are relative to the working directory, those in the file to the file.
    assert_eq!(settings.data, Path::new("x=y.json"));
    assert_eq!(settings.media, Path::new(""));
    assert!(load(text, &[]).unwrap().data.ends_with("d.json"));
    assert!(load(text, &[]).unwrap().data.is_absolute());
    // The defaults of the stage.
    assert_eq!((settings.global_batch, settings.device_batch), (128, 8));
    assert_eq!(settings.weight_decay, 0.1);
}

#[test]
fn mistakes_are_reported_with_their_lines() {
    let cases: [(&str, &[&str], &[&str]); 10] = [
        (
            "schema = 1\nlearnin_rate = 1",
            &[],
            &["F:2", "learnin_rate", "write `learning_rate`"],
        ),
        (
            "schema = 1\n[align]\nepochs = 0\n[finetune]\nseed = \"a\"",
            &[],
            &["2 problems", "F:3", "[align]", "F:5", "the string `a`"],
        ),
        ("schema = 2", &[], &["F:1", "`schema = 1`"]),
        (
            "epochs = 1",
            &[],
            &["`schema` is missing", "configs/README.md"],
        ),
        ("schema = 1\n[finetun]\n", &[], &["F:2", "write `finetune`"]),
        ("schema = 1", &[], &["`data` is missing", "--set data=…"]),
        (
            "schema = 1",
            &["epochs"],
            &["--set epochs:", "`=` is missing"],
        ),
        (
            "schema = 1",
            &["epoch=3"],
            &["--set epoch=3:", "write `epochs`"],
        ),
        (
            "schema = 1",
            &["epochs=many"],
            &["--set epochs=many:", "the string `many`"],
        ),
        (
            "schema = 1",
            &["precision=half"],
            &["--set precision=half:", "did you mean `f16`"],
        ),
    ];
    for (text, sets, words) in cases {
        let error = load(text, sets).unwrap_err();
        for word in words {
            assert!(error.contains(word), "`{word}` is missing: {error}");
        }
    }
}

#[test]
fn written_settings_are_read_back_unchanged() {
    let text = "schema = 1\nregistry = \"merv-full\"\ndata = \"/d/\\\"x\\\".json\"\nmax_steps = 5\n\
                learning_rate = 3e-7\nmax_grad_norm = 0\nprecision = \"bf16\"";
    let settings = load(text, &[]).unwrap();
    let again = load(&settings.to_toml(), &[]).unwrap();
    assert_eq!(settings, again);
    assert!(settings.fixed_differences(&again).is_empty());
    let changed = Settings {
        seed: 8,
        workers: 9,
        max_steps: None,
        precision: None,
        ..again
    };
    let found = settings.fixed_differences(&changed);
    let precision = "`precision`: \"bf16\", now nothing";
    // The length of a run may change.
    assert_eq!(found, [precision, "`seed`: 7, now 8"]);
}

#[test]
fn no_more_threads_read_examples_than_there_are_examples_to_read() {
    let readers = |text: &str| {
        let settings = load(&format!("schema = 1\ndata = \"d.json\"\n{text}"), &[]);
        settings.unwrap().readers()
    };
    assert_eq!(readers("workers = 3"), 3);
    assert_eq!(
        readers("workers = 4096\nprefetch = 2\ndevice_batch = 5"),
        10
    );
    let most = std::thread::available_parallelism().unwrap().get().max(64);
    assert_eq!(
        readers("workers = 4096\nprefetch = 400\ndevice_batch = 50"),
        most
    );
}
