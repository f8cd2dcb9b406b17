//! Values of a template while it runs, with Python's rules for truth, equality and text.

use std::cell::Cell;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use super::json::Json;
use super::text::Text;
use super::{Fault, Outcome};

/// Lists and dicts inside of each other. They are dropped, compared and shown recursively.
const MAX_DEPTH: u32 = 100;
/// Bytes of text that are copied, compared or searched in one step.
const BYTES_PER_STEP: usize = 32;
/// Bytes of text that are looked at one by one in one step.
const CHARS_PER_STEP: usize = 4;

/// How much a template may still do. Whatever takes time or memory in proportion to something
/// that the template or its input decides is paid for here first.
#[derive(Debug)]
pub(super) struct Budget {
    left: Cell<u64>,
    limit: u64,
}

impl Budget {
    pub(super) fn new(steps: u64) -> Budget {
        Budget {
            left: Cell::new(steps),
            limit: steps,
        }
    }

    pub(super) fn spend(&self, steps: usize) -> Outcome<()> {
        let Some(left) = self.left.get().checked_sub(steps as u64) else {
            self.left.set(0);
            return Err(Fault::Limit {
                what: "steps",
                limit: self.limit,
            });
        };
        self.left.set(left);
        Ok(())
    }

    /// Pays for work on so many bytes of text, or for making them.
    pub(super) fn spend_bytes(&self, bytes: usize) -> Outcome<()> {
        self.spend(1 + bytes / BYTES_PER_STEP)
    }

    /// Pays for work on each character of a text.
    pub(super) fn spend_chars(&self, text: &Text) -> Outcome<()> {
        self.spend(1 + text.as_str().len() / CHARS_PER_STEP)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// What is missing, by its name.
    Undefined(Arc<str>),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<Text>),
    List(Rc<List>),
    Dict(Rc<Dict>),
    /// A namespace by its number.
    Namespace(usize),
    Loop(Rc<Loop>),
    /// A macro by its number, and how many scopes it sees.
    Macro(usize, usize),
    Function(Arc<str>),
    /// A method with what it belongs to.
    Method(Rc<(Value, Arc<str>)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequence {
    List,
    Tuple,
    /// What Python makes one by one; here it is made at once.
    Iterator,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) kind: Sequence,
    depth: u32,
}

#[derive(Debug)]
pub(super) struct Dict {
    pub(super) entries: Vec<(Value, Value)>,
    depth: u32,
}

/// The variable `loop`.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) items: Rc<List>,
    pub(super) index: usize,
}

impl Value {
    pub(super) fn text(text: Text) -> Value {
        Value::Text(Rc::new(text))
    }

    pub(super) fn written(text: impl Into<String>) -> Value {
        Value::text(Text::written(text))
    }

    pub(super) fn undefined(name: &str) -> Value {
        Value::Undefined(name.into())
    }

    pub(super) fn sequence(kind: Sequence, items: Vec<Value>) -> Outcome<Value> {
        let depth = 1 + items.iter().map(Value::depth).max().unwrap_or(0);
        check_depth(depth)?;
        Ok(Value::List(Rc::new(List { items, kind, depth })))
    }

    pub(super) fn list(items: Vec<Value>) -> Outcome<Value> {
        Value::sequence(Sequence::List, items)
    }

    pub(super) fn dict(entries: Vec<(Value, Value)>) -> Outcome<Value> {
        let depth = 1 + entries.iter().map(|(_, v)| v.depth()).max().unwrap_or(0);
        check_depth(depth)?;
        Ok(Value::Dict(Rc::new(Dict { entries, depth })))
    }

    fn depth(&self) -> u32 {
        match self {
            Value::List(list) => list.depth,
            Value::Dict(dict) => dict.depth,
            Value::Loop(of) => of.items.depth,
            Value::Method(method) => method.0.depth(),
            _ => 0,
        }
    }

    /// A value from outside: all its text is input, that of its keys too.
    pub(super) fn input(json: &Json) -> Outcome<Value> {
        Ok(match json {
            Json::Null => Value::None,
            Json::Bool(value) => Value::Bool(*value),
            Json::Int(value) => Value::Int(*value),
            Json::Float(value) => Value::Float(*value),
            Json::String(text) => Value::text(Text::input(text)),
            Json::Array(items) => {
                Value::list(items.iter().map(Value::input).collect::<Outcome<_>>()?)?
            }
            Json::Object(entries) => {
                let of = |(key, value): &(String, Json)| {
                    Ok((Value::text(Text::input(key)), Value::input(value)?))
                };
                Value::dict(entries.iter().map(of).collect::<Outcome<_>>()?)?
            }
        })
    }

    /// What Python calls the type.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::List(list) => match list.kind {
                Sequence::List => "list",
                Sequence::Tuple => "tuple",
                Sequence::Iterator => "generator",
            },
            Value::Dict(_) => "dict",
            Value::Namespace(_) => "Namespace",
            Value::Loop(_) => "LoopContext",
            Value::Macro(..) => "Macro",
            Value::Function(_) | Value::Method(_) => "function",
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.as_str().is_empty(),
            Value::List(list) => list.kind == Sequence::Iterator || !list.items.is_empty(),
            Value::Dict(dict) => !dict.entries.is_empty(),
            _ => true,
        }
    }

    /// An integer, also of a truth value.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Value::Bool(value) => Some(i64::from(*value)),
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            value => value.as_int().map(|value| value as f64),
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    pub(super) fn equals(&self, other: &Value, budget: &Budget) -> Outcome<bool> {
        budget.spend(1)?;
        Ok(match (self, other) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::Text(a), Value::Text(b)) => {
                budget.spend_bytes(a.as_str().len().min(b.as_str().len()))?;
                a.as_str() == b.as_str()
            }
            (Value::List(a), Value::List(b)) => {
                if a.kind != b.kind || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, budget)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Dict(a), Value::Dict(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, value) in &a.entries {
                    match b.find(key, budget)? {
                        Some(other) if value.equals(&other, budget)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Namespace(a), Value::Namespace(b)) => a == b,
            (Value::Macro(a, _), Value::Macro(b, _)) => a == b,
            (a, b) => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => a.as_float().is_some() && a.as_float() == b.as_float(),
            },
        })
    }

    pub(super) fn compare(&self, other: &Value, budget: &Budget) -> Outcome<Ordering> {
        budget.spend(1)?;
        let order = match (self, other) {
            (Value::Text(a), Value::Text(b)) => {
                budget.spend_bytes(a.as_str().len().min(b.as_str().len()))?;
                Some(a.as_str().cmp(b.as_str()))
            }
            (Value::List(a), Value::List(b)) if a.kind == b.kind => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, budget)? {
                        return a.compare(b, budget);
                    }
                }
                Some(a.items.len().cmp(&b.items.len()))
            }
            (a, b) => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => match (a.as_float(), b.as_float()) {
                    (Some(a), Some(b)) => Some(a.partial_cmp(&b).unwrap_or(Ordering::Greater)),
                    _ => None,
                },
            },
        };
        order.ok_or_else(|| {
            let (a, b) = (self.kind(), other.kind());
            Fault::new(format!("cannot compare '{a}' with '{b}'"))
        })
    }

    /// Python's `str()`.
    pub(super) fn to_text(&self, budget: &Budget) -> Outcome<Rc<Text>> {
        if let Value::Text(text) = self {
            return Ok(Rc::clone(text));
        }
        let mut text = Text::default();
        if !matches!(self, Value::Undefined(_)) {
            self.write_repr(&mut text, budget)?;
        }
        Ok(Rc::new(text))
    }

    /// Python's `repr()`.
    pub(super) fn write_repr(&self, to: &mut Text, budget: &Budget) -> Outcome<()> {
        budget.spend(1)?;
        match self {
            Value::Undefined(_) => to.push_str("Undefined", false),
            Value::None => to.push_str("None", false),
            Value::Bool(true) => to.push_str("True", false),
            Value::Bool(false) => to.push_str("False", false),
            Value::Int(value) => to.push_str(&value.to_string(), false),
            Value::Float(value) => to.push_str(&float_text(*value), false),
            Value::Text(text) => {
                budget.spend_chars(text)?;
                write_quoted(text, to);
            }
            Value::List(list) => {
                let (open, close) = match list.kind {
                    Sequence::Tuple => ("(", if list.items.len() == 1 { ",)" } else { ")" }),
                    _ => ("[", "]"),
                };
                to.push_str(open, false);
                for (index, item) in list.items.iter().enumerate() {
                    to.push_str(if index > 0 { ", " } else { "" }, false);
                    item.write_repr(to, budget)?;
                }
                to.push_str(close, false);
            }
            Value::Dict(dict) => {
                to.push_str("{", false);
                for (index, (key, value)) in dict.entries.iter().enumerate() {
                    to.push_str(if index > 0 { ", " } else { "" }, false);
                    key.write_repr(to, budget)?;
                    to.push_str(": ", false);
                    value.write_repr(to, budget)?;
                }
                to.push_str("}", false);
            }
            other => to.push_str(&format!("<{}>", other.kind()), false),
        }
        Ok(())
    }

    /// What a loop over it sees.
    pub(super) fn items(&self, budget: &Budget) -> Outcome<Rc<List>> {
        let items: Vec<Value> = match self {
            Value::List(list) => return Ok(Rc::clone(list)),
            Value::Undefined(_) => Vec::new(),
            Value::Dict(dict) => {
                budget.spend(dict.entries.len())?;
                dict.entries.iter().map(|(key, _)| key.clone()).collect()
            }
            Value::Text(text) => {
                budget.spend(text.as_str().len())?;
                let ends = text.chars().map(|(at, c, _)| at..at + c.len_utf8());
                ends.map(|range| Value::text(text.slice(range))).collect()
            }
            other => {
                return Err(Fault::new(format!(
                    "'{}' object is not iterable",
                    other.kind()
                )));
            }
        };
        match Value::list(items)? {
            Value::List(list) => Ok(list),
            _ => unreachable!("a list is a list"),
        }
    }

    /// Python's `item in self`.
    pub(super) fn contains(&self, item: &Value, budget: &Budget) -> Outcome<bool> {
        match (self, item) {
            (Value::Text(text), Value::Text(part)) => {
                budget.spend_bytes(text.as_str().len())?;
                Ok(text.as_str().contains(part.as_str()))
            }
            (Value::Text(_), other) => Err(Fault::new(format!(
                "'in <string>' requires string as left operand, not {}",
                other.kind()
            ))),
            (Value::Dict(dict), key) => Ok(dict.find(key, budget)?.is_some()),
            (Value::List(_) | Value::Undefined(_), item) => {
                for other in &self.items(budget)?.items {
                    if item.equals(other, budget)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (other, _) => Err(Fault::new(format!(
                "argument of type '{}' is not iterable",
                other.kind()
            ))),
        }
    }
}

impl Dict {
    pub(super) fn find(&self, key: &Value, budget: &Budget) -> Outcome<Option<Value>> {
        for (candidate, value) in &self.entries {
            if candidate.equals(key, budget)? {
                return Ok(Some(value.clone()));
            }
        }
        Ok(None)
    }

    pub(super) fn find_str(&self, key: &str, budget: &Budget) -> Outcome<Option<Value>> {
        budget.spend(self.entries.len())?;
        let found = self.entries.iter().find(|(k, _)| k.as_str() == Some(key));
        Ok(found.map(|(_, value)| value.clone()))
    }
}

fn check_depth(depth: u32) -> Outcome<()> {
    match depth <= MAX_DEPTH {
        true => Ok(()),
        false => Err(Fault::Limit {
            what: "levels of lists and dicts",
            limit: u64::from(MAX_DEPTH),
        }),
    }
}

/// A number as Python shows it: the shortest digits that give it back, with an exponent where it
/// is below 1e-4 or from 1e16 on.
pub(super) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

fn write_quoted(text: &Text, to: &mut Text) {
    let has = |c| text.as_str().contains(c);
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    to.push_char(quote, false);
    for (_, c, is_input) in text.chars() {
        match c {
            '\\' => to.push_str("\\\\", is_input),
            '\n' => to.push_str("\\n", is_input),
            '\r' => to.push_str("\\r", is_input),
            '\t' => to.push_str("\\t", is_input),
            c if c == quote => {
                to.push_char('\\', is_input);
                to.push_char(c, is_input);
            }
            c if c < ' ' || c == '\u{7f}' => to.push_str(&format!("\\x{:02x}", c as u32), is_input),
            c => to.push_char(c, is_input),
        }
    }
    to.push_char(quote, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python's `repr` of these numbers.
    #[test]
    fn floats_are_shown_as_python_shows_them() {
        for (value, expected) in [
            (21.5, "21.5"),
            (3.0, "3.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
        ] {
            assert_eq!(float_text(value), expected);
        }
    }
}
