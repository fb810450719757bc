//! Finding a registry by FILE or NAME.

use super::*;

#[test]
fn names_and_files_are_found() {
    let folder = folder_with(&[
        "a/merv-tiny.toml",
        "b/merv-tiny.toml",
        "b/other.toml",
        "b/x.txt",
    ]);
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let search = SearchPath::new([a.clone(), b.clone(), a.clone(), folder.path().join("none")]);
    assert_eq!(search.folders().len(), 3);
    assert_eq!(search.names(), ["merv-tiny", "other"]);
    let found = |wanted: &str| find(Path::new(wanted), &search);
    assert_eq!(found("merv-tiny").unwrap(), a.join("merv-tiny.toml"));
    assert_eq!(found("other").unwrap(), b.join("other.toml"));
    let file = b.join("x.txt");
    assert_eq!(find(&file, &search).unwrap(), file);

    let error = found("merv-tinny").unwrap_err().to_string();
    let looked = a.join("merv-tinny.toml").display().to_string();
    assert_has(
        &error,
        &[
            "merv-tinny:",
            &looked,
            "did you mean: `merv-tiny`",
            "MERV_REGISTRY_PATH",
        ],
    );
    assert_has(&error, &["known: `merv-tiny`, `other`"]);
    let error = found("x/othr.toml").unwrap_err().to_string();
    assert_has(&error, &["x/othr.toml", "did you mean: `other`"]);
    let wanted = b.join("othr.toml");
    let error = find(&wanted, &search).unwrap_err().to_string();
    assert_has(&error, &[&b.join("other.toml").display().to_string()]);
    for wanted in ["", ".", ".."] {
        assert!(
            matches!(found(wanted), Err(RegistryError::NotFound { .. })),
            "{wanted:?}"
        );
    }
}

#[test]
fn the_search_path_has_the_documented_folders() {
    let around = vec![PathBuf::from("/b"), "/s".into(), "/b".into()];
    let search = SearchPath::from_parts(around, Some(OsStr::new("/p::/q")));
    let expected = ["registry", "/b", "/s", "/p", "/q"].map(PathBuf::from);
    assert_eq!(search.folders(), expected);
}
