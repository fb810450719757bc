//! The map of the code, `docs/map.txt`, and what it says of a crate.

use crate::modules::{Crate, Import, ModulePath};
use std::{collections::BTreeMap, path::Path};

/// The order of the modules of one crate.
pub struct Floors {
    /// The file of the crate's root, relative to the repository.
    pub root: String,
    /// The names of each folder's files, lowest first. The root's folder has an empty path.
    folders: BTreeMap<ModulePath, Vec<String>>,
}

/// Reads the map: a line that is not indented is a crate; the indented ones are its modules, with the
/// files of a folder behind its name.
pub fn read(text: &str) -> Vec<Floors> {
    let mut crates = Vec::<Floors>::new();
    for line in text.lines() {
        let content = line.split('#').next().unwrap_or_default().trim_end();
        if content.is_empty() {
            continue;
        }
        if !content.starts_with(' ') {
            crates.push(Floors {
                root: content.to_owned(),
                folders: BTreeMap::from([(Vec::new(), Vec::new())]),
            });
            continue;
        }
        let folders = &mut crates.last_mut().expect("a crate comes first").folders;
        let (path, files) = content.split_once(':').unwrap_or((content, ""));
        let path: ModulePath = path.trim().split('/').map(str::to_owned).collect();
        if let [name] = path.as_slice() {
            let top = folders.get_mut(&Vec::new()).expect("the root is there");
            top.push(name.clone());
        }
        let files: Vec<String> = files.split_whitespace().map(str::to_owned).collect();
        if !files.is_empty() {
            folders.insert(path, files);
        }
    }
    crates
}

impl Floors {
    /// Returns the modules of the crate's root, lowest first.
    pub fn top(&self) -> &[String] {
        &self.folders[&Vec::new()]
    }

    /// Returns everything that the crate does other than the map says, a message each.
    pub fn broken(&self, found: &Crate, repository: &Path) -> Vec<String> {
        let mut broken = self.differences(found);
        let file = |path: &ModulePath| {
            let file = &found.modules[path].file;
            file.strip_prefix(repository)
                .unwrap_or(file)
                .display()
                .to_string()
        };
        for import in found.imports() {
            if let Some(why) = self.above(&import) {
                broken.push(format!(
                    "{} uses {} ({}), {why}\n  do: move what both need to a module before them, or correct docs/map.txt",
                    file(&import.from),
                    file(&import.to),
                    import.names.iter().cloned().collect::<Vec<_>>().join(", "),
                ));
            }
        }
        broken
    }

    /// Returns why an import is not allowed, if it is not.
    fn above(&self, import: &Import) -> Option<String> {
        let Import { from, to, .. } = import;
        let same = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        match (from.get(same), to.get(same)) {
            // A folder's `mod.rs`, or the crate's root, puts its files together.
            (None, _) => None,
            (Some(_), None) => Some("the `mod.rs` or root of its own folder".to_owned()),
            (Some(user), Some(used)) => {
                let order = self.folders.get(&from[..same])?;
                let floor = |name: &String| order.iter().position(|other| other == name);
                (floor(used)? > floor(user)?)
                    .then(|| format!("but docs/map.txt lists `{used}` after `{user}`"))
            }
        }
    }

    /// Returns the modules that only the map has, or only the crate.
    fn differences(&self, found: &Crate) -> Vec<String> {
        let mut broken = Vec::new();
        let listed = |path: &[String]| match path.split_last() {
            Some((name, folder)) => {
                let files = self.folders.get(folder);
                files.is_some_and(|files| files.contains(name))
            }
            None => true,
        };
        for path in found.modules.keys().filter(|path| !listed(path)) {
            broken.push(format!(
                "{}: docs/map.txt lacks the module {}",
                self.root,
                path.join("/")
            ));
        }
        for (folder, files) in &self.folders {
            for name in files {
                let path = [folder.as_slice(), std::slice::from_ref(name)].concat();
                if !found.modules.contains_key(&path) {
                    let path = path.join("/");
                    broken.push(format!(
                        "{}: docs/map.txt has {path}, which is not a module",
                        self.root
                    ));
                }
            }
        }
        broken
    }
}
