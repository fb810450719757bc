//! Checks of sources: each must refer to one kind of source. Files that belong to the weights are looked up
//! in the same folder.

use std::path::PathBuf;

use super::fields::Fields;
use super::schema::{RawSource, refuse};
use super::sources::WeightSource;
use crate::disk::digest::Sha256Digest;
use crate::messages::{listed, quoted};
use crate::settings_file::Problem;
use crate::settings_file::table::At;

/// One file, or several alternatives. The first one that exists is used.
type Names = At<Vec<String>>;

/// A file that is looked up in the folder of the weights.
pub(super) struct RelatedFile<'f> {
    pub(super) table: &'f str,
    pub(super) key: &'f str,
    pub(super) name: &'f str,
    pub(super) line: usize,
}

impl Fields<'_> {
    /// Resolves the file with the model's sizes: the one in the registry, or `config.json` in the folder of
    /// local weights. A GGUF file contains its sizes itself. The outer `None` means that a problem was
    /// reported.
    pub(super) fn config(
        &mut self,
        table: &str,
        raw: Option<RawSource>,
        weights: Option<&WeightSource>,
    ) -> Option<Option<WeightSource>> {
        if let Some(raw) = raw {
            return self.source(table, "config", raw).map(Some);
        }
        let Some(WeightSource::Local { path, .. }) = weights.filter(|weights| !weights.is_gguf())
        else {
            return Some(None);
        };
        let path = path.with_file_name("config.json");
        Some(
            path.is_file()
                .then_some(WeightSource::Local { path, sha256: None }),
        )
    }

    /// Finds a file in the folder of the weights.
    pub(super) fn beside(
        &mut self,
        wanted: RelatedFile<'_>,
        weights: &WeightSource,
    ) -> Option<WeightSource> {
        let RelatedFile {
            table,
            key,
            name,
            line,
        } = wanted;
        match weights {
            WeightSource::Local { path, .. } => {
                let path = path.with_file_name(name);
                if path.is_file() {
                    return Some(weights.beside(name));
                }
                self.problems.push(
                    Problem::new(
                        line,
                        format!("there is no `{name}` in the folder of the weights of {table}"),
                    )
                    .expected(format!(
                        "`{key} = \"…\"` in {table}, or a file {}",
                        path.display()
                    ))
                    .found("neither")
                    .hint(format!("put the file there, or give its path as `{key}`")),
                );
                None
            }
            WeightSource::Hub { .. } => Some(weights.beside(name)),
            WeightSource::Checkpoint => {
                self.problems.push(
                    Problem::new(line, format!("`{key}` is missing in {table}"))
                        .expected(format!(
                            "the file of the {key}, because the mixer's checkpoint does not contain one"
                        ))
                        .found(format!("no `{key}`"))
                        .hint(format!(
                            "add `{key} = {{ repo = \"…\", file = \"{name}\" }}`"
                        )),
                );
                None
            }
        }
    }

    /// Resolves a required source. If it is missing, this was reported when the table was read.
    pub(super) fn required_source(
        &mut self,
        table: &str,
        key: &str,
        raw: Option<RawSource>,
    ) -> Option<WeightSource> {
        self.source(table, key, raw?)
    }

    /// Resolves a source. Exactly one kind must be given.
    pub(super) fn source(
        &mut self,
        table: &str,
        key: &str,
        raw: RawSource,
    ) -> Option<WeightSource> {
        let name = format!("`{key}` of {table}");
        let line = raw.line;
        let sha256 = self.digest(&name, raw.sha256);
        if raw.damaged {
            return None;
        }
        let kinds = [
            raw.path.is_some(),
            raw.repo.is_some(),
            raw.checkpoint.is_some(),
        ];
        let hub_only = raw.file.is_some() || raw.revision.is_some();
        if kinds.iter().filter(|stated| **stated).count() != 1 || (hub_only && raw.repo.is_none()) {
            let stated: Vec<&str> = [
                ("path", kinds[0]),
                ("repo", kinds[1]),
                ("file", raw.file.is_some()),
                ("revision", raw.revision.is_some()),
                ("checkpoint", kinds[2]),
            ]
            .into_iter()
            .filter_map(|(key, stated)| stated.then_some(key))
            .collect();
            let found = if stated.is_empty() {
                "none of them".into()
            } else {
                stated.join(", ")
            };
            self.problems.push(
                refuse(table, key, line, "does not say where the file is")
                    .expected(
                        "one of `{ path = \"…\" }`, `{ repo = \"…\", file = \"…\" }` and \
                         `{ checkpoint = true }`",
                    )
                    .found(found)
                    .hint("give exactly one of the three"),
            );
            return None;
        }
        if let Some(paths) = raw.path {
            self.one_digest(table, key, &paths, sha256.as_ref()?);
            let path = self.first_file(table, key, &paths)?;
            return Some(WeightSource::Local {
                path,
                sha256: sha256?,
            });
        }
        if let Some(checkpoint) = raw.checkpoint {
            return self.checkpoint(table, key, &checkpoint, sha256?);
        }
        self.hub(
            table,
            key,
            line,
            (raw.repo?, raw.file, raw.revision),
            sha256?,
        )
    }

    fn checkpoint(
        &mut self,
        table: &str,
        key: &str,
        checkpoint: &At<bool>,
        sha256: Option<Sha256Digest>,
    ) -> Option<WeightSource> {
        let (found, hint) = match (checkpoint.value, sha256) {
            (true, None) => return Some(WeightSource::Checkpoint),
            (true, Some(_)) => (
                "also a `sha256`",
                "move `sha256` to the `weights` of [mixer]",
            ),
            (false, _) => ("`checkpoint = false`", "write a path or a hub file instead"),
        };
        self.problems.push(
            refuse(
                table,
                key,
                checkpoint.line,
                "does not say where the file is",
            )
            .expected("only `{ checkpoint = true }`, or a path, or a hub file")
            .found(found)
            .hint(hint),
        );
        None
    }

    fn hub(
        &mut self,
        table: &str,
        key: &str,
        line: usize,
        (repo, files, revision): (At<String>, Option<Names>, Option<At<String>>),
        sha256: Option<Sha256Digest>,
    ) -> Option<WeightSource> {
        let before = self.problems.len();
        let mut check = |what: &str, line: usize, value: &str, good: bool, expected: &str| {
            if !good {
                self.problems.push(
                    refuse(table, key, line, &format!("has an invalid `{what}`"))
                        .expected(expected)
                        .found(quoted(value))
                        .hint(format!(
                            "copy `{what}` from the repository's page on the hub"
                        )),
                );
            }
        };
        let parts = repo.value.split('/').count();
        check(
            "repo",
            repo.line,
            &repo.value,
            parts <= 2 && is_hub_path(&repo.value),
            "`owner/name`",
        );
        for file in files.iter().flat_map(|files| &files.value) {
            let expected = "a path in the repository, such as `model.safetensors`, with names of up to \
                            255 characters";
            let line = files.as_ref().map_or(line, |files| files.line);
            check("file", line, file, is_hub_path(file), expected);
        }
        if let Some(At { value, line }) = &revision {
            let expected = "a branch, a tag or a commit";
            check("revision", *line, value, is_hub_path(value), expected);
        }
        let Some(files) = files else {
            self.problems.push(
                refuse(
                    table,
                    key,
                    line,
                    "does not say which file of the repository",
                )
                .expected("`{ repo = \"…\", file = \"…\" }`")
                .found("no `file`")
                .hint("add `file`, such as `file = \"model.safetensors\"`"),
            );
            return None;
        };
        self.one_digest(table, key, &files, &sha256);
        self.same_folder(table, key, &files);
        let mut names = files.value.into_iter();
        let file = names.next()?;
        (self.problems.len() == before).then(|| WeightSource::Hub {
            repo: repo.value,
            file,
            alternatives: names.collect(),
            revision: revision.map(|at| at.value),
            sha256,
        })
    }
}

impl Fields<'_> {
    /// Returns the first file that exists. If there is none, a problem with the first one is reported.
    fn first_file(&mut self, table: &str, key: &str, paths: &At<Vec<String>>) -> Option<PathBuf> {
        let here = |path: &&String| self.folder.join(path).is_file();
        let first = paths.value.iter().find(here).or(paths.value.first())?;
        let at = At {
            value: first.clone(),
            line: paths.line,
        };
        self.file(table, key, &at)
    }

    /// Refuses a digest for several files.
    fn one_digest(
        &mut self,
        table: &str,
        key: &str,
        files: &At<Vec<String>>,
        sha256: &Option<Sha256Digest>,
    ) {
        if sha256.is_some() && files.value.len() > 1 {
            self.problems.push(
                refuse(table, key, files.line, "has one digest for several files")
                    .expected("`sha256` with a single file")
                    .found(listed(&files.value))
                    .hint("give one file, or remove `sha256`"),
            );
        }
    }

    /// Refuses alternatives in different folders, because related files are looked up in the same folder. Also
    /// refuses a mix of GGUF and other files, because only GGUF files contain sizes and a tokenizer.
    fn same_folder(&mut self, table: &str, key: &str, files: &At<Vec<String>>) {
        let folder = |name: &str| name.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let gguf = |name: &str| name.to_ascii_lowercase().ends_with(".gguf");
        let kinds = files.value.iter().map(|name| (folder(name), gguf(name)));
        let mut kinds: Vec<_> = kinds.collect();
        kinds.dedup();
        if kinds.len() > 1 {
            self.problems.push(
                refuse(
                    table,
                    key,
                    files.line,
                    "lists files that cannot replace each other",
                )
                .expected("files in one folder, and either all or none of them GGUF files")
                .found(listed(&files.value))
                .hint("list files with the same weights"),
            );
        }
    }
}

/// Returns whether a text can be a path on the hub. It is joined to the cache folder and must stay inside it.
fn is_hub_path(text: &str) -> bool {
    /// The maximum length of a file name in bytes on all systems.
    const MAX_NAME: usize = 255;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+=@ ".contains(c);
    text.split('/').all(|part| {
        (1..=MAX_NAME).contains(&part.len())
            && part.chars().all(plain)
            && part != "."
            && part != ".."
    })
}
