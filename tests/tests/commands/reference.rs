//! The tables of options on every page match the program's help, and docs/cli.md has all options.

use merv_host::video::ReadLimits;
use merv_tests::{Page, Run};
use std::collections::{BTreeMap, BTreeSet};

/// Options as the help writes them (`-v, --verbose`, `--top-k K`), with their defaults.
type Options = BTreeMap<String, String>;

/// What `merv-host <command> --help` prints.
fn help(command: &[&str]) -> String {
    let run = Run::new().args(command).arg("--help");
    run.finish().succeeded().stdout
}

/// The options that `merv-host <command> --help` shows.
fn offered(command: &[&str]) -> Options {
    let help = help(command);
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

/// The commands that `merv-host <command> --help` lists.
fn commands(command: &[&str]) -> BTreeSet<String> {
    let help = help(command);
    let list = help
        .split("Commands:\n")
        .nth(1)
        .and_then(|rest| rest.split("\n\n").next());
    let lines = list.unwrap_or_default().lines();
    lines
        // Continued descriptions are indented further.
        .filter_map(|line| {
            line.strip_prefix("  ")
                .filter(|rest| !rest.starts_with(' '))
        })
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// The options in tables `| option | default | meaning |`.
fn described(text: &str) -> Options {
    let rows = text.lines().filter(|line| line.starts_with("| `-"));
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

/// Checks that both have the same options, and that the page has every default of the help.
#[track_caller]
fn assert_same(heading: &str, described: &Options, offered: &Options) {
    assert_eq!(
        names(described),
        names(offered),
        "{heading}: docs/cli.md, then --help"
    );
    for (option, default) in offered.iter().filter(|(_, default)| !default.is_empty()) {
        assert_eq!(
            &described[option], default,
            "{heading}: the default of {option}"
        );
    }
}

#[test]
fn the_command_reference_matches_the_help() {
    let page = Page::read("docs/cli.md");
    let global = offered(&[]);
    assert_same(
        "global",
        &described(&page.section("## Global options")),
        &global,
    );
    let commands = commands(&[]);
    let headings = page
        .headings()
        .filter_map(|heading| heading.strip_prefix('`'));
    assert_eq!(
        commands,
        headings
            .map(|rest| rest.trim_end_matches('`').to_owned())
            .collect()
    );
    for command in commands.iter().filter(|&command| command != "help") {
        let mut own = offered(&[command]);
        own.retain(|option, _| !global.contains_key(option));
        let section = page.section(&format!("## `{command}`"));
        assert_same(command, &described(&section), &own);
    }
}

#[test]
fn option_tables_of_every_page_match_the_help() {
    // The defaults of each option, over all commands.
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |command: &[&str]| {
        for (option, default) in offered(command) {
            all.entry(option).or_default().insert(default);
        }
    };
    add(&[]);
    for command in commands(&[]).iter().filter(|&name| name != "help") {
        add(&[command]);
        for below in commands(&[command]).iter().filter(|&name| name != "help") {
            add(&[command, below]);
        }
    }
    for page in Page::all() {
        for (cell, default) in described(&page.text) {
            // A row may have several options.
            let several = match all.contains_key(&cell) {
                true => vec![cell.as_str()],
                false => cell.split(", ").collect(),
            };
            for option in several {
                let defaults = all.get(option);
                let defaults =
                    defaults.unwrap_or_else(|| panic!("{}: no command has `{option}`", page.path));
                let stated: Vec<_> = defaults.iter().filter(|text| !text.is_empty()).collect();
                let digits = default.replace(',', "");
                assert!(
                    stated.is_empty()
                        || default.is_empty()
                        || stated.contains(&&default)
                        || stated.contains(&&digits),
                    "{}: the default of {option} is {stated:?}, not {default}",
                    page.path
                );
            }
        }
    }
}

#[test]
fn every_shell_is_listed() {
    let run = Run::new().args(["completions", "-h"]);
    let help = run.finish().succeeded().stdout;
    let shells = help
        .split("possible values: ")
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    let shells = shells.expect("the help lists the shells").split(", ");
    let section = Page::read("docs/cli.md").section("## `completions`");
    for shell in shells.map(str::trim) {
        assert!(
            section.contains(&format!("`{shell}`")),
            "{shell} is not in docs/cli.md"
        );
    }
}

#[test]
fn the_limits_are_the_defaults() {
    let stated = described(&Page::read("docs/cli.md").section("## `generate`"));
    let number = |option: &str| {
        let text = stated[&format!("{option} N")].replace(',', "");
        let (digits, unit) = text.split_once(' ').unwrap_or((&text, ""));
        let unit = ["", "KiB", "MiB", "GiB"]
            .iter()
            .position(|&known| known == unit);
        let shift = 10 * unit.expect("a unit of bytes");
        digits.parse::<u64>().expect("a number") << shift
    };
    let limits = ReadLimits::default();
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
