//! Tests that need no server: settings, URLs and names.

use super::{
    HubFile, Settings, Token,
    address::{Origin, file_url, redirected},
    cache::check_name,
};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};
use ureq::http::Uri;

fn settings(variables: &[(&str, &Path)], folder: &Path) -> Settings {
    let variables: HashMap<&str, &Path> = variables.iter().copied().collect();
    Settings::from_variables(&|name| variables.get(name).map(PathBuf::from), folder)
}

fn origin(settings: &Settings) -> Option<&str> {
    settings.token.as_ref().map(Token::origin)
}

#[test]
fn the_environment_is_read_as_the_hubs_tools_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let (home, path) = (folder.path().join("home"), folder.path());
    fs::create_dir(&home).unwrap();
    let text = Path::new;

    let found = settings(&[("HF_HOME", &home)], path);
    assert_eq!(found.cache, Some(home.join("hub")));
    assert_eq!(found.endpoint, "https://huggingface.co");
    assert!(!found.offline);
    assert_eq!(found.token, None);

    // Each place for a token takes precedence over the places before.
    fs::write(home.join("token"), "hf_login\n").unwrap();
    let home_alone = [("HF_HOME", home.as_path())];
    assert_eq!(
        origin(&settings(&home_alone, path)),
        Some(&*format!("the file {}", home.join("token").display()))
    );
    fs::write(path.join("other"), "hf_other").unwrap();
    let other = path.join("other");
    let named = settings(&[("HF_HOME", &home), ("HF_TOKEN_PATH", &other)], path);
    assert_eq!(named.token.unwrap().secret(), "hf_other");
    fs::write(path.join(".hf_token"), " hf_folder \n").unwrap();
    assert_eq!(
        settings(&home_alone, path).token.unwrap().secret(),
        "hf_folder"
    );
    let stated = settings(&[("HF_HOME", &home), ("HF_TOKEN", text("hf_stated"))], path);
    assert_eq!(stated.token.as_ref().unwrap().secret(), "hf_stated");
    assert_eq!(origin(&stated), Some("$HF_TOKEN"));
    let empty = settings(&[("HF_HOME", &home), ("HF_TOKEN", text(""))], path);
    assert_eq!(empty.token.unwrap().secret(), "hf_folder");
    assert!(
        !format!("{stated:?}").contains("hf_stated"),
        "the secret is printed"
    );

    let cache = settings(
        &[
            ("HF_HOME", &home),
            ("HF_HUB_CACHE", text("/c")),
            ("HF_ENDPOINT", text("http://mirror/")),
            ("HF_HUB_OFFLINE", text("ON")),
        ],
        path,
    );
    assert_eq!(cache.cache, Some("/c".into()));
    assert_eq!(cache.endpoint, "http://mirror/");
    assert!(cache.offline);
    let xdg = settings(
        &[
            ("XDG_CACHE_HOME", text("/x")),
            ("HF_HUB_OFFLINE", text("0")),
        ],
        path,
    );
    assert_eq!(xdg.cache, Some("/x/huggingface/hub".into()));
    assert!(!xdg.offline);
}

#[test]
fn urls_are_escaped() {
    let file = HubFile {
        repo: "a/b".into(),
        file: "sub/a b+c.bin".into(),
        revision: Some("refs/pr/2".into()),
    };
    assert_eq!(
        file_url("https://h/", &file, file.revision()),
        "https://h/a/b/resolve/refs%2Fpr%2F2/sub/a%20b%2Bc.bin"
    );
}

#[test]
fn only_safe_redirects_are_followed() {
    let from: Uri = "https://hub.example/a/b".parse().unwrap();
    let to = |location: &str| redirected(&from, location).map(|uri| uri.to_string());
    assert_eq!(to("/c?d=e").unwrap(), "https://hub.example/c?d=e");
    assert_eq!(to("//cdn.example/x").unwrap(), "https://cdn.example/x");
    assert_eq!(
        to("https://cdn.example:8/x").unwrap(),
        "https://cdn.example:8/x"
    );
    assert!(
        to("http://hub.example/c")
            .unwrap_err()
            .contains("https to http")
    );
    for wrong in [
        "",
        "file:///etc/passwd",
        "ftp://h/x",
        "c",
        "https://",
        "http://a b/",
    ] {
        assert!(to(wrong).is_err(), "{wrong}");
    }
    let origin = |text: &str| Origin::of(&text.parse().unwrap());
    assert_eq!(
        origin("https://H.example/a"),
        origin("https://h.example:443")
    );
    for other in [
        "http://h.example",
        "https://h.example:444",
        "https://g.example",
    ] {
        assert_ne!(origin(other), origin("https://h.example"), "{other}");
    }
}

#[test]
fn names_from_the_hub_stay_in_their_folder() {
    for wrong in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        ".hidden",
        "a\\b",
        "a b",
        &"a".repeat(129),
    ] {
        assert!(check_name("ETag", wrong).is_err(), "{wrong}");
    }
    for good in ["0123abcd", "d41d8cd98f00b204e9800998ecf8427e-2"] {
        check_name("ETag", good).unwrap();
    }
}
