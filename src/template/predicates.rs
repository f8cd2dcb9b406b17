//! Jinja's tests: what comes after `is`.

use super::args::Args;
use super::render::Machine;
use super::syntax::Comparison;
use super::value::{Sequence, Value};
use super::{Fault, Outcome, operators};

impl Machine<'_> {
    pub(super) fn test(&mut self, name: &str, value: &Value, args: &Args) -> Outcome<bool> {
        self.budget.spend(1)?;
        if let Some(comparison) = comparison(name) {
            return operators::compare(value, comparison, args.require(0, "other")?, &self.budget);
        }
        Ok(match name {
            "defined" => !matches!(value, Value::Undefined(_)),
            "undefined" => matches!(value, Value::Undefined(_)),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => value.as_float().is_some(),
            "string" => matches!(value, Value::Text(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "sequence" => match value {
                Value::List(list) => list.kind != Sequence::Iterator,
                other => matches!(other, Value::Text(_) | Value::Dict(_) | Value::Undefined(_)),
            },
            "iterable" => matches!(
                value,
                Value::Text(_) | Value::Dict(_) | Value::List(_) | Value::Undefined(_)
            ),
            "callable" => matches!(
                value,
                Value::Macro(..) | Value::Function(_) | Value::Method(_) | Value::Undefined(_)
            ),
            "escaped" => matches!(value, Value::Text(text) if text.is_safe()),
            "sameas" => self.is_same(value, args.require(0, "other")?)?,
            "upper" | "lower" => {
                let text = value.to_text(&self.budget)?;
                let name = format!("is{name}");
                let args = Args::default();
                self.text_method(&text, &name, &args)?.is_true()
            }
            "odd" | "even" | "divisibleby" => {
                let number = value
                    .as_int()
                    .ok_or_else(|| Fault::new("expected an integer"))?;
                let divisor = match name {
                    "divisibleby" => args.int(0, "num")?.unwrap_or(0),
                    _ => 2,
                };
                let rest = number.checked_rem_euclid(divisor);
                let rest = rest.ok_or_else(|| Fault::new("division by zero"))?;
                (rest == 0) != (name == "odd")
            }
            _ => return Err(Fault::new(format!("the test '{name}' is not known here"))),
        })
    }

    fn is_same(&self, a: &Value, b: &Value) -> Outcome<bool> {
        Ok(a.kind() == b.kind() && a.equals(b, &self.budget)?)
    }
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "equalto" | "eq" | "==" => Comparison::Equal,
        "ne" | "!=" => Comparison::NotEqual,
        "lt" | "lessthan" | "<" => Comparison::Less,
        "le" | "<=" => Comparison::LessEqual,
        "gt" | "greaterthan" | ">" => Comparison::Greater,
        "ge" | ">=" => Comparison::GreaterEqual,
        "in" => Comparison::In,
        _ => return None,
    })
}
