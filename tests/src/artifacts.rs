//! The files that cargo built in the profile of the running test. Their paths come from cargo's own messages.

use merv_host::plugin::Library;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    env::{consts, current_exe, var_os, vars_os},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
};

/// The binary and the plugins of the build under test.
#[derive(Debug)]
pub struct Artifacts {
    /// `merv-host`.
    pub host: PathBuf,
    /// The path of every cdylib of the workspace, by the name of its library target, such as `merv_siglip`.
    libraries: HashMap<String, PathBuf>,
    /// The compiled files of packages from registries.
    dependencies: HashSet<String>,
}

impl Artifacts {
    /// The path of the cdylib of a library target, such as `merv_siglip` or `test_plugin_faulty`.
    pub fn library(&self, target: &str) -> &Path {
        self.libraries
            .get(target)
            .unwrap_or_else(|| panic!("the workspace does not build a cdylib `{target}`"))
    }
}

/// The file name of the library `target` on this platform, such as `libmerv_siglip.so`.
pub fn library_file(target: &str) -> String {
    format!("{}{target}{}", consts::DLL_PREFIX, consts::DLL_SUFFIX)
}

/// The artifacts, built if necessary with `cargo build --workspace`. `make test` runs the same command before the
/// tests, with the same features, so nothing is compiled twice.
pub fn artifacts() -> &'static Artifacts {
    static ARTIFACTS: OnceLock<Artifacts> = OnceLock::new();
    ARTIFACTS.get_or_init(build)
}

/// The profile and the target folder of the running test, which is at `<target>/<profile>/deps/<test>`, or of the
/// running benchmark, which is at `<target>/<profile>/<benchmark>`.
fn build_of_this_test() -> (String, PathBuf) {
    let exe = current_exe().expect("the path of the running test is known");
    let folder = exe.parent().expect("a file has a folder");
    let folder = match folder.ends_with("deps") {
        true => folder.parent().expect("`deps` is in <target>/<profile>"),
        false => folder,
    };
    let profile = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    // `dev` is the only profile whose folder has a different name.
    let profile = if profile == "debug" { "dev" } else { profile };
    (
        profile.to_owned(),
        folder.parent().expect("as above").to_owned(),
    )
}

/// The library of `plugins/torch`, which is tested instead of the plugins that compute with candle. `scripts/test-torch` sets
/// it.
const TORCH: &str = "MERV_TORCH_PLUGIN";

/// The library of `plugins/torch`, if its models are tested instead of those that compute with candle.
pub fn torch_plugin() -> Option<PathBuf> {
    var_os(TORCH).map(PathBuf::from)
}

/// Opens the plugin that provides the models of `merv_<plugin>`, as the host does. Hiera is a separate project, which is built
/// on demand.
///
/// # Panics
///
/// If it cannot be built or opened.
pub fn model_library(plugin: &str) -> Arc<Library> {
    let target = format!("merv_{plugin}");
    let file = match torch_plugin() {
        Some(file) => file,
        None if plugin == "hiera" => separate_project("plugins/hiera").to_owned(),
        None => artifacts().library(&target).to_owned(),
    };
    Library::open(&file, 2).unwrap_or_else(|error| panic!("{target}: {error}"))
}

/// The cdylib of a project outside the workspace, built as its documentation says: in the workspace's target
/// folder, where its dependencies are compiled already.
///
/// # Panics
///
/// If a dependency is not one of the workspace's files: candle would be compiled a second time, which takes minutes.
fn separate_project(folder: &'static str) -> &'static Path {
    static LIBRARIES: Mutex<BTreeMap<&str, &Path>> = Mutex::new(BTreeMap::new());
    let mut libraries = LIBRARIES.lock().expect("no build has panicked");
    libraries.entry(folder).or_insert_with(|| {
        let manifest = format!("{folder}/Cargo.toml");
        let shared = &artifacts().dependencies;
        let built = cargo_build(&["--locked", "--manifest-path", &manifest]);
        let own: Vec<_> = built.dependencies.difference(shared).collect();
        assert!(
            own.is_empty(),
            "{manifest}: the features or versions of dependencies differ from those in the workspace: {own:#?}"
        );
        let library = built.libraries.into_values().next();
        Box::leak(library.expect("the project has a cdylib").into_boxed_path())
    })
}

/// A folder with `merv-host` and all cdylibs, to be tested instead of what cargo builds. `scripts/check-abi` sets it.
const BUILD: &str = "MERV_TEST_BUILD";

fn build() -> Artifacts {
    if let Some(folder) = var_os(BUILD) {
        return found_in(Path::new(&folder));
    }
    let Built {
        host,
        libraries,
        dependencies,
    } = cargo_build(&["--workspace"]);
    Artifacts {
        host: host.expect("the workspace builds merv-host"),
        libraries,
        dependencies,
    }
}

/// The files in a folder.
fn found_in(folder: &Path) -> Artifacts {
    let entries = folder
        .read_dir()
        .unwrap_or_else(|error| panic!("{BUILD}={}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    let libraries = paths.filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        let target = name
            .strip_prefix(consts::DLL_PREFIX)?
            .strip_suffix(consts::DLL_SUFFIX)?;
        Some((target.to_owned(), path.clone()))
    });
    Artifacts {
        libraries: libraries.collect(),
        host: folder.join("merv-host"),
        dependencies: HashSet::new(),
    }
}

/// The files of a build that tests use.
struct Built {
    host: Option<PathBuf>,
    libraries: HashMap<String, PathBuf>,
    dependencies: HashSet<String>,
}

/// Builds with the profile and in the target folder of the running test.
fn cargo_build(arguments: &[&str]) -> Built {
    let (profile, target) = build_of_this_test();
    let mut command = Command::new(var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // cargo sets these variables for the running test. Build scripts that read them, such as ring's, would run again,
    // and everything that depends on them would be recompiled, both here and by the next build.
    for (name, _) in vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let output = command
        .current_dir(super::root())
        .args([
            "build",
            "--message-format=json-render-diagnostics",
            "--profile",
            &profile,
        ])
        .args(arguments)
        .arg("--target-dir")
        .arg(target)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo could not build {arguments:?}"
    );
    let mut libraries = HashMap::new();
    let mut host = None;
    let mut dependencies = HashSet::new();
    let messages = output.stdout.split(|&byte| byte == b'\n');
    for message in messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if let Some(file) = message["executable"]
            .as_str()
            .filter(|_| name == "merv-host")
        {
            host = Some(PathBuf::from(file));
        }
        let files = message["filenames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let package = message["package_id"].as_str().unwrap_or_default();
        if package.starts_with("registry+") {
            dependencies.extend(files.clone().map(str::to_owned));
        }
        if message["target"]["kind"]
            .as_array()
            .is_some_and(|k| k.contains(&"cdylib".into()))
            && let Some(file) = files
                .into_iter()
                .find(|file| file.ends_with(consts::DLL_SUFFIX))
        {
            libraries.insert(name.to_owned(), PathBuf::from(file));
        }
    }
    Built {
        host,
        libraries,
        dependencies,
    }
}
