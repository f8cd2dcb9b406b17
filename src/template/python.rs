//! Python's literals and calls, in which some models call tools: the expressions of templates have
//! the same grammar.

use super::json::Json;
use super::parser::parse;
use super::syntax::{Expr, ExprKind, StatementKind};

/// Names and arguments of `name(key=value, …)`, or of a list of such.
pub(crate) fn calls(text: &str) -> Option<Vec<(String, Json)>> {
    let expression = expression(text)?;
    match &*expression.kind {
        ExprKind::List(items) => items.iter().map(call).collect(),
        _ => Some(vec![call(&expression)?]),
    }
}

/// A value that needs nothing else to be known.
pub(crate) fn literal(text: &str) -> Option<Json> {
    value(&expression(text)?)
}

fn expression(text: &str) -> Option<Expr> {
    let mut body = parse(&["{{ ", text, " }}"].concat()).ok()?.body;
    let statement = body.pop().filter(|_| body.is_empty())?;
    match statement.kind {
        StatementKind::Print(expression) => Some(expression),
        _ => None,
    }
}

fn call(expression: &Expr) -> Option<(String, Json)> {
    let ExprKind::Call(function, arguments) = &*expression.kind else {
        return None;
    };
    // Llama 3.1 writes `.call` behind the names of its own tools.
    let name = match &*function.kind {
        ExprKind::Name(name) => name,
        ExprKind::Attribute(object, attribute) if &**attribute == "call" => match &*object.kind {
            ExprKind::Name(name) => name,
            _ => return None,
        },
        _ => return None,
    };
    if !arguments.positional.is_empty() {
        return None;
    }
    let named = arguments.named.iter();
    let entries: Option<Vec<_>> = named
        .map(|(key, argument)| Some((key.to_string(), value(argument)?)))
        .collect();
    Some((name.to_string(), Json::Object(entries?)))
}

fn value(expression: &Expr) -> Option<Json> {
    Some(match &*expression.kind {
        ExprKind::None => Json::Null,
        ExprKind::Bool(value) => Json::Bool(*value),
        ExprKind::Int(value) => Json::Int(*value),
        ExprKind::Float(value) => Json::Float(*value),
        ExprKind::String(text) => text.as_str().into(),
        ExprKind::Negative(inner) => match value(inner)? {
            Json::Int(value) => Json::Int(value.checked_neg()?),
            Json::Float(value) => Json::Float(-value),
            _ => return None,
        },
        ExprKind::List(items) | ExprKind::Tuple(items) => {
            Json::Array(items.iter().map(value).collect::<Option<_>>()?)
        }
        ExprKind::Dict(entries) => {
            let entries = entries.iter().map(|(key, entry)| {
                let key = value(key)?.as_str()?.to_owned();
                Some((key, value(entry)?))
            });
            Json::Object(entries.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}
