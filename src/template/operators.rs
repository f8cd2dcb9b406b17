//! Arithmetic, comparisons and slices, as in Python.

use std::cmp::Ordering;

use super::render::place;
use super::syntax::{Comparison, Operator};
use super::text::Text;
use super::value::{Budget, Sequence, Value};
use super::{Fault, Outcome};

pub(super) fn binary(a: &Value, operator: Operator, b: &Value, budget: &Budget) -> Outcome<Value> {
    for value in [a, b] {
        if let Value::Undefined(what) = value {
            return Err(Fault::new(&**what));
        }
    }
    match (a, operator, b) {
        (Value::Text(a), Operator::Add, Value::Text(b)) => {
            budget.spend_bytes(a.as_str().len() + b.as_str().len())?;
            let is_safe = a.is_safe() || b.is_safe();
            if is_safe {
                budget.spend_chars(a)?;
                budget.spend_chars(b)?;
            }
            let text = |text: &Text| {
                if is_safe {
                    text.escaped()
                } else {
                    text.clone()
                }
            };
            let mut sum = text(a);
            sum.push(&text(b));
            Ok(Value::text(sum))
        }
        (Value::Text(format), Operator::Remainder, args) => {
            let args = match args {
                Value::List(list) if list.kind == Sequence::Tuple => list.items.clone(),
                other => vec![other.clone()],
            };
            super::methods::printf(format, &args, &[], budget).map(Value::text)
        }
        (Value::List(a), Operator::Add, Value::List(b)) if a.kind == b.kind => {
            budget.spend(a.items.len() + b.items.len())?;
            Value::sequence(a.kind, a.items.iter().chain(&b.items).cloned().collect())
        }
        (Value::Text(_) | Value::List(_), Operator::Multiply, count)
            if count.as_int().is_some() =>
        {
            repeat(a, count, budget)
        }
        (count, Operator::Multiply, Value::Text(_) | Value::List(_))
            if count.as_int().is_some() =>
        {
            repeat(b, count, budget)
        }
        _ => number(a, operator, b),
    }
}

fn repeat(value: &Value, count: &Value, budget: &Budget) -> Outcome<Value> {
    let count = usize::try_from(count.as_int().unwrap_or(0)).unwrap_or(0);
    match value {
        Value::Text(text) => {
            budget.spend_bytes(
                text.as_str()
                    .len()
                    .saturating_mul(count)
                    .saturating_add(count),
            )?;
            let mut repeated = Text::default().with_safe(text.is_safe());
            (0..count).for_each(|_| repeated.push(text));
            Ok(Value::text(repeated))
        }
        Value::List(list) => {
            budget.spend(list.items.len().saturating_mul(count).saturating_add(count))?;
            let items = std::iter::repeat_n(&list.items, count).flatten().cloned();
            Value::sequence(list.kind, items.collect())
        }
        other => Ok(other.clone()),
    }
}

fn number(a: &Value, operator: Operator, b: &Value) -> Outcome<Value> {
    let unsupported = || {
        let (a, b) = (a.kind(), b.kind());
        Fault::new(match (a, operator) {
            ("str", Operator::Add) => format!("can only concatenate str (not \"{b}\") to str"),
            _ => format!("unsupported operand type(s) for {operator:?}: '{a}' and '{b}'"),
        })
    };
    let is_zero = b.as_float() == Some(0.0);
    let divides = matches!(
        operator,
        Operator::Divide | Operator::FloorDivide | Operator::Remainder
    );
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        if divides && is_zero {
            return Err(Fault::new("division by zero"));
        }
        let result = match operator {
            Operator::Add => x.checked_add(y),
            Operator::Subtract => x.checked_sub(y),
            Operator::Multiply => x.checked_mul(y),
            Operator::FloorDivide => floor_divide(x, y),
            Operator::Remainder => floor_divide(x, y)
                .and_then(|q| q.checked_mul(y))
                .and_then(|p| x.checked_sub(p)),
            Operator::Power if y >= 0 => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
            Operator::Power => return Ok(Value::Float((x as f64).powf(y as f64))),
            Operator::Divide => return Ok(Value::Float(x as f64 / y as f64)),
        };
        return result
            .map(Value::Int)
            .ok_or_else(|| Fault::new("an integer beyond 64 bits"));
    }
    let (Some(x), Some(y)) = (a.as_float(), b.as_float()) else {
        return Err(unsupported());
    };
    if divides && is_zero {
        return Err(Fault::new("division by zero"));
    }
    Ok(Value::Float(match operator {
        Operator::Add => x + y,
        Operator::Subtract => x - y,
        Operator::Multiply => x * y,
        Operator::Divide => x / y,
        Operator::FloorDivide => (x / y).floor(),
        Operator::Remainder => x - y * (x / y).floor(),
        Operator::Power => x.powf(y),
    }))
}

/// Rounds down, not to zero.
fn floor_divide(x: i64, y: i64) -> Option<i64> {
    let quotient = x.checked_div(y)?;
    let is_inexact = x.checked_rem(y)? != 0;
    Some(if is_inexact && (x < 0) != (y < 0) {
        quotient - 1
    } else {
        quotient
    })
}

pub(super) fn negative(value: &Value) -> Outcome<Value> {
    match (value, value.as_int()) {
        (_, Some(number)) => number
            .checked_neg()
            .map(Value::Int)
            .ok_or_else(|| Fault::new("an integer beyond 64 bits")),
        (Value::Float(number), _) => Ok(Value::Float(-number)),
        (Value::Undefined(what), _) => Err(Fault::new(&**what)),
        (other, _) => Err(Fault::new(format!(
            "bad operand type for unary -: '{}'",
            other.kind()
        ))),
    }
}

pub(super) fn compare(
    a: &Value,
    comparison: Comparison,
    b: &Value,
    budget: &Budget,
) -> Outcome<bool> {
    let order = || {
        for value in [a, b] {
            if let Value::Undefined(what) = value {
                return Err(Fault::new(&**what));
            }
        }
        a.compare(b, budget)
    };
    Ok(match comparison {
        Comparison::Equal => a.equals(b, budget)?,
        Comparison::NotEqual => !a.equals(b, budget)?,
        Comparison::Less => order()? == Ordering::Less,
        Comparison::LessEqual => order()? != Ordering::Greater,
        Comparison::Greater => order()? == Ordering::Greater,
        Comparison::GreaterEqual => order()? != Ordering::Less,
        Comparison::In => b.contains(a, budget)?,
        Comparison::NotIn => !b.contains(a, budget)?,
    })
}

/// The character at a place, if there is one.
pub(super) fn character(text: &Text, index: i64, budget: &Budget) -> Outcome<Option<Value>> {
    budget.spend_bytes(text.as_str().len())?;
    let found = if index >= 0 {
        text.as_str()
            .char_indices()
            .nth(usize::try_from(index).unwrap_or(usize::MAX))
    } else {
        let from_end = usize::try_from(index.unsigned_abs() - 1).unwrap_or(usize::MAX);
        text.as_str().char_indices().rev().nth(from_end)
    };
    Ok(found.map(|(at, c)| Value::text(text.slice(at..at + c.len_utf8()))))
}

/// A bound of a slice: an integer, or none.
pub(super) fn slice_bound(value: &Value) -> Outcome<Option<i64>> {
    match value {
        Value::None => Ok(None),
        value => value
            .as_int()
            .map(Some)
            .ok_or_else(|| Fault::new("slice indices must be integers or None")),
    }
}

pub(super) fn slice(value: &Value, bounds: [Option<i64>; 3], budget: &Budget) -> Outcome<Value> {
    match value {
        Value::List(list) if list.kind != Sequence::Iterator => {
            budget.spend(list.items.len())?;
            let places = places(list.items.len(), bounds)?;
            let items = places
                .into_iter()
                .map(|at| list.items[at].clone())
                .collect();
            Value::sequence(list.kind, items)
        }
        Value::Text(text) => {
            budget.spend(1 + text.as_str().len() / 4)?;
            let mut starts: Vec<usize> = text.as_str().char_indices().map(|(at, _)| at).collect();
            let places = places(starts.len(), bounds)?;
            starts.push(text.as_str().len());
            if bounds[2].is_none_or(|step| step == 1) {
                let (from, to) = match (places.first(), places.last()) {
                    (Some(&first), Some(&last)) => (starts[first], starts[last + 1]),
                    _ => (0, 0),
                };
                return Ok(Value::text(text.slice(from..to)));
            }
            budget.spend(4 * places.len())?;
            let mut taken = Text::default();
            for at in places {
                taken.push(&text.slice(starts[at]..starts[at + 1]));
            }
            Ok(Value::text(taken))
        }
        Value::Undefined(what) => Err(Fault::new(&**what)),
        other => Err(Fault::new(format!(
            "'{}' object is not subscriptable",
            other.kind()
        ))),
    }
}

/// The places that a slice takes of so many, in its order.
fn places(len: usize, [start, stop, step]: [Option<i64>; 3]) -> Outcome<Vec<usize>> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Fault::new("slice step cannot be zero"));
    }
    let end = len as i64;
    let (lowest, highest) = if step > 0 { (0, end) } else { (-1, end - 1) };
    let clamped = |bound: i64| {
        let bound = if bound < 0 {
            bound.saturating_add(end)
        } else {
            bound
        };
        bound.clamp(lowest, highest)
    };
    let (first, last) = if step > 0 {
        (lowest, highest)
    } else {
        (highest, lowest)
    };
    let mut at = start.map_or(first, clamped);
    let stop = stop.map_or(last, clamped);
    let mut places = Vec::new();
    while if step > 0 { at < stop } else { at > stop } {
        places.extend(place(at, len));
        at = at.saturating_add(step);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_pythons() {
        let cases: [([Option<i64>; 3], &[usize]); 8] = [
            ([None, None, None], &[0, 1, 2, 3]),
            ([Some(1), None, None], &[1, 2, 3]),
            ([Some(-1), None, None], &[3]),
            ([None, Some(-1), None], &[0, 1, 2]),
            ([None, None, Some(-1)], &[3, 2, 1, 0]),
            ([Some(9), Some(0), Some(-2)], &[3, 1]),
            ([Some(2), Some(1), None], &[]),
            ([Some(i64::MIN), Some(i64::MAX), Some(3)], &[0, 3]),
        ];
        for (bounds, expected) in cases {
            assert_eq!(
                places(4, bounds).unwrap_or_default(),
                expected,
                "{bounds:?}"
            );
        }
    }

    #[test]
    fn division_rounds_down() {
        assert_eq!(floor_divide(7, 2), Some(3));
        assert_eq!(floor_divide(-7, 2), Some(-4));
        assert_eq!(floor_divide(7, -2), Some(-4));
        assert_eq!(floor_divide(-6, 2), Some(-3));
        assert_eq!(floor_divide(i64::MIN, -1), None);
    }
}
