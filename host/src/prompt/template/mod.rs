//! Chat formats that a model brings: Jinja templates, as `apply_chat_template` of transformers renders them.
//!
//! A template is a program in a file that is not trusted: it runs within a budget.

mod date;
mod error;
mod jinja;
mod source;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use error::TemplateError;
use jinja::{Fault, Program, Value};

/// A message of a conversation, as templates know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What was said.
    pub content: String,
}

/// A chat template.
#[derive(Debug)]
pub struct Template {
    path: PathBuf,
    program: Program,
    /// `bos_token` and so on, by these names.
    tokens: BTreeMap<String, String>,
}

impl Template {
    /// Reads the template of a GGUF file, of a `tokenizer_config.json`, or a file that is one.
    ///
    /// # Errors
    ///
    /// When there is none, or it is no Jinja.
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

    /// Tells the template the text of a special token, such as `eos_token`, unless its file did.
    pub fn set_default_token(&mut self, name: &str, text: String) {
        self.tokens.entry(name.to_owned()).or_insert(text);
    }

    /// The text of the conversation up to where the next reply begins.
    ///
    /// # Errors
    ///
    /// When the template refuses the conversation, fails, runs out of fuel, or writes nothing.
    pub fn render(&self, messages: &[Message]) -> Result<String, TemplateError> {
        self.render_with(messages, &self.tokens)
    }

    /// That what the last of `messages` says has a part in `rendered`, what they gave.
    ///
    /// # Errors
    ///
    /// When it has none, and as [`Self::render`].
    pub fn check_heard(&self, messages: &[Message], rendered: &str) -> Result<(), TemplateError> {
        let said = messages.last().map_or("", |last| last.content.trim());
        if said.is_empty() || rendered.contains(said) {
            return Ok(());
        }
        // It may be written otherwise than it was said.
        let mut other = messages.to_vec();
        if let Some(last) = other.last_mut() {
            last.content = format!("not {said}");
        }
        match self.render(&other)? == rendered {
            true => Err(TemplateError::Deaf(self.path.clone())),
            false => Ok(()),
        }
    }

    /// Where the template itself writes the BOS in `rendered`, what `messages` gave; the first place, if it does.
    ///
    /// # Errors
    ///
    /// As [`Self::render`].
    pub fn bos_written(
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
        // A format may have the same text for another reason: `<|im_start|>` of SmolLM2, or a user who types it.
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
        // The texts may agree for longer: what follows may begin as the BOS does.
        let starts = rendered.match_indices(bos.as_str()).map(|(at, _)| at);
        let found = starts.take_while(|at| *at <= same).find(|at| {
            let behind = &rendered[at + bos.len()..];
            let next = behind.find(bos.as_str()).unwrap_or(behind.len());
            bare[*at..].starts_with(&behind[..next])
        });
        Ok(found.map(|at| at..at + bos.len()))
    }

    /// The error of a template whose BOS is now here, now there.
    pub(crate) fn moved_bos(&self) -> TemplateError {
        TemplateError::MovedBos(self.path.clone())
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
    fn blocks_and_methods_are_those_of_transformers() {
        let text = "{{ bos_token }}\n{% for m in messages %}\n  {% if loop.first %}\n[{{ m['role'].upper() }}]\
                    {% endif %}\n{{ m.content.strip().split('|')[-1] }}{{ eos_token }}\n{% endfor %}\n\
                    {% generation %}!{% endgeneration %}{% if tools is none %}T{% endif %}\n";
        let rendered = template(text).unwrap().render(&[user(" a|b ")]).unwrap();
        assert_eq!(rendered, "<s>\n[USER]b</s>\n!T");
    }

    #[test]
    fn values_become_json_as_python_writes_it() {
        let text = "{{ messages | tojson }} {{ 'é<&' | tojson }} {{ [1, {'a': none}] | tojson(indent=2) }}";
        let rendered = template(text).unwrap().render(&[user("x")]).unwrap();
        let expected = "[{\"role\": \"user\", \"content\": \"x\"}] \"é<&\" [\n  1,\n  {\n    \"a\": null\n  }\n]";
        assert_eq!(rendered, expected);
    }

    #[test]
    fn the_bos_is_the_templates_only_if_it_writes_the_variable() {
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
            let found = template.bos_written(&messages, &rendered).unwrap();
            assert_eq!(found, expected, "{text} {content}");
        }
    }

    #[test]
    fn what_does_not_render_is_an_error_with_its_line() {
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
        assert!(empty.unwrap_err().to_string().contains("writes nothing"));
    }

    #[test]
    fn what_would_not_end_or_would_fill_memory_is_stopped() {
        let long = "works too long or writes too much";
        for text in [
            "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
            "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x.replace('a', n.x) %}{% endfor %}",
            "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x | replace('b', n.x) %}{% endfor %}",
            "{{ 'x' * 90000000 * 90000000 }}",
        ] {
            fails(text, 1, &[long]);
        }
        // Shared values, which are small until they are written.
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
