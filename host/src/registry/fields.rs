//! Checks of single values: names must parse and files must exist.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::entries::PluginRef;
use super::schema::{RawPlugin, refuse};
use crate::disk::digest::Sha256Digest;
use crate::messages::quoted;
use crate::settings_file::Problem;
use crate::settings_file::table::At;

/// The folder for relative paths, and the problems so far.
pub(super) struct Fields<'f> {
    /// The folder of the registry file.
    pub(super) folder: &'f Path,
    pub(super) problems: Vec<Problem>,
}

impl Fields<'_> {
    /// Parses a name, and reports the error of its type if it is not valid.
    pub(super) fn parse<T>(&mut self, table: &str, key: &str, at: &At<String>) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        at.value
            .parse()
            .map_err(|error: T::Err| {
                self.problems.push(
                    refuse(table, key, at.line, "is not valid")
                        .expected(error.to_string())
                        .found(quoted(&at.value))
                        .hint(format!("correct `{key}`")),
                );
            })
            .ok()
    }

    /// Parses a name, or returns the default if it is absent. `None` means that a problem was reported.
    pub(super) fn parse_or_default<T>(
        &mut self,
        table: &str,
        key: &str,
        at: Option<At<String>>,
    ) -> Option<T>
    where
        T: FromStr<Err: fmt::Display> + Default,
    {
        at.map_or_else(|| Some(T::default()), |at| self.parse(table, key, &at))
    }

    /// Reports a kind that is known but cannot run. `verdict` contains the reason.
    pub(super) fn runnable(
        &mut self,
        table: &str,
        key: &str,
        at: &At<String>,
        verdict: Result<(), String>,
    ) -> bool {
        let Err(why) = verdict else { return true };
        self.problems.push(
            refuse(table, key, at.line, "is not supported")
                .expected("a kind that this version supports")
                .found(quoted(&at.value))
                .hint(why),
        );
        false
    }

    pub(super) fn plugin(&mut self, table: &str, raw: RawPlugin) -> Option<PluginRef> {
        match raw {
            RawPlugin::Name(name) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                if name.value.chars().all(plain) {
                    return Some(PluginRef::Name(name.value));
                }
                self.problems.push(
                    refuse(table, "plugin", name.line, "is not a valid plugin name")
                        .expected("a name such as `siglip`, of letters, digits, `_` and `-`")
                        .found(quoted(&name.value))
                        .hint("for the path of a library, write `plugin = { path = \"…\" }`"),
                );
                None
            }
            RawPlugin::Library { path, sha256 } => {
                let name = format!("`plugin` of {table}");
                let sha256 = self.digest(&name, sha256);
                let path = path.and_then(|at| self.file(table, "plugin", &at))?;
                Some(PluginRef::Library {
                    path,
                    sha256: sha256?,
                })
            }
        }
    }

    /// Parses a digest. The outer `None` means that a problem was reported, the inner one that there is no
    /// digest.
    pub(super) fn digest(
        &mut self,
        name: &str,
        at: Option<At<String>>,
    ) -> Option<Option<Sha256Digest>> {
        let Some(at) = at else { return Some(None) };
        match at.value.parse() {
            Ok(digest) => Some(Some(digest)),
            Err(why) => {
                self.problems.push(
                    Problem::new(at.line, format!("`sha256` in {name} {why}"))
                        .expected("64 hexadecimal digits, as `sha256sum FILE` prints")
                        .found(quoted(&at.value))
                        .hint("copy the digest again, or remove `sha256`"),
                );
                None
            }
        }
    }

    /// Returns the path of a file that must exist.
    pub(super) fn file(&mut self, table: &str, key: &str, at: &At<String>) -> Option<PathBuf> {
        let path = self.folder.join(&at.value);
        let (why, found, hint) = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => return Some(path),
            Ok(metadata) if metadata.is_dir() => (
                "is a folder",
                "a folder at",
                "give the path of the file in it",
            ),
            Ok(_) => (
                "is not a regular file",
                "a device, pipe or socket at",
                "give the path of a file",
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (
                "is a file that does not exist",
                "nothing at",
                "correct the path",
            ),
            Err(error) => {
                self.problems.push(
                    refuse(table, key, at.line, "is a path that cannot be accessed")
                        .expected("the path of a file, relative to the folder of the registry file")
                        .found(format!("{}: {error}", path.display()))
                        .hint("correct the path, or the permissions of its folders"),
                );
                return None;
            }
        };
        self.problems.push(
            refuse(
                table,
                key,
                at.line,
                &format!("{why}: {}", quoted(&at.value)),
            )
            .expected("the path of a file, relative to the folder of the registry file")
            .found(format!("{found} {}", path.display()))
            .hint(hint),
        );
        None
    }
}
