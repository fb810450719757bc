//! The README and every other page are correct: their commands and links work, and their examples are files that
//! are compiled or loaded. `reference.rs` tests their tables of options.

use merv_host::registry::Registry;
use merv_tests::{Page, Run, artifacts, root};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

/// The plugin project that the pages show.
const TEMPLATE: &str = "examples/plugin-template";

/// The languages of fenced blocks. The commands in `sh` blocks are run. A block of Rust or TOML is a whole file of
/// the repository, unless it is a fragment. Blocks in other languages would not be tested.
const FENCES: [&str; 6] = ["sh", "rust", "toml", "toml fragment", "json", "text"];

/// Languages of scripts that the tests of `eval` run.
const TESTED_ELSEWHERE: [&str; 3] = ["sh slurm", "sh parallel", "yaml kubernetes"];

fn file(path: &str) -> String {
    Page::read(path).text
}

/// The first example with this fence in the documentation of a crate, without its hidden lines.
fn documented(path: &str, fence: &str) -> String {
    let source = file(path);
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines
        .skip_while(|&line| line != fence)
        .skip(1)
        .take_while(|&line| line != "```")
        .filter(|line| !line.starts_with("# "))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// `PATH` with the folder of the program under test first.
fn search_path() -> OsString {
    let program = &artifacts().host;
    let folder = program.parent().expect("the program is in a folder");
    let others = env::var_os("PATH").unwrap_or_default();
    let path = [folder.to_owned()]
        .into_iter()
        .chain(env::split_paths(&others));
    env::join_paths(path).expect("the name of the target folder does not contain a colon")
}

/// Runs a line of a page in the root folder of the workspace.
#[track_caller]
fn succeeds(page: &Page, command: &str) {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", command])
        .current_dir(root())
        .stdin(Stdio::null())
        .env("PATH", search_path())
        // The paths in the pages assume the default target folder.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("MERV_PLUGIN_PATH")
        .env_remove("MERV_REGISTRY_PATH")
        .output()
        .expect("bash starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: `{command}` failed with {}:\n{stderr}",
        page.path,
        output.status
    );
}

/// Returns whether a command is not run here, because it runs this test or needs a build of its own. Checks that
/// its target or test exists.
#[track_caller]
fn only_checked(page: &Page, command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["make", target, ..] => {
            let rule = format!("\n{target}:");
            assert!(
                file("Makefile").contains(&rule),
                "{}: the Makefile does not have the target of `{command}`",
                page.path
            );
            true
        }
        ["cargo", "test", ..] => {
            for pair in words.windows(2).filter(|pair| pair[0] == "--test") {
                let tests = root().join("tests/tests");
                let (file, folder) = (format!("{}.rs", pair[1]), format!("{}/main.rs", pair[1]));
                assert!(
                    tests.join(file).exists() || tests.join(folder).exists(),
                    "{}: the test of `{command}` does not exist",
                    page.path
                );
            }
            true
        }
        ["cargo", "build" | "clippy" | "check", ..] => !command.contains("--manifest-path"),
        ["export", path, ..] => path.starts_with("PATH="),
        _ => false,
    }
}

#[test]
fn their_commands_work() {
    fs::create_dir_all(root().join("target")).expect("the workspace can be written");
    let mut ran = BTreeMap::new();
    for page in Page::all() {
        for block in page.blocks_of("sh") {
            let lines = block.lines().filter(|line| !line.starts_with('#'));
            for command in lines.filter(|line| !line.trim().is_empty()) {
                if !only_checked(&page, command) {
                    succeeds(&page, command);
                    *ran.entry(page.path.clone()).or_insert(0) += 1;
                }
            }
        }
    }
    for page in ["README.md", "docs/cli.md", "docs/plugins.md"] {
        assert!(
            ran.get(page).is_some_and(|&count| count > 2),
            "too few commands of {page} were run: {ran:?}"
        );
    }

    // One of the commands builds the plugin.
    let registry = Registry::load(root().join(TEMPLATE).join("registry.toml"));
    assert_eq!(registry.expect("the registry is valid").id, "mean-colour");
}

#[test]
fn their_other_commands_have_valid_options() {
    let mut parsed = 0;
    for page in Page::all() {
        for block in page.blocks_of("text") {
            for command in block.lines().filter(|line| line.starts_with("merv-host ")) {
                // The program prints its help only if it knows all options before `--help`.
                succeeds(&page, &format!("{command} --help"));
                parsed += 1;
            }
        }
    }
    assert!(parsed > 5, "only {parsed} commands were found");
}

#[test]
fn their_blocks_are_in_languages_that_are_tested() {
    for page in Page::all() {
        for (fence, text) in page.blocks() {
            let known = FENCES.iter().chain(&TESTED_ELSEWHERE);
            assert!(
                known.clone().any(|&known| known == fence),
                "{}: a block is in the language `{fence}`, expected one of {:?}:\n{text}",
                page.path,
                known.collect::<Vec<_>>()
            );
            if fence == "json" {
                let parsed = serde_json::from_str::<serde_json::Value>(&text);
                assert!(parsed.is_ok(), "{}: {parsed:?} in:\n{text}", page.path);
            }
        }
    }
}

#[test]
fn their_examples_are_files_of_the_repository() {
    let template = |path: &str| format!("{TEMPLATE}/{path}");
    let plugin = file(&template("src/lib.rs"));
    assert!(
        plugin.lines().count() < 60,
        "the example of an encoder plugin is longer than promised"
    );
    assert_eq!(
        plugin,
        documented("plugin-api/src/lib.rs", "```"),
        "the template differs from the example of plugin-api"
    );
    // Each is compiled or loaded by a test or a command of the pages.
    let files = [
        "host/examples/describe.rs",
        &template("src/lib.rs"),
        &template("registry.toml"),
        &template("Cargo.toml"),
        "examples/own-mix.toml",
    ];
    let mut shown = BTreeSet::new();
    for page in Page::all() {
        for text in ["rust", "toml"]
            .iter()
            .flat_map(|fence| page.blocks_of(fence))
        {
            let found = files.iter().find(|path| file(path) == text);
            let Some(path) = found else {
                panic!(
                    "{}: a block is not equal to any of {files:?}:\n{text}",
                    page.path
                )
            };
            shown.insert(*path);
        }
    }
    assert_eq!(
        shown,
        files.into_iter().collect(),
        "the examples on the pages"
    );
}

#[test]
fn the_dependency_on_the_library_has_valid_features() {
    let manifest = file("host/Cargo.toml");
    let fragments = Page::read("docs/library.md").blocks_of("toml fragment");
    let features = fragments[0]
        .split("features = [")
        .nth(1)
        .and_then(|rest| rest.split(']').next())
        .expect("the dependency has features");
    for feature in features
        .split(',')
        .map(|name| name.trim().trim_matches('"'))
    {
        assert!(
            manifest.contains(&format!("\n{feature} = [")),
            "merv-host has no feature `{feature}`"
        );
    }
}

/// `path` without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            other => path.push(other),
        }
        path
    })
}

#[test]
fn their_links_work() {
    for page in Page::all() {
        for target in page.links() {
            if target.starts_with("https://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match path {
                "" => page.path.clone(),
                _ => normal(&page.folder().join(path)).display().to_string(),
            };
            let of = &page.path;
            assert!(root().join(&path).exists(), "{of}: {target} does not exist");
            assert!(
                anchor.is_empty() || Page::read(&path).anchors().iter().any(|a| a == anchor),
                "{of}: {target} does not match a heading"
            );
        }
        // `| path | contents |`
        let rows = page
            .text
            .lines()
            .skip_while(|line| !line.starts_with("| path |"));
        for row in rows.take_while(|line| line.starts_with('|')) {
            let cell = row.split('|').nth(1).unwrap_or_default();
            for path in cell.split('`').skip(1).step_by(2) {
                assert!(
                    root().join(path).exists(),
                    "{}: {path} does not exist",
                    page.path
                );
            }
        }
    }
}

/// Adds the Rust code in a folder and its subfolders, without comments and strings.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder)
        .expect("the folder can be listed")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(path).expect("the file is UTF-8");
            let code = source
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                text.extend(line.split('"').step_by(2).flat_map(|part| [part, "\n"]));
            }
        }
    }
}

#[test]
fn the_architecture_names_types_and_functions_that_exist() {
    let mut text = String::new();
    for folder in ["host/src", "plugin-api/src", "plugins"] {
        sources(&root().join(folder), &mut text);
    }
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = text.split(|c| !is_name(c)).collect();
    let page = Page::read("ARCHITECTURE.md");
    let mut names = 0;
    for code in page.text.split('`').skip(1).step_by(2) {
        // `VidLm`, `VidLm::see`, `forward_train`; not a file, an option or a shape.
        let is_code =
            code.contains("::") || code.contains('_') || code.starts_with(char::is_uppercase);
        if is_code && !root().join(code).exists() && code.chars().all(|c| is_name(c) || c == ':') {
            for name in code.split("::") {
                assert!(
                    words.contains(name),
                    "ARCHITECTURE.md: `{code}` is not in the source"
                );
                names += 1;
            }
        }
    }
    assert!(names > 50, "only {names} names were found");
}

#[test]
fn the_readme_is_short_and_shows_what_the_demo_prints() {
    let readme = Page::read("README.md");
    let lines = readme.text.lines().count();
    assert!(lines <= 250, "README.md has {lines} lines");

    let makefile = file("Makefile");
    let setting = |name: &str| {
        let line = makefile.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("the Makefile has no `{name}`"))
    };
    let choice = makefile
        .split("define CHOICE ?=\n")
        .nth(1)
        .and_then(|rest| rest.split("\nendef").next());
    let prompts = [
        setting("export PROMPT ?= "),
        setting("export QUESTION ?= "),
        choice.expect("the Makefile has a question with choices"),
    ];
    let answers = prompts.map(|prompt| {
        let run = Run::new().args(["--quiet", "generate", "--max-new-tokens", "64", "--video"]);
        let run = run.args([setting("export VIDEO ?= "), "--prompt", prompt]);
        run.finish().succeeded().stdout
    });
    assert_eq!(readme.blocks_of("text")[0], answers.concat());
}

#[test]
fn scripts_are_executable() {
    use std::os::unix::fs::PermissionsExt;
    let scripts = fs::read_dir(root().join("scripts")).expect("the scripts can be listed");
    let scripts = scripts.map(|entry| entry.expect("the scripts can be listed").path());
    for script in scripts.chain([root().join(".ci/run")]) {
        let mode = |path: &Path| {
            fs::metadata(path)
                .expect("the file exists")
                .permissions()
                .mode()
        };
        assert_eq!(
            mode(&script) & 0o111,
            0o111,
            "{} is not executable",
            script.display()
        );
        let check = Command::new("bash").arg("-n").arg(&script).status();
        assert!(
            check.expect("bash starts").success(),
            "{} is not valid bash",
            script.display()
        );
    }
}
