//! Jinja as chat templates use it: the language of Jinja2 in the sandbox of transformers, within a budget.
//!
//! A template comes from a stranger's file. Whatever it does ends soon, takes little memory and cannot overflow
//! the stack, because every part is bounded where it is made:
//!
//! | what | is bounded by |
//! |---|---|
//! | time | [`budget`]: steps, one for each node that is evaluated and each element that is visited |
//! | memory | [`budget`]: bytes that values and texts take, never given back |
//! | recursion in the parser | the nesting that [`parser`] allows; chains such as `a ~ b ~ c` are flat lists |
//! | recursion in values | their depth, which each list and dictionary knows; none can hold itself, since only namespaces change and nothing can hold one |
//! | recursion in macros | the nesting of evaluation, [`machine`] |
//!
//! Engines that exist bound instructions, but not what one instruction may do to values that are shared: two
//! lists that were doubled 25 times are compared for minutes.

mod budget;
mod builtins;
mod checks;
mod fault;
mod filters;
mod given;
mod json;
mod lexer;
mod machine;
mod methods;
mod ops;
mod parser;
mod sequences;
mod slices;
mod state;
mod syntax;
mod text;
mod value;

#[cfg(test)]
mod tests;

pub(super) use fault::Fault;
pub(super) use value::Value;

use budget::Budget;
use fault::Text;
use state::Machine;
use std::collections::BTreeMap;
use syntax::Node;

/// Bytes of a template at most; the largest published ones have some 20,000.
const MAX_SOURCE: usize = 1 << 20;

/// A template that was read.
#[derive(Debug)]
pub(super) struct Program {
    body: Vec<Node>,
}

impl Program {
    /// Reads a template.
    pub fn parse(source: &str) -> Result<Self, Fault> {
        if source.len() > MAX_SOURCE {
            let found = source.len();
            return Err(Fault::new(format!(
                "it has {found} bytes; expected {MAX_SOURCE} at most"
            )));
        }
        let tokens = lexer::tokens(source)?;
        Ok(Self {
            body: parser::parse(tokens)?,
        })
    }

    /// What it writes, with these variables.
    pub fn render(&self, variables: &BTreeMap<&str, Value>) -> Result<String, Fault> {
        Machine::new(variables, Budget::default()).run(&self.body)
    }
}
