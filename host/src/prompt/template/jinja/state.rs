//! The state of a running template: its variables, namespaces, macros and loops.

use super::{
    Fault, Text, Value,
    budget::Budget,
    methods, ops, slices,
    syntax::{Macro, Target},
    value::Function,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The variables of one scope.
pub(super) type Frame = HashMap<Text, Value>;

/// The interpreter of a template.
pub(super) struct Machine {
    pub budget: Budget,
    pub globals: Frame,
    /// The inner scopes: loops, macros and so on. A macro does not see the scopes of its caller.
    pub frames: Vec<Frame>,
    pub namespaces: Vec<Frame>,
    /// Macros with the inner scopes in which they were defined.
    pub macros: Vec<(Arc<Macro>, Vec<Frame>)>,
    pub loops: Vec<LoopState>,
    pub depth: usize,
}

/// The position of a loop.
pub(super) struct LoopState {
    pub items: Vec<Value>,
    pub index: usize,
}

impl Machine {
    pub fn new(variables: &BTreeMap<&str, Value>, budget: Budget) -> Self {
        let functions = [
            ("range", Function::Range),
            ("dict", Function::Dict),
            ("namespace", Function::Namespace),
            ("raise_exception", Function::RaiseException),
            ("strftime_now", Function::StrftimeNow),
        ];
        let functions = functions.map(|(name, function)| (name, Value::Function(function)));
        let variables = variables.iter().map(|(&name, value)| (name, value.clone()));
        let globals = functions.into_iter().chain(variables);
        Self {
            budget,
            globals: globals.map(|(name, value)| (name.into(), value)).collect(),
            frames: Vec::new(),
            namespaces: Vec::new(),
            macros: Vec::new(),
            loops: Vec::new(),
            depth: 0,
        }
    }

    pub fn set(&mut self, name: &Text, value: Value) {
        let frame = self.frames.last_mut().unwrap_or(&mut self.globals);
        frame.insert(Text::clone(name), value);
    }

    pub fn assign(&mut self, target: &Target, value: Value) -> Result<(), Fault> {
        self.budget.steps(1)?;
        match target {
            Target::Name(name) => {
                ops::pay_for_slots(1, &mut self.budget)?;
                self.set(name, value);
                Ok(())
            }
            Target::Attribute(name, attribute) => {
                let Value::Namespace(index) = self.find(name) else {
                    return Err(Fault::new(format!(
                        "`{name}` is not a namespace; only attributes of namespaces can be set"
                    )));
                };
                self.set_attribute(index, Text::clone(attribute), value)
            }
            Target::Several(targets) => {
                let values = ops::elements(&value, &mut self.budget)?;
                if values.len() != targets.len() {
                    let (found, expected) = (values.len(), targets.len());
                    return Err(Fault::new(format!(
                        "{found} values are assigned to {expected} names; expected as many values as names"
                    )));
                }
                for (target, value) in targets.iter().zip(values) {
                    self.assign(target, value)?;
                }
                Ok(())
            }
        }
    }

    /// Creates a namespace.
    pub fn new_namespace(&mut self) -> usize {
        self.namespaces.push(Frame::new());
        self.namespaces.len() - 1
    }

    /// Sets an attribute of a namespace.
    pub fn set_attribute(
        &mut self,
        namespace: usize,
        name: Text,
        value: Value,
    ) -> Result<(), Fault> {
        value.check_storable()?;
        self.budget.reads(name.len())?;
        ops::pay_for_slots(1, &mut self.budget)?;
        if let Some(frame) = self.namespaces.get_mut(namespace) {
            frame.insert(name, value);
        }
        Ok(())
    }

    pub fn find(&self, name: &Text) -> Value {
        let inner = self.frames.iter().rev().find_map(|frame| frame.get(name));
        let found = inner.or_else(|| self.globals.get(name));
        found
            .cloned()
            .unwrap_or_else(|| Value::Undefined(format!("`{name}`").into()))
    }

    /// Returns `value.name`. Methods take precedence over entries, as in Jinja2.
    pub fn attribute(&mut self, value: &Value, name: &Text) -> Result<Value, Fault> {
        self.budget.reads(name.len())?;
        match value {
            Value::Undefined(what) => return Err(ops::undefined(what)),
            Value::Namespace(index) => {
                let found = self
                    .namespaces
                    .get(*index)
                    .and_then(|frame| frame.get(name));
                return Ok(found.cloned().unwrap_or_else(|| ops::unknown(value, name)));
            }
            Value::Loop(place) => {
                let state = self.loops.get(*place);
                let found = state.and_then(|state| state.attribute(name));
                if let Some(found) = found {
                    return Ok(found);
                }
            }
            _ => {}
        }
        if methods::has(value, name) {
            return Ok(Value::Method(Arc::new((value.clone(), Text::clone(name)))));
        }
        let entry = match value {
            Value::Dict(dict) => dict.get_text(name).cloned(),
            _ => None,
        };
        Ok(entry.unwrap_or_else(|| ops::unknown(value, name)))
    }

    /// Returns `value[key]`. Entries take precedence over methods.
    pub fn item(&mut self, value: &Value, key: &Value) -> Result<Value, Fault> {
        if let Some(found) = slices::item(value, key, &mut self.budget)? {
            return Ok(found);
        }
        match key {
            Value::Text(name) if !matches!(value, Value::Dict(_)) || methods::has(value, name) => {
                self.attribute(value, name)
            }
            key => Ok(slices::missing(value, key)),
        }
    }

    /// Resolves a dotted attribute path.
    pub fn by_path(&mut self, value: &Value, path: &Value) -> Result<Value, Fault> {
        let Value::Text(path) = path else {
            return self.item(value, path);
        };
        let mut found = value.clone();
        for part in path.split('.') {
            self.budget.reads(part.len())?;
            let key = part.parse().map_or_else(|_| Value::text(part), Value::Int);
            found = match slices::item(&found, &key, &mut self.budget)? {
                Some(item) => item,
                None => self.item(&found, &Value::text(part))?,
            };
        }
        Ok(found)
    }
}

impl LoopState {
    fn attribute(&self, name: &str) -> Option<Value> {
        let length = self.items.len();
        let count = |number: usize| Some(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
        let at = |index: Option<usize>| {
            let found = index.and_then(|index| self.items.get(index));
            let none = || Value::Undefined("an element outside the loop".into());
            Some(found.cloned().unwrap_or_else(none))
        };
        match name {
            "index" => count(self.index + 1),
            "index0" => count(self.index),
            "revindex" => count(length - self.index),
            "revindex0" => count(length - self.index - 1),
            "first" => Some(Value::Bool(self.index == 0)),
            "last" => Some(Value::Bool(self.index + 1 == length)),
            "length" => count(length),
            "depth" => count(1),
            "depth0" => count(0),
            "previtem" => at(self.index.checked_sub(1)),
            "nextitem" => at(Some(self.index + 1)),
            _ => None,
        }
    }
}
