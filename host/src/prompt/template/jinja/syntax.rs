//! The syntax tree of a template. Operators of the same precedence form a flat list, so only brackets and blocks
//! nest.

use super::{Text, Value};
use std::sync::Arc;

/// A statement and its line.
#[derive(Debug)]
pub(super) struct Node {
    pub line: usize,
    pub statement: Statement,
}

#[derive(Debug)]
pub(super) enum Statement {
    /// The text between tags.
    Text(String),
    /// `{{ … }}`
    Output(Expr),
    For(Box<For>),
    /// Each condition with its body, then the body of `else`.
    If(Vec<(Expr, Vec<Node>)>, Vec<Node>),
    Set(Target, Expr),
    /// `{% set x %}…{% endset %}`, with filters.
    SetBlock(Target, Vec<FilterOrTest>, Vec<Node>),
    Macro(Arc<Macro>),
    /// `{% call %}`: its body is the macro `caller`.
    Call(Arc<Macro>, Expr),
    /// `{% filter %}`
    Filter(Vec<FilterOrTest>, Vec<Node>),
    /// `{% with %}`, and `{% generation %}` from transformers.
    With(Vec<(Target, Expr)>, Vec<Node>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct For {
    pub target: Target,
    pub iterable: Expr,
    pub condition: Option<Expr>,
    pub body: Vec<Node>,
    pub else_body: Vec<Node>,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub name: Text,
    /// Names, with optional default values.
    pub parameters: Vec<(Text, Option<Expr>)>,
    pub body: Vec<Node>,
}

/// The target of an assignment.
#[derive(Debug)]
pub(super) enum Target {
    Name(Text),
    /// An attribute of a namespace.
    Attribute(Text, Text),
    Several(Vec<Target>),
}

#[derive(Debug)]
pub(super) enum Expr {
    Constant(Value),
    Name(Text),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    Calculate(Box<Expr>, Vec<(Operator, Expr)>),
    /// `~`
    Concat(Vec<Expr>),
    /// `a if b else c if d else e`: each value with its condition, then the last value.
    Conditional(Vec<(Expr, Expr)>, Option<Box<Expr>>),
    /// An expression and its postfix operators.
    Postfix(Box<Expr>, Vec<PostfixOp>),
}

#[derive(Debug)]
pub(super) enum PostfixOp {
    /// `.name`
    Attribute(Text),
    /// `[…]`
    Item(Expr),
    /// `[a:b:c]`
    Slice(Box<[Option<Expr>; 3]>),
    Call(Arguments),
    Filter(FilterOrTest),
    /// `is` or, if the flag is set, `is not`.
    Test(bool, FilterOrTest),
}

/// A filter or test with its arguments.
#[derive(Debug)]
pub(super) struct FilterOrTest {
    pub name: Text,
    pub arguments: Arguments,
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub positional: Vec<Expr>,
    pub named: Vec<(Text, Expr)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}
