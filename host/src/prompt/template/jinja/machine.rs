//! Runs a template: executes statements and evaluates expressions.

use super::{
    Fault, Text, Value, builtins,
    call_args::CallArgs,
    checks, filters, methods, ops, slices,
    state::{Frame, LoopState, Machine},
    syntax::{Arguments, Expr, FilterOrTest, For, Macro, Node, PostfixOp, Statement},
    text::{self, Writer},
    value::{Key, SeqKind},
};
use std::{collections::HashMap, sync::Arc};

/// Maximum nesting depth of bodies and expressions, including those of called macros.
const MAX_DEPTH: usize = 250;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Normal,
    Break,
    Continue,
}

impl Machine {
    pub fn run(mut self, body: &[Node]) -> Result<String, Fault> {
        let mut out = String::new();
        self.run_body(body, &mut out)?;
        Ok(out)
    }

    fn with_depth<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
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

    fn run_body(&mut self, nodes: &[Node], out: &mut String) -> Result<Flow, Fault> {
        for node in nodes {
            let flow = self.with_depth(|machine| machine.execute(&node.statement, out));
            let flow = flow.map_err(|fault| fault.at(node.line))?;
            if flow != Flow::Normal {
                return Ok(flow);
            }
        }
        Ok(Flow::Normal)
    }

    /// Runs a body and returns the text that it writes.
    fn capture(&mut self, nodes: &[Node]) -> Result<String, Fault> {
        let mut out = String::new();
        self.run_body(nodes, &mut out)?;
        Ok(out)
    }

    fn scoped<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.frames.push(Frame::new());
        let result = run(self);
        self.frames.pop();
        result
    }

    fn execute(&mut self, statement: &Statement, out: &mut String) -> Result<Flow, Fault> {
        self.budget.steps(1)?;
        match statement {
            Statement::Text(text) => self.write(text, out)?,
            Statement::Output(expr) => {
                let value = self.evaluate(expr)?;
                let text = text::text(&value, &mut self.budget)?;
                self.write(&text, out)?;
            }
            Statement::For(statement) => self.for_loop(statement, out)?,
            Statement::If(branches, else_body) => {
                for (condition, body) in branches {
                    if self.evaluate(condition)?.is_true() {
                        return self.run_body(body, out);
                    }
                }
                return self.run_body(else_body, out);
            }
            Statement::Set(target, expr) => {
                let value = self.evaluate(expr)?;
                self.assign(target, value)?;
            }
            Statement::SetBlock(target, filters, body) => {
                let text = self.scoped(|machine| machine.capture(body))?;
                let value = self.apply_filters(Value::Text(text.into()), filters)?;
                self.assign(target, value)?;
            }
            Statement::Macro(definition) => {
                let value = self.define(definition)?;
                self.set(&definition.name, value);
            }
            Statement::Call(caller, call) => {
                let caller = self.define(caller)?;
                let value = match call {
                    Expr::Postfix(callee, operators)
                        if let Some((PostfixOp::Call(arguments), before)) =
                            operators.split_last() =>
                    {
                        let callee = self.postfix(callee, before)?;
                        let mut args = self.evaluate_args(arguments)?;
                        args.named.push(("caller".into(), caller));
                        self.call(&callee, args)?
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
                let text = self.scoped(|machine| machine.capture(body))?;
                let value = self.apply_filters(Value::Text(text.into()), filters)?;
                let text = text::text(&value, &mut self.budget)?;
                self.write(&text, out)?;
            }
            Statement::With(values, body) => {
                return self.scoped(|machine| {
                    for (target, expr) in values {
                        let value = machine.evaluate(expr)?;
                        machine.assign(target, value)?;
                    }
                    machine.run_body(body, out)
                });
            }
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Normal)
    }

    fn write(&mut self, text: &str, out: &mut String) -> Result<(), Fault> {
        self.budget.bytes(text.len())?;
        out.push_str(text);
        Ok(())
    }

    fn for_loop(&mut self, statement: &For, out: &mut String) -> Result<(), Fault> {
        let iterable = self.evaluate(&statement.iterable)?;
        let mut items = ops::elements(&iterable, &mut self.budget)?;
        if let Some(condition) = &statement.condition {
            let mut kept = Vec::new();
            for item in items {
                let keeps = self.scoped(|machine| {
                    machine.assign(&statement.target, item.clone())?;
                    Ok(machine.evaluate(condition)?.is_true())
                })?;
                if keeps {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            self.run_body(&statement.else_body, out)?;
            return Ok(());
        }
        let place = self.loops.len();
        self.loops.push(LoopState { items, index: 0 });
        let result = self.iterate(statement, place, out);
        self.loops.truncate(place);
        result
    }

    fn iterate(&mut self, statement: &For, place: usize, out: &mut String) -> Result<(), Fault> {
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
                machine.assign(&statement.target, item)?;
                machine.run_body(&statement.body, out)
            })?;
            if flow == Flow::Break {
                return Ok(());
            }
            if let Some(state) = self.loops.get_mut(place) {
                state.index += 1;
            }
        }
    }

    fn define(&mut self, definition: &Arc<Macro>) -> Result<Value, Fault> {
        let variables: usize = self.frames.iter().map(HashMap::len).sum();
        ops::pay_for_slots(2 * (variables + self.frames.len() + 1), &mut self.budget)?;
        self.macros
            .push((Arc::clone(definition), self.frames.clone()));
        Ok(Value::Macro(self.macros.len() - 1))
    }

    fn evaluate(&mut self, expr: &Expr) -> Result<Value, Fault> {
        self.budget.steps(1)?;
        // Leaves need no depth check.
        match expr {
            Expr::Constant(value) => Ok(value.clone()),
            Expr::Name(name) => {
                self.budget.steps(self.frames.len())?;
                Ok(self.find(name))
            }
            _ => self.with_depth(|machine| machine.evaluate_nested(expr)),
        }
    }

    fn evaluate_nested(&mut self, expr: &Expr) -> Result<Value, Fault> {
        match expr {
            Expr::Constant(value) => Ok(value.clone()),
            Expr::Name(name) => Ok(self.find(name)),
            Expr::List(items) => {
                let items = self.evaluate_all(items)?;
                Value::list(items)
            }
            Expr::Tuple(items) => {
                let items = self.evaluate_all(items)?;
                Value::seq(SeqKind::Tuple, items)
            }
            Expr::Dict(pairs) => {
                ops::pay_for_slots(2 * pairs.len(), &mut self.budget)?;
                let mut entries = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let key = Key::of(&self.evaluate(key)?)?;
                    self.budget.reads(key.length())?;
                    entries.push((key, self.evaluate(value)?));
                }
                Value::dict_of(entries)
            }
            Expr::And(parts) => self.logical(parts, false),
            Expr::Or(parts) => self.logical(parts, true),
            Expr::Not(value) => Ok(Value::Bool(!self.evaluate(value)?.is_true())),
            Expr::Negative(value) => {
                let value = self.evaluate(value)?;
                ops::negative(&value)
            }
            Expr::Positive(value) => {
                let value = self.evaluate(value)?;
                ops::negative(&value)?;
                Ok(value)
            }
            Expr::Compare(first, rest) => {
                let mut left = self.evaluate(first)?;
                for (comparison, right) in rest {
                    let right = self.evaluate(right)?;
                    if !ops::compare(*comparison, &left, &right, &mut self.budget)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Calculate(first, rest) => {
                let mut left = self.evaluate(first)?;
                for (operator, right) in rest {
                    let right = self.evaluate(right)?;
                    left = ops::calculate(*operator, &left, &right, &mut self.budget)?;
                }
                Ok(left)
            }
            Expr::Concat(parts) => {
                let parts = self.evaluate_all(parts)?;
                let mut joined = Writer::new(&mut self.budget);
                for part in &parts {
                    joined.value(part)?;
                }
                Ok(joined.finish())
            }
            Expr::Conditional(choices, default) => {
                for (value, condition) in choices {
                    if self.evaluate(condition)?.is_true() {
                        return self.evaluate(value);
                    }
                }
                match default {
                    Some(value) => self.evaluate(value),
                    None => Ok(Value::Undefined(
                        "the value of an `if` without `else`".into(),
                    )),
                }
            }
            Expr::Postfix(value, operators) => self.postfix(value, operators),
        }
    }

    fn evaluate_all(&mut self, items: &[Expr]) -> Result<Vec<Value>, Fault> {
        ops::pay_for_slots(items.len(), &mut self.budget)?;
        items.iter().map(|item| self.evaluate(item)).collect()
    }

    /// Returns the first value whose truth is `ends`, or the last value: `or` and `and`.
    fn logical(&mut self, parts: &[Expr], ends: bool) -> Result<Value, Fault> {
        let mut value = Value::None;
        for part in parts {
            value = self.evaluate(part)?;
            if value.is_true() == ends {
                break;
            }
        }
        Ok(value)
    }

    fn postfix(&mut self, value: &Expr, operators: &[PostfixOp]) -> Result<Value, Fault> {
        let mut value = self.evaluate(value)?;
        for operator in operators {
            self.budget.steps(1)?;
            value = match operator {
                PostfixOp::Attribute(name) => self.attribute(&value, name)?,
                PostfixOp::Item(key) => {
                    let key = self.evaluate(key)?;
                    self.item(&value, &key)?
                }
                PostfixOp::Slice(parts) => {
                    let mut bounds = [const { None }; 3];
                    for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                        *bound = part.as_ref().map(|part| self.evaluate(part)).transpose()?;
                    }
                    slices::slice(&value, &bounds, &mut self.budget)?
                }
                PostfixOp::Call(arguments) => {
                    let args = self.evaluate_args(arguments)?;
                    self.call(&value, args)?
                }
                PostfixOp::Filter(applied) => {
                    let args = self.evaluate_args(&applied.arguments)?;
                    filters::apply(self, &applied.name, value, args)?
                }
                PostfixOp::Test(negated, applied) => {
                    let args = self.evaluate_args(&applied.arguments)?;
                    let holds = checks::check(self, &applied.name, &value, args)?;
                    Value::Bool(holds != *negated)
                }
            };
        }
        Ok(value)
    }

    fn apply_filters(&mut self, value: Value, filters: &[FilterOrTest]) -> Result<Value, Fault> {
        filters.iter().try_fold(value, |value, applied| {
            let args = self.evaluate_args(&applied.arguments)?;
            filters::apply(self, &applied.name, value, args)
        })
    }

    fn evaluate_args(&mut self, arguments: &Arguments) -> Result<CallArgs, Fault> {
        let positional = self.evaluate_all(&arguments.positional)?;
        let mut named = Vec::with_capacity(arguments.named.len());
        for (name, value) in &arguments.named {
            named.push((Text::clone(name), self.evaluate(value)?));
        }
        Ok(CallArgs { positional, named })
    }

    fn call(&mut self, callee: &Value, args: CallArgs) -> Result<Value, Fault> {
        match callee {
            Value::Macro(index) => self.call_macro(*index, args),
            Value::Method(bound) => {
                let (value, name) = &**bound;
                if let Value::Loop(place) = value {
                    let at = self.loops.get(*place).map_or(0, |state| state.index);
                    let count = args.positional.len().max(1);
                    let chosen = args.positional.into_iter().nth(at % count);
                    return chosen.ok_or_else(|| {
                        Fault::new("`loop.cycle` has no arguments; expected at least one")
                    });
                }
                methods::call(&mut self.budget, value, name, args)
            }
            Value::Function(function) => builtins::call(self, *function, args),
            Value::Undefined(what) => Err(ops::undefined(what)),
            other => Err(Fault::new(format!(
                "{other} cannot be called; expected a macro, a function or a method"
            ))),
        }
    }

    fn call_macro(&mut self, index: usize, args: CallArgs) -> Result<Value, Fault> {
        let Some((definition, captured)) = self.macros.get(index) else {
            return Err(Fault::new("a macro no longer exists"));
        };
        let (definition, mut frames) = (Arc::clone(definition), captured.clone());
        let variables: usize = frames.iter().map(HashMap::len).sum();
        ops::pay_for_slots(
            2 * (variables + definition.parameters.len() + 1),
            &mut self.budget,
        )?;
        let mut frame = Frame::new();
        let CallArgs { positional, named } = args;
        let fault = |why: &str| Fault::new(format!("the macro `{}` {why}", definition.name));
        if positional.len() > definition.parameters.len() {
            return Err(fault("has fewer parameters than the call has arguments"));
        }
        for ((name, _), value) in definition.parameters.iter().zip(positional) {
            frame.insert(Text::clone(name), value);
        }
        for (name, value) in named {
            self.budget.steps(definition.parameters.len())?;
            let known =
                &*name == "caller" || definition.parameters.iter().any(|(own, _)| *own == name);
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
        let result = self.with_depth(|machine| {
            for (name, default) in &definition.parameters {
                if machine
                    .frames
                    .last()
                    .is_some_and(|frame| frame.contains_key(name))
                {
                    continue;
                }
                let value = match default {
                    Some(default) => machine.evaluate(default)?,
                    None => Value::Undefined(format!("`{name}`").into()),
                };
                machine.set(name, value);
            }
            machine.capture(&definition.body)
        });
        self.frames = outside;
        result.map(|text| Value::Text(text.into()))
    }
}
