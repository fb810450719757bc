//! Finds a chat template in a GGUF file, a `tokenizer_config.json`, or a file of its own.

use std::collections::BTreeMap;
use std::path::Path;

use merv_checkpoint::{Checkpoint, text};
use serde_json::{Map, Value};

use super::TemplateError;

/// Maximum size in bytes of a template, or of the file that contains it. The largest published templates have
/// 10 KB, but a `tokenizer_config.json` also lists added tokens.
const MAX_BYTES: u64 = 1 << 24;

/// A template and the special tokens that its file defines.
pub(super) struct Source {
    pub text: String,
    pub tokens: BTreeMap<String, String>,
}

/// Reads the template. The file's extension decides how.
pub(super) fn read(path: &Path) -> Result<Source, TemplateError> {
    let ends = |ending: &str| {
        path.extension()
            .is_some_and(|e| e.eq_ignore_ascii_case(ending))
    };
    if ends("gguf") {
        return in_gguf(path);
    }
    let text = text::read(path, MAX_BYTES).map_err(|source| TemplateError::Read {
        path: path.to_owned(),
        source,
    })?;
    if !ends("json") {
        return Ok(Source {
            text,
            tokens: BTreeMap::new(),
        });
    }
    in_config(&text).map_err(|why| TemplateError::NoTemplate {
        path: path.to_owned(),
        why,
        expected: "the key `chat_template`, as in `tokenizer_config.json`",
    })
}

fn in_gguf(path: &Path) -> Result<Source, TemplateError> {
    let found = Checkpoint::open(&[path.to_owned()])
        .map_err(|error| error.to_string())
        .and_then(|checkpoint| {
            let metadata = checkpoint.gguf().ok_or("it is not a GGUF file")?;
            let template: Option<&str> = metadata
                .find("tokenizer.chat_template")
                .map_err(|error| error.to_string())?;
            Ok(template
                .ok_or("its metadata do not include one")?
                .to_owned())
        });
    match found {
        Ok(text) => Ok(Source {
            text,
            tokens: BTreeMap::new(),
        }),
        Err(why) => Err(TemplateError::NoTemplate {
            path: path.to_owned(),
            why,
            expected: "the key `tokenizer.chat_template` in a GGUF file",
        }),
    }
}

fn in_config(text: &str) -> Result<Source, String> {
    let config: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let template = match config.get("chat_template") {
        Some(Value::String(text)) => Some(text.as_str()),
        // Named templates: `default` is the one for plain conversations.
        Some(Value::Array(several)) => several
            .iter()
            .find(|one| one["name"] == "default")
            .and_then(|one| one["template"].as_str()),
        _ => None,
    };
    let text = template
        .ok_or("the key is missing or is not a string")?
        .to_owned();
    let tokens = config.iter().filter(|(name, _)| name.ends_with("_token"));
    let tokens = tokens.filter_map(|(name, value)| {
        let text = value.as_str().or_else(|| value["content"].as_str())?;
        Some((name.clone(), text.to_owned()))
    });
    Ok(Source {
        text,
        tokens: tokens.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_and_tokens_of_a_config_are_read() {
        let read = |text: &str| in_config(text).map(|source| (source.text, source.tokens));
        let (text, tokens) = read(
            r#"{"chat_template": "T", "bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null,
                "add_bos_token": true}"#,
        )
        .unwrap();
        assert_eq!(text, "T");
        let named: Vec<_> = tokens
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(named, [("bos_token", "<s>"), ("eos_token", "</s>")]);
        let several = r#"{"chat_template": [{"name": "tool_use", "template": "A"}, {"name": "default", "template": "B"}]}"#;
        assert_eq!(read(several).unwrap().0, "B");
        for wrong in [
            "{}",
            "[]",
            "{",
            r#"{"chat_template": 3}"#,
            r#"{"chat_template": [1]}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
