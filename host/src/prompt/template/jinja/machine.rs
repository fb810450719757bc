//! Runs a template: executes statements and evaluates expressions.

use super::{
    Fault, Text, Value, builtins, checks, filters,
    given::Given,
    methods, ops, slices,
    state::{Frame, LoopState, Machine},
    syntax::{Applied, Arguments, Expr, For, Macro, Node, Statement, Step},
    text::{self, Writer},
    value::{Key, SeqKind},
};
use std::{collections::HashMap, sync::Arc};

/// Maximum nesting depth of bodies and expressions, including those of called macros.
const MAX_DEPTH: usize = 250;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Through,
    Break,
    Continue,
}

impl Machine {
    pub fn run(mut self, body: &[Node]) -> Result<String, Fault> {
        let mut out = String::new();
        self.body(body, &mut out)?;
        Ok(out)
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::new(
                "macros, blocks or expressions are nested too deeply: the recursion may be endless",
            ));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn body(&mut self, nodes: &[Node], out: &mut String) -> Result<Flow, Fault> {
        for node in nodes {
            let flow = self.deeper(|machine| machine.statement(&node.statement, out));
            let flow = flow.map_err(|fault| fault.at(node.line))?;
            if flow != Flow::Through {
                return Ok(flow);
            }
        }
        Ok(Flow::Through)
    }

    /// Runs a body and returns the text that it writes.
    fn captured(&mut self, nodes: &[Node]) -> Result<String, Fault> {
        let mut out = String::new();
        self.body(nodes, &mut out)?;
        Ok(out)
    }

    fn scoped<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.frames.push(Frame::new());
        let result = run(self);
        self.frames.pop();
        result
    }

    fn statement(&mut self, statement: &Statement, out: &mut String) -> Result<Flow, Fault> {
        self.budget.steps(1)?;
        match statement {
            Statement::Text(text) => self.write(text, out)?,
            Statement::Write(expr) => {
                let value = self.value(expr)?;
                let text = text::text(&value, &mut self.budget)?;
                self.write(&text, out)?;
            }
            Statement::For(each) => self.each(each, out)?,
            Statement::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.value(condition)?.is_true() {
                        return self.body(body, out);
                    }
                }
                return self.body(otherwise, out);
            }
            Statement::Set(target, expr) => {
                let value = self.value(expr)?;
                self.assign(target, value)?;
            }
            Statement::SetBlock(target, filters, body) => {
                let text = self.scoped(|machine| machine.captured(body))?;
                let value = self.filtered(Value::Text(text.into()), filters)?;
                self.assign(target, value)?;
            }
            Statement::Macro(made) => {
                let value = self.define(made)?;
                self.set(&made.name, value);
            }
            Statement::Call(caller, call) => {
                let caller = self.define(caller)?;
                let value = match call {
                    Expr::Then(callee, steps)
                        if let Some((Step::Call(arguments), before)) = steps.split_last() =>
                    {
                        let callee = self.then(callee, before)?;
                        let mut given = self.given(arguments)?;
                        given.named.push(("caller".into(), caller));
                        self.call(&callee, given)?
                    }
                    _ => {
                        return Err(Fault::new(
                            "`call` is not followed by a call; expected a macro with `(…)`",
                        ));
                    }
                };
                let text = text::text(&value, &mut self.budget)?;
                self.write(&text, out)?;
            }
            Statement::Filter(filters, body) => {
                let text = self.scoped(|machine| machine.captured(body))?;
                let value = self.filtered(Value::Text(text.into()), filters)?;
                let text = text::text(&value, &mut self.budget)?;
                self.write(&text, out)?;
            }
            Statement::With(values, body) => {
                return self.scoped(|machine| {
                    for (target, expr) in values {
                        let value = machine.value(expr)?;
                        machine.assign(target, value)?;
                    }
                    machine.body(body, out)
                });
            }
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Through)
    }

    fn write(&mut self, text: &str, out: &mut String) -> Result<(), Fault> {
        self.budget.bytes(text.len())?;
        out.push_str(text);
        Ok(())
    }

    fn each(&mut self, each: &For, out: &mut String) -> Result<(), Fault> {
        let over = self.value(&each.over)?;
        let mut items = ops::elements(&over, &mut self.budget)?;
        if let Some(condition) = &each.only_if {
            let mut kept = Vec::new();
            for item in items {
                let keeps = self.scoped(|machine| {
                    machine.assign(&each.target, item.clone())?;
                    Ok(machine.value(condition)?.is_true())
                })?;
                if keeps {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            self.body(&each.otherwise, out)?;
            return Ok(());
        }
        let place = self.loops.len();
        self.loops.push(LoopState { items, index: 0 });
        let result = self.rounds(each, place, out);
        self.loops.truncate(place);
        result
    }

    fn rounds(&mut self, each: &For, place: usize, out: &mut String) -> Result<(), Fault> {
        loop {
            let Some(state) = self.loops.get(place) else {
                return Ok(());
            };
            let Some(item) = state.items.get(state.index).cloned() else {
                return Ok(());
            };
            self.budget.steps(1)?;
            let flow = self.scoped(|machine| {
                machine.set(&"loop".into(), Value::Loop(place));
                machine.assign(&each.target, item)?;
                machine.body(&each.body, out)
            })?;
            if flow == Flow::Break {
                return Ok(());
            }
            if let Some(state) = self.loops.get_mut(place) {
                state.index += 1;
            }
        }
    }

    fn define(&mut self, made: &Arc<Macro>) -> Result<Value, Fault> {
        let variables: usize = self.frames.iter().map(HashMap::len).sum();
        ops::pay_for_slots(2 * (variables + self.frames.len() + 1), &mut self.budget)?;
        self.macros.push((Arc::clone(made), self.frames.clone()));
        Ok(Value::Macro(self.macros.len() - 1))
    }

    fn value(&mut self, expr: &Expr) -> Result<Value, Fault> {
        self.budget.steps(1)?;
        // Leaves need no depth check.
        match expr {
            Expr::Constant(value) => Ok(value.clone()),
            Expr::Name(name) => Ok(self.find(name)),
            _ => self.deeper(|machine| machine.nested(expr)),
        }
    }

    fn nested(&mut self, expr: &Expr) -> Result<Value, Fault> {
        match expr {
            Expr::Constant(value) => Ok(value.clone()),
            Expr::Name(name) => Ok(self.find(name)),
            Expr::List(items) => {
                let items = self.values(items)?;
                Value::list(items)
            }
            Expr::Tuple(items) => {
                let items = self.values(items)?;
                Value::seq(SeqKind::Tuple, items)
            }
            Expr::Dict(pairs) => {
                ops::pay_for_slots(2 * pairs.len(), &mut self.budget)?;
                let mut entries = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let key = Key::of(&self.value(key)?)?;
                    self.budget.reads(key.length())?;
                    entries.push((key, self.value(value)?));
                }
                Value::dict_of(entries)
            }
            Expr::And(parts) => self.first_that(parts, false),
            Expr::Or(parts) => self.first_that(parts, true),
            Expr::Not(value) => Ok(Value::Bool(!self.value(value)?.is_true())),
            Expr::Negative(value) => {
                let value = self.value(value)?;
                ops::negative(&value)
            }
            Expr::Positive(value) => {
                let value = self.value(value)?;
                ops::negative(&value)?;
                Ok(value)
            }
            Expr::Compare(first, rest) => {
                let mut left = self.value(first)?;
                for (comparison, right) in rest {
                    let right = self.value(right)?;
                    if !ops::compare(*comparison, &left, &right, &mut self.budget)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Calculate(first, rest) => {
                let mut left = self.value(first)?;
                for (operator, right) in rest {
                    let right = self.value(right)?;
                    left = ops::calculate(*operator, &left, &right, &mut self.budget)?;
                }
                Ok(left)
            }
            Expr::Join(parts) => {
                let parts = self.values(parts)?;
                let mut joined = Writer::new(&mut self.budget);
                for part in &parts {
                    joined.value(part)?;
                }
                Ok(joined.finish())
            }
            Expr::Choose(choices, otherwise) => {
                for (value, condition) in choices {
                    if self.value(condition)?.is_true() {
                        return self.value(value);
                    }
                }
                match otherwise {
                    Some(value) => self.value(value),
                    None => Ok(Value::Undefined(
                        "the value of an `if` without `else`".into(),
                    )),
                }
            }
            Expr::Then(value, steps) => self.then(value, steps),
        }
    }

    fn values(&mut self, items: &[Expr]) -> Result<Vec<Value>, Fault> {
        ops::pay_for_slots(items.len(), &mut self.budget)?;
        items.iter().map(|item| self.value(item)).collect()
    }

    /// Returns the first value whose truth is `ends`, or the last value: `or` and `and`.
    fn first_that(&mut self, parts: &[Expr], ends: bool) -> Result<Value, Fault> {
        let mut value = Value::None;
        for part in parts {
            value = self.value(part)?;
            if value.is_true() == ends {
                break;
            }
        }
        Ok(value)
    }

    fn then(&mut self, value: &Expr, steps: &[Step]) -> Result<Value, Fault> {
        let mut value = self.value(value)?;
        for step in steps {
            self.budget.steps(1)?;
            value = match step {
                Step::Attribute(name) => self.attribute(&value, name)?,
                Step::Item(key) => {
                    let key = self.value(key)?;
                    self.item(&value, &key)?
                }
                Step::Slice(parts) => {
                    let mut bounds = [const { None }; 3];
                    for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                        *bound = part.as_ref().map(|part| self.value(part)).transpose()?;
                    }
                    slices::slice(&value, &bounds, &mut self.budget)?
                }
                Step::Call(arguments) => {
                    let given = self.given(arguments)?;
                    self.call(&value, given)?
                }
                Step::Filter(applied) => {
                    let given = self.given(&applied.arguments)?;
                    filters::apply(self, &applied.name, value, given)?
                }
                Step::Test(negated, applied) => {
                    let given = self.given(&applied.arguments)?;
                    let holds = checks::check(self, &applied.name, &value, given)?;
                    Value::Bool(holds != *negated)
                }
            };
        }
        Ok(value)
    }

    fn filtered(&mut self, value: Value, filters: &[Applied]) -> Result<Value, Fault> {
        filters.iter().try_fold(value, |value, applied| {
            let given = self.given(&applied.arguments)?;
            filters::apply(self, &applied.name, value, given)
        })
    }

    fn given(&mut self, arguments: &Arguments) -> Result<Given, Fault> {
        let positional = self.values(&arguments.positional)?;
        let mut named = Vec::with_capacity(arguments.named.len());
        for (name, value) in &arguments.named {
            named.push((Text::clone(name), self.value(value)?));
        }
        Ok(Given { positional, named })
    }

    fn call(&mut self, callee: &Value, given: Given) -> Result<Value, Fault> {
        match callee {
            Value::Macro(index) => self.call_macro(*index, given),
            Value::Method(bound) => {
                let (value, name) = &**bound;
                if let Value::Loop(place) = value {
                    let at = self.loops.get(*place).map_or(0, |state| state.index);
                    let count = given.positional.len().max(1);
                    let chosen = given.positional.into_iter().nth(at % count);
                    return chosen.ok_or_else(|| {
                        Fault::new("`loop.cycle` has no arguments; expected at least one")
                    });
                }
                methods::call(&mut self.budget, value, name, given)
            }
            Value::Function(function) => builtins::call(self, *function, given),
            Value::Undefined(what) => Err(ops::undefined(what)),
            other => Err(Fault::new(format!(
                "{other} cannot be called; expected a macro, a function or a method"
            ))),
        }
    }

    fn call_macro(&mut self, index: usize, given: Given) -> Result<Value, Fault> {
        let Some((made, captured)) = self.macros.get(index) else {
            return Err(Fault::new("a macro no longer exists"));
        };
        let (made, mut frames) = (Arc::clone(made), captured.clone());
        let variables: usize = frames.iter().map(HashMap::len).sum();
        ops::pay_for_slots(
            2 * (variables + made.parameters.len() + 1),
            &mut self.budget,
        )?;
        let mut frame = Frame::new();
        let Given { positional, named } = given;
        let fault = |why: &str| Fault::new(format!("the macro `{}` {why}", made.name));
        if positional.len() > made.parameters.len() {
            return Err(fault("has fewer parameters than the call has arguments"));
        }
        for ((name, _), value) in made.parameters.iter().zip(positional) {
            frame.insert(Text::clone(name), value);
        }
        for (name, value) in named {
            let known = &*name == "caller" || made.parameters.iter().any(|(own, _)| *own == name);
            if !known {
                return Err(fault(
                    "does not have a parameter of the name of an argument",
                ));
            }
            if frame.insert(name, value).is_some() {
                return Err(fault("was given the same argument twice"));
            }
        }
        frames.push(frame);
        let outside = std::mem::replace(&mut self.frames, frames);
        let result = self.deeper(|machine| {
            for (name, default) in &made.parameters {
                if machine
                    .frames
                    .last()
                    .is_some_and(|frame| frame.contains_key(name))
                {
                    continue;
                }
                let value = match default {
                    Some(default) => machine.value(default)?,
                    None => Value::Undefined(format!("`{name}`").into()),
                };
                machine.set(name, value);
            }
            machine.captured(&made.body)
        });
        self.frames = outside;
        result.map(|text| Value::Text(text.into()))
    }
}
