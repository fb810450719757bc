//! Sources and digests.

use super::*;

#[test]
fn digests_are_parsed_and_verified() {
    // sha256 of "abc", FIPS 180-2
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let text = changed(
        "\"one.safetensors\"",
        &format!("\"one.safetensors\", sha256 = \"{abc}\""),
    );
    let folder = folder_with(&FILES);
    let registry = Registry::from_file(&write(&folder, text)).unwrap();
    let source = registry.encoders[0].weights.as_ref().unwrap();
    assert_eq!(source.sha256().unwrap().to_string(), abc);
    let digest = source.sha256().unwrap();
    let path = folder.path().join("one.safetensors");
    verify(&path, digest).unwrap();
    fs::write(&path, "abd").unwrap();
    let error = verify(&path, digest).unwrap_err();
    assert!(matches!(error, SourceError::WrongDigest { .. }));
    assert_has(
        &error.to_string(),
        &["one.safetensors", abc, "found: ", "do: download"],
    );
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        verify(&path, digest),
        Err(SourceError::Read { .. })
    ));
    assert_eq!(abc.to_uppercase().parse::<Sha256Digest>(), abc.parse());
    for wrong in [
        "",
        &abc[1..],
        &abc.replace('b', "g"),
        &format!("+{}", &abc[1..]),
    ] {
        assert!(wrong.parse::<Sha256Digest>().is_err(), "{wrong}");
    }
}

#[test]
fn related_files_on_the_hub_are_in_the_same_folder() {
    let text = GOOD
        .replace("{ path = \"one.safetensors\" }", "{ checkpoint = true }")
        .replace(
            "{ path = \"llm/model.safetensors\" }",
            "{ repo = \"a/b\", file = \"sub/model.safetensors.index.json\", revision = \"refs/pr/2\" }",
        );
    let registry = Registry::from_file(&write(&folder_with(&FILES), text)).unwrap();
    assert_eq!(registry.encoders[0].weights, Some(WeightSource::Checkpoint));
    assert!(registry.llm.weights.is_shard_index());
    assert_eq!(registry.llm.config, None);
    assert_eq!(
        registry.llm.tokenizer.to_string(),
        "hf://a/b@refs/pr/2/sub/tokenizer.json"
    );
    let file = registry.llm.tokenizer.hub_file().unwrap();
    assert_eq!((file.revision(), file.repo.as_str()), ("refs/pr/2", "a/b"));
}

#[test]
fn a_gguf_file_contains_its_tokenizer_and_sizes() {
    let folder = folder_with(&FILES);
    fs::write(folder.path().join("llm/m.GGUF"), "abc").unwrap();
    fs::write(folder.path().join("llm/config.json"), "{}").unwrap();
    let text = changed("llm/model.safetensors", "llm/m.GGUF");
    let registry = Registry::from_file(&write(&folder, &text)).unwrap();
    assert_eq!(registry.llm.tokenizer, registry.llm.weights);
    assert_eq!(registry.llm.config, None);
    assert_eq!(registry.llm.sizes_in_weights(), Some(&registry.llm.weights));

    let stated = text.replace(
        "prompt = \"pure\"",
        "prompt = \"pure\"\nconfig = \"llm/config.json\"\ntokenizer = \"llm/tokenizer.json\"",
    );
    let registry = Registry::from_file(&write(&folder, stated)).unwrap();
    assert_eq!(registry.llm.sizes_in_weights(), None);
    assert_ne!(registry.llm.tokenizer, registry.llm.weights);
}

#[test]
fn the_first_of_several_files_that_exists_is_used() {
    let text = changed(
        "\"one.safetensors\"",
        "[\"missing.safetensors\", \"two.safetensors\", \"one.safetensors\"]",
    );
    let folder = folder_with(&FILES);
    let registry = Registry::from_file(&write(&folder, &text)).unwrap();
    let path = folder.path().join("two.safetensors");
    let expected = Some(WeightSource::Local { path, sha256: None });
    assert_eq!(registry.encoders[0].weights, expected);
    // The registry of a run contains the file that was used.
    let moved = Moved::default().text(&text, &registry);
    let elsewhere = folder_with(&[]);
    let moved = Registry::from_file(&write(&elsewhere, moved)).unwrap();
    let path = folder.path().canonicalize().unwrap();
    let path = path.join("two.safetensors");
    let expected = Some(WeightSource::Local { path, sha256: None });
    assert_eq!(moved.encoders[0].weights, expected);

    let hub = |files: &str| {
        changed(
            "{ path = \"one.safetensors\" }",
            &format!("{{ repo = \"a/b\", file = {files} }}"),
        )
    };
    let text = hub("[\"x/m.safetensors\", \"x/m.bin\"]");
    let registry = Registry::from_file(&write(&folder, text)).unwrap();
    let weights = registry.encoders[0].weights.as_ref().unwrap();
    assert_eq!(weights.to_string(), "hf://a/b/x/m.safetensors or x/m.bin");
    assert_eq!(weights.alternatives().len(), 2);

    for (wrong, word) in [
        ("[]", "is not a list of names"),
        ("[\"a\", 3]", "is not a list of names"),
        ("[\"a.gguf\", \"a.bin\"]", "cannot replace each other"),
        ("[\"x/a.bin\", \"y/a.bin\"]", "cannot replace each other"),
        (&format!("\"{}\"", "a".repeat(300)), "up to 255 characters"),
    ] {
        assert_has(&message(hub(wrong)), &[word, "x.toml:9"]);
    }
    let digest = "0".repeat(64);
    let two = changed(
        "\"one.safetensors\"",
        &format!("[\"one.safetensors\", \"two.safetensors\"], sha256 = \"{digest}\""),
    );
    assert_has(&message(two), &["one digest for several files"]);
}

#[test]
fn weights_of_an_encoder_are_optional() {
    let text = changed("weights = { path = \"one.safetensors\" }\n", "");
    let registry = Registry::from_file(&write(&folder_with(&FILES), text)).unwrap();
    assert_eq!(registry.encoders[0].weights, None);
    assert_eq!(registry.encoders[0].weights_name(), "none");
    assert_eq!(registry.sources().count(), 4);
}

/// A source with its own table header is replaced with all its lines, wherever they are in the file.
#[test]
fn options_move_with_the_registry_unchanged() {
    let folder = folder_with(&FILES);
    let options = "[llm.options]\npath = \"one.safetensors\"\nconfig = \"fast\"\n\n[transform]";
    let text = changed("[transform]", options);
    let registry = Registry::from_file(&write(&folder, &text)).unwrap_or_else(|e| panic!("{e}"));
    let moved = Moved {
        llm: Some(MovedFile {
            path: "two.safetensors",
            sha256: None,
        }),
        ..Moved::default()
    };
    let text = moved.text(&text, &registry);
    let moved =
        Registry::from_file(&write(&folder, &text)).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(moved.llm.options, registry.llm.options);
    assert_eq!(moved.llm.options["path"], "one.safetensors");
}

#[test]
fn a_table_with_a_header_is_replaced_as_a_whole() {
    let folder = folder_with(&FILES);
    let text = changed("weights = { path = \"mixer.safetensors\" }\n", "")
        + "[mixer.weights]\ninit = true\nseed = 4\n";
    let text = text.replace(
        "[transform]",
        "[mixer.weights.reuse]\npath = \"mixer.safetensors\"\n\n[transform]",
    );
    let llm = "weights = { path = \"llm/model.safetensors\" }\n";
    let text =
        text.replace(llm, "") + "\n[llm.weights] # the model\npath = \"llm/model.safetensors\"\n";
    let registry = Registry::from_file(&write(&folder, &text)).unwrap_or_else(|e| panic!("{e}"));
    assert!(registry.mixer.weights.trained().is_none());
    let file = |path| Some(MovedFile { path, sha256: None });
    let moved = Moved {
        mixer: file("one.safetensors"),
        llm: file("two.safetensors"),
        ..Moved::default()
    };
    let text = moved.text(&text, &registry);
    assert!(!text.contains("seed") && !text.contains("reuse"), "{text}");
    let registry =
        Registry::from_file(&write(&folder, &text)).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let local = |name: &str| WeightSource::Local {
        path: folder.path().join(name),
        sha256: None,
    };
    assert_eq!(
        registry.mixer.weights.trained(),
        Some(&local("one.safetensors"))
    );
    assert_eq!(registry.llm.weights, local("two.safetensors"));
    // The tokenizer is still the one in the folder of the old weights.
    let tokenizer = folder
        .path()
        .join("llm/tokenizer.json")
        .canonicalize()
        .unwrap();
    let pinned = WeightSource::Local {
        path: tokenizer,
        sha256: None,
    };
    assert_eq!(registry.llm.tokenizer, pinned);
}

/// The values of a table stay where they are, and so does a table within it. All other paths become absolute.
#[test]
fn only_the_weights_are_replaced() {
    let folder = folder_with(&FILES);
    let text = changed("weights = { path = \"mixer.safetensors\" }\n", "");
    let (rest, mixer) = text.split_once("[mixer]").unwrap();
    let (top, rest) = rest.split_once("[[encoders]]").unwrap();
    // The mixer comes first. Its weights have a header, and the last of them is an inline table.
    let text = format!(
        "{top}[mixer]{mixer}\n[mixer.weights]\ninit = true\n\
         reuse = {{ path = \"mixer.safetensors\" }}\n\n[[encoders]]{rest}"
    );
    let before = Registry::from_file(&write(&folder, &text)).unwrap_or_else(|e| panic!("{e}"));
    let elsewhere = folder_with(&["m.safetensors", "l.safetensors"]);
    let file = |path| Some(MovedFile { path, sha256: None });
    let moved = Moved {
        mixer: file("m.safetensors"),
        llm: file("l.safetensors"),
        ..Moved::default()
    };
    let text = moved.text(&text, &before);
    assert!(!text.contains("init") && !text.contains("reuse"), "{text}");
    let path = write(&elsewhere, &text);
    let after = Registry::from_file(&path).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let local = |folder: &TempDir, name: &str| WeightSource::Local {
        path: folder.path().canonicalize().unwrap().join(name),
        sha256: None,
    };
    assert_eq!(
        after.mixer.weights.trained(),
        Some(&local(&elsewhere, "m.safetensors"))
    );
    assert_eq!(after.llm.weights, local(&elsewhere, "l.safetensors"));
    assert_eq!(after.llm.tokenizer, local(&folder, "llm/tokenizer.json"));
    let weights = after.encoders.iter().map(|entry| entry.weights.clone());
    let expected = ["one.safetensors", "two.safetensors"].map(|name| Some(local(&folder, name)));
    assert_eq!(weights.collect::<Vec<_>>(), expected);
    let PluginRef::Library { path, .. } = &after.encoders[1].plugin else {
        panic!("{text}")
    };
    let library = folder.path().canonicalize().unwrap().join("libmerv_two.so");
    assert_eq!(path, &library);
}
