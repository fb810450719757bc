//! Sources and digests.

use super::*;

#[test]
fn digests() {
    // sha256 of "abc", FIPS 180-2
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let text = changed(
        "\"one.safetensors\"",
        &format!("\"one.safetensors\", sha256 = \"{abc}\""),
    );
    let folder = folder_with(&FILES);
    let registry = Registry::from_file(&write(&folder, text)).unwrap();
    let source = &registry.encoders[0].weights;
    assert_eq!(source.sha256().unwrap().to_string(), abc);
    source.verify().unwrap();
    fs::write(folder.path().join("one.safetensors"), "abd").unwrap();
    let error = source.verify().unwrap_err();
    assert!(matches!(error, SourceError::WrongDigest { .. }));
    assert_has(
        &error.to_string(),
        &["one.safetensors", abc, "found: ", "do: fetch"],
    );
    fs::remove_file(folder.path().join("one.safetensors")).unwrap();
    assert!(matches!(source.verify(), Err(SourceError::Read { .. })));
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
fn remote_sources_resolve_and_say_that_they_cannot_be_fetched() {
    let text = GOOD
        .replace("{ path = \"one.safetensors\" }", "{ checkpoint = true }")
        .replace(
            "{ path = \"llm/model.safetensors\" }",
            "{ repo = \"a/b\", file = \"sub/m.gguf\", revision = \"refs/pr/2\" }",
        );
    let registry = Registry::from_file(&write(&folder_with(&FILES), text)).unwrap();
    let error = registry.encoders[0]
        .weights
        .local_path()
        .unwrap_err()
        .to_string();
    assert_has(&error, &["checkpoint", "not built yet", "{ path = \"…\" }"]);
    let error = registry.llm.weights.local_path().unwrap_err().to_string();
    assert_has(
        &error,
        &["`sub/m.gguf`", "`a/b`", "not built yet", "{ path = \"…\" }"],
    );
    assert_eq!(
        registry.llm.tokenizer.to_string(),
        "hf://a/b@refs/pr/2/sub/tokenizer.json"
    );
}
