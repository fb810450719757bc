//! Splits a template into tokens. White space around tags is removed as in Jinja2 with `trim_blocks` and
//! `lstrip_blocks`. Line breaks are normalised to `\n`. Matches `jinja2/lexer.py`.

use super::{Fault, Text};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Text between tags.
    Data(String),
    /// `{{`
    WriteBegin,
    /// `}}`
    WriteEnd,
    /// `{%`
    BlockBegin,
    /// `%}`
    BlockEnd,
    Name(Text),
    String(String),
    Integer(i64),
    Float(f64),
    Operator(&'static str),
}

/// Maximum length of a name in bytes, because every use of a name reads it.
const MAX_NAME: usize = 200;

/// A token with its line.
pub(super) type LocatedToken = (Token, usize);

/// The operators, longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

pub(super) fn tokens(source: &str) -> Result<Vec<LocatedToken>, Fault> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer {
        rest: &source,
        line: 1,
        line_starts: true,
        tokens: Vec::new(),
    };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    rest: &'s str,
    line: usize,
    /// Whether the last tag ended at the start of a line.
    line_starts: bool,
    tokens: Vec<LocatedToken>,
}

/// The opening of a tag.
struct Opening<'s> {
    /// `{`, `%` or `#`.
    kind: char,
    /// `-` or `+`, which control the white space before the tag.
    sign: Option<char>,
    /// The source after the opening.
    rest: &'s str,
}

impl<'s> Lexer<'s> {
    fn run(&mut self) -> Result<(), Fault> {
        while let Some((text, opening)) = self.next_tag() {
            self.data(text, &opening);
            self.advance(self.rest.len() - opening.rest.len());
            match opening.kind {
                '#' => self.comment()?,
                '%' if self.raw()? => {}
                '%' => self.tag(Token::BlockBegin, Token::BlockEnd, "%}")?,
                _ => self.tag(Token::WriteBegin, Token::WriteEnd, "}}")?,
            }
        }
        let rest = self.rest;
        self.push_text(rest);
        Ok(())
    }

    /// Returns the text before the next tag, and the tag's opening.
    fn next_tag(&self) -> Option<(&'s str, Opening<'s>)> {
        let mut at = 0;
        loop {
            at += self.rest.get(at..)?.find('{')?;
            let behind = &self.rest[at + 1..];
            if let Some(kind @ ('{' | '%' | '#')) = behind.chars().next() {
                let rest = &behind[1..];
                let sign = rest.chars().next().filter(|sign| matches!(sign, '-' | '+'));
                let rest = &rest[sign.map_or(0, char::len_utf8)..];
                let opening = Opening { kind, sign, rest };
                return Some((&self.rest[..at], opening));
            }
            at += 1;
        }
    }

    /// Adds the text before a tag, without the white space that the tag removes.
    fn data(&mut self, text: &'s str, tag: &Opening<'_>) {
        let kept = match tag.sign {
            Some('-') => text.trim_end(),
            Some(_) => text,
            None if tag.kind == '{' => text,
            None => {
                let line = text.rfind('\n').map_or(0, |at| at + 1);
                let alone = line > 0 || self.line_starts;
                if alone && text[line..].trim().is_empty() {
                    &text[..line]
                } else {
                    text
                }
            }
        };
        self.push_text(kept);
        self.advance(text.len());
    }

    fn push_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.tokens.push((Token::Data(text.to_owned()), self.line));
        }
    }

    fn advance(&mut self, bytes: usize) {
        let (gone, rest) = self.rest.split_at(bytes);
        self.line += gone.matches('\n').count();
        self.rest = rest;
    }

    fn blanks(&mut self) {
        self.advance(self.rest.len() - self.rest.trim_start().len());
    }

    /// Skips the end of a tag, if it comes next, and the white space that it removes.
    fn end(&mut self, end: &str, trims: bool) -> bool {
        let sign = self.rest.chars().next();
        let sign = sign.filter(|&sign| sign == '-' || (sign == '+' && trims));
        let behind = &self.rest[sign.map_or(0, char::len_utf8)..];
        let Some(behind) = behind.strip_prefix(end) else {
            return false;
        };
        let after = match sign {
            Some('-') => behind.trim_start(),
            None if trims => behind.strip_prefix('\n').unwrap_or(behind),
            _ => behind,
        };
        let length = self.rest.len() - after.len();
        self.line_starts = self.rest[..length].ends_with('\n');
        self.advance(length);
        true
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let Some(end) = self.rest.find("#}") else {
            return Err(self.fault("a comment is not closed; expected `#}`"));
        };
        let sign = self.rest[..end].ends_with(['-', '+']);
        self.advance(end - usize::from(sign));
        self.end("#}", true);
        Ok(())
    }

    /// Reads a `{% raw %}` block up to its end. Returns whether there is one.
    fn raw(&mut self) -> Result<bool, Fault> {
        let before = (self.rest, self.line);
        self.blanks();
        let named = self.rest.starts_with("raw");
        if named {
            self.advance("raw".len());
            self.blanks();
        }
        if !named || !self.end("%}", false) {
            (self.rest, self.line) = before;
            return Ok(false);
        }
        let mut at = 0;
        loop {
            let Some(found) = self.rest[at..].find("{%") else {
                return Err(self.fault("`raw` is not closed; expected `{% endraw %}`"));
            };
            at += found;
            let inside = &self.rest[at + 2..];
            let sign = inside
                .chars()
                .next()
                .filter(|sign| matches!(sign, '-' | '+'));
            let inside = &inside[sign.map_or(0, char::len_utf8)..];
            let Some(behind) = inside.trim_start().strip_prefix("endraw") else {
                at += 2;
                continue;
            };
            let (kind, rest) = ('%', behind);
            self.data(&self.rest[..at], &Opening { kind, sign, rest });
            self.advance(self.rest.len() - behind.len());
            self.blanks();
            if self.end("%}", true) {
                return Ok(true);
            }
            return Err(self.fault("expected `%}` after `endraw`"));
        }
    }

    fn tag(&mut self, begin: Token, end: Token, sign: &'static str) -> Result<(), Fault> {
        self.tokens.push((begin, self.line));
        let mut open = Vec::new();
        loop {
            self.blanks();
            let line = self.line;
            if open.is_empty() && self.end(sign, sign == "%}") {
                self.tokens.push((end, line));
                return Ok(());
            }
            let Some(first) = self.rest.chars().next() else {
                return Err(self.fault(format!("a tag is not closed; expected `{sign}`")));
            };
            let token = if first.is_ascii_digit() {
                self.number()?
            } else if first.is_alphanumeric() || first == '_' {
                let length = word(self.rest);
                if length > MAX_NAME {
                    return Err(self.fault(format!(
                        "a name has {length} bytes; expected at most {MAX_NAME}"
                    )));
                }
                let name = Token::Name(self.rest[..length].into());
                self.advance(length);
                name
            } else if matches!(first, '\'' | '"') {
                self.string(first)?
            } else {
                self.operator(&mut open)?
            };
            self.tokens.push((token, line));
        }
    }

    fn operator(&mut self, open: &mut Vec<&'static str>) -> Result<Token, Fault> {
        let found = OPERATORS.into_iter().find(|o| self.rest.starts_with(o));
        let Some(operator) = found else {
            let found: String = self.rest.chars().take(1).collect();
            return Err(self.fault(format!("unexpected `{found}`")));
        };
        match operator {
            "(" => open.push(")"),
            "[" => open.push("]"),
            "{" => open.push("}"),
            ")" | "]" | "}" if open.pop() != Some(operator) => {
                return Err(self.fault(format!("`{operator}` has no matching opening bracket")));
            }
            _ => {}
        }
        self.advance(operator.len());
        Ok(Token::Operator(operator))
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let text = self.rest;
        let digits = |from: usize| {
            let rest = text[from..].bytes();
            from + rest
                .take_while(|b| b.is_ascii_digit() || *b == b'_')
                .count()
        };
        let radix = match text.as_bytes().get(1) {
            Some(b'x' | b'X') => 16,
            Some(b'o' | b'O') => 8,
            Some(b'b' | b'B') => 2,
            _ => 10,
        };
        if radix != 10 && text.starts_with('0') {
            let length = word(text);
            let plain = text[2..length].replace('_', "");
            let number = i64::from_str_radix(&plain, radix);
            let number =
                number.map_err(|_| self.fault(format!("`{}` is not a number", &text[..length])))?;
            self.advance(length);
            return Ok(Token::Integer(number));
        }
        // In `a.0.1`, `0.1` is two indices and not a float.
        let is_index = matches!(self.tokens.last(), Some((Token::Operator("."), _)));
        let is_digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
        let mut end = digits(0);
        let mut float = false;
        if !is_index && text[end..].starts_with('.') && is_digit(end + 1) {
            end = digits(end + 1);
            float = true;
        }
        if !is_index && text[end..].starts_with(['e', 'E']) {
            let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
            if is_digit(end + 1 + sign) {
                end = digits(end + 1 + sign);
                float = true;
            }
        }
        let plain = text[..end].replace('_', "");
        let token = if float {
            plain.parse().ok().map(Token::Float)
        } else {
            plain.parse().ok().map(Token::Integer)
        };
        let token = token.ok_or_else(|| self.fault(format!("the number {plain} is too large")))?;
        self.advance(end);
        Ok(token)
    }

    fn string(&mut self, quote: char) -> Result<Token, Fault> {
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.advance(1 + at + 1);
                return Ok(Token::String(text));
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let Some((at, escaped)) = chars.next() else {
                break;
            };
            let behind = &self.rest[1 + at + escaped.len_utf8()..];
            let mut code = |digits: usize| {
                let value = behind.get(..digits)?;
                let value = u32::from_str_radix(value, 16).ok()?;
                chars.by_ref().take(digits).for_each(drop);
                char::from_u32(value)
            };
            match escaped {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'a' => text.push('\u{7}'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'v' => text.push('\u{b}'),
                '\n' => {}
                '\\' | '\'' | '"' => text.push(escaped),
                'x' | 'u' | 'U' => {
                    let digits = match escaped {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    match code(digits) {
                        Some(c) => text.push(c),
                        None => {
                            return Err(self.fault(format!(
                                "`\\{escaped}` is not followed by a character code"
                            )));
                        }
                    }
                }
                '0'..='7' => {
                    let more = behind
                        .bytes()
                        .take(2)
                        .take_while(|b| (b'0'..=b'7').contains(b))
                        .count();
                    let octal = &self.rest[1 + at..1 + at + 1 + more];
                    chars.by_ref().take(more).for_each(drop);
                    let code = u32::from_str_radix(octal, 8).ok().and_then(char::from_u32);
                    text.extend(code);
                }
                other => {
                    text.push('\\');
                    text.push(other);
                }
            }
        }
        Err(self.fault(format!("a string is not closed; expected `{quote}`")))
    }

    fn fault(&self, why: impl Into<String>) -> Fault {
        Fault::new(format!("syntax error: {}", why.into())).at(self.line)
    }
}

/// Returns the length in bytes of the word at the start.
fn word(text: &str) -> usize {
    let ends = |c: char| !(c.is_alphanumeric() || c == '_');
    text.find(ends).unwrap_or(text.len())
}
