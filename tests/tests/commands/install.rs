//! `scripts/install`: an installation works in any folder and for any user, and can be removed.

#![cfg(unix)]

use merv_tests::{Page, artifacts, root};
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
};

/// Runs `scripts/install` on the build under test.
fn install(prefix: &Path, destdir: &Path, arguments: &[&str]) -> Output {
    let build = artifacts().host.parent().unwrap();
    Command::new(root().join("scripts/install"))
        .args(arguments)
        .env("BUILD", build)
        .env("PREFIX", prefix)
        .env("DESTDIR", destdir)
        .output()
        .unwrap()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Asks merv-tiny about the installed clip. If the tests run as root, the program runs as `nobody`.
fn ask(program: &Path, clip: &Path, folder: &Path) -> Output {
    let is_root = succeeded(&Command::new("id").arg("-u").output().unwrap()).trim() == "0";
    let mut command = match is_root {
        true => {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(program);
            command
        }
        false => Command::new(program),
    };
    let prompt = "Where does the shape move?";
    command
        .args([
            "-q",
            "generate",
            "--max-new-tokens",
            "8",
            "--prompt",
            prompt,
        ])
        .args([OsStr::new("--video"), clip.as_os_str()])
        .current_dir(folder)
        .env_clear()
        .output()
        .unwrap()
}

/// Sets the mode of a folder and all folders below it: 0o555 makes them read-only, 0o755 writable.
fn set_modes(folder: &Path, mode: u32) {
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            set_modes(&path, mode);
        }
    }
}

#[test]
fn an_installation_works_from_any_folder_and_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::set_permissions(here, fs::Permissions::from_mode(0o755)).unwrap();
    let (prefix, none) = (here.join("opt"), Path::new(""));
    succeeded(&install(&prefix, none, &[]));
    // Installing again updates the installation.
    succeeded(&install(&prefix, none, &[]));

    let (links, elsewhere) = (here.join("links"), here.join("elsewhere"));
    for folder in [&links, &elsewhere] {
        fs::create_dir(folder).unwrap();
    }
    symlink(prefix.join("bin/merv-host"), links.join("one")).unwrap();
    symlink("one", links.join("merv-host")).unwrap();
    set_modes(&prefix, 0o555);
    for program in [prefix.join("bin/merv-host"), links.join("merv-host")] {
        let clip = prefix.join("share/merv/assets/shapes.mp4");
        assert_eq!(succeeded(&ask(&program, &clip, &elsewhere)).trim(), "left");
    }
    set_modes(&prefix, 0o755);

    // Files of other programs stay.
    let other = prefix.join("lib/merv/libmerv_other.so");
    fs::write(&other, "").unwrap();
    succeeded(&install(&prefix, none, &["--uninstall"]));
    let left = |folder: &Path| {
        let names = fs::read_dir(folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    assert_eq!(left(&prefix), ["lib"]);
    assert_eq!(left(&prefix.join("lib/merv")), ["libmerv_other.so"]);
    assert!(!install(&prefix, none, &["--uninstall"]).status.success());
}

#[test]
fn destdir_is_put_before_the_prefix() {
    let folder = tempfile::tempdir().unwrap();
    succeeded(&install(Path::new("/usr"), folder.path(), &[]));
    for file in [
        "bin/merv-host",
        "lib/merv/libmerv_llama2.so",
        "share/merv/registry/merv-tiny.toml",
        "share/bash-completion/completions/merv-host",
    ] {
        assert!(folder.path().join("usr").join(file).is_file(), "{file}");
    }
    let hiera = folder
        .path()
        .join("usr/share/merv/registry/merv-hiera.toml");
    let hiera = fs::read_to_string(hiera).unwrap();
    assert!(hiera.contains("plugin = \"hiera\"\n") && !hiera.contains("../plugins"));
}

#[test]
fn the_pages_that_are_installed_lead_to_each_other() {
    let folder = tempfile::tempdir().unwrap();
    succeeded(&install(folder.path(), Path::new(""), &[]));
    let documents = folder.path().join("share/doc/merv-host");
    let mut followed = 0;
    for page in Page::all() {
        let installed = documents.join(&page.path);
        if !installed.exists() {
            continue;
        }
        let links = page.links().into_iter();
        let paths = links.filter_map(|link| link.split('#').next());
        for path in paths.filter(|path| path.ends_with(".md") && !path.starts_with("https://")) {
            let target = installed.parent().unwrap().join(path);
            assert!(target.is_file(), "{}: {path} is not installed", page.path);
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links were found");
}
