//! The modules of a crate and what each of them uses, read from its source files.

use proc_macro2::{TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use syn::{UseTree, visit::Visit};

/// A module's path below the crate's root: `["video", "decode"]`; empty for the root.
pub type ModulePath = Vec<String>;

/// A module that has a file of its own.
pub struct Module {
    pub file: PathBuf,
    /// Every path of its code that may lead to another module of the crate, in the root's terms or relative to the
    /// module.
    imports: BTreeSet<Vec<String>>,
    /// What it hands on under a name: `pub use decode::Frame` gives `Frame → [decode, Frame]`.
    names: BTreeMap<String, Vec<String>>,
    /// The macros that it exports, which Rust puts into the root.
    macros: Vec<String>,
}

/// The modules of one crate, without those that only tests compile.
pub struct Crate {
    /// The modules of the root, in the order in which it lists them.
    pub children: Vec<String>,
    pub modules: BTreeMap<ModulePath, Module>,
}

/// One module uses another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: ModulePath,
    pub to: ModulePath,
    pub names: BTreeSet<String>,
}

impl Crate {
    /// Reads the crate whose root module is the file `root`.
    pub fn read(root: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let folder = root.parent().expect("a file is in a folder");
        let children = read_module(root, folder, &Vec::new(), &mut modules);
        export_macros(&mut modules);
        Self { children, modules }
    }

    /// Returns which module uses which other one. A name that a module re-exports leads to the module that defines
    /// it.
    pub fn imports(&self) -> BTreeSet<Import> {
        let mut found = BTreeMap::<(ModulePath, ModulePath), BTreeSet<String>>::new();
        for (from, module) in &self.modules {
            for path in &module.imports {
                let Some(to) = self.resolve(from, path, 0) else {
                    continue;
                };
                if to != *from {
                    found
                        .entry((from.clone(), to))
                        .or_default()
                        .insert(path.last().unwrap().clone());
                }
            }
        }
        found
            .into_iter()
            .map(|((from, to), names)| Import { from, to, names })
            .collect()
    }

    /// Returns the module that defines what `path` means in `module`.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<ModulePath> {
        assert!(depth < 64, "{path:?} in {module:?} leads back to itself");
        let (mut at, mut rest): (Vec<String>, &[String]) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.to_vec(), &path[1..]),
            "super" => (module.split_last()?.1.to_vec(), &path[1..]),
            first => {
                let child = [module, &[first.to_string()]].concat();
                if !self.modules.contains_key(&child) {
                    return None;
                }
                (module.to_vec(), path)
            }
        };
        while rest.first().is_some_and(|s| s == "super") {
            at.pop()?;
            rest = &rest[1..];
        }
        while let Some((name, after)) = rest.split_first() {
            let child = [at.as_slice(), std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&child) {
                (at, rest) = (child, after);
                continue;
            }
            // What another crate defines is not this crate's.
            return match self.modules[&at].names.get(name) {
                Some(target) => {
                    let whole = [target.as_slice(), after].concat();
                    self.resolve(&at, &whole, depth + 1)
                }
                None => Some(at),
            };
        }
        Some(at)
    }
}

/// Makes the root hand on the macros that modules export, as Rust does.
fn export_macros(modules: &mut BTreeMap<ModulePath, Module>) {
    let exported: Vec<(String, Vec<String>)> = modules
        .iter()
        .flat_map(|(path, module)| {
            module.macros.iter().map(move |name| {
                let whole = ["crate"]
                    .into_iter()
                    .chain(path.iter().map(String::as_str))
                    .chain([name.as_str()]);
                (name.clone(), whole.map(str::to_owned).collect())
            })
        })
        .collect();
    let root = modules.get_mut(&Vec::new()).expect("the root was read");
    root.names.extend(exported);
}

fn read_module(
    file: &Path,
    children: &Path,
    path: &ModulePath,
    modules: &mut BTreeMap<ModulePath, Module>,
) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut reader = Reader::default();
    reader.visit_file(&parsed);
    for child in &reader.children {
        let (flat, nested) = (
            children.join(format!("{child}.rs")),
            children.join(child).join("mod.rs"),
        );
        let file = if flat.is_file() { flat } else { nested };
        let path = [path.as_slice(), std::slice::from_ref(child)].concat();
        read_module(&file, &children.join(child), &path, modules);
    }
    let module = Module {
        file: file.to_path_buf(),
        imports: reader.imports,
        names: reader.names,
        macros: reader.macros,
    };
    modules.insert(path.clone(), module);
    reader.children
}

#[derive(Default)]
struct Reader {
    children: Vec<String>,
    imports: BTreeSet<Vec<String>>,
    names: BTreeMap<String, Vec<String>>,
    macros: Vec<String>,
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let is_exported = item.attrs.iter().any(|a| a.path().is_ident("macro_export"));
        if let (true, Some(name)) = (is_exported, &item.ident) {
            self.macros.push(name.to_string());
        }
        syn::visit::visit_item_macro(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        match &item.content {
            // `super` and `self` of a module without a file of its own mean something else.
            Some(_) => {
                let mut inner = Reader::default();
                syn::visit::visit_item_mod(&mut inner, item);
                let here = |path: Vec<String>| match path[0].as_str() {
                    "super" => {
                        let mut path = path;
                        path[0] = "self".into();
                        Some(path)
                    }
                    "crate" => Some(path),
                    _ => None,
                };
                self.imports
                    .extend(inner.imports.into_iter().filter_map(here));
            }
            None => self.children.push(item.ident.to_string()),
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_for_tests(&item.attrs) {
            return;
        }
        let mut leaves = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut leaves);
        for (name, path) in leaves {
            self.imports.insert(path.clone());
            self.names.insert(name, path);
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path
            .segments
            .iter()
            .map(|s| s.ident.to_string())
            .collect::<Vec<_>>();
        if segments.len() > 1 {
            self.imports.insert(segments);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        paths_of_tokens(item.tokens.clone(), &mut self.imports);
        syn::visit::visit_macro(self, item);
    }
}

/// Returns whether the attributes say that only tests compile the item.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<TokenStream>()
                    .is_ok_and(requires_test))
    })
}

/// Returns whether a condition of `cfg` is `test`, or `all` of several and `test` one of them.
fn requires_test(condition: TokenStream) -> bool {
    let text = condition.to_string().replace(' ', "");
    let parts = text
        .strip_prefix("all(")
        .and_then(|text| text.strip_suffix(')'));
    parts.unwrap_or(&text).split(',').any(|part| part == "test")
}

/// Collects what a `use` brings in: the name here, and its path.
fn flatten(tree: &UseTree, prefix: &mut Vec<String>, leaves: &mut Vec<(String, Vec<String>)>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, leaves);
            prefix.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|t| flatten(t, prefix, leaves)),
        UseTree::Name(name) if name.ident == "self" => {
            let last = prefix.last().cloned().unwrap_or_default();
            leaves.push((last, prefix.clone()));
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            leaves.push((name.clone(), [prefix.as_slice(), &[name]].concat()));
        }
        UseTree::Rename(rename) => {
            let path = match rename.ident == "self" {
                true => prefix.clone(),
                false => [prefix.as_slice(), &[rename.ident.to_string()]].concat(),
            };
            leaves.push((rename.rename.to_string(), path));
        }
        UseTree::Glob(_) => leaves.push(("*".into(), prefix.clone())),
    }
}

/// Collects the paths that begin with `crate`, `self` or `super` within a macro's tokens.
fn paths_of_tokens(tokens: TokenStream, paths: &mut BTreeSet<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if colons != 2 && path.len() > 1 {
                    paths.insert(std::mem::take(&mut path));
                }
                if colons != 2 {
                    path.clear();
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            other => {
                if path.len() > 1 {
                    paths.insert(std::mem::take(&mut path));
                }
                path.clear();
                colons = 0;
                if let TokenTree::Group(group) = other {
                    paths_of_tokens(group.stream(), paths);
                }
            }
        }
    }
    if path.len() > 1 {
        paths.insert(path);
    }
}
