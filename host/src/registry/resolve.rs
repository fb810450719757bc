//! Resolving and checking a registry: paths are joined and must exist, names are parsed, and defaults are
//! filled in.

use std::collections::BTreeMap;
use std::path::Path;

use super::entries::{
    EncoderEntry, FusionEntry, LlmEntry, MixerEntry, PluginRef, PromptEntry, Registry, TableLines,
    TransformEntry,
};
use super::error::RegistryError;
use super::fields::Fields;
use super::file_names::same_file;
use super::find::{SearchPath, find};
use super::schema::{
    self, RawEncoder, RawFusion, RawLlm, RawMixer, RawPlugin, RawPluginFusion, RawPrompt,
    RawRegistry, RawTransform, refuse,
};
use super::source_fields::RelatedFile;
use super::sources::WeightSource;
use super::tokens::is_square;
use crate::disk::checksum::{ChecksumState, Mismatch, check_toml};
use crate::messages::quoted;
use crate::prompt::{PromptFormat, TEMPLATE};
use crate::settings_file::document::{self, About, Lines, Refusal};
use crate::settings_file::table::{At, Reader};
use crate::settings_file::{Problem, Problems};
use crate::transform::ResizeStrategy;
use merv_architectures::mixer::{FusionKind, MixerKind, Pooling, ProjectorKind};

/// The kind of the file, for messages.
const ABOUT: About = About {
    name: "registry",
    example: "registry/merv-tiny.toml",
};

/// The default maximum number of text tokens.
const DEFAULT_MAX_LENGTH: usize = 2048;

/// The files in which transformers stores a chat template. Repositories on the hub have the second one.
const TEMPLATE_FILES: [&str; 2] = ["chat_template.jinja", "tokenizer_config.json"];

impl Registry {
    /// Finds a registry by FILE or NAME with [`find`] and [`SearchPath::from_env`], and reads it.
    ///
    /// # Errors
    /// The same as [`find`] and [`Registry::from_file`].
    pub fn load(file_or_name: impl AsRef<Path>) -> Result<Self, RegistryError> {
        Self::from_file(&find(file_or_name.as_ref(), &SearchPath::from_env())?)
    }

    /// Reads and checks a registry file. Its local files must exist, but weights are not read.
    ///
    /// # Errors
    /// Returns [`RegistryError::Read`], or [`RegistryError::Invalid`] with all problems.
    pub fn from_file(path: &Path) -> Result<Self, RegistryError> {
        let text = document::read(path, &ABOUT).map_err(|refusal| match refusal {
            Refusal::Read(source) => RegistryError::Read {
                path: path.to_owned(),
                source,
            },
            Refusal::Content(problem) => Problems::new(path, vec![*problem]).into(),
        })?;
        if check_toml(&text) == ChecksumState::Invalid {
            return Err(Problems::new(path, vec![checksum_mismatch()]).into());
        }
        let lines = Lines::new(&text);
        let invalid = |list| RegistryError::from(Problems::new(path, list));
        let document = document::parse(&text, &lines).map_err(invalid)?;
        let mut reader = Reader {
            lines: &lines,
            shapes: &schema::SHAPES,
            manual: "registry/README.md",
            problems: Vec::new(),
        };
        let Some(raw) = schema::read(&document, &mut reader) else {
            return Err(invalid(reader.problems));
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut fields = Fields {
            folder,
            problems: reader.problems,
        };
        match registry(raw, path, &mut fields) {
            Some(registry) if fields.problems.is_empty() => Ok(registry),
            _ => Err(invalid(fields.problems)),
        }
    }
}

fn checksum_mismatch() -> Problem {
    Problem::new(None, format!("{Mismatch}"))
        .expected("the registry as a training run wrote it")
        .found("a changed text")
        .hint(
            "run `merv-host train --resume --out RUN` to write it again; if the change is intended, remove the \
             line `# crc32: …` at its end",
        )
}

/// Resolves the whole file. This function and those below check all fields before they return, so that all
/// problems are found together. `None` means that at least one problem was reported.
fn registry(raw: RawRegistry, path: &Path, fields: &mut Fields<'_>) -> Option<Registry> {
    same_ids(&raw.encoders, fields);
    frames_divide(&raw.encoders, fields);
    let ids: Vec<String> = raw.encoders.iter().map(id_of).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let encoders: Vec<_> = raw
        .encoders
        .into_iter()
        .map(|e| encoder(e, fields))
        .collect();
    let llm = raw.llm.and_then(|raw| llm(raw, fields));
    let transform = match raw.transform {
        Some(raw) => transform(raw, fields),
        None => Some(TransformEntry {
            resize: ResizeStrategy::ResizeNaive,
        }),
    };
    let mixer = raw.mixer.and_then(|raw| mixer(raw, &ids, fields));
    if let (Some(llm), Some(mixer)) = (&llm, &mixer) {
        check_checkpoint(llm, mixer, fields);
    }
    Some(Registry {
        path: path.to_owned(),
        id: raw.id?.value,
        description: raw.description.map(|at| at.value).unwrap_or_default(),
        license: raw.license.map(|at| at.value),
        notice: raw.notice.map(|at| at.value),
        encoders: encoders.into_iter().collect::<Option<_>>()?,
        llm: llm?,
        transform: transform?,
        mixer: mixer?,
    })
}

/// Returns the id. It is empty if it is missing, which was reported.
fn id_of(raw: &RawEncoder) -> String {
    raw.id
        .as_ref()
        .map(|at| at.value.clone())
        .unwrap_or_default()
}

/// Checks that the mixer has a checkpoint if the language model is in it.
fn check_checkpoint(llm: &LlmEntry, mixer: &MixerEntry, fields: &mut Fields<'_>) {
    if llm.weights == WeightSource::Checkpoint && mixer.weights.trained().is_none() {
        let line = llm.lines.of("weights");
        fields.problems.push(
            refuse("[llm]", "weights", line, "refers to a checkpoint that does not exist")
                .expected("the language model's own file, because the mixer has not been trained")
                .found("`checkpoint = true`, which means the file of [mixer]")
                .hint("write `weights = { path = \"…\" }` or `weights = { repo = \"…\", file = \"…\" }` in [llm]"),
        );
    }
}

fn same_ids(encoders: &[RawEncoder], fields: &mut Fields<'_>) {
    let mut firsts: Vec<&At<String>> = Vec::new();
    for encoder in encoders {
        let Some(id) = &encoder.id else { continue };
        let Some(first) = firsts
            .iter()
            .find(|first| same_file(&first.value, &id.value))
        else {
            firsts.push(id);
            continue;
        };
        let (why, expected, found) = match first.value == id.value {
            true => (
                "is used twice",
                "an id that no other encoder has",
                format!("which is also the id on line {}", first.line),
            ),
            false => (
                "gives the same file names as another id",
                "an id that differs in more than case and special characters",
                format!("similar to {} on line {}", quoted(&first.value), first.line),
            ),
        };
        fields.problems.push(
            refuse(&encoder.table, "id", id.line, why)
                .expected(expected)
                .found(format!("{}, {found}", quoted(&id.value)))
                .hint("remove one of the two, or choose another encoder"),
        );
    }
}

fn frames_divide(encoders: &[RawEncoder], fields: &mut Fields<'_>) {
    let counts = encoders
        .iter()
        .filter_map(|e| e.num_frames.as_ref().map(|at| at.value));
    let Some(largest) = counts.max() else { return };
    for encoder in encoders {
        let Some(At { value, line }) = encoder.num_frames else {
            continue;
        };
        if largest % value != 0 {
            fields.problems.push(
                refuse(
                    &encoder.table,
                    "num_frames",
                    line,
                    "does not divide the largest one",
                )
                .expected(format!(
                    "a divisor of {largest}, the largest `num_frames` of all encoders"
                ))
                .found(format!("{value}"))
                .hint(format!(
                    "choose a divisor of {largest}: each encoder uses every K-th of the sampled frames"
                )),
            );
        }
    }
}

fn encoder(raw: RawEncoder, fields: &mut Fields<'_>) -> Option<EncoderEntry> {
    let table = &raw.table;
    let lines = TableLines {
        name: table.clone(),
        table: raw.line,
        keys: lines_of(&[
            ("id", raw.id.as_ref().map(|at| at.line)),
            ("plugin", raw.plugin.as_ref().and_then(RawPlugin::line)),
            ("num_frames", raw.num_frames.as_ref().map(|at| at.line)),
            ("image_size", raw.image_size.as_ref().map(|at| at.line)),
            ("device", raw.device.as_ref().map(|at| at.line)),
            ("dtype", raw.dtype.as_ref().map(|at| at.line)),
        ]),
        options: option_lines(&raw.options),
    };
    // The outer `None` means that a problem was reported.
    let weights = match raw.weights {
        Some(raw) => fields.source(table, "weights", raw).map(Some),
        None => Some(None),
    };
    let config = fields.config(table, raw.config, weights.as_ref().and_then(Option::as_ref));
    let plugin = match raw.plugin {
        Some(plugin) => fields.plugin(table, plugin),
        None => Some(PluginRef::Any),
    };
    let device = fields.parse_or_default(table, "device", raw.device);
    let dtype = fields.parse_or_default(table, "dtype", raw.dtype);
    Some(EncoderEntry {
        id: raw.id?.value,
        plugin: plugin?,
        num_frames: raw.num_frames?.value,
        weights: weights?,
        config: config?,
        image_size: raw.image_size.map(|at| at.value),
        device: device?,
        dtype: dtype?,
        options: texts_of(raw.options),
        lines,
    })
}

/// Returns the keys that are written, with their lines.
fn lines_of(keys: &[(&'static str, Option<usize>)]) -> Vec<(&'static str, usize)> {
    let written = keys.iter().filter_map(|(key, line)| Some((*key, (*line)?)));
    written.collect()
}

fn option_lines(options: &[(String, At<String>)]) -> Vec<(String, usize)> {
    let lines = options.iter();
    lines.map(|(key, at)| (key.clone(), at.line)).collect()
}

fn texts_of(options: Vec<(String, At<String>)>) -> BTreeMap<String, String> {
    let texts = options.into_iter();
    texts.map(|(key, at)| (key, at.value)).collect()
}

fn llm(raw: RawLlm, fields: &mut Fields<'_>) -> Option<LlmEntry> {
    let table = "[llm]";
    let lines = TableLines {
        name: table.to_owned(),
        table: raw.line,
        keys: lines_of(&[
            ("id", raw.id.as_ref().map(|at| at.line)),
            ("plugin", raw.plugin.as_ref().and_then(RawPlugin::line)),
            ("weights", raw.weights.as_ref().map(|raw| raw.line)),
            ("device", raw.device.as_ref().map(|at| at.line)),
            ("dtype", raw.dtype.as_ref().map(|at| at.line)),
            ("tokenizer", raw.tokenizer.as_ref().map(|raw| raw.line)),
            ("max_length", raw.max_length.as_ref().map(|at| at.line)),
        ]),
        options: option_lines(&raw.options),
    };
    let weights = fields.required_source(table, "weights", raw.weights);
    let config = fields.config(table, raw.config, weights.as_ref());
    let plugin = match raw.plugin {
        Some(plugin) => fields.plugin(table, plugin),
        None => Some(PluginRef::Any),
    };
    let device = fields.parse_or_default(table, "device", raw.device);
    let dtype = fields.parse_or_default(table, "dtype", raw.dtype);
    let tokenizer = match raw.tokenizer {
        Some(raw) => fields.source(table, "tokenizer", raw),
        None if weights.as_ref().is_some_and(WeightSource::is_gguf) => weights.clone(),
        None => weights.as_ref().and_then(|weights| {
            fields.beside(
                RelatedFile {
                    table,
                    key: "tokenizer",
                    name: "tokenizer.json",
                    line: raw.line,
                },
                weights,
            )
        }),
    };
    let marks = fields.parse_or_default(table, "marks", raw.marks);
    let prompt = raw
        .prompt
        .and_then(|raw| prompt(raw, tokenizer.as_ref(), fields));
    if let (Some(system), Some(prompt)) = (&raw.system_prompt, &prompt)
        && !prompt.takes_system()
    {
        fields.problems.push(
            refuse(table, "system_prompt", system.line, "would have no effect")
                .expected("a prompt format that supports a system prompt")
                .found(format!(
                    "`prompt = \"{prompt}\"`, which does not support one"
                ))
                .hint("remove `system_prompt`"),
        );
    }
    Some(LlmEntry {
        id: raw.id?.value,
        plugin: plugin?,
        weights: weights?,
        tokenizer: tokenizer?,
        config: config?,
        prompt: prompt?,
        system_prompt: raw.system_prompt.map(|at| at.value),
        marks: marks?,
        split_special_tokens: raw.split_special_tokens.is_some_and(|at| at.value),
        max_length: raw.max_length.map_or(DEFAULT_MAX_LENGTH, |at| at.value),
        device: device?,
        dtype: dtype?,
        options: texts_of(raw.options),
        lines,
    })
}

fn prompt(
    raw: RawPrompt,
    tokenizer: Option<&WeightSource>,
    fields: &mut Fields<'_>,
) -> Option<PromptEntry> {
    let table = "[llm]";
    match raw {
        RawPrompt::Template(raw) => {
            let source = fields.source("`prompt` of [llm]", "template", raw?)?;
            Some(PromptEntry::Template(source))
        }
        RawPrompt::Name(at) if at.value == TEMPLATE => {
            let tokenizer = tokenizer?;
            if tokenizer.is_gguf() {
                return Some(PromptEntry::Template(tokenizer.clone()));
            }
            template_of_tokenizer(tokenizer, at.line, fields).map(PromptEntry::Template)
        }
        RawPrompt::Name(at) => {
            let format = fields.parse::<PromptFormat>(table, "prompt", &at)?;
            Some(PromptEntry::Format(format))
        }
    }
}

/// Finds the template file in the folder of the tokenizer.
fn template_of_tokenizer(
    tokenizer: &WeightSource,
    line: usize,
    fields: &mut Fields<'_>,
) -> Option<WeightSource> {
    let WeightSource::Local { path, .. } = tokenizer else {
        return Some(tokenizer.beside(TEMPLATE_FILES[1]));
    };
    let here = |name: &&&str| path.with_file_name(**name).is_file();
    if let Some(name) = TEMPLATE_FILES.iter().find(here) {
        return Some(tokenizer.beside(name));
    }
    let [own, config] = TEMPLATE_FILES;
    fields.problems.push(
        refuse(
            "[llm]",
            "prompt",
            line,
            "refers to a template that does not exist",
        )
        .expected(format!(
            "`{own}` or `{config}` in the folder of {}",
            path.display()
        ))
        .found("neither")
        .hint("put the file there, or write `prompt = { template = \"FILE\" }`"),
    );
    None
}

fn transform(raw: RawTransform, fields: &mut Fields<'_>) -> Option<TransformEntry> {
    let resize = fields.parse("[transform]", "resize", &raw.resize?)?;
    Some(TransformEntry { resize })
}

fn plugin_fusion(raw: RawPluginFusion, fields: &mut Fields<'_>) -> Option<FusionEntry> {
    let table = "`fusion` of [mixer]";
    let lines = TableLines {
        name: table.to_owned(),
        table: raw.line,
        keys: lines_of(&[
            ("id", raw.id.as_ref().map(|at| at.line)),
            ("plugin", raw.plugin.as_ref().and_then(RawPlugin::line)),
        ]),
        options: option_lines(&raw.options),
    };
    let plugin = match raw.plugin {
        Some(plugin) => fields.plugin(table, plugin),
        None => Some(PluginRef::Any),
    };
    Some(FusionEntry {
        id: raw.id?.value,
        plugin: plugin?,
        options: texts_of(raw.options),
        lines,
    })
}

fn mixer(raw: RawMixer, encoders: &[&str], fields: &mut Fields<'_>) -> Option<MixerEntry> {
    let table = "[mixer]";
    let is_of_plugin = matches!(raw.fusion, Some(RawFusion::Plugin(_)));
    let projector = raw.projector.and_then(|at| {
        let kind = fields.parse::<ProjectorKind>(table, "projector", &at)?;
        if is_of_plugin && kind.changes_nothing() {
            return Some(kind);
        }
        fields
            .runnable(table, "projector", &at, kind.runnable(encoders.len()))
            .then_some(kind)
    });
    let (fusion, fusion_plugin) = match raw.fusion {
        Some(RawFusion::Name(at)) => {
            let kind = fields.parse::<FusionKind>(table, "fusion", &at);
            let kind = kind.filter(|kind| {
                fields.runnable(table, "fusion", &at, kind.runnable(encoders.len()))
            });
            (kind, None)
        }
        Some(RawFusion::Plugin(raw)) => {
            let entry = plugin_fusion(raw, fields);
            (entry.as_ref().map(|_| FusionKind::Plugin), entry)
        }
        None => (None, None),
    };
    // Without pooling, `token_length` has no effect.
    let pooled = projector.is_none_or(|kind| kind.pooling != Pooling::None);
    if let Some(At { value, line }) = raw.token_length
        && !is_square(value)
    {
        let side = value.isqrt();
        fields.problems.push(
            refuse(table, "token_length", line, "is not a square number")
                .expected("a square number, because the tokens of a time step form a square")
                .found(format!("{value}"))
                .hint(format!(
                    "write {} or {}",
                    side.pow(2).max(1),
                    (side + 1).pow(2)
                )),
        );
    } else if let (Some(tokens), Some(length)) = (&raw.token_length, &raw.visual_feature_length)
        && pooled
        && length.value % tokens.value != 0
    {
        let why = "is not a multiple of `token_length`";
        fields.problems.push(
            refuse(table, "visual_feature_length", length.line, why)
                .expected("`token_length` times the number of time steps of the encoders")
                .found(format!(
                    "{}, with `token_length = {}`",
                    length.value, tokens.value
                ))
                .hint(format!(
                    "for 16 time steps, write {}",
                    tokens.value.saturating_mul(16)
                )),
        );
    }
    let weights = raw
        .weights
        .and_then(|raw| fields.mixer_weights(table, raw, encoders, fusion));
    let length = raw.visual_feature_length?;
    Some(MixerEntry {
        kind: MixerKind {
            projector: projector?,
            fusion: fusion?,
            token_length: raw.token_length?.value,
            visual_feature_length: length.value,
        },
        fusion_plugin,
        weights: weights?,
        check_config: raw.check_config.is_none_or(|at| at.value),
        visual_feature_length_line: length.line,
    })
}
