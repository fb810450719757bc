//! Chat templates that come with a model: Jinja, rendered like `apply_chat_template` in transformers.
//!
//! A template is a program in an untrusted file, so it runs within a budget.

mod date;
mod error;
mod jinja;
mod source;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use error::TemplateError;
use jinja::{Fault, Program, Value};

/// A message of a conversation, as templates receive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// The text of the message.
    pub content: String,
}

/// A chat template.
#[derive(Debug)]
pub struct Template {
    path: PathBuf,
    program: Program,
    /// Special tokens by variable name, such as `bos_token`.
    tokens: BTreeMap<String, String>,
}

impl Template {
    /// Reads the template from a GGUF file, a `tokenizer_config.json`, or a template file.
    ///
    /// # Errors
    ///
    /// When the file does not contain a template, or the template is not valid Jinja.
    pub fn load(path: &Path) -> Result<Self, TemplateError> {
        let source::Source { text, tokens } = source::read(path)?;
        Self::new(path, text, tokens)
    }

    fn new(
        path: &Path,
        text: String,
        tokens: BTreeMap<String, String>,
    ) -> Result<Self, TemplateError> {
        let program = Program::parse(&text).map_err(|fault| jinja(path, fault))?;
        Ok(Self {
            path: path.to_owned(),
            program,
            tokens,
        })
    }

    /// Sets the text of a special token, such as `eos_token`, unless the template's file defines it.
    pub fn set_default_token(&mut self, name: &str, text: String) {
        self.tokens.entry(name.to_owned()).or_insert(text);
    }

    /// Renders the conversation up to the beginning of the next reply.
    ///
    /// # Errors
    ///
    /// When the template rejects the conversation, fails, exceeds its budget, or renders an empty text.
    pub fn render(&self, messages: &[Message]) -> Result<String, TemplateError> {
        self.render_with(messages, &self.tokens)
    }

    /// Checks that `rendered`, the text of `messages`, depends on the last message.
    ///
    /// # Errors
    ///
    /// When it does not, and as [`Self::render`].
    pub fn check_uses_message(
        &self,
        messages: &[Message],
        rendered: &str,
    ) -> Result<(), TemplateError> {
        let message = messages.last().map_or("", |last| last.content.trim());
        if message.is_empty() || rendered.contains(message) {
            return Ok(());
        }
        // The template may have changed the message, for instance its case.
        let mut other = messages.to_vec();
        if let Some(last) = other.last_mut() {
            last.content = format!("not {message}");
        }
        match self.render(&other)? == rendered {
            true => Err(TemplateError::IgnoresMessage(self.path.clone())),
            false => Ok(()),
        }
    }

    /// Returns where in `rendered`, the text of `messages`, the template first writes the variable `bos_token`.
    /// `None` if it does not.
    ///
    /// # Errors
    ///
    /// As [`Self::render`].
    pub fn find_bos(
        &self,
        messages: &[Message],
        rendered: &str,
    ) -> Result<Option<Range<usize>>, TemplateError> {
        let Some(bos) = self.tokens.get("bos_token").filter(|bos| !bos.is_empty()) else {
            return Ok(None);
        };
        if !rendered.contains(bos.as_str()) {
            return Ok(None);
        }
        // The text may occur for another reason: SmolLM2 uses `<|im_start|>` for turns too, and users may type it.
        let mut without = self.tokens.clone();
        without.insert("bos_token".to_owned(), String::new());
        let bare = match self.render_with(messages, &without) {
            Err(TemplateError::Empty(_)) => String::new(),
            bare => bare?,
        };
        let pairs = rendered.bytes().zip(bare.bytes());
        let same = pairs.take_while(|(a, b)| a == b).count();
        if same == rendered.len() && same == bare.len() {
            return Ok(None);
        }
        // The common prefix may extend into the BOS: the text after it may begin with the same characters.
        let starts = rendered.match_indices(bos.as_str()).map(|(at, _)| at);
        let found = starts.take_while(|at| *at <= same).find(|at| {
            let behind = &rendered[at + bos.len()..];
            let next = behind.find(bos.as_str()).unwrap_or(behind.len());
            bare[*at..].starts_with(&behind[..next])
        });
        Ok(found.map(|at| at..at + bos.len()))
    }

    /// Returns the error for a template whose BOS moves with the conversation.
    pub(crate) fn varying_bos(&self) -> TemplateError {
        TemplateError::VaryingBos(self.path.clone())
    }

    fn render_with(
        &self,
        messages: &[Message],
        tokens: &BTreeMap<String, String>,
    ) -> Result<String, TemplateError> {
        let rendered = self
            .variables(messages, tokens)
            .and_then(|variables| self.program.render(&variables));
        let text = rendered.map_err(|fault| jinja(&self.path, fault))?;
        if text.is_empty() {
            return Err(TemplateError::Empty(self.path.clone()));
        }
        Ok(text)
    }

    fn variables<'t>(
        &self,
        messages: &[Message],
        tokens: &'t BTreeMap<String, String>,
    ) -> Result<BTreeMap<&'t str, Value>, Fault> {
        let tokens = tokens.iter();
        let mut variables: BTreeMap<&str, Value> = tokens
            .map(|(name, text)| (name.as_str(), Value::text(text)))
            .collect();
        let messages = messages.iter().map(|message| {
            Value::dict([
                ("role", Value::text(message.role)),
                ("content", Value::text(&message.content)),
            ])
        });
        let messages = Value::list(messages.collect::<Result<_, _>>()?)?;
        variables.insert("messages", messages);
        variables.insert("add_generation_prompt", Value::Bool(true));
        for absent in ["tools", "documents"] {
            variables.insert(absent, Value::None);
        }
        Ok(variables)
    }
}

fn jinja(path: &Path, fault: Fault) -> TemplateError {
    TemplateError::Jinja {
        path: path.to_owned(),
        line: fault.line.unwrap_or(1),
        why: fault.why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Result<Template, TemplateError> {
        let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
        let tokens = tokens.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Template::new(Path::new("chat.jinja"), text.to_owned(), tokens.into())
    }

    fn user(content: &str) -> Message {
        Message {
            role: "user",
            content: content.to_owned(),
        }
    }

    #[track_caller]
    fn fails(text: &str, line: usize, words: &[&str]) {
        let rendered = template(text).and_then(|template| template.render(&[user("Hi")]));
        let message = rendered.expect_err(text).to_string();
        let begin = format!("the chat template chat.jinja, line {line}: ");
        assert!(message.starts_with(&begin), "{text:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{text:?}: {message}");
        }
    }

    #[test]
    fn blocks_and_methods_work_as_in_transformers() {
        let text = "{{ bos_token }}\n{% for m in messages %}\n  {% if loop.first %}\n[{{ m['role'].upper() }}]\
                    {% endif %}\n{{ m.content.strip().split('|')[-1] }}{{ eos_token }}\n{% endfor %}\n\
                    {% generation %}!{% endgeneration %}{% if tools is none %}T{% endif %}\n";
        let rendered = template(text).unwrap().render(&[user(" a|b ")]).unwrap();
        assert_eq!(rendered, "<s>\n[USER]b</s>\n!T");
    }

    #[test]
    fn tojson_matches_python() {
        let text = "{{ messages | tojson }} {{ 'é<&' | tojson }} {{ [1, {'a': none}] | tojson(indent=2) }}";
        let rendered = template(text).unwrap().render(&[user("x")]).unwrap();
        let expected = "[{\"role\": \"user\", \"content\": \"x\"}] \"é<&\" [\n  1,\n  {\n    \"a\": null\n  }\n]";
        assert_eq!(rendered, expected);
    }

    #[test]
    fn the_bos_is_found_only_if_the_template_writes_the_variable() {
        for (text, content, expected) in [
            ("{{ bos_token }}{{ messages[0].content }}", "Hi", Some(0..3)),
            (
                "{{ bos_token }}{{ messages[0].content }}",
                "<s>Hi",
                Some(0..3),
            ),
            (
                "{{ bos_token }}{{ messages[0].content }}",
                "<|x",
                Some(0..3),
            ),
            ("<s>{{ messages[0].content }}", "Hi", None),
            ("{{ messages[0].content }}", "<s>", None),
            (
                "\n{{ bos_token }}{{ messages[0].content }}",
                "Hi",
                Some(1..4),
            ),
            ("{{ messages[0].content }}{{ bos_token }}", "Hi", Some(2..5)),
            ("{{ messages[0].content }}{{ bos_token }}", "", Some(0..3)),
        ] {
            let messages = [user(content)];
            let template = template(text).unwrap();
            let rendered = template.render(&messages).unwrap();
            let found = template.find_bos(&messages, &rendered).unwrap();
            assert_eq!(found, expected, "{text} {content}");
        }
    }

    #[test]
    fn errors_report_their_line() {
        fails("a\n{% if %}", 2, &["syntax error"]);
        fails("a\n\n{% for m in messages %}", 3, &["syntax error"]);
        fails(
            "{{ messages | shuffle }}",
            1,
            &["unknown filter", "shuffle"],
        );
        fails("\n{{ messages[0].content.explode() }}", 2, &["explode"]);
        fails(
            "\n\n{{ raise_exception('Only tools!') }}",
            3,
            &["Only tools!"],
        );
        fails("{% include 'passwd' %}", 1, &["include"]);
        let empty = template("{# nothing #}").unwrap().render(&[user("Hi")]);
        assert!(
            empty
                .unwrap_err()
                .to_string()
                .contains("renders an empty text")
        );
    }

    #[test]
    fn endless_or_memory_filling_templates_are_stopped() {
        let long = "runs for too long or writes too much";
        for text in [
            "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
            "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x.replace('a', n.x) %}{% endfor %}",
            "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x | replace('b', n.x) %}{% endfor %}",
            "{{ 'x' * 90000000 * 90000000 }}",
        ] {
            fails(text, 1, &[long]);
        }
        // Shared values are small until they are written out.
        let doubled = "{% set n = namespace(x=[1]) %}{% for a in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}";
        fails(
            &format!("{doubled}{{{{ n.x }}}}"),
            1,
            &["nested too deeply"],
        );
        let written = doubled.replace("60", "30") + "{{ n.x | tojson }}";
        fails(&written, 1, &[long]);
        fails(
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            1,
            &["recursion"],
        );
        fails(&format!("{{{{ {}", "(".repeat(5000)), 1, &[]);
    }
}
