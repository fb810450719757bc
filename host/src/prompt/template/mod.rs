//! Chat formats that a model brings: Jinja templates, as `apply_chat_template` of transformers renders them.
//!
//! A template is a program in a file that is not trusted. It can touch nothing but its own values, and its
//! fuel pays for every instruction and every byte it makes, so that it ends and stays small. One gap is
//! minijinja's: lists that hold one another many times over are joined to a text (`~`) before that is paid.

mod date;
mod json;
mod source;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use thiserror::Error as ThisError;

/// An instruction, or 64 bytes, each. Templates of a thousand lines take some ten thousand for a long
/// conversation; this much is 64 MB at most.
const FUEL: u64 = 1_000_000;

/// Macros within macros; each level takes stack.
const RECURSION: usize = 50;

/// The name that the environment knows the template by.
const NAME: &str = "chat_template";

/// A chat template cannot be read or does not render.
#[derive(Debug, ThisError)]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("the chat template {} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file holds none.
    #[error(
        "{} holds no chat template: {why}\n  expected: {expected}\n  \
         do: write `prompt = {{ template = \"FILE\" }}` in [llm], or one of the formats that have a name",
        .path.display()
    )]
    NoTemplate {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
        /// What was to be there.
        expected: &'static str,
    },
    /// It is no Jinja, it refuses the conversation, or it does not end.
    #[error("the chat template {}, line {line}: {why}", .path.display())]
    Jinja {
        /// The file.
        path: PathBuf,
        /// The line of the template.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It renders to nothing.
    #[error(
        "the chat template {} writes nothing for a conversation\n  do: use the template of this very model",
        .0.display()
    )]
    Empty(PathBuf),
}

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
    environment: Environment<'static>,
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
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        let syntax = syntax.trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| jinja(path, &error))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_formatter(write_plain);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", json::to_json);
        environment.add_function("raise_exception", |why: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, why))
        });
        environment.add_function("strftime_now", |format: &str| {
            date::format(format, SystemTime::now())
        });
        environment
            .add_template_owned(NAME, source::without_generation_marks(&text))
            .map_err(|error| jinja(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            environment,
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

    /// Whether it is the template that writes the BOS, at the front of `rendered`, what `messages` gave.
    ///
    /// # Errors
    ///
    /// As [`Self::render`].
    pub fn writes_bos(&self, messages: &[Message], rendered: &str) -> Result<bool, TemplateError> {
        let Some(bos) = self.tokens.get("bos_token").filter(|bos| !bos.is_empty()) else {
            return Ok(false);
        };
        if !rendered.starts_with(bos.as_str()) {
            return Ok(false);
        }
        // A format may begin with the same text for another reason: `<|im_start|>` of SmolLM2.
        let mut without = self.tokens.clone();
        without.insert("bos_token".to_owned(), String::new());
        let bare = self.render_with(messages, &without)?;
        Ok(!bare.starts_with(bos.as_str()))
    }

    fn render_with(
        &self,
        messages: &[Message],
        tokens: &BTreeMap<String, String>,
    ) -> Result<String, TemplateError> {
        let mut values: BTreeMap<&str, Value> = tokens
            .iter()
            .map(|(name, text)| (name.as_str(), Value::from(text.as_str())))
            .collect();
        let messages = messages.iter().map(|message| {
            let content = Value::from(message.content.as_str());
            Value::from_pairs([("role", Value::from(message.role)), ("content", content)])
        });
        values.insert("messages", messages.collect());
        values.insert("add_generation_prompt", Value::from(true));
        for absent in ["tools", "documents"] {
            values.insert(absent, Value::from(()));
        }
        let template = self.environment.get_template(NAME);
        let text = template
            .and_then(|template| template.render(values))
            .map_err(|error| jinja(&self.path, &error))?;
        if text.is_empty() {
            return Err(TemplateError::Empty(self.path.clone()));
        }
        Ok(text)
    }
}

/// Writes texts and numbers. Lists that hold one another many times over are small until they are written;
/// `tojson` writes them, and has a limit.
fn write_plain(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Plain => {
            let why = format!(
                "a {} is written as it is; expected a text or a number",
                value.kind()
            );
            Err(Error::new(ErrorKind::InvalidOperation, why))
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn jinja(path: &Path, error: &Error) -> TemplateError {
    let why = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => {
            "it works too long or writes too much\n  do: use a template that comes with a model"
                .to_owned()
        }
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    TemplateError::Jinja {
        path: path.to_owned(),
        line: error.line().unwrap_or(1),
        why,
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
        let messages = [user("Hi")];
        for (text, expected) in [
            ("{{ bos_token }}{{ messages[0].content }}", true),
            ("<s>{{ messages[0].content }}", false),
            ("{{ messages[0].content }}{{ bos_token }}", false),
        ] {
            let template = template(text).unwrap();
            let rendered = template.render(&messages).unwrap();
            assert_eq!(
                template.writes_bos(&messages, &rendered).unwrap(),
                expected,
                "{text}"
            );
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
            &["a text or a number"],
        );
        fails(&format!("{doubled}{{{{ n.x | tojson }}}}"), 1, &["bytes"]);
        fails(
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            1,
            &["recursion"],
        );
        fails(&format!("{{{{ {}", "(".repeat(5000)), 1, &[]);
    }
}
