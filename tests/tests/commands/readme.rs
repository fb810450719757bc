//! The README is correct: its commands work, its command reference matches the program's help, and its examples are
//! those of the documentation.

use merv_host::{registry::Registry, video::Limits};
use merv_tests::{Run, artifacts, root};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

/// The plugin project that the README shows.
const TEMPLATE: &str = "examples/plugin-template";

/// Commands that are not run here: their beginning, and the reason.
const NOT_RUN: [(&str, &str); 2] = [
    (
        "make ",
        "`make test` runs this test; only the existence of the target is checked",
    ),
    (
        "export PATH=",
        "the test puts the program under test first instead",
    ),
];

fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fenced blocks in `language`, in order.
fn blocks(language: &str) -> Vec<String> {
    let (mut found, mut open): (Vec<String>, Option<bool>) = (Vec::new(), None);
    for line in file("README.md").lines() {
        match (line.strip_prefix("```"), open) {
            (Some(fence), None) => {
                open = Some(fence == language);
                if fence == language {
                    found.push(String::new());
                }
            }
            (Some(_), Some(_)) => open = None,
            (None, Some(true)) => {
                let block = found.last_mut().expect("a block is open");
                *block += line;
                *block += "\n";
            }
            (None, _) => {}
        }
    }
    found
}

/// The text below a heading, up to the next heading of the same or a higher level.
fn section(heading: &str) -> String {
    let level = |line: &str| line.chars().take_while(|&c| c == '#').count();
    let readme = file("README.md");
    let mut lines = readme.lines().skip_while(|&line| line != heading);
    assert_eq!(lines.next(), Some(heading), "README.md has no `{heading}`");
    lines
        .take_while(|line| !(1..=level(heading)).contains(&level(line)))
        .flat_map(|line| [line, "\n"])
        .collect()
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

#[test]
fn its_commands_work() {
    let makefile = file("Makefile");
    let folder = artifacts()
        .host
        .parent()
        .expect("the program is in a folder");
    let others = env::var_os("PATH").unwrap_or_default();
    let path = [folder.to_owned()]
        .into_iter()
        .chain(env::split_paths(&others));
    let path =
        env::join_paths(path).expect("the name of the target folder does not contain a colon");
    fs::create_dir_all(root().join("target")).expect("the workspace can be written");

    let blocks = blocks("sh");
    let mut ran = 0;
    for command in blocks.iter().flat_map(|block| block.lines()) {
        if command.is_empty() || command.starts_with('#') {
            continue;
        }
        if NOT_RUN
            .iter()
            .any(|(beginning, _)| command.starts_with(beginning))
        {
            let target = command
                .strip_prefix("make ")
                .and_then(|rest| rest.split(' ').next());
            let rule = target.map_or(String::new(), |target| format!("\n{target}:"));
            assert!(
                makefile.contains(&rule),
                "the Makefile does not have the target of `{command}`"
            );
            continue;
        }
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", command])
            .current_dir(root())
            .stdin(Stdio::null())
            .env("PATH", &path)
            // The paths in the README assume the default target folder.
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("MERV_PLUGIN_PATH")
            .env_remove("MERV_REGISTRY_PATH")
            .output()
            .expect("bash starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "`{command}` failed with {}:\n{stderr}",
            output.status
        );
        ran += 1;
    }
    assert!(ran > 5, "only {ran} commands were found in the README");

    let registry = Registry::load(root().join(TEMPLATE).join("registry.toml"));
    assert_eq!(
        registry.expect("the registry of the README is valid").id,
        "mean-colour"
    );
}

#[test]
fn its_examples_match_the_documentation() {
    let template = |path: &str| file(&format!("{TEMPLATE}/{path}"));
    let library = file("host/examples/describe.rs");
    let plugin = documented("plugin-api/src/lib.rs", "```");
    assert!(
        plugin.lines().count() < 60,
        "the example of an encoder plugin is longer than promised"
    );
    assert_eq!(
        template("src/lib.rs"),
        plugin,
        "the template differs from the example of plugin-api"
    );
    assert_eq!(blocks("rust"), [library, plugin]);
    let toml = blocks("toml");
    assert!(toml[0].starts_with("[dependencies]\nmerv-host = "));
    assert_eq!(
        toml[1..],
        [
            template("registry.toml"),
            file("examples/own-mix.toml"),
            template("Cargo.toml")
        ]
    );
}

/// The anchor of a heading; `None` if `line` is not a heading.
fn anchor_of(line: &str) -> Option<String> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = title
        .chars()
        .filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

#[test]
fn its_links_work() {
    let readme = file("README.md");
    for target in readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        if target.starts_with("https://") {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = if path.is_empty() { "README.md" } else { path };
        assert!(root().join(path).exists(), "{target} does not exist");
        if !anchor.is_empty() {
            let page = file(path);
            let mut anchors = page.lines().filter_map(anchor_of);
            assert!(
                anchors.any(|found| found == anchor),
                "{target} does not match a heading"
            );
        }
    }
    for path in section("## Layout")
        .split('`')
        .filter(|text| text.ends_with('/'))
    {
        assert!(root().join(path).is_dir(), "{path} is not a folder");
    }
}

/// Options as the help writes them (`-v, --verbose`, `--top-k K`), with their defaults.
type Options = BTreeMap<String, String>;

/// The options that `merv-host <command> --help` shows.
fn offered(command: &[&str]) -> Options {
    let help = Run::new()
        .args(command)
        .arg("--help")
        .finish()
        .succeeded()
        .stdout;
    let mut options = Options::new();
    let mut last = None;
    for line in help.lines().map(str::trim) {
        if line.starts_with('-') && !line.starts_with("- ") {
            let written = line.trim_end_matches("...").replace(['<', '>'], "");
            options.insert(written.clone(), String::new());
            last = Some(written);
        }
        let default = line
            .split("[default: ")
            .nth(1)
            .and_then(|rest| rest.strip_suffix(']'));
        if let (Some(default), Some(last)) = (default, &last) {
            options.insert(last.clone(), default.to_owned());
        }
    }
    options
}

/// The options in a section's table: `| option | default | meaning |`.
fn described(heading: &str) -> Options {
    let section = section(heading);
    let rows = section.lines().filter(|line| line.starts_with("| `-"));
    let cells = rows.map(|row| row.replace("\\|", "\u{0}").replace('`', ""));
    cells
        .map(|row| {
            let cell = |index| {
                let cell = row.split('|').nth(index).expect("rows have three cells");
                cell.trim().replace('\u{0}', "|")
            };
            (cell(1), cell(2))
        })
        .collect()
}

fn names(options: &Options) -> BTreeSet<&str> {
    options.keys().map(String::as_str).collect()
}

/// Checks that both have the same options, and that the README has every default of the help.
#[track_caller]
fn assert_same(heading: &str, described: &Options, offered: &Options) {
    assert_eq!(
        names(described),
        names(offered),
        "{heading}: README.md, then --help"
    );
    for (option, default) in offered.iter().filter(|(_, default)| !default.is_empty()) {
        assert_eq!(
            &described[option], default,
            "{heading}: the default of {option}"
        );
    }
}

#[test]
fn its_reference_matches_the_help() {
    let global = offered(&[]);
    assert_same("global", &described("### Global options"), &global);

    let help = Run::new().arg("--help").finish().succeeded().stdout;
    let list = help
        .split("Commands:\n")
        .nth(1)
        .and_then(|rest| rest.split("\n\n").next());
    let commands: BTreeSet<_> = list
        .expect("the help lists the commands")
        .lines()
        // Continued descriptions are indented further.
        .filter_map(|line| {
            line.strip_prefix("  ")
                .filter(|rest| !rest.starts_with(' '))
        })
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let reference = section("## Command reference");
    let headings = reference
        .lines()
        .filter_map(|line| line.strip_prefix("### `"));
    assert_eq!(
        commands,
        headings.map(|rest| rest.trim_end_matches('`')).collect()
    );

    for command in commands.into_iter().filter(|&command| command != "help") {
        let mut own = offered(&[command]);
        own.retain(|option, _| !global.contains_key(option));
        assert_same(command, &described(&format!("### `{command}`")), &own);
    }
}

#[test]
fn it_lists_every_shell() {
    let help = Run::new()
        .args(["completions", "-h"])
        .finish()
        .succeeded()
        .stdout;
    let shells = help
        .split("possible values: ")
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    let shells = shells.expect("the help lists the shells").split(", ");
    let section = section("### `completions`");
    for shell in shells.map(str::trim) {
        assert!(
            section.contains(&format!("`{shell}`")),
            "{shell} is not in the README"
        );
    }
}

#[test]
fn its_limits_are_the_defaults() {
    let stated = described("### `generate`");
    let number = |option: &str| {
        let text = stated[&format!("{option} N")].replace(',', "");
        let (digits, unit) = text.split_once(' ').unwrap_or((&text, ""));
        let unit = ["", "KiB", "MiB", "GiB"]
            .iter()
            .position(|&known| known == unit);
        let shift = 10 * unit.expect("a unit of bytes");
        digits.parse::<u64>().expect("a number") << shift
    };
    let limits = Limits::default();
    assert_eq!(number("--max-pixels"), limits.max_pixels);
    assert_eq!(number("--max-frames"), limits.max_frames);
    assert_eq!(number("--max-clip-bytes"), limits.max_clip_bytes);
    assert_eq!(number("--max-image-bytes"), limits.max_image_bytes);
    assert_eq!(
        number("--max-animation-pixels"),
        limits.max_animation_pixels
    );
    assert_eq!(number("--max-animation-bytes"), limits.max_animation_bytes);
    assert_eq!(number("--max-decoded-pixels"), limits.max_decoded_pixels);
    assert_eq!(number("--max-pipe-bytes"), limits.max_pipe_bytes);
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
