//! The tables, keys and types of a registry file.
//!
//! A field is `None` if its key is absent, or if its value was refused and a problem was reported. The
//! values themselves are checked in `resolve`.

use toml::de::DeTable;

use crate::messages::quoted;
use crate::settings_file::Problem;
use crate::settings_file::table::{At, Reader, Shape, Table};

/// The version of the format that this program reads.
pub(super) const SCHEMA_VERSION: usize = 1;

// Upper limits, far above any real model. Frames are allocated before the plugins can check whether they
// support these values.
const MAX_FRAMES: usize = 8192;
const MAX_IMAGE_SIZE: usize = 4096;
const MAX_TOKENS: usize = 1 << 20;
const MAX_CONTEXT: usize = 1 << 24;
const MAX_WIDTH: usize = 1 << 20;

/// The largest integer of TOML.
const MAX_SEED: usize = i64::MAX as usize;

const TOP: Shape = Shape {
    name: "the top level",
    required: &["schema", "id", "encoders", "llm", "mixer"],
    optional: &["description", "license", "notice", "transform"],
};

const ENCODER: Shape = Shape {
    name: "[[encoders]]",
    required: &["id", "num_frames"],
    optional: &[
        "plugin",
        "weights",
        "config",
        "image_size",
        "device",
        "dtype",
        "options",
    ],
};

const LLM: Shape = Shape {
    name: "[llm]",
    required: &["id", "weights", "prompt"],
    optional: &[
        "plugin",
        "tokenizer",
        "config",
        "system_prompt",
        "marks",
        "split_special_tokens",
        "max_length",
        "device",
        "dtype",
        "options",
    ],
};

const TRANSFORM: Shape = Shape {
    name: "[transform]",
    required: &["resize"],
    optional: &[],
};

const MIXER: Shape = Shape {
    name: "[mixer]",
    required: &[
        "projector",
        "fusion",
        "token_length",
        "visual_feature_length",
        "weights",
    ],
    optional: &["check_config"],
};

const MIXER_WEIGHTS: Shape = Shape {
    name: "{ path = \"…\" }",
    required: &[],
    optional: &[
        "path",
        "repo",
        "file",
        "revision",
        "checkpoint",
        "sha256",
        "init",
        "seed",
        "query_width",
        "reuse",
    ],
};

const REUSE: Shape = Shape {
    name: "{ path = \"…\" }",
    required: &[],
    optional: &[
        "path",
        "repo",
        "file",
        "revision",
        "checkpoint",
        "sha256",
        "encoders",
    ],
};

const SOURCE: Shape = Shape {
    name: "{ path = \"…\" }",
    required: &[],
    optional: &["path", "repo", "file", "revision", "checkpoint", "sha256"],
};

const PLUGIN: Shape = Shape {
    name: "{ path = \"…\" }",
    required: &["path"],
    optional: &["sha256"],
};

const FUSION: Shape = Shape {
    name: "{ id = \"…\", plugin = \"…\" }",
    required: &["id"],
    optional: &["plugin", "options"],
};

const PROMPT: Shape = Shape {
    name: "{ template = \"…\" }",
    required: &["template"],
    optional: &[],
};

/// All tables.
pub(super) const SHAPES: [&Shape; 5] = [&TOP, &ENCODER, &LLM, &TRANSFORM, &MIXER];

/// The whole file.
#[derive(Debug)]
pub(super) struct RawRegistry {
    pub(super) id: Option<At<String>>,
    pub(super) description: Option<At<String>>,
    pub(super) license: Option<At<String>>,
    pub(super) notice: Option<At<String>>,
    pub(super) encoders: Vec<RawEncoder>,
    pub(super) llm: Option<RawLlm>,
    pub(super) transform: Option<RawTransform>,
    pub(super) mixer: Option<RawMixer>,
}

/// One `[[encoders]]` table.
#[derive(Debug)]
pub(super) struct RawEncoder {
    /// The name in messages, such as `[[encoders]] #2`.
    pub(super) table: String,
    pub(super) line: usize,
    pub(super) id: Option<At<String>>,
    pub(super) plugin: Option<RawPlugin>,
    pub(super) num_frames: Option<At<usize>>,
    pub(super) weights: Option<RawSource>,
    pub(super) config: Option<RawSource>,
    pub(super) image_size: Option<At<usize>>,
    pub(super) device: Option<At<String>>,
    pub(super) dtype: Option<At<String>>,
    pub(super) options: Vec<(String, At<String>)>,
}

/// The `[llm]` table.
#[derive(Debug)]
pub(super) struct RawLlm {
    pub(super) line: usize,
    pub(super) id: Option<At<String>>,
    pub(super) plugin: Option<RawPlugin>,
    pub(super) weights: Option<RawSource>,
    pub(super) tokenizer: Option<RawSource>,
    pub(super) config: Option<RawSource>,
    pub(super) prompt: Option<RawPrompt>,
    pub(super) system_prompt: Option<At<String>>,
    pub(super) marks: Option<At<String>>,
    pub(super) split_special_tokens: Option<At<bool>>,
    pub(super) max_length: Option<At<usize>>,
    pub(super) device: Option<At<String>>,
    pub(super) dtype: Option<At<String>>,
    pub(super) options: Vec<(String, At<String>)>,
}

/// The `[transform]` table.
#[derive(Debug)]
pub(super) struct RawTransform {
    pub(super) resize: Option<At<String>>,
}

/// The `[mixer]` table.
#[derive(Debug)]
pub(super) struct RawMixer {
    pub(super) projector: Option<At<String>>,
    pub(super) fusion: Option<RawFusion>,
    pub(super) token_length: Option<At<usize>>,
    pub(super) visual_feature_length: Option<At<usize>>,
    pub(super) weights: Option<RawMixerWeights>,
    pub(super) check_config: Option<At<bool>>,
}

/// The value of `fusion`.
#[derive(Debug)]
pub(super) enum RawFusion {
    /// One of the fusions of this program.
    Name(At<String>),
    /// A fusion that a plugin brings.
    Plugin(RawPluginFusion),
}

/// A table with a fusion that a plugin brings.
#[derive(Debug)]
pub(super) struct RawPluginFusion {
    pub(super) line: usize,
    pub(super) id: Option<At<String>>,
    pub(super) plugin: Option<RawPlugin>,
    pub(super) options: Vec<(String, At<String>)>,
}

/// The value of `weights` in `[mixer]`.
#[derive(Debug)]
pub(super) enum RawMixerWeights {
    /// A string. Only `init` is valid.
    Name(At<String>),
    Source(RawSource),
    Init(RawInit),
}

/// A table with the initialisation of the mixer.
#[derive(Debug)]
pub(super) struct RawInit {
    pub(super) line: usize,
    pub(super) init: Option<At<bool>>,
    pub(super) seed: Option<At<usize>>,
    pub(super) query_width: Option<At<usize>>,
    pub(super) reuse: Option<RawReuse>,
    /// The keys of a source that are also in the table.
    pub(super) source_keys: Vec<&'static str>,
    /// Whether a problem with the table was reported.
    pub(super) damaged: bool,
}

/// The value of `reuse`.
#[derive(Debug)]
pub(super) struct RawReuse {
    pub(super) source: RawSource,
    pub(super) encoders: Option<At<Vec<String>>>,
}

/// The value of `weights`, `config` or `tokenizer`.
#[derive(Debug)]
pub(super) struct RawSource {
    pub(super) line: usize,
    pub(super) path: Option<At<Vec<String>>>,
    pub(super) repo: Option<At<String>>,
    pub(super) file: Option<At<Vec<String>>>,
    pub(super) revision: Option<At<String>>,
    pub(super) checkpoint: Option<At<bool>>,
    pub(super) sha256: Option<At<String>>,
    /// Whether a problem with the table was reported. Then a missing key is not reported.
    pub(super) damaged: bool,
}

/// The value of `prompt`.
#[derive(Debug)]
pub(super) enum RawPrompt {
    Name(At<String>),
    /// `None` means that a problem with the table was reported.
    Template(Option<RawSource>),
}

/// The value of `plugin`.
#[derive(Debug)]
pub(super) enum RawPlugin {
    Name(At<String>),
    Library {
        path: Option<At<String>>,
        sha256: Option<At<String>>,
    },
}

impl RawPlugin {
    /// Returns the line of the name or the path.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::Name(at) => Some(at.line),
            Self::Library { path, .. } => path.as_ref().map(|at| at.line),
        }
    }
}

/// Reads the tables of a file. Returns `None` if the schema version is not supported. The keys of other
/// versions are unknown, so nothing else is checked then.
pub(super) fn read(document: &DeTable<'_>, reader: &mut Reader<'_>) -> Option<RawRegistry> {
    let before = reader.problems.len();
    let top = Table::open(document, TOP.name.to_owned(), 1, &TOP, reader);
    if let Some(schema) = top.count("schema", usize::MAX, reader)
        && schema.value != SCHEMA_VERSION
    {
        reader.problems.truncate(before);
        reader.problems.push(
            top.refuse(
                "schema",
                schema.line,
                "is a version that this program does not support",
            )
            .expected(format!("`schema = {SCHEMA_VERSION}`"))
            .found(quoted(&schema.value.to_string()))
            .hint("use a registry of that version, or a merv-host that supports this one"),
        );
        return None;
    }
    Some(RawRegistry {
        id: top.text("id", reader),
        description: top.any_text("description", reader),
        license: top.text("license", reader),
        notice: top.text("notice", reader),
        encoders: top
            .tables("encoders", &ENCODER, reader)
            .iter()
            .map(|table| encoder(table, reader))
            .collect(),
        llm: top
            .table("llm", &LLM, reader)
            .map(|table| llm(&table, reader)),
        transform: top
            .table("transform", &TRANSFORM, reader)
            .map(|table| RawTransform {
                resize: table.text("resize", reader),
            }),
        mixer: top
            .table("mixer", &MIXER, reader)
            .map(|table| mixer(&table, reader)),
    })
}

fn encoder(table: &Table<'_>, reader: &mut Reader<'_>) -> RawEncoder {
    RawEncoder {
        table: table.name.clone(),
        line: table.line,
        id: table.text("id", reader),
        plugin: plugin(table, reader),
        num_frames: table.count("num_frames", MAX_FRAMES, reader),
        weights: source(table, "weights", None, reader),
        config: source(table, "config", Some(RawSource::from_path), reader),
        image_size: table.count("image_size", MAX_IMAGE_SIZE, reader),
        device: table.text("device", reader),
        dtype: table.text("dtype", reader),
        options: table.strings("options", reader),
    }
}

fn llm(table: &Table<'_>, reader: &mut Reader<'_>) -> RawLlm {
    RawLlm {
        line: table.line,
        id: table.text("id", reader),
        plugin: plugin(table, reader),
        weights: source(table, "weights", None, reader),
        tokenizer: source(table, "tokenizer", Some(RawSource::from_path), reader),
        config: source(table, "config", Some(RawSource::from_path), reader),
        prompt: prompt(table, reader),
        system_prompt: table.any_text("system_prompt", reader),
        marks: table.text("marks", reader),
        split_special_tokens: table.flag("split_special_tokens", reader),
        max_length: table.count("max_length", MAX_CONTEXT, reader),
        device: table.text("device", reader),
        dtype: table.text("dtype", reader),
        options: table.strings("options", reader),
    }
}

fn mixer(table: &Table<'_>, reader: &mut Reader<'_>) -> RawMixer {
    RawMixer {
        projector: table.text("projector", reader),
        fusion: table.text_or_table(
            "fusion",
            &FUSION,
            reader,
            Some(RawFusion::Name),
            |table, reader| {
                RawFusion::Plugin(RawPluginFusion {
                    line: table.line,
                    id: table.text("id", reader),
                    plugin: plugin(&table, reader),
                    options: table.strings("options", reader),
                })
            },
        ),
        token_length: table.count("token_length", MAX_TOKENS, reader),
        visual_feature_length: table.count("visual_feature_length", MAX_TOKENS, reader),
        weights: mixer_weights(table, reader),
        check_config: table.flag("check_config", reader),
    }
}

fn mixer_weights(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<RawMixerWeights> {
    table.text_or_table(
        "weights",
        &MIXER_WEIGHTS,
        reader,
        Some(RawMixerWeights::Name),
        |table, reader| {
            let has = |key: &str| table.keys().any(|found| found == key);
            let init_keys = ["init", "seed", "query_width", "reuse"];
            if !init_keys.into_iter().any(has) {
                return RawMixerWeights::Source(source_of(&table, &MIXER_WEIGHTS, reader));
            }
            let before = reader.problems.len();
            let init = RawInit {
                line: table.line,
                init: table.flag("init", reader),
                seed: table.whole("seed", 0..=MAX_SEED, reader),
                query_width: table.count("query_width", MAX_WIDTH, reader),
                reuse: table.text_or_table("reuse", &REUSE, reader, None, |table, reader| {
                    RawReuse {
                        source: source_of(&table, &REUSE, reader),
                        encoders: table.texts("encoders", reader),
                    }
                }),
                source_keys: SOURCE.keys().into_iter().filter(|key| has(key)).collect(),
                damaged: false,
            };
            RawMixerWeights::Init(RawInit {
                damaged: reader.problems.len() > before,
                ..init
            })
        },
    )
}

fn plugin(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<RawPlugin> {
    table.text_or_table(
        "plugin",
        &PLUGIN,
        reader,
        Some(RawPlugin::Name),
        |table, reader| RawPlugin::Library {
            path: table.text("path", reader),
            sha256: table.text("sha256", reader),
        },
    )
}

fn prompt(table: &Table<'_>, reader: &mut Reader<'_>) -> Option<RawPrompt> {
    table.text_or_table(
        "prompt",
        &PROMPT,
        reader,
        Some(RawPrompt::Name),
        |table, reader| {
            RawPrompt::Template(source(
                &table,
                "template",
                Some(RawSource::from_path),
                reader,
            ))
        },
    )
}

fn source(
    table: &Table<'_>,
    key: &str,
    from_path: Option<fn(At<String>) -> RawSource>,
    reader: &mut Reader<'_>,
) -> Option<RawSource> {
    table.text_or_table(key, &SOURCE, reader, from_path, |table, reader| {
        source_of(&table, &SOURCE, reader)
    })
}

/// Reads the source in a table of this shape. The table may have other keys.
fn source_of(table: &Table<'_>, shape: &Shape, reader: &mut Reader<'_>) -> RawSource {
    // Unknown keys were reported when the table was opened. For `pth` instead of `path`, the missing `path`
    // must not be reported too.
    let known = shape.keys();
    let unknown = table.keys().any(|key| !known.contains(&key));
    let before = reader.problems.len();
    let source = RawSource {
        line: table.line,
        path: table.texts("path", reader),
        repo: table.text("repo", reader),
        file: table.texts("file", reader),
        revision: table.text("revision", reader),
        checkpoint: table.flag("checkpoint", reader),
        sha256: table.text("sha256", reader),
        damaged: false,
    };
    RawSource {
        damaged: unknown || reader.problems.len() > before,
        ..source
    }
}

impl RawSource {
    /// Creates a source from a string, which is the short form for a path.
    fn from_path(path: At<String>) -> Self {
        Self {
            line: path.line,
            path: Some(At {
                value: vec![path.value],
                line: path.line,
            }),
            repo: None,
            file: None,
            revision: None,
            checkpoint: None,
            sha256: None,
            damaged: false,
        }
    }
}

/// Returns a problem with a key of `table`.
pub(super) fn refuse(table: &str, key: &str, line: usize, why: &str) -> Problem {
    Problem::new(line, format!("`{key}` in {table} {why}"))
}
