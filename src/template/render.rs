//! Runs a template: scopes, statements and expressions.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::args::Args;
use super::clock::Clock;
use super::parser::Parsed;
use super::syntax::*;
use super::text::Text;
use super::value::{Budget, List, Loop, Sequence, Value};
use super::{Fault, Outcome};
use super::{functions, operators};

/// Statements, expressions and macros that run inside of each other; each takes stack.
const MAX_DEPTH: u32 = 300;

/// Names of a scope and their values.
pub(super) type Scope = HashMap<Arc<str>, Value>;

/// A template that is running.
pub(super) struct Machine<'t> {
    template: &'t Parsed,
    pub(super) budget: Budget,
    pub(super) clock: Clock,
    /// From the outermost; the first has the variables that were given and those of the template.
    scopes: Vec<Scope>,
    /// All namespaces that were made. They are kept by number, as they could contain themselves.
    pub(super) namespaces: Vec<Scope>,
    /// Where it is: for errors.
    pub(super) line: u32,
    depth: u32,
}

/// What comes after a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl<'t> Machine<'t> {
    pub(super) fn new(
        template: &'t Parsed,
        budget: Budget,
        clock: Clock,
        variables: Scope,
    ) -> Self {
        Machine {
            template,
            budget,
            clock,
            scopes: vec![variables],
            namespaces: Vec::new(),
            line: 1,
            depth: 0,
        }
    }

    pub(super) fn run(&mut self) -> Outcome<Text> {
        let mut output = Text::default();
        let template = self.template;
        self.body(&template.body, &mut output)?;
        Ok(output)
    }

    /// Runs something one level deeper.
    fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth >= MAX_DEPTH {
            return Err(Fault::Limit {
                what: "levels of nesting while it runs",
                limit: u64::from(MAX_DEPTH),
            });
        }
        self.depth += 1;
        let result = run(self)?;
        self.depth -= 1;
        Ok(result)
    }

    fn scoped<T>(&mut self, run: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.scopes.push(Scope::new());
        let result = run(self)?;
        self.scopes.pop();
        Ok(result)
    }

    fn set(&mut self, name: &Arc<str>, value: Value) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(Arc::clone(name), value);
        }
    }

    fn body(&mut self, body: &'t Body, output: &mut Text) -> Outcome<Flow> {
        self.nested(|machine| {
            for statement in body {
                machine.budget.spend(1)?;
                machine.line = statement.line;
                let flow = machine.statement(&statement.kind, output)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    /// The output of a body of its own.
    fn captured(&mut self, body: &'t Body) -> Outcome<Text> {
        let mut output = Text::default();
        self.scoped(|machine| machine.body(body, &mut output))?;
        Ok(output)
    }

    fn write(&self, output: &mut Text, text: &Text) -> Outcome<()> {
        self.budget.spend_bytes(text.as_str().len())?;
        output.push(text);
        Ok(())
    }

    fn statement(&mut self, kind: &'t StatementKind, output: &mut Text) -> Outcome<Flow> {
        match kind {
            StatementKind::Data(text) => {
                self.budget.spend_bytes(text.len())?;
                output.push_str(text, false);
            }
            StatementKind::Print(value) => {
                let text = self.eval(value)?.to_text(&self.budget)?;
                self.write(output, &text)?;
            }
            StatementKind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.eval(condition)?.is_true() {
                        return self.body(body, output);
                    }
                }
                return self.body(otherwise, output);
            }
            StatementKind::For(of) => return self.for_loop(of, output),
            StatementKind::Set(target, value) => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            StatementKind::Macro(number) => {
                let value = Value::Macro(*number, self.scopes.len());
                self.set(&self.template.macros[*number].name, value);
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
            _ => self.block(kind, output)?,
        }
        Ok(Flow::Next)
    }

    /// Blocks whose body has a scope of its own.
    fn block(&mut self, kind: &'t StatementKind, output: &mut Text) -> Outcome<()> {
        match kind {
            StatementKind::SetBlock(target, filters, body) => {
                let text = self.captured(body)?;
                let value = self.filtered(filters, Value::text(text))?;
                self.assign(target, value)
            }
            StatementKind::FilterBlock(filters, body) => {
                let text = self.captured(body)?;
                let text = self
                    .filtered(filters, Value::text(text))?
                    .to_text(&self.budget)?;
                self.write(output, &text)
            }
            StatementKind::With(values, body) => {
                let mut given = Vec::with_capacity(values.len());
                for (target, value) in values {
                    given.push((target, self.eval(value)?));
                }
                self.scoped(|machine| {
                    for (target, value) in given {
                        machine.assign(target, value)?;
                    }
                    machine.body(body, output).map(drop)
                })
            }
            StatementKind::Call(number, call) => {
                let ExprKind::Call(callee, arguments) = &*call.kind else {
                    return Err(Fault::new("expected a call"));
                };
                let callee = self.eval(callee)?;
                let mut args = self.arguments(arguments)?;
                let caller = Value::Macro(*number, self.scopes.len());
                args.named.push(("caller".into(), caller));
                let text = self.call(&callee, args)?.to_text(&self.budget)?;
                self.write(output, &text)
            }
            StatementKind::Group(body) => {
                self.scoped(|machine| machine.body(body, output)).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn filtered(&mut self, filters: &'t [Filter], mut value: Value) -> Outcome<Value> {
        for filter in filters {
            let args = self.arguments(&filter.arguments)?;
            value = self.filter(&filter.name, value, &args)?;
        }
        Ok(value)
    }

    fn for_loop(&mut self, of: &'t For, output: &mut Text) -> Outcome<Flow> {
        let over = self.eval(&of.over)?;
        let mut items = over.items(&self.budget)?;
        if let Some(condition) = &of.condition {
            items = self.filtered_items(of, &items, condition)?;
        }
        if items.items.is_empty() {
            return self.scoped(|machine| machine.body(&of.otherwise, output));
        }
        self.scoped(|machine| {
            let name: Arc<str> = "loop".into();
            for (index, item) in items.items.iter().enumerate() {
                machine.budget.spend(1)?;
                if let Some(scope) = machine.scopes.last_mut() {
                    scope.clear();
                }
                let items = Rc::clone(&items);
                machine.set(&name, Value::Loop(Rc::new(Loop { items, index })));
                machine.assign(&of.target, item.clone())?;
                if machine.body(&of.body, output)? == Flow::Break {
                    break;
                }
            }
            Ok(Flow::Next)
        })
    }

    fn filtered_items(
        &mut self,
        of: &'t For,
        items: &Rc<List>,
        condition: &'t Expr,
    ) -> Outcome<Rc<List>> {
        let mut kept = Vec::new();
        self.scoped(|machine| {
            for item in &items.items {
                machine.assign(&of.target, item.clone())?;
                if machine.eval(condition)?.is_true() {
                    kept.push(item.clone());
                }
            }
            Ok(())
        })?;
        Value::list(kept)?.items(&self.budget)
    }

    fn assign(&mut self, target: &'t Target, value: Value) -> Outcome<()> {
        match target {
            Target::Name(name) => self.set(name, value),
            Target::Attribute(name, attribute) => match self.variable(name) {
                Value::Namespace(number) => {
                    self.namespaces[number].insert(Arc::clone(attribute), value);
                }
                _ => {
                    return Err(Fault::new(
                        "cannot assign attribute on non-namespace object",
                    ));
                }
            },
            Target::Tuple(targets) => {
                // Each is a new entry of a scope.
                self.budget.spend(4 * targets.len())?;
                let items = value.items(&self.budget)?;
                if items.items.len() != targets.len() {
                    return Err(Fault::new(format!(
                        "expected {} values to unpack, found {}",
                        targets.len(),
                        items.items.len()
                    )));
                }
                for (target, item) in targets.iter().zip(&items.items) {
                    self.assign(target, item.clone())?;
                }
            }
        }
        Ok(())
    }

    fn variable(&self, name: &str) -> Value {
        let found = self.scopes.iter().rev().find_map(|scope| scope.get(name));
        match found {
            Some(value) => value.clone(),
            None if functions::NAMES.contains(&name) => Value::Function(name.into()),
            None => Value::undefined(&format!("'{name}' is undefined")),
        }
    }

    fn eval(&mut self, expr: &'t Expr) -> Outcome<Value> {
        self.budget.spend(1)?;
        self.nested(|machine| machine.expression(&expr.kind))
    }

    fn expression(&mut self, kind: &'t ExprKind) -> Outcome<Value> {
        Ok(match kind {
            ExprKind::None => Value::None,
            ExprKind::Bool(value) => Value::Bool(*value),
            ExprKind::Int(value) => Value::Int(*value),
            ExprKind::Float(value) => Value::Float(*value),
            ExprKind::String(text) => {
                self.budget.spend_bytes(text.len())?;
                Value::written(text.as_str())
            }
            ExprKind::Name(name) => {
                self.budget.spend(self.scopes.len() / 8)?;
                self.variable(name)
            }
            ExprKind::Not(value) => Value::Bool(!self.eval(value)?.is_true()),
            ExprKind::And(a, b) => match self.eval(a)? {
                a if a.is_true() => self.eval(b)?,
                a => a,
            },
            ExprKind::Or(a, b) => match self.eval(a)? {
                a if a.is_true() => a,
                _ => self.eval(b)?,
            },
            ExprKind::If(value, condition, otherwise) => {
                if self.eval(condition)?.is_true() {
                    return self.eval(value);
                }
                match otherwise {
                    Some(value) => self.eval(value)?,
                    None => Value::undefined("the inline if without else was false"),
                }
            }
            ExprKind::Attribute(value, name) => {
                let value = self.eval(value)?;
                self.attribute(&value, name)?
            }
            ExprKind::Item(value, index) => {
                let value = self.eval(value)?;
                let index = self.eval(index)?;
                self.item(&value, &index)?
            }
            ExprKind::Call(callee, arguments) => {
                let callee = self.eval(callee)?;
                let args = self.arguments(arguments)?;
                self.call(&callee, args)?
            }
            ExprKind::Filter(value, filter) => {
                let value = self.eval(value)?;
                let args = self.arguments(&filter.arguments)?;
                self.filter(&filter.name, value, &args)?
            }
            ExprKind::Test(value, test, is_negated) => {
                let value = self.eval(value)?;
                let args = self.arguments(&test.arguments)?;
                Value::Bool(self.test(&test.name, &value, &args)? != *is_negated)
            }
            _ => self.composed(kind)?,
        })
    }

    /// Values made of others.
    fn composed(&mut self, kind: &'t ExprKind) -> Outcome<Value> {
        match kind {
            ExprKind::List(items) => Value::list(self.all(items)?),
            ExprKind::Tuple(items) => Value::sequence(Sequence::Tuple, self.all(items)?),
            ExprKind::Dict(entries) => {
                let mut dict: Vec<(Value, Value)> = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let (key, value) = (self.eval(key)?, self.eval(value)?);
                    functions::insert(&mut dict, key, value, &self.budget)?;
                }
                Value::dict(dict)
            }
            ExprKind::Concat(parts) => {
                let mut text = Text::default();
                for part in parts {
                    let part = self.eval(part)?.to_text(&self.budget)?;
                    self.write(&mut text, &part)?;
                }
                Ok(Value::text(text))
            }
            ExprKind::Binary(a, operator, b) => {
                let (a, b) = (self.eval(a)?, self.eval(b)?);
                operators::binary(&a, *operator, &b, &self.budget)
            }
            ExprKind::Negative(value) => operators::negative(&self.eval(value)?),
            ExprKind::Positive(value) => self.eval(value),
            ExprKind::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (comparison, right) in rest {
                    let right = self.eval(right)?;
                    if !operators::compare(&left, *comparison, &right, &self.budget)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            ExprKind::Slice(value, bounds) => {
                let value = self.eval(value)?;
                let mut ends = [None; 3];
                for (end, bound) in ends.iter_mut().zip(bounds) {
                    if let Some(bound) = bound {
                        *end = operators::slice_bound(&self.eval(bound)?)?;
                    }
                }
                operators::slice(&value, ends, &self.budget)
            }
            _ => Err(Fault::new("an expression that is not known")),
        }
    }

    fn all(&mut self, items: &'t [Expr]) -> Outcome<Vec<Value>> {
        items.iter().map(|item| self.eval(item)).collect()
    }

    fn arguments(&mut self, arguments: &'t Arguments) -> Outcome<Args> {
        let positional = self.all(&arguments.positional)?;
        let mut named = Vec::with_capacity(arguments.named.len());
        for (name, value) in &arguments.named {
            named.push((Arc::clone(name), self.eval(value)?));
        }
        Ok(Args { positional, named })
    }

    pub(super) fn call(&mut self, callee: &Value, args: Args) -> Outcome<Value> {
        match callee {
            Value::Macro(number, visible) => self.call_macro(*number, *visible, args),
            Value::Function(name) => self.function(name, &args),
            Value::Method(method) => self.method(&method.0, &method.1, &args),
            Value::Undefined(name) => Err(Fault::new(&**name)),
            other => Err(Fault::new(format!(
                "'{}' object is not callable",
                other.kind()
            ))),
        }
    }

    fn call_macro(&mut self, number: usize, visible: usize, args: Args) -> Outcome<Value> {
        let template = self.template;
        let called = &template.macros[number];
        let line = self.line;
        self.budget.spend(called.parameters.len())?;
        let hidden = self.scopes.split_off(visible.min(self.scopes.len()));
        self.scopes.push(Scope::new());
        if args.positional.len() > called.parameters.len() {
            return Err(Fault::new(format!(
                "macro '{}' takes not more than {} arguments",
                called.name,
                called.parameters.len()
            )));
        }
        for (place, (name, default)) in called.parameters.iter().enumerate() {
            let value = match (args.get(place, name), default) {
                (Some(value), _) => value.clone(),
                (None, Some(default)) => self.eval(default)?,
                (None, None) => Value::undefined(&format!("parameter '{name}' was not provided")),
            };
            self.set(name, value);
        }
        for (name, value) in &args.named {
            if &**name == "caller" {
                self.set(name, value.clone());
            } else if !called.parameters.iter().any(|(known, _)| known == name) {
                return Err(Fault::new(format!(
                    "macro '{}' takes no argument '{name}'",
                    called.name
                )));
            }
        }
        let mut output = Text::default();
        self.body(&called.body, &mut output)?;
        self.scopes.pop();
        self.scopes.extend(hidden);
        self.line = line;
        Ok(Value::text(output))
    }

    /// `value.name`.
    pub(super) fn attribute(&self, value: &Value, name: &Arc<str>) -> Outcome<Value> {
        let method = || Value::Method(Rc::new((value.clone(), Arc::clone(name))));
        if functions::has_method(value, name) {
            return Ok(method());
        }
        let found = match value {
            Value::Undefined(what) => return Err(Fault::new(&**what)),
            Value::Dict(dict) => dict.find_str(name, &self.budget)?,
            Value::Namespace(number) => self.namespaces[*number].get(name).cloned(),
            Value::Loop(of) => of.field(name),
            _ => None,
        };
        Ok(found.unwrap_or_else(|| missing(value, name)))
    }

    /// `value[index]`.
    pub(super) fn item(&self, value: &Value, index: &Value) -> Outcome<Value> {
        let found = match (value, index) {
            (Value::Undefined(what), _) => return Err(Fault::new(&**what)),
            (Value::Dict(dict), key) => dict.find(key, &self.budget)?,
            (Value::List(list), index) if list.kind != Sequence::Iterator => index
                .as_int()
                .and_then(|index| place(index, list.items.len()))
                .map(|index| list.items[index].clone()),
            (Value::Text(text), index) => match index.as_int() {
                Some(index) => operators::character(text, index, &self.budget)?,
                None => None,
            },
            _ => None,
        };
        match (found, index) {
            (Some(found), _) => Ok(found),
            (None, Value::Text(name)) => {
                self.budget.spend_bytes(name.as_str().len())?;
                let name: Arc<str> = name.as_str().into();
                match value {
                    Value::Dict(_) if !functions::has_method(value, &name) => {
                        Ok(missing(value, &name))
                    }
                    _ => self.attribute(value, &name),
                }
            }
            (None, index) => {
                let mut shown = Text::default();
                index.write_repr(&mut shown, &self.budget)?;
                let kind = value.kind();
                let shown = shown.as_str();
                Ok(Value::undefined(&format!(
                    "{kind} object has no element {shown}"
                )))
            }
        }
    }
}

fn missing(value: &Value, name: &str) -> Value {
    Value::undefined(&match (value, name) {
        (Value::List(_), "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort")
        | (Value::Dict(_), "pop" | "update" | "clear" | "setdefault" | "popitem") => format!(
            "access to attribute '{name}' of '{}' object is unsafe",
            value.kind()
        ),
        _ => format!("'{} object' has no attribute '{name}'", value.kind()),
    })
}

/// A place that may be counted from the end.
pub(super) fn place(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 {
        index.checked_add(len as i64)?
    } else {
        index
    };
    usize::try_from(index).ok().filter(|&index| index < len)
}

impl Loop {
    fn field(&self, name: &str) -> Option<Value> {
        let (index, len) = (self.index, self.items.items.len());
        let int = |value: usize| Some(Value::Int(value as i64));
        let neighbour = |at: Option<usize>| {
            let found = at.and_then(|at| self.items.items.get(at)).cloned();
            Some(found.unwrap_or_else(|| Value::undefined("there is no such item in the loop")))
        };
        match name {
            "index" => int(index + 1),
            "index0" => int(index),
            "revindex" => int(len - index),
            "revindex0" => int(len - index - 1),
            "length" => int(len),
            "depth" => int(1),
            "depth0" => int(0),
            "first" => Some(Value::Bool(index == 0)),
            "last" => Some(Value::Bool(index + 1 == len)),
            "previtem" => neighbour(index.checked_sub(1)),
            "nextitem" => neighbour(Some(index + 1)),
            _ => None,
        }
    }
}
