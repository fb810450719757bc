//! Registries that do not name plugins: the plugin is chosen by what it can do.

use merv_tests::{Run, Tiny, plugin_folder};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

/// A model of one encoder and a language model without plugins. `[llm]` begins on line 9 if `encoder` has one line.
fn registry(encoder: &str, llm: &str) -> String {
    format!(
        "schema = 1\nid = \"chosen\"\n\n[[encoders]]\nid = \"pretend-encoder\"\nnum_frames = 2\n{encoder}\n\n\
         [llm]\nid = \"pretend-llm\"\nweights = {{ path = \"llm/model.safetensors\" }}\nprompt = \"pure\"\n\
         max_length = 64\n{llm}\n\n[mixer]\nprojector = \"3davg+linear\"\nfusion = \"concat_channel\"\n\
         token_length = 16\nvisual_feature_length = 32\nweights = \"init\"\n"
    )
}

struct Chosen {
    tiny: Tiny,
    plugins: TempDir,
}

impl Chosen {
    /// The pretend device comes before the stray one on the plugin path.
    fn new(encoder: &str, llm: &str) -> Self {
        let tiny = Tiny::new();
        fs::write(tiny.registry(), registry(encoder, llm)).unwrap();
        let plugins = plugin_folder(&["pretend-device", "stray-device"]);
        Self { tiny, plugins }
    }

    fn run(&self, args: &[&str]) -> Run {
        let run = self.tiny.run().arg("--plugin-dir").arg(self.plugins.path());
        run.args(args)
    }

    fn info(&self, args: &[&str]) -> Value {
        let run = self
            .run(&["info", "--json"])
            .args(args)
            .finish()
            .succeeded();
        serde_json::from_str(&run.stdout).unwrap()
    }
}

/// The plugin, the reason, and the other plugins with their reasons, of the encoder.
fn choice(info: &Value) -> (&str, &str, Vec<(&str, &str)>) {
    let encoder = &info["encoders"][0];
    let choice = &encoder["plugin_choice"];
    let others = choice["not_taken"].as_array().unwrap().iter();
    let others = others.map(|other| {
        (
            other["plugin"].as_str().unwrap(),
            other["reason"].as_str().unwrap(),
        )
    });
    (
        encoder["plugin"].as_str().unwrap(),
        choice["reason"].as_str().unwrap(),
        others.collect(),
    )
}

#[test]
fn the_first_plugin_that_serves_the_device_is_taken() {
    let info = Chosen::new("", "").info(&[]);
    let (plugin, reason, others) = choice(&info);
    assert_eq!(plugin, "pretend-device");
    assert_eq!(
        reason,
        "the first of 2 plugins on the plugin path that provide it and serve cpu"
    );
    let [(other, why)] = others[..] else {
        panic!("{others:?}")
    };
    assert_eq!(other, "stray-device");
    assert!(
        why.starts_with("it comes after ") && why.contains("pretend_device"),
        "{why}"
    );
    let on_device = Chosen::new("device = \"ext:1\"", "").info(&[]);
    assert_eq!(
        choice(&on_device),
        (
            "pretend-device",
            "the only plugin that provides it and serves ext",
            vec![("stray-device", "it serves cpu, not ext")]
        )
    );
    assert_eq!(on_device["encoders"][0]["device"], "ext:1");
    assert_eq!(on_device["llm"]["device"], "cpu");
    assert_eq!(
        Chosen::new("", "").info(&["--device", "ext"])["llm"]["device"],
        "ext:0"
    );
}

#[test]
fn a_name_or_a_backend_decides() {
    let stray = Chosen::new("", "").info(&["--backend", "stray"]);
    assert_eq!(
        choice(&stray),
        (
            "stray-device",
            "the only plugin that provides it, serves cpu and computes with `stray`",
            vec![("pretend-device", "its backend is `pretend`, not `stray`")]
        )
    );
    assert_eq!(
        (&stray["llm"]["plugin"], &stray["llm"]["backend"]),
        (&"stray-device".into(), &"stray".into())
    );
    let named = Chosen::new("plugin = \"stray-device\"", "");
    assert_eq!(
        choice(&named.info(&[])),
        ("stray-device", "the registry names it", vec![])
    );
    // The option overrides a name, but not one that has the backend.
    let other = named.info(&["--backend", "pretend"]);
    assert_eq!(choice(&other).0, "pretend-device");
    let same = named.info(&["--backend", "stray"]);
    let reason = "the registry names it, and its backend is `stray`";
    assert_eq!(choice(&same), ("stray-device", reason, vec![]));
    let text = named.run(&["info"]).finish().succeeded().stdout;
    assert!(
        text.contains("plugins     `stray-device` on cpu: the registry names it"),
        "{text}"
    );
    assert!(
        text.contains("            `pretend-device` on cpu: the first of 2 plugins"),
        "{text}"
    );
}

#[test]
fn the_error_lists_every_candidate_with_the_line() {
    let words = [
        "registry.toml:5: no plugin can be chosen for `id` in [[encoders]] #1",
        "provides the encoder `pretend-encoder` on metal:0",
        "`pretend-device` (",
        "it serves cpu and ext, not metal",
        "`stray-device` (",
        "it serves cpu, not metal",
        "do: ",
    ];
    Chosen::new("device = \"metal:0\"", "")
        .run(&["info"])
        .finish()
        .failed(1, &words);
    let words = [
        "registry.toml:10: ",
        "the language model `pretend-llm` on ext:0 with the backend `stray`",
        "`stray-device` (",
        "it serves cpu, not ext",
        "its backend is `pretend`, not `stray`",
    ];
    let refused = Chosen::new("", "device = \"ext:0\"");
    let refused = refused.run(&["info", "--backend", "stray"]).finish();
    refused.failed(1, &words);
    let misspelt = Chosen::new("", "");
    misspelt.tiny.replace(
        "registry.toml",
        "\"pretend-encoder\"",
        "\"pretend-encoders\"",
    );
    let words = [
        "registry.toml:5: ",
        "no plugin on the plugin path provides it",
        "a similar id is `pretend-encoder`",
    ];
    misspelt.run(&["info"]).finish().failed(1, &words);
}

#[test]
fn a_file_of_another_backend_is_refused() {
    let chosen = Chosen::new("", "");
    let file = fs::read_dir(chosen.plugins.path()).unwrap().flatten();
    let file = file
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("stray"));
    let entry = format!("plugin = {{ path = \"{}\" }}", file.unwrap().display());
    let chosen = Chosen::new(&entry, "");
    let taken = chosen.info(&[]);
    assert_eq!(
        choice(&taken),
        ("stray-device", "the registry gives its file", vec![])
    );
    let words = [
        "registry.toml:7: `plugin` in [[encoders]] #1",
        "`pretend`, because of `--backend`",
        "`stray`",
    ];
    chosen
        .run(&["info", "--backend", "pretend"])
        .finish()
        .failed(1, &words);
}

#[test]
fn plugins_shows_which_one_would_be_taken() {
    let chosen = Chosen::new("", "");
    let taken = |args: &[&str]| {
        let run = chosen
            .run(&["plugins", "--json"])
            .args(args)
            .finish()
            .succeeded();
        let listing: Value = serde_json::from_str(&run.stdout).unwrap();
        let plugins = listing["plugins"].as_array().unwrap().clone();
        let rows = ["pretend-device", "stray-device"].map(|name| {
            let row = plugins.iter().find(|row| row["name"] == name).unwrap();
            let models = row["models"].as_array().unwrap();
            models
                .iter()
                .find(|model| model["id"] == "pretend-llm")
                .unwrap()
                .clone()
        });
        rows.map(|model| {
            (
                model["taken"].as_bool().unwrap(),
                model["reason"].to_string(),
            )
        })
    };
    let [pretend, stray] = taken(&[]);
    assert!(
        pretend.0 && pretend.1.contains("the first of 2"),
        "{pretend:?}"
    );
    assert!(!stray.0 && stray.1.contains("it comes after"), "{stray:?}");
    let [pretend, stray] = taken(&["--backend", "stray"]);
    assert!(
        !pretend.0 && pretend.1.contains("its backend is `pretend`"),
        "{pretend:?}"
    );
    assert!(stray.0, "{stray:?}");
    let [pretend, stray] = taken(&["--device", "ext:0"]);
    assert!(
        pretend.0 && !stray.0 && stray.1.contains("not ext"),
        "{stray:?}"
    );
    let text = chosen.run(&["plugins"]).finish().succeeded().stdout;
    let line = |plugin: &str| {
        let mut lines = text.lines().filter(|line| line.starts_with("pretend-llm"));
        lines.find(|line| line.contains(plugin)).unwrap().to_owned()
    };
    assert!(line("pretend-device").ends_with("yes"), "{text}");
    assert!(
        line("stray-device").contains("no: it comes after"),
        "{text}"
    );
}

#[test]
fn options_reach_the_plugin_or_are_refused() {
    let with = |options: &str| {
        Chosen::new(&format!("options = {{ {options} }}"), "")
            .run(&["info"])
            .finish()
    };
    with("gain = \"2\"").succeeded();
    with("speed = \"1\"").failed(
        1,
        &[
            "registry.toml:7: `speed` in `options` of [[encoders]] #1 has no effect on `pretend-encoder`",
            "plugin `pretend-device`",
        ],
    );
    with("gain = \"2.0\"").failed(
        1,
        &[
            "registry.toml:7: `gain` in `options`",
            "expected: `2`",
            "found: `2.0`",
        ],
    );
    with("gain = \"loud\"").failed(
        1,
        &[
            "registry.toml:7: ",
            "expected a number, found `loud`",
            "do: correct `gain` in `options` of [[encoders]] #1",
        ],
    );
    let llm = Chosen::new("", "\n[llm.options]\nkv = \"f8\"")
        .run(&["info"])
        .finish();
    llm.failed(
        1,
        &["registry.toml:16: `kv` in `options` of [llm] has no effect on `pretend-llm`"],
    );
}
