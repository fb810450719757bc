//! Parses tokens into statements. Matches `jinja2/parser.py`, but refuses tags that would read other templates.

use super::{
    Fault, Text, Value,
    lexer::{LocatedToken, Token},
    syntax::{
        Arguments, Comparison, Expr, FilterOrTest, For, Macro, Node, Operator, PostfixOp,
        Statement, Target,
    },
};
use std::sync::Arc;

/// Maximum nesting depth of brackets, blocks and signs. Published templates reach about twelve.
const MAX_NESTING: usize = 100;

pub(super) fn parse(tokens: Vec<LocatedToken>) -> Result<Vec<Node>, Fault> {
    let line = tokens.last().map_or(1, |(_, line)| *line);
    let mut parser = Parser {
        tokens: tokens.into_iter().peekable(),
        line,
        last: line,
        nesting: 0,
    };
    parser.line = 1;
    parser.body(&[])
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<LocatedToken>>,
    /// The line of the last token taken.
    line: usize,
    /// The line of the last token of the template.
    last: usize,
    nesting: usize,
}

/// The names of the tags that may end a body.
type EndTags<'e> = &'e [&'static str];

impl Parser {
    fn peek(&mut self) -> Option<&Token> {
        self.tokens.peek().map(|(token, _)| token)
    }

    fn next(&mut self) -> Option<Token> {
        let (token, line) = self.tokens.next()?;
        self.line = line;
        Some(token)
    }

    fn fault(&mut self, expected: &str) -> Fault {
        let (found, line) = match self.tokens.peek() {
            Some((token, line)) => (described(token), *line),
            None => ("the end".to_owned(), self.last),
        };
        Fault::new(format!("syntax error: expected {expected}, found {found}")).at(line)
    }

    /// Takes the operator if it is next.
    fn operator(&mut self, operator: &'static str) -> bool {
        self.take(&Token::Operator(operator))
    }

    fn take(&mut self, token: &Token) -> bool {
        let is = self.peek() == Some(token);
        if is {
            self.next();
        }
        is
    }

    fn require(&mut self, operator: &'static str) -> Result<(), Fault> {
        if self.operator(operator) {
            return Ok(());
        }
        Err(self.fault(&format!("`{operator}`")))
    }

    fn is_word(&mut self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(name)) if &**name == word)
    }

    fn word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        if is {
            self.next();
        }
        is
    }

    fn name(&mut self) -> Result<Text, Fault> {
        if let Some(Token::Name(name)) = self.peek() {
            let name = Text::clone(name);
            self.next();
            return Ok(name);
        }
        Err(self.fault("a name"))
    }

    fn block_end(&mut self) -> Result<(), Fault> {
        if self.take(&Token::BlockEnd) {
            return Ok(());
        }
        Err(self.fault("`%}`"))
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.nesting == MAX_NESTING {
            let why = format!(
                "syntax error: brackets, signs or blocks are nested too deeply; expected at most {MAX_NESTING} levels"
            );
            return Err(Fault::new(why).at(self.line));
        }
        self.nesting += 1;
        let read = read(self);
        self.nesting -= 1;
        read
    }

    /// Parses statements up to a tag of one of these names, or up to the end if there are none. Takes the `{%`
    /// of the tag.
    fn body(&mut self, ends: EndTags<'_>) -> Result<Vec<Node>, Fault> {
        let mut nodes = Vec::new();
        loop {
            let line = self.tokens.peek().map_or(self.line, |(_, line)| *line);
            let statement = match self.next() {
                None if ends.is_empty() => return Ok(nodes),
                None => return Err(self.fault(&format!("`{{% {} %}}`", ends.join(" %}` or `{% ")))),
                Some(Token::Data(text)) => Statement::Text(text),
                Some(Token::WriteBegin) => {
                    let value = self.tuple()?;
                    if !self.take(&Token::WriteEnd) {
                        return Err(self.fault("`}}`"));
                    }
                    Statement::Output(value)
                }
                _ => {
                    if ends.iter().any(|end| self.is_word(end)) {
                        return Ok(nodes);
                    }
                    self.nested(Self::statement)?
                }
            };
            nodes.push(Node { line, statement });
        }
    }

    /// Parses a body up to and including the tag `end`.
    fn whole_body(&mut self, end: &'static str) -> Result<Vec<Node>, Fault> {
        self.block_end()?;
        let body = self.body(&[end])?;
        self.word(end);
        self.block_end()?;
        Ok(body)
    }

    fn statement(&mut self) -> Result<Statement, Fault> {
        let line = self.tokens.peek().map_or(self.last, |(_, line)| *line);
        let name = self.name()?;
        match &*name {
            "for" => self.for_loop(),
            "if" => self.condition(),
            "set" => self.set(),
            "macro" => {
                let name = self.name()?;
                self.require("(")?;
                let parameters = self.parameters()?;
                let body = self.whole_body("endmacro")?;
                Ok(Statement::Macro(Arc::new(Macro {
                    name,
                    parameters,
                    body,
                })))
            }
            "call" => {
                let parameters = if self.operator("(") {
                    self.parameters()?
                } else {
                    Vec::new()
                };
                let call = self.expression()?;
                let body = self.whole_body("endcall")?;
                let caller = Macro {
                    name: "caller".into(),
                    parameters,
                    body,
                };
                Ok(Statement::Call(Arc::new(caller), call))
            }
            "filter" => {
                let name = self.name()?;
                let filters = self.filters(name)?;
                Ok(Statement::Filter(filters, self.whole_body("endfilter")?))
            }
            "with" => {
                let mut values = Vec::new();
                while self.peek() != Some(&Token::BlockEnd) {
                    if !values.is_empty() {
                        self.require(",")?;
                    }
                    let target = self.target()?;
                    self.require("=")?;
                    values.push((target, self.expression()?));
                }
                Ok(Statement::With(values, self.whole_body("endwith")?))
            }
            "block" => {
                self.name()?;
                Ok(Statement::With(Vec::new(), self.whole_body("endblock")?))
            }
            "generation" => {
                let body = self.whole_body("endgeneration")?;
                Ok(Statement::With(Vec::new(), body))
            }
            "break" | "continue" => {
                self.block_end()?;
                Ok(if &*name == "break" {
                    Statement::Break
                } else {
                    Statement::Continue
                })
            }
            other => {
                let why =
                    format!("syntax error: the tag `{other}` is not supported in chat templates");
                Err(Fault::new(why).at(line))
            }
        }
    }

    fn for_loop(&mut self) -> Result<Statement, Fault> {
        let target = self.targets()?;
        if !self.word("in") {
            return Err(self.fault("`in`"));
        }
        let iterable = self.listed(Self::unconditional)?;
        let condition = if self.word("if") {
            Some(self.expression()?)
        } else {
            None
        };
        if self.is_word("recursive") {
            return Err(self.fault("a loop without `recursive`"));
        }
        self.block_end()?;
        let body = self.body(&["endfor", "else"])?;
        let mut else_body = Vec::new();
        if self.word("else") {
            self.block_end()?;
            else_body = self.body(&["endfor"])?;
        }
        self.word("endfor");
        self.block_end()?;
        Ok(Statement::For(Box::new(For {
            target,
            iterable,
            condition,
            body,
            else_body,
        })))
    }

    fn condition(&mut self) -> Result<Statement, Fault> {
        let mut branches = Vec::new();
        let mut else_body = Vec::new();
        loop {
            let condition = self.listed(Self::unconditional)?;
            self.block_end()?;
            branches.push((condition, self.body(&["elif", "else", "endif"])?));
            if self.word("elif") {
                continue;
            }
            if self.word("else") {
                self.block_end()?;
                else_body = self.body(&["endif"])?;
            }
            self.word("endif");
            self.block_end()?;
            return Ok(Statement::If(branches, else_body));
        }
    }

    fn set(&mut self) -> Result<Statement, Fault> {
        let target = self.targets()?;
        if self.operator("=") {
            let value = self.tuple()?;
            self.block_end()?;
            return Ok(Statement::Set(target, value));
        }
        let filters = if self.operator("|") {
            let name = self.name()?;
            self.filters(name)?
        } else {
            Vec::new()
        };
        let body = self.whole_body("endset")?;
        Ok(Statement::SetBlock(target, filters, body))
    }

    /// Parses a filter whose name was taken, and the filters that follow.
    fn filters(&mut self, name: Text) -> Result<Vec<FilterOrTest>, Fault> {
        let mut filters = vec![self.applied(name)?];
        while self.operator("|") {
            let name = self.name()?;
            filters.push(self.applied(name)?);
        }
        Ok(filters)
    }

    fn applied(&mut self, name: Text) -> Result<FilterOrTest, Fault> {
        let name = self.dotted(name)?;
        let arguments = if self.operator("(") {
            self.nested(Self::arguments)?
        } else {
            Arguments::default()
        };
        Ok(FilterOrTest { name, arguments })
    }

    fn dotted(&mut self, name: Text) -> Result<Text, Fault> {
        let mut name = name;
        while self.operator(".") {
            name = format!("{name}.{}", self.name()?).into();
        }
        Ok(name)
    }

    /// Parses the parameters of a macro after the `(`.
    fn parameters(&mut self) -> Result<Vec<(Text, Option<Expr>)>, Fault> {
        let mut parameters = Vec::new();
        while !self.operator(")") {
            if !parameters.is_empty() {
                self.require(",")?;
            }
            let name = self.name()?;
            let default = if self.operator("=") {
                Some(self.expression()?)
            } else {
                None
            };
            parameters.push((name, default));
        }
        Ok(parameters)
    }

    /// Parses names separated by commas.
    fn targets(&mut self) -> Result<Target, Fault> {
        let first = self.target()?;
        if self.peek() != Some(&Token::Operator(",")) {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.operator(",") {
            if self.is_word("in") || self.peek() == Some(&Token::Operator("=")) {
                break;
            }
            targets.push(self.target()?);
        }
        Ok(Target::Several(targets))
    }

    fn target(&mut self) -> Result<Target, Fault> {
        if self.operator("(") {
            let target = self.nested(Self::targets)?;
            self.require(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if self.operator(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        Ok(Target::Name(name))
    }

    /// Parses an expression, or a tuple of expressions separated by commas.
    fn tuple(&mut self) -> Result<Expr, Fault> {
        self.listed(Self::expression)
    }

    fn listed(&mut self, item: fn(&mut Self) -> Result<Expr, Fault>) -> Result<Expr, Fault> {
        let first = item(self)?;
        if self.peek() != Some(&Token::Operator(",")) {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.operator(",") {
            let ends = matches!(
                self.peek(),
                None | Some(Token::BlockEnd | Token::WriteEnd | Token::Operator(")" | "="))
            );
            if ends {
                break;
            }
            items.push(item(self)?);
        }
        Ok(Expr::Tuple(items))
    }

    fn expression(&mut self) -> Result<Expr, Fault> {
        self.nested(|parser| {
            let mut value = parser.unconditional()?;
            let mut choices = Vec::new();
            while parser.word("if") {
                let condition = parser.unconditional()?;
                if !parser.word("else") {
                    choices.push((value, condition));
                    return Ok(Expr::Conditional(choices, None));
                }
                choices.push((value, condition));
                value = parser.unconditional()?;
            }
            Ok(if choices.is_empty() {
                value
            } else {
                Expr::Conditional(choices, Some(Box::new(value)))
            })
        })
    }

    /// Parses an expression without `if`.
    fn unconditional(&mut self) -> Result<Expr, Fault> {
        self.chain("or", Expr::Or, |parser| {
            parser.chain("and", Expr::And, Self::negation)
        })
    }

    fn chain(
        &mut self,
        word: &str,
        whole: fn(Vec<Expr>) -> Expr,
        part: fn(&mut Self) -> Result<Expr, Fault>,
    ) -> Result<Expr, Fault> {
        let first = part(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.word(word) {
            parts.push(part(self)?);
        }
        Ok(whole(parts))
    }

    fn negation(&mut self) -> Result<Expr, Fault> {
        if self.word("not") {
            let value = self.nested(Self::negation)?;
            return Ok(Expr::Not(Box::new(value)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr, Fault> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        while let Some(comparison) = self.comparison_sign()? {
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() {
            first
        } else {
            Expr::Compare(Box::new(first), rest)
        })
    }

    fn comparison_sign(&mut self) -> Result<Option<Comparison>, Fault> {
        let found = match self.peek() {
            Some(Token::Operator("==")) => Comparison::Equal,
            Some(Token::Operator("!=")) => Comparison::Unequal,
            Some(Token::Operator("<")) => Comparison::Less,
            Some(Token::Operator("<=")) => Comparison::LessOrEqual,
            Some(Token::Operator(">")) => Comparison::Greater,
            Some(Token::Operator(">=")) => Comparison::GreaterOrEqual,
            Some(Token::Name(name)) if &**name == "in" => Comparison::In,
            Some(Token::Name(name)) if &**name == "not" => {
                self.next();
                if !self.is_word("in") {
                    return Err(self.fault("`in`"));
                }
                Comparison::NotIn
            }
            _ => return Ok(None),
        };
        self.next();
        Ok(Some(found))
    }

    fn sum(&mut self) -> Result<Expr, Fault> {
        let signs = [("+", Operator::Add), ("-", Operator::Subtract)];
        self.calculation(&signs, |parser| {
            let first = parser.product()?;
            if parser.peek() != Some(&Token::Operator("~")) {
                return Ok(first);
            }
            let mut parts = vec![first];
            while parser.operator("~") {
                parts.push(parser.product()?);
            }
            Ok(Expr::Concat(parts))
        })
    }

    fn product(&mut self) -> Result<Expr, Fault> {
        let signs = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Remainder),
        ];
        self.calculation(&signs, |parser| {
            parser.calculation(&[("**", Operator::Power)], |parser| parser.unary(true))
        })
    }

    fn calculation(
        &mut self,
        signs: &[(&'static str, Operator)],
        part: fn(&mut Self) -> Result<Expr, Fault>,
    ) -> Result<Expr, Fault> {
        let first = part(self)?;
        let mut rest = Vec::new();
        while let Some((_, operator)) = signs.iter().find(|(sign, _)| self.operator(sign)) {
            rest.push((*operator, part(self)?));
        }
        Ok(if rest.is_empty() {
            first
        } else {
            Expr::Calculate(Box::new(first), rest)
        })
    }

    fn unary(&mut self, with_filter: bool) -> Result<Expr, Fault> {
        let value = if self.operator("-") {
            Expr::Negative(Box::new(self.nested(|parser| parser.unary(false))?))
        } else if self.operator("+") {
            Expr::Positive(Box::new(self.nested(|parser| parser.unary(false))?))
        } else {
            self.primary()?
        };
        let mut ops = Vec::new();
        self.postfix(&mut ops)?;
        if with_filter {
            self.applications(&mut ops)?;
        }
        Ok(with_postfix(value, ops))
    }

    /// Parses a sequence of filters, tests and calls.
    fn applications(&mut self, ops: &mut Vec<PostfixOp>) -> Result<(), Fault> {
        loop {
            if self.operator("|") {
                let name = self.name()?;
                let applied = self.applied(name)?;
                ops.push(PostfixOp::Filter(applied));
            } else if self.word("is") {
                let step = self.test()?;
                ops.push(step);
            } else if self.operator("(") {
                ops.push(PostfixOp::Call(self.nested(Self::arguments)?));
            } else {
                return Ok(());
            }
        }
    }

    /// Parses a sequence of `.name`, `[…]` and `(…)`.
    fn postfix(&mut self, ops: &mut Vec<PostfixOp>) -> Result<(), Fault> {
        loop {
            if self.operator(".") {
                ops.push(if let Some(Token::Integer(index)) = self.peek() {
                    let index = Value::Int(*index);
                    self.next();
                    PostfixOp::Item(Expr::Constant(index))
                } else {
                    PostfixOp::Attribute(self.name()?)
                });
            } else if self.operator("[") {
                ops.push(self.nested(Self::subscript)?);
            } else if self.operator("(") {
                ops.push(PostfixOp::Call(self.nested(Self::arguments)?));
            } else {
                return Ok(());
            }
        }
    }

    /// Parses a subscript after the `[`.
    fn subscript(&mut self) -> Result<PostfixOp, Fault> {
        let mut parts = [None, None, None];
        let mut index = 0;
        loop {
            let ends = matches!(self.peek(), Some(Token::Operator(":" | "]")));
            if !ends {
                parts[index] = Some(self.expression()?);
            }
            if index < 2 && self.operator(":") {
                index += 1;
                continue;
            }
            if index == 0
                && let Some(item) = parts[0].take()
            {
                self.require("]")?;
                return Ok(PostfixOp::Item(item));
            }
            if index == 0 {
                return Err(self.fault("an index"));
            }
            self.require("]")?;
            return Ok(PostfixOp::Slice(Box::new(parts)));
        }
    }

    /// Parses arguments after the `(`.
    fn arguments(&mut self) -> Result<Arguments, Fault> {
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.operator(")") {
            if !first {
                self.require(",")?;
                if self.operator(")") {
                    break;
                }
            }
            first = false;
            let value = self.expression()?;
            let named = match &value {
                Expr::Name(name) if self.peek() == Some(&Token::Operator("=")) => {
                    Some(Text::clone(name))
                }
                _ => None,
            };
            if let Some(name) = named {
                self.next();
                let value = self.expression()?;
                arguments.named.push((name, value));
            } else if arguments.named.is_empty() {
                arguments.positional.push(value);
            } else {
                return Err(self.fault("a named argument after the named ones"));
            }
        }
        Ok(arguments)
    }

    /// Parses a test after `is`.
    fn test(&mut self) -> Result<PostfixOp, Fault> {
        let negated = self.word("not");
        let name = self.name()?;
        let name = self.dotted(name)?;
        let mut arguments = Arguments::default();
        let has_argument = match self.peek() {
            Some(Token::Name(word)) => {
                !matches!(&**word, "else" | "or" | "and" | "if" | "is" | "in" | "not")
            }
            Some(Token::String(_) | Token::Integer(_) | Token::Float(_)) => true,
            Some(Token::Operator(sign)) => matches!(*sign, "[" | "{"),
            _ => false,
        };
        if self.operator("(") {
            arguments = self.nested(Self::arguments)?;
        } else if has_argument {
            let value = self.primary()?;
            let mut ops = Vec::new();
            self.postfix(&mut ops)?;
            arguments.positional.push(with_postfix(value, ops));
        }
        Ok(PostfixOp::Test(negated, FilterOrTest { name, arguments }))
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let is_value = matches!(
            self.peek(),
            Some(
                Token::Name(_)
                    | Token::String(_)
                    | Token::Integer(_)
                    | Token::Float(_)
                    | Token::Operator("(" | "[" | "{")
            )
        );
        let token = if is_value { self.next() } else { None };
        Ok(match token {
            Some(Token::Name(name)) => match &*name {
                "true" | "True" => Expr::Constant(Value::Bool(true)),
                "false" | "False" => Expr::Constant(Value::Bool(false)),
                "none" | "None" => Expr::Constant(Value::None),
                _ => Expr::Name(name),
            },
            Some(Token::String(mut text)) => {
                while let Some(Token::String(more)) = self.peek() {
                    text += more;
                    self.next();
                }
                Expr::Constant(Value::text(&text))
            }
            Some(Token::Integer(number)) => Expr::Constant(Value::Int(number)),
            Some(Token::Float(number)) => Expr::Constant(Value::Float(number)),
            Some(Token::Operator("(")) => self.nested(|parser| {
                if parser.operator(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inside = parser.tuple()?;
                parser.require(")")?;
                Ok(inside)
            })?,
            Some(Token::Operator("[")) => Expr::List(self.nested(|parser| {
                let mut items = Vec::new();
                while !parser.operator("]") {
                    if !items.is_empty() {
                        parser.require(",")?;
                        if parser.operator("]") {
                            break;
                        }
                    }
                    items.push(parser.expression()?);
                }
                Ok(items)
            })?),
            Some(Token::Operator("{")) => Expr::Dict(self.nested(|parser| {
                let mut pairs = Vec::new();
                while !parser.operator("}") {
                    if !pairs.is_empty() {
                        parser.require(",")?;
                        if parser.operator("}") {
                            break;
                        }
                    }
                    let key = parser.expression()?;
                    parser.require(":")?;
                    pairs.push((key, parser.expression()?));
                }
                Ok(pairs)
            })?),
            _ => return Err(self.fault("a value")),
        })
    }
}

fn with_postfix(value: Expr, ops: Vec<PostfixOp>) -> Expr {
    if ops.is_empty() {
        value
    } else {
        Expr::Postfix(Box::new(value), ops)
    }
}

fn described(token: &Token) -> String {
    match token {
        Token::Data(_) => "text".to_owned(),
        Token::WriteBegin => "`{{`".to_owned(),
        Token::WriteEnd => "`}}`".to_owned(),
        Token::BlockBegin => "`{%`".to_owned(),
        Token::BlockEnd => "`%}`".to_owned(),
        Token::Name(name) => format!("`{}`", name.chars().take(40).collect::<String>()),
        Token::String(_) => "a string".to_owned(),
        Token::Integer(number) => number.to_string(),
        Token::Float(number) => number.to_string(),
        Token::Operator(operator) => format!("`{operator}`"),
    }
}
