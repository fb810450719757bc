use super::{error::write_error, *};
use crate::{Error, train::part::TrainedPart};
use merv_plugin_api::{AdamWStep, ParameterInfo, StatePart, TakeTensor, TensorView};
use std::{collections::BTreeMap, fs, path::Path};
use tempfile::TempDir;

/// A part with one parameter.
struct Number(BTreeMap<StatePart, Vec<f32>>);

/// A part that exports these parameters instead of one of two.
struct Exports(Vec<(u32, Vec<usize>)>);

impl TrainedPart for Exports {
    fn name(&self) -> &str {
        "mixer"
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, Error> {
        Ok(vec![
            ParameterInfo::new("a.weight", [1, 2]),
            ParameterInfo::new("b.bias", [2]),
        ])
    }

    fn gradient_squares(&self) -> Result<Option<f64>, Error> {
        Ok(None)
    }

    fn clear_gradients(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn apply_adamw(&mut self, _step: &AdamWStep) -> Result<(), Error> {
        Ok(())
    }

    fn export(&self, _: StatePart, take: &mut TakeTensor<'_>) -> Result<(), Error> {
        for (index, shape) in &self.0 {
            let values = vec![0.5f32; shape.iter().product()];
            take(*index, TensorView::new(&values, shape)?)?;
        }
        Ok(())
    }

    fn import(&mut self, _: StatePart, _: u32, _: TensorView<'_>) -> Result<(), Error> {
        Ok(())
    }
}

impl Number {
    fn new(value: f32) -> Self {
        let parts = [
            (StatePart::WEIGHTS, 0.0),
            (StatePart::FIRST_MOMENT, 1.0),
            (StatePart::SECOND_MOMENT, 2.0),
        ];
        Self(
            parts
                .map(|(part, more)| (part, vec![value + more, 0.5]))
                .into(),
        )
    }
}

impl TrainedPart for Number {
    fn name(&self) -> &str {
        "mixer"
    }

    fn parameters(&self) -> Result<Vec<ParameterInfo>, Error> {
        Ok(vec![ParameterInfo::new("a.weight", [1, 2])])
    }

    fn gradient_squares(&self) -> Result<Option<f64>, Error> {
        Ok(None)
    }

    fn clear_gradients(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn apply_adamw(&mut self, _step: &AdamWStep) -> Result<(), Error> {
        Ok(())
    }

    fn export(&self, state: StatePart, take: &mut TakeTensor<'_>) -> Result<(), Error> {
        let values = &self.0[&state];
        Ok(take(0, TensorView::new(values, &[1, 2])?)?)
    }

    fn import(&mut self, state: StatePart, _: u32, values: TensorView<'_>) -> Result<(), Error> {
        self.0.insert(state, values.f32s()?.to_vec());
        Ok(())
    }
}

fn save(checkpoints: &mut Checkpoints, step: u64, validation_loss: Option<f64>) {
    let part = Number::new(step as f32);
    let parts = [PartToSave {
        part: &part,
        optimizer_steps: step,
        untrained: &[],
    }];
    let state = |version, parts| State {
        version,
        step,
        stage: "align".to_owned(),
        data_sha256: String::new(),
        broken: vec![3],
        validation_loss,
        parts,
        crc32: None,
    };
    checkpoints.save(&parts, step, state).unwrap();
    checkpoints.prune().unwrap();
}

fn there(run: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(run.path().join("checkpoints")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_newest_and_the_best_are_kept() {
    let run = TempDir::new().unwrap();
    let mut checkpoints = Checkpoints::open(run.path(), 2).unwrap();
    assert!(checkpoints.newest(|_| ()).unwrap().is_none());
    for (step, loss) in [(1, 3.0), (2, 1.0), (3, 2.0), (4, 1.5), (5, 1.6)] {
        save(&mut checkpoints, step, Some(loss));
    }
    let expected = ["step-00000002", "step-00000004", "step-00000005"];
    assert_eq!(there(&run), expected);
    assert_eq!(checkpoints.preferred().unwrap().step, 2);
    // Another process finds the same checkpoints, and cleans up.
    fs::create_dir(run.path().join("checkpoints/.partial-step-00000006-1")).unwrap();
    let mut again = Checkpoints::open(run.path(), 2).unwrap();
    let state = again
        .newest(|warning| panic!("{warning}"))
        .unwrap()
        .unwrap();
    assert_eq!((state.step, state.broken), (5, vec![3]));
    again.prune().unwrap();
    assert_eq!(there(&run), expected);
    assert_eq!(again.preferred().unwrap().step, 2);
}

/// Returns the error of a checkpoint of this part.
fn refused(part: &dyn TrainedPart) -> String {
    let run = TempDir::new().unwrap();
    let mut checkpoints = Checkpoints::open(run.path(), 2).unwrap();
    let parts = [PartToSave {
        part,
        optimizer_steps: 1,
        untrained: &[],
    }];
    let state = |version, parts| State {
        version,
        step: 1,
        stage: "align".to_owned(),
        data_sha256: String::new(),
        broken: Vec::new(),
        validation_loss: None,
        parts,
        crc32: None,
    };
    let error = checkpoints.save(&parts, 1, state).unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    causes.map(|e| e.to_string()).collect::<Vec<_>>().join(": ")
}

#[test]
fn weights_that_are_not_finite_are_not_saved() {
    for value in [f32::NAN, f32::INFINITY] {
        let error = refused(&Number::new(value));
        assert!(error.contains("`a.weight` of the mixer"), "{error}");
        assert!(error.contains("not finite"), "{error}");
    }
}

#[test]
fn a_wrong_export_is_a_bug_of_the_plugin() {
    let (a, b) = ((0, vec![1, 2]), (1, vec![2]));
    for (exported, words) in [
        (vec![], "did not export `a.weight`"),
        (vec![a.clone()], "did not export `b.bias`"),
        (vec![b.clone(), a.clone()], "expected parameter 0"),
        (
            vec![a.clone(), a.clone()],
            "expected parameter 1, `b.bias` [2]",
        ),
        (vec![(0, vec![2])], "found parameter 0 of shape [2]"),
        (vec![a, b.clone(), b], "exported parameter 1 too"),
    ] {
        let error = refused(&Exports(exported));
        assert!(error.contains("a bug in the plugin"), "{error}");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_checkpoint_of_other_parameters_is_refused() {
    let run = TempDir::new().unwrap();
    let mut checkpoints = Checkpoints::open(run.path(), 2).unwrap();
    save(&mut checkpoints, 1, None);
    let state = checkpoints.newest(|warning| panic!("{warning}"));
    let state = state.unwrap().unwrap();
    let restored = checkpoints.restore(&state, &mut Number::new(0.0));
    assert_eq!(restored.unwrap(), 1);
    let error = checkpoints.restore(&state, &mut Exports(Vec::new()));
    let error = error.unwrap_err().to_string();
    for words in [
        "does not fit the model",
        "`b.bias`",
        "version of the plugin",
    ] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn without_held_out_examples_the_newest_is_preferred() {
    let run = TempDir::new().unwrap();
    let mut checkpoints = Checkpoints::open(run.path(), 1).unwrap();
    save(&mut checkpoints, 1, None);
    save(&mut checkpoints, 2, None);
    assert_eq!(there(&run), ["step-00000002"]);
    assert_eq!(checkpoints.preferred().unwrap().step, 2);
}

#[test]
fn the_whole_state_of_a_part_is_restored() {
    let run = TempDir::new().unwrap();
    let mut checkpoints = Checkpoints::open(run.path(), 2).unwrap();
    save(&mut checkpoints, 7, None);
    let state = checkpoints.newest(|_| ()).unwrap().unwrap();
    let mut part = Number::new(0.0);
    assert_eq!(checkpoints.restore(&state, &mut part).unwrap(), 7);
    assert_eq!(part.0, Number::new(7.0).0);
}

/// How to damage a checkpoint's folder, and a word of the warning.
type Damage = (fn(&Path), &'static str);

#[test]
fn a_damaged_checkpoint_is_skipped_and_reported() {
    let damages: [Damage; 6] = [
        (
            |folder| {
                let path = folder.join("mixer.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                fs::write(path, bytes).unwrap();
            },
            "sha256",
        ),
        (
            |folder| {
                let path = folder.join("mixer.first-moment.safetensors");
                let bytes = fs::read(&path).unwrap();
                fs::write(path, &bytes[..bytes.len() - 3]).unwrap();
            },
            "bytes, expected",
        ),
        (
            |folder| fs::remove_file(folder.join("mixer.safetensors")).unwrap(),
            "cannot be read",
        ),
        (
            |folder| fs::write(folder.join("state.json"), "{\"version\": 1").unwrap(),
            "EOF",
        ),
        (
            |folder| {
                let path = folder.join("state.json");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(
                    path,
                    text.replace("\"optimizer_steps\": ", "\"optimizer_steps\": 1"),
                )
                .unwrap();
            },
            "checksum does not match",
        ),
        (
            |folder| fs::remove_file(folder.join("state.json")).unwrap(),
            "state.json",
        ),
    ];
    for (damage, word) in damages {
        let run = TempDir::new().unwrap();
        let mut checkpoints = Checkpoints::open(run.path(), 3).unwrap();
        save(&mut checkpoints, 1, None);
        save(&mut checkpoints, 2, None);
        damage(&run.path().join("checkpoints/step-00000002"));
        let mut warnings = Vec::new();
        let mut again = Checkpoints::open(run.path(), 3).unwrap();
        let state = again.newest(|warning| warnings.push(warning.to_owned()));
        assert_eq!(state.unwrap().unwrap().step, 1, "{word}");
        assert!(
            matches!(&warnings[..], [one] if one.contains("step 2") && one.contains(word)),
            "{word}: {warnings:?}"
        );
        // If all are damaged, the run does not silently start from the beginning.
        damage(&run.path().join("checkpoints/step-00000001"));
        assert!(matches!(
            again.newest(|_| ()),
            Err(CheckpointError::AllDamaged { count: 2, .. })
        ));
    }
}

#[test]
fn names_that_a_file_cannot_contain_are_refused_before_it_is_created() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("llm.safetensors");
    let specs = |name: &str| tensor_file::TensorSpec {
        name: name.to_owned(),
        dtype: "F32",
        bits: 32,
        shape: vec![1],
    };
    for (names, word) in [(["a", "__metadata__"], "__metadata__"), (["a", "a"], "`a`")] {
        let error = tensor_file::TensorFile::create(&path, &names.map(specs))
            .err()
            .unwrap();
        let error = write_error(&path)(error);
        assert!(crate::in_one_line(&error).contains(word), "{error}");
        assert!(error.to_string().contains("rename the tensor"), "{error}");
        assert!(!path.exists());
    }
}

/// A file of two tensors, `a` of two numbers and `b` of one.
fn announced(folder: &TempDir) -> tensor_file::TensorFile {
    let spec = |name: &str, elements| tensor_file::TensorSpec {
        name: name.to_owned(),
        dtype: "F32",
        bits: 32,
        shape: vec![elements],
    };
    let path = folder.path().join("llm.safetensors");
    tensor_file::TensorFile::create(&path, &[spec("a", 2), spec("b", 1)]).unwrap()
}

#[test]
fn only_the_announced_tensors_are_written_in_their_order() {
    for (name, values, words) in [
        ("b", &[1.0][..], ["`b` of 4 bytes", "`a` of 8 bytes"]),
        ("b", &[1.0, 2.0], ["`b` of 8 bytes", "`a` of 8 bytes"]),
        ("a", &[1.0], ["`a` of 4 bytes", "`a` of 8 bytes"]),
        ("a", &[1.0, 2.0, 3.0], ["`a` of 12 bytes", "`a` of 8 bytes"]),
    ] {
        let folder = TempDir::new().unwrap();
        let error = announced(&folder).f32s(name, values).unwrap_err();
        let error = error.to_string();
        for word in words {
            assert!(error.contains(word), "{name} {values:?}: {error}");
        }
    }
    let folder = TempDir::new().unwrap();
    let mut file = announced(&folder);
    file.f32s("a", &[1.0, 2.0]).unwrap();
    file.raw("b", &3f32.to_le_bytes()).unwrap();
    let more = file.f32s("c", &[4.0]).unwrap_err().to_string();
    assert!(more.contains("`c` is not expected"), "{more}");
    file.finish().unwrap();
    let bytes = fs::read(folder.path().join("llm.safetensors")).unwrap();
    let data = [1f32, 2.0, 3.0].map(f32::to_le_bytes).concat();
    assert!(bytes.ends_with(&data));
    let folder = TempDir::new().unwrap();
    let mut file = announced(&folder);
    file.f32s("a", &[1.0, 2.0]).unwrap();
    let missing = file.finish().err().unwrap().to_string();
    assert!(missing.contains("`b` was not written"), "{missing}");
}

#[test]
fn a_folder_without_a_checkpoint_has_none() {
    let run = TempDir::new().unwrap();
    assert!(!Checkpoints::exist(run.path()).unwrap());
    let mut checkpoints = Checkpoints::open(run.path(), 2).unwrap();
    assert!(run.path().join("checkpoints").is_dir());
    assert!(!Checkpoints::exist(run.path()).unwrap());
    assert!(
        Checkpoints::newest_of(run.path(), |_| ())
            .unwrap()
            .is_none()
    );
    save(&mut checkpoints, 1, None);
    assert!(Checkpoints::exist(run.path()).unwrap());
}

#[test]
fn older_checkpoints_are_not_checked() {
    let run = TempDir::new().unwrap();
    let mut checkpoints = Checkpoints::open(run.path(), 2).unwrap();
    save(&mut checkpoints, 1, None);
    save(&mut checkpoints, 2, None);
    fs::write(run.path().join("checkpoints/step-00000001/state.json"), "").unwrap();
    let mut again = Checkpoints::open(run.path(), 2).unwrap();
    let newest = again.newest(|warning| panic!("{warning}")).unwrap();
    assert_eq!(newest.unwrap().step, 2);
}

/// AdamW's moments are zero before its first step.
#[test]
fn a_part_that_never_changed_has_weights_and_no_moments() {
    let run = TempDir::new().unwrap();
    let mut checkpoints = Checkpoints::open(run.path(), 2).unwrap();
    save(&mut checkpoints, 0, None);
    let folder = run.path().join("checkpoints/step-00000000");
    assert!(folder.join("mixer.safetensors").exists());
    assert!(!folder.join("mixer.first-moment.safetensors").exists());
    let state = checkpoints.newest(|_| ()).unwrap().unwrap();
    let mut part = Number::new(5.0);
    assert_eq!(checkpoints.restore(&state, &mut part).unwrap(), 0);
    let states = [
        (StatePart::WEIGHTS, 0.0),
        (StatePart::FIRST_MOMENT, 6.0),
        (StatePart::SECOND_MOMENT, 7.0),
    ];
    let expected = states.map(|(state, value)| (state, vec![value, 0.5]));
    assert_eq!(part.0, BTreeMap::from(expected));
}

#[test]
fn tensors_that_are_not_trained_keep_their_types() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.safetensors");
    let header = br#"{"f":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"h":{"dtype":"F16","shape":[2],"data_offsets":[4,8]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]},"i":{"dtype":"I64","shape":[1],"data_offsets":[12,20]},"u":{"dtype":"U8","shape":[4],"data_offsets":[20,24]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    let data: Vec<u8> = (0..24).collect();
    fs::write(&path, [&length[..], header, &data].concat()).unwrap();
    let stored = merv_checkpoint::Checkpoint::open(&[&path]).unwrap();
    let untrained: Vec<_> = ["f", "h", "b", "i"]
        .map(|name| (name.to_owned(), stored.get(name).unwrap().clone()))
        .into();
    assert!(untrained.iter().all(|(_, tensor)| is_writable(tensor)));
    assert!(!is_writable(stored.get("u").unwrap()));
    let part = Number::new(1.0);
    let parts = [PartToSave {
        part: &part,
        optimizer_steps: 1,
        untrained: &untrained,
    }];
    let run = TempDir::new().unwrap();
    let mut checkpoints = Checkpoints::open(run.path(), 1).unwrap();
    let state = |version, parts| State {
        version,
        step: 1,
        stage: "align".to_owned(),
        data_sha256: String::new(),
        broken: Vec::new(),
        validation_loss: None,
        parts,
        crc32: None,
    };
    checkpoints.save(&parts, 1, state).unwrap();
    let saved = run
        .path()
        .join("checkpoints/step-00000001/mixer.safetensors");
    let saved = merv_checkpoint::Checkpoint::open(&[&saved]).unwrap();
    assert_eq!(saved.len(), 1 + untrained.len());
    for (name, tensor) in &untrained {
        let found = saved.get(name).unwrap();
        assert_eq!(found.dtype, tensor.dtype, "{name}");
        assert_eq!(found.shape, tensor.shape, "{name}");
        assert_eq!(found.bytes(), tensor.bytes(), "{name}");
    }
}
