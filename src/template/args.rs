//! Arguments of filters, tests, functions, methods and macros.

use std::rc::Rc;
use std::sync::Arc;

use super::text::Text;
use super::value::Value;
use super::{Fault, Outcome};

/// The arguments of a call.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Arc<str>, Value)>,
}

impl Args {
    pub(super) fn get(&self, place: usize, name: &str) -> Option<&Value> {
        self.positional.get(place).or_else(|| self.named(name))
    }

    pub(super) fn named(&self, name: &str) -> Option<&Value> {
        let found = self.named.iter().find(|(found, _)| &**found == name);
        found.map(|(_, value)| value)
    }

    /// The argument, where it is neither missing nor none.
    pub(super) fn some(&self, place: usize, name: &str) -> Option<&Value> {
        self.get(place, name)
            .filter(|value| !matches!(value, Value::None))
    }

    pub(super) fn require(&self, place: usize, name: &str) -> Outcome<&Value> {
        self.get(place, name)
            .ok_or_else(|| Fault::new(format!("missing argument '{name}'")))
    }

    pub(super) fn flag(&self, place: usize, name: &str) -> bool {
        self.get(place, name).is_some_and(Value::is_true)
    }

    pub(super) fn int(&self, place: usize, name: &str) -> Outcome<Option<i64>> {
        self.some(place, name)
            .map(|value| {
                value
                    .as_int()
                    .ok_or_else(|| wrong_type(name, "an integer", value))
            })
            .transpose()
    }

    pub(super) fn text(&self, place: usize, name: &str) -> Outcome<Option<Rc<Text>>> {
        self.some(place, name)
            .map(|value| match value {
                Value::Text(text) => Ok(Rc::clone(text)),
                other => Err(wrong_type(name, "a string", other)),
            })
            .transpose()
    }
}

fn wrong_type(name: &str, expected: &str, found: &Value) -> Fault {
    Fault::new(format!(
        "argument '{name}': expected {expected}, found {}",
        found.kind()
    ))
}
