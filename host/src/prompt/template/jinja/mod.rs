//! An interpreter for chat templates: Jinja2 as sandboxed by transformers, within a budget.
//!
//! Templates come from untrusted files. Every template ends soon, uses little memory and cannot overflow the
//! stack, because each resource is bounded where it is used:
//!
//! | resource | bound |
//! |---|---|
//! | time | [`budget`]: one step for each evaluated node and each visited element |
//! | memory | [`budget`]: bytes of values and texts. Freed bytes count too |
//! | recursion in the parser | the nesting limit of [`parser`]. Chains such as `a ~ b ~ c` are flat lists |
//! | recursion in values | the depth stored in each list and dictionary. Cycles are impossible: only namespaces are mutable, and no value can contain one |
//! | recursion in macros | the evaluation depth in [`machine`] |
//!
//! Existing engines limit the number of instructions, but not the work of one instruction on shared values:
//! comparing two lists that were doubled 25 times takes minutes.

mod budget;
mod builtins;
mod call_args;
mod checks;
mod fault;
mod filters;
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

/// Maximum size of a template in bytes. The largest published ones have about 20,000.
const MAX_SOURCE: usize = 1 << 20;

/// A parsed template.
#[derive(Debug)]
pub(super) struct Program {
    body: Vec<Node>,
}

impl Program {
    /// Parses a template.
    pub fn parse(source: &str) -> Result<Self, Fault> {
        if source.len() > MAX_SOURCE {
            let found = source.len();
            return Err(Fault::new(format!(
                "it has {found} bytes; expected at most {MAX_SOURCE}"
            )));
        }
        let tokens = lexer::tokens(source)?;
        Ok(Self {
            body: parser::parse(tokens)?,
        })
    }

    /// Renders the template with these variables.
    pub fn render(&self, variables: &BTreeMap<&str, Value>) -> Result<String, Fault> {
        Machine::new(variables, Budget::default()).run(&self.body)
    }
}
