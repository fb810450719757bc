//! The Markdown pages of the repository: their blocks, tables, headings and links.

use super::root;
use std::{fs, path::Path};

/// Folders that do not contain pages of the repository.
const SKIPPED: [&str; 4] = ["target", "node_modules", "shared", "tests/fixtures"];

/// A Markdown page.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its path from the root folder of the workspace, such as `docs/cli.md`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Page {
    /// Reads one page.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    #[track_caller]
    pub fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path));
        Self {
            path: path.to_owned(),
            text: text.unwrap_or_else(|error| panic!("{path}: {error}")),
        }
    }

    /// Every page of the repository: those at its root first, README.md before the others.
    ///
    /// # Panics
    ///
    /// If a folder cannot be read.
    pub fn all() -> Vec<Self> {
        let mut paths = Vec::new();
        collect("", &mut paths);
        paths.sort_by_key(|path| (path.contains('/'), path != "README.md", path.clone()));
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Its fenced blocks: the language after the opening fence, and the text between the fences.
    pub fn blocks(&self) -> Vec<(String, String)> {
        let mut blocks: Vec<(String, String)> = Vec::new();
        let mut open = false;
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), open) {
                (Some(fence), false) => blocks.push((fence.to_owned(), String::new())),
                (Some(_), true) => {}
                (None, true) => {
                    if let Some((_, text)) = blocks.last_mut() {
                        *text += line;
                        *text += "\n";
                    }
                    continue;
                }
                (None, false) => continue,
            }
            open = !open;
        }
        blocks
    }

    /// The blocks in a language, in order.
    pub fn blocks_of(&self, language: &str) -> Vec<String> {
        let blocks = self.blocks().into_iter();
        blocks
            .filter_map(|(found, text)| (found == language).then_some(text))
            .collect()
    }

    /// Its lines, each with its level as a heading: 0 for text and for lines in a block.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut open = false;
        self.text.lines().map(move |line| {
            open ^= line.trim_start().starts_with("```");
            let level = line.chars().take_while(|&c| c == '#').count();
            (if open { 0 } else { level }, line)
        })
    }

    /// The text below a heading, up to the next heading of the same or a higher level.
    ///
    /// # Panics
    ///
    /// If the page does not have the heading.
    #[track_caller]
    pub fn section(&self, heading: &str) -> String {
        let mut lines = self.lines().skip_while(|&(_, line)| line != heading);
        let Some((own, _)) = lines.next() else {
            panic!("{} has no `{heading}`", self.path)
        };
        lines
            .take_while(|(level, _)| !(1..=own).contains(level))
            .flat_map(|(_, line)| [line, "\n"])
            .collect()
    }

    /// Its headings, without their marks.
    pub fn headings(&self) -> impl Iterator<Item = &str> {
        let headings = self.lines().filter(|&(level, _)| level > 0);
        headings.map(|(level, line)| line[level..].trim())
    }

    /// The anchors of its headings: the part of a link after `#`.
    pub fn anchors(&self) -> Vec<String> {
        self.headings().map(anchor_of).collect()
    }

    /// The targets of its links and pictures.
    pub fn links(&self) -> Vec<&str> {
        let targets = self.text.split("](").skip(1);
        targets.filter_map(|rest| rest.split(')').next()).collect()
    }

    /// The folder that its relative links start from.
    pub fn folder(&self) -> &Path {
        Path::new(&self.path).parent().unwrap_or(Path::new(""))
    }
}

/// Adds the pages in a folder, given by its path from the root, and in those below it.
fn collect(folder: &str, paths: &mut Vec<String>) {
    let entries = fs::read_dir(root().join(folder));
    let entries = entries.unwrap_or_else(|error| panic!("{folder}: {error}"));
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = match folder {
            "" => name.clone(),
            _ => format!("{folder}/{name}"),
        };
        // Links are not followed.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let skipped = SKIPPED.contains(&name.as_str()) || SKIPPED.contains(&path.as_str());
        if kind.is_dir() && !name.starts_with('.') && !skipped {
            collect(&path, paths);
        } else if kind.is_file() && name.ends_with(".md") {
            paths.push(path);
        }
    }
}

/// The anchor of a heading.
fn anchor_of(title: &str) -> String {
    let kept = title
        .chars()
        .filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
