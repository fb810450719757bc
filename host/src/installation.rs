//! Finds the folders with plugins and registries: around a program, and in an installation of `make install`.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// The environment variable with the folder that merv-host is installed in: the `PREFIX` of `make install`.
pub(crate) const PREFIX_VARIABLE: &str = "MERV_PREFIX";

/// The file name of the program in `PATH`.
const PROGRAM: &str = "merv-host";

/// The folders to search, in order. Some of them may not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Folders with plugins.
    pub plugins: Vec<PathBuf>,
    /// Folders with registries.
    pub registries: Vec<PathBuf>,
}

impl Places {
    /// Returns the folders of `$MERV_PREFIX`, then those around the running program. If that program is not
    /// merv-host, the folders around the merv-host in `PATH` follow.
    pub(crate) fn from_env() -> Self {
        let program = env::current_exe().ok();
        Self::of(
            env::var_os(PREFIX_VARIABLE).as_deref(),
            program.as_deref(),
            env::var_os("PATH").as_deref(),
        )
    }

    fn of(prefix: Option<&OsStr>, program: Option<&Path>, path: Option<&OsStr>) -> Self {
        let mut places = Self::default();
        if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
            places.add_installed(Path::new(prefix));
        }
        if let Some(program) = program {
            places.add_around(program);
        }
        let is_merv_host = program.is_some_and(|program| program.ends_with(PROGRAM));
        if !is_merv_host && let Some(found) = path.and_then(in_path) {
            places.add_around(&found);
        }
        places
    }

    fn add_installed(&mut self, prefix: &Path) {
        add(&mut self.plugins, prefix.join("lib/merv"));
        add(&mut self.registries, prefix.join("share/merv/registry"));
    }

    /// Adds the folders around a program. Links to the program are resolved, because its plugins and
    /// registries are next to the real file.
    fn add_around(&mut self, program: &Path) {
        let program = program
            .canonicalize()
            .unwrap_or_else(|_| program.to_owned());
        let Some(beside) = program.parent() else {
            return;
        };
        add(&mut self.plugins, beside.to_owned());
        add(&mut self.plugins, beside.join("lib/merv"));
        add(&mut self.registries, beside.join("registry"));
        if let Some(prefix) = beside.parent() {
            self.add_installed(prefix);
        }
        // For target/release/merv-host and target/release/deps/test. A Cargo.toml distinguishes the workspace
        // from the folders above an installed program.
        for root in beside.ancestors().skip(2).take(2) {
            if root.join("Cargo.toml").is_file() {
                add(&mut self.registries, root.join("registry"));
            }
        }
    }
}

/// Returns the merv-host that a shell would run. Relative folders in `PATH` are skipped: the plugins that are
/// loaded must not depend on the working directory.
fn in_path(path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(PROGRAM))
        .find(|program| program.is_file())
}

fn add(folders: &mut Vec<PathBuf>, folder: PathBuf) {
    if !folders.contains(&folder) {
        folders.push(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_build_uses_the_plugins_next_to_it_and_the_registries_of_its_workspace() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::write(root.join("Cargo.toml"), "").unwrap();
        let release = root.join("target/release");
        let places = Places::of(None, Some(&release.join(PROGRAM)), None);
        assert_eq!(
            places.plugins,
            [
                release.clone(),
                release.join("lib/merv"),
                root.join("target/lib/merv")
            ]
        );
        assert_eq!(
            places.registries,
            [
                release.join("registry"),
                root.join("target/share/merv/registry"),
                root.join("registry")
            ]
        );
        let test = Places::of(None, Some(&release.join("deps/test-1")), None);
        assert!(test.registries.contains(&root.join("registry")));
        let installed = Places::of(None, Some(Path::new("/opt/merv/bin/merv-host")), None);
        assert!(!installed.registries.contains(&"/opt/registry".into()));
    }

    #[test]
    fn an_installation_is_found_by_link_prefix_and_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (prefix, links) = (root.join("opt"), root.join("links"));
        for folder in [prefix.join("bin"), links.clone()] {
            fs::create_dir_all(folder).unwrap();
        }
        let program = prefix.join("bin").join(PROGRAM);
        fs::write(&program, "").unwrap();
        symlink(&program, links.join(PROGRAM)).unwrap();
        let holds = |places: &Places| {
            places.plugins.contains(&prefix.join("lib/merv"))
                && places
                    .registries
                    .contains(&prefix.join("share/merv/registry"))
        };
        assert!(holds(&Places::of(None, Some(&program), None)));
        assert!(holds(&Places::of(None, Some(&links.join(PROGRAM)), None)));

        let other = Path::new("/home/me/bin/app");
        assert!(!holds(&Places::of(None, Some(other), None)));
        let path = env::join_paths([Path::new("/none"), &links]).unwrap();
        let found = Places::of(None, Some(other), Some(&path));
        assert!(holds(&found));
        assert_eq!(found.plugins[0], Path::new("/home/me/bin"));
        // An installed merv-host does not use the plugins of another one.
        let own = Path::new("/usr/bin/merv-host");
        assert!(!holds(&Places::of(None, Some(own), Some(&path))));
        let found = Places::of(Some(prefix.as_os_str()), Some(own), None);
        assert!(holds(&found));
        assert_eq!(found.plugins[0], prefix.join("lib/merv"));
        let empty = Places::of(Some(OsStr::new("")), Some(own), None);
        assert_eq!(empty, Places::of(None, Some(own), None));
    }

    #[test]
    fn relative_folders_of_path_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(PROGRAM);
        fs::write(&program, "").unwrap();
        let path = env::join_paths([Path::new("."), Path::new(""), folder.path()]).unwrap();
        assert_eq!(in_path(&path), Some(program));
        assert_eq!(in_path(OsStr::new(".:target/release")), None);
    }
}
