//! Jinja's filters, and those that Hugging Face adds.

use std::cmp::Ordering;
use std::rc::Rc;

use super::args::Args;
use super::functions::items_of;
use super::json::{self, Style};
use super::methods::{changed_case, is_space, lines, printf};
use super::render::Machine;
use super::text::Text;
use super::value::{Sequence, Value};
use super::{Fault, Outcome};

impl Machine<'_> {
    pub(super) fn filter(&mut self, name: &str, value: Value, args: &Args) -> Outcome<Value> {
        self.budget.spend(1)?;
        match name {
            "default" | "d" => {
                let is_missing = match value {
                    Value::Undefined(_) => true,
                    ref value => args.flag(1, "boolean") && !value.is_true(),
                };
                let default = || args.get(0, "default_value").cloned();
                Ok(match is_missing {
                    true => default().unwrap_or_else(|| Value::written("")),
                    false => value,
                })
            }
            "length" | "count" => self.length(&value).map(|len| Value::Int(len as i64)),
            "first" | "last" | "list" | "reverse" | "items" | "dictsort" | "sort" | "unique"
            | "min" | "max" | "sum" | "map" | "select" | "reject" | "selectattr" | "rejectattr"
            | "groupby" => self.sequence_filter(name, value, args),
            "int" | "float" | "abs" | "round" => self.number_filter(name, &value, args),
            "tojson" => {
                let style = self.json_style(args)?;
                style.write(&value, &self.budget).map(Value::text)
            }
            "fromjson" | "from_json" => self.parsed_json(&value),
            "attr" => {
                let name = args.text(0, "name")?.unwrap_or_default();
                self.budget.spend_bytes(name.as_str().len())?;
                self.attribute(&value, &name.as_str().into())
            }
            "join" => {
                let between = args.text(0, "d")?.unwrap_or_default();
                let items = match args.get(1, "attribute") {
                    Some(_) => self.mapped(&value, &attribute_of(args)?, None)?,
                    None => value,
                };
                self.join(&between, &items, true).map(Value::text)
            }
            _ => self.text_filter(name, &value, args),
        }
    }

    /// Filters that turn what they get into text first.
    fn text_filter(&mut self, name: &str, value: &Value, args: &Args) -> Outcome<Value> {
        let text = value.to_text(&self.budget)?;
        self.budget.spend_chars(&text)?;
        let text = match name {
            "string" => return Ok(Value::Text(text)),
            "trim" => {
                let chars = args.text(0, "chars")?;
                text.slice(self.stripped(&text, chars.as_deref(), "strip")?)
            }
            "upper" | "lower" | "capitalize" => changed_case(&text, name),
            "title" => title(&text),
            "safe" => (*text).clone().with_safe(true),
            "escape" | "e" => text.escaped(),
            "forceescape" => (*text).clone().with_safe(false).escaped(),
            "replace" => {
                let (old, new) = (args.require(0, "old")?, args.require(1, "new")?);
                let (old, new) = (old.to_text(&self.budget)?, new.to_text(&self.budget)?);
                self.replace(&text, &old, &new, args.int(2, "count")?)?
                    .with_safe(false)
            }
            "indent" => self.indent(&text, args)?,
            "format" => printf(&text, &args.positional, &args.named, &self.budget)?,
            "wordcount" => {
                let words = text
                    .as_str()
                    .split(is_space)
                    .filter(|word| !word.is_empty());
                return Ok(Value::Int(words.count() as i64));
            }
            _ => return Err(Fault::new(format!("the filter '{name}' is not known here"))),
        };
        Ok(Value::text(text))
    }

    pub(super) fn length(&self, value: &Value) -> Outcome<usize> {
        match value {
            Value::Undefined(_) => Ok(0),
            Value::Text(text) => {
                self.budget.spend_bytes(text.as_str().len())?;
                Ok(text.as_str().chars().count())
            }
            Value::List(list) if list.kind != Sequence::Iterator => Ok(list.items.len()),
            Value::Dict(dict) => Ok(dict.entries.len()),
            other => Err(Fault::new(format!(
                "object of type '{}' has no len()",
                other.kind()
            ))),
        }
    }

    fn indent(&self, text: &Text, args: &Args) -> Outcome<Text> {
        let width = match args.get(0, "width") {
            Some(Value::Text(width)) => (**width).clone(),
            Some(width) => {
                let width = width.as_int().and_then(|width| usize::try_from(width).ok());
                let width = width.ok_or_else(|| Fault::new("indent: expected a width"))?;
                self.budget.spend_bytes(width)?;
                Text::written(" ".repeat(width))
            }
            None => Text::written("    "),
        };
        let (first, blank) = (args.flag(1, "first"), args.flag(2, "blank"));
        let mut indented = Text::default();
        // The line break that Jinja adds here makes a line of what follows the last one.
        let mut found = lines(text.as_str(), false);
        if text.as_str().is_empty() || text.as_str().ends_with('\n') {
            found.push(text.as_str().len()..text.as_str().len());
        }
        for (index, line) in found.into_iter().enumerate() {
            if index > 0 {
                indented.push_str("\n", false);
            }
            if (index > 0 || first) && (blank || index == 0 || !line.is_empty()) {
                self.budget.spend_bytes(width.as_str().len())?;
                indented.push(&width);
            }
            indented.push(&text.slice(line));
        }
        Ok(indented)
    }

    fn json_style(&self, args: &Args) -> Outcome<Style> {
        let indent = match args.some(1, "indent") {
            None => None,
            Some(Value::Text(indent)) => Some(indent.as_str().to_owned()),
            Some(_) => {
                let width = usize::try_from(args.int(1, "indent")?.unwrap_or(0)).unwrap_or(0);
                self.budget.spend_bytes(width)?;
                Some(" ".repeat(width))
            }
        };
        let mut separators = match indent {
            Some(_) => (",".to_owned(), ": ".to_owned()),
            None => Style::default().separators,
        };
        if let Some(given) = args.some(2, "separators") {
            let given = given.items(&self.budget)?;
            let [item, key] = &given.items[..] else {
                return Err(Fault::new("expected two separators"));
            };
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            separators = (text(item), text(key));
            self.budget.spend(separators.0.len() + separators.1.len())?;
        }
        Ok(Style {
            ascii: args.flag(0, "ensure_ascii"),
            indent,
            separators,
            sort: args.flag(3, "sort_keys"),
        })
    }

    /// What a JSON text stands for; all of it counts as input.
    fn parsed_json(&self, value: &Value) -> Outcome<Value> {
        let Value::Text(text) = value else {
            return Err(Fault::new(format!(
                "fromjson: expected str, found {}",
                value.kind()
            )));
        };
        self.budget.spend(text.as_str().len())?;
        let json = json::parse(text.as_str());
        let json = json.map_err(|found| Fault::new(format!("expected JSON, found {found}")))?;
        Value::input(&json)
    }

    fn sequence_filter(&mut self, name: &str, value: Value, args: &Args) -> Outcome<Value> {
        if let ("items", Value::Dict(dict)) = (name, &value) {
            self.budget.spend(dict.entries.len())?;
            return items_of(dict, Sequence::Iterator);
        }
        if name == "items" && !matches!(value, Value::Undefined(_)) {
            return Err(Fault::new("Can only get item pairs from a mapping."));
        }
        if let ("reverse", Value::Text(text)) = (name, &value) {
            let mut reversed = Text::default();
            self.budget.spend(text.as_str().len())?;
            let chars: Vec<_> = text.chars().collect();
            let chars = chars.into_iter().rev();
            chars.for_each(|(_, c, is_input)| reversed.push_char(c, is_input));
            return Ok(Value::text(reversed));
        }
        // These give nothing for whatever is false.
        let is_lazy = matches!(
            name,
            "map" | "select" | "reject" | "selectattr" | "rejectattr"
        );
        if is_lazy && !value.is_true() {
            return Value::sequence(Sequence::Iterator, Vec::new());
        }
        let list = value.items(&self.budget)?;
        self.budget.spend(list.items.len())?;
        let none = || Value::undefined("no first item, the sequence was empty");
        match name {
            "first" => Ok(list.items.first().cloned().unwrap_or_else(none)),
            "last" => Ok(list.items.last().cloned().unwrap_or_else(none)),
            "list" => Value::list(list.items.clone()),
            "reverse" => {
                let items = list.items.iter().rev().cloned().collect();
                Value::sequence(Sequence::Iterator, items)
            }
            "items" => Value::sequence(Sequence::Iterator, Vec::new()),
            "dictsort" => self.dictsort(&value, args),
            "sort" | "unique" | "min" | "max" | "groupby" => self.ordered(name, &list.items, args),
            "sum" => self.sum(&value, args),
            "map" => self.map(&value, args),
            _ => self.select(name, &list.items, args),
        }
    }

    fn map(&mut self, value: &Value, args: &Args) -> Outcome<Value> {
        if let Some(attribute) = args.named("attribute") {
            let default = args.named("default").cloned();
            return self.mapped(value, &path(attribute)?, default);
        }
        let name = args.text(0, "filter")?.unwrap_or_default();
        let rest = rest(args, 1);
        let mut mapped = Vec::new();
        for item in &value.items(&self.budget)?.items {
            mapped.push(self.filter(name.as_str(), item.clone(), &rest)?);
        }
        Value::sequence(Sequence::Iterator, mapped)
    }

    /// An attribute of each item.
    fn mapped(&self, value: &Value, path: &[Value], default: Option<Value>) -> Outcome<Value> {
        let mut mapped = Vec::new();
        for item in &value.items(&self.budget)?.items {
            let found = self.at_path(item, path)?;
            mapped.push(match (found, &default) {
                (Value::Undefined(_), Some(default)) => default.clone(),
                (found, _) => found,
            });
        }
        Value::sequence(Sequence::Iterator, mapped)
    }

    fn at_path(&self, value: &Value, path: &[Value]) -> Outcome<Value> {
        let mut value = value.clone();
        for part in path {
            value = self.item(&value, part)?;
        }
        Ok(value)
    }

    /// Keeps the items, or those with an attribute, of which a test is true (or is not).
    fn select(&mut self, name: &str, items: &[Value], args: &Args) -> Outcome<Value> {
        let by_attribute = name.ends_with("attr");
        let path = match by_attribute {
            true => path(args.require(0, "attribute")?)?,
            false => Vec::new(),
        };
        let skipped = usize::from(by_attribute);
        let test = args.text(skipped, "test")?;
        let rest = rest(args, skipped + 1);
        let mut kept = Vec::new();
        for item in items {
            let value = self.at_path(item, &path)?;
            let holds = match &test {
                Some(test) => self.test(test.as_str(), &value, &rest)?,
                None => value.is_true(),
            };
            if holds == name.starts_with("select") {
                kept.push(item.clone());
            }
        }
        Value::sequence(Sequence::Iterator, kept)
    }

    fn sum(&mut self, value: &Value, args: &Args) -> Outcome<Value> {
        let values = match args.some(0, "attribute") {
            Some(attribute) => self.mapped(value, &path(attribute)?, None)?,
            None => value.clone(),
        };
        let mut sum = args.get(1, "start").cloned().unwrap_or(Value::Int(0));
        for item in &values.items(&self.budget)?.items {
            let operator = super::syntax::Operator::Add;
            sum = super::operators::binary(&sum, operator, item, &self.budget)?;
        }
        Ok(sum)
    }

    fn dictsort(&mut self, value: &Value, args: &Args) -> Outcome<Value> {
        let Value::Dict(dict) = value else {
            let kind = value.kind();
            return Err(Fault::new(format!(
                "'{kind} object' has no attribute 'items'"
            )));
        };
        let by_value = args.text(1, "by")?.is_some_and(|by| by.as_str() == "value");
        let keys = dict
            .entries
            .iter()
            .map(|(key, value)| if by_value { value } else { key });
        let keys = self.sort_keys(keys, args.flag(0, "case_sensitive"))?;
        let pairs = items_of(dict, Sequence::List)?.items(&self.budget)?;
        let order = sorted(&keys, args.flag(2, "reverse"));
        Value::list(
            order
                .into_iter()
                .map(|at| pairs.items[at].clone())
                .collect(),
        )
    }

    /// Filters that compare the items, or an attribute of them.
    fn ordered(&mut self, name: &str, items: &[Value], args: &Args) -> Outcome<Value> {
        let (reverse, case, attribute) = match name {
            "sort" => (args.flag(0, "reverse"), 1, 2),
            "groupby" => (false, 2, 0),
            _ => (name == "max", 0, 1),
        };
        let path = args
            .some(attribute, "attribute")
            .map(path)
            .transpose()?
            .unwrap_or_default();
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            values.push(self.at_path(item, &path)?);
        }
        let keys = self.sort_keys(values.iter(), args.flag(case, "case_sensitive"))?;
        let order = sorted(&keys, reverse);
        match name {
            "sort" => Value::list(order.into_iter().map(|at| items[at].clone()).collect()),
            "min" | "max" => Ok(match order.first() {
                Some(&at) => items[at].clone(),
                None => Value::undefined("no item, the sequence was empty"),
            }),
            "unique" => {
                let is_new = |pair: &[usize]| keys[pair[0]].cmp(&keys[pair[1]]) != Ordering::Equal;
                let mut firsts: Vec<usize> = order.first().copied().into_iter().collect();
                firsts.extend(
                    order
                        .windows(2)
                        .filter(|pair| is_new(pair))
                        .map(|pair| pair[1]),
                );
                firsts.sort_unstable();
                let kept = firsts.into_iter().map(|at| items[at].clone()).collect();
                Value::sequence(Sequence::Iterator, kept)
            }
            _ => {
                let mut groups: Vec<(usize, Vec<Value>)> = Vec::new();
                for at in order {
                    match groups.last_mut() {
                        Some((first, group)) if keys[*first].cmp(&keys[at]).is_eq() => {
                            group.push(items[at].clone());
                        }
                        _ => groups.push((at, vec![items[at].clone()])),
                    }
                }
                let pair = |(first, group): (usize, Vec<Value>)| {
                    let group = Value::list(group)?;
                    Value::sequence(Sequence::Tuple, vec![values[first].clone(), group])
                };
                Value::list(groups.into_iter().map(pair).collect::<Outcome<_>>()?)
            }
        }
    }

    fn sort_keys<'v>(
        &self,
        values: impl Iterator<Item = &'v Value>,
        case_sensitive: bool,
    ) -> Outcome<Vec<SortKey>> {
        let mut keys: Vec<SortKey> = Vec::new();
        for value in values {
            // Sorting compares each some tens of times.
            self.budget.spend(16)?;
            let key = match value {
                Value::Text(text) => {
                    self.budget.spend(text.as_str().len() / 2)?;
                    match case_sensitive {
                        true => SortKey::Text(text.as_str().to_owned()),
                        false => SortKey::Text(text.as_str().to_lowercase()),
                    }
                }
                value => SortKey::Number(
                    value
                        .as_float()
                        .ok_or_else(|| Fault::new(format!("'{}' has no order", value.kind())))?,
                ),
            };
            let is_alike = keys.first().is_none_or(|first| {
                matches!(first, SortKey::Text(_)) == matches!(key, SortKey::Text(_))
            });
            if !is_alike {
                return Err(Fault::new("strings and numbers have no order"));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn number_filter(&self, name: &str, value: &Value, args: &Args) -> Outcome<Value> {
        if let Some(text) = value.as_str() {
            self.budget.spend_bytes(text.len())?;
        }
        let parsed = value
            .as_str()
            .map(str::trim)
            .and_then(|text| text.parse::<f64>().ok());
        let number = value.as_float().or(parsed);
        match name {
            "int" => {
                let text = value.as_str().map(str::trim);
                let exact = value.as_int().or(text.and_then(|text| text.parse().ok()));
                let default = args.get(0, "default").cloned().unwrap_or(Value::Int(0));
                let rounded = number.filter(|n| n.is_finite()).map(|number| number as i64);
                Ok(exact.or(rounded).map_or(default, Value::Int))
            }
            "float" => {
                let default = args.get(0, "default").cloned().unwrap_or(Value::Float(0.0));
                Ok(number.map_or(default, Value::Float))
            }
            "abs" => match (value.as_int(), value.as_float()) {
                (Some(number), _) => Ok(Value::Int(number.saturating_abs())),
                (_, Some(number)) => Ok(Value::Float(number.abs())),
                _ => Err(Fault::new(format!(
                    "bad operand type for abs(): '{}'",
                    value.kind()
                ))),
            },
            _ => {
                let number = value
                    .as_float()
                    .ok_or_else(|| Fault::new("round: expected a number"))?;
                let digits = args.int(0, "precision")?.unwrap_or(0).clamp(-300, 300);
                let scale = 10f64.powi(digits as i32);
                let scaled = number * scale;
                let method = args.text(1, "method")?;
                let rounded = match method.as_deref().map(Text::as_str) {
                    Some("ceil") => scaled.ceil(),
                    Some("floor") => scaled.floor(),
                    _ => scaled.round_ties_even(),
                };
                Ok(Value::Float(rounded / scale))
            }
        }
    }
}

/// What is compared when items are sorted.
enum SortKey {
    Number(f64),
    Text(String),
}

impl SortKey {
    fn cmp(&self, other: &SortKey) -> Ordering {
        match (self, other) {
            (SortKey::Number(a), SortKey::Number(b)) => a.total_cmp(b),
            (SortKey::Text(a), SortKey::Text(b)) => a.cmp(b),
            (SortKey::Number(_), SortKey::Text(_)) => Ordering::Less,
            (SortKey::Text(_), SortKey::Number(_)) => Ordering::Greater,
        }
    }
}

/// Places in the order of their keys; equal ones stay in order.
fn sorted(keys: &[SortKey], reverse: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|&a, &b| match reverse {
        true => keys[b].cmp(&keys[a]),
        false => keys[a].cmp(&keys[b]),
    });
    order
}

/// The arguments behind the first ones.
fn rest(args: &Args, skipped: usize) -> Args {
    Args {
        positional: args.positional.iter().skip(skipped).cloned().collect(),
        named: args.named.clone(),
    }
}

fn attribute_of(args: &Args) -> Outcome<Vec<Value>> {
    path(args.require(1, "attribute")?)
}

/// `a.b.0` as a key for each part.
fn path(attribute: &Value) -> Outcome<Vec<Value>> {
    match attribute {
        Value::Text(text) => {
            let part = |part: &str| match part.parse() {
                Ok(index) => Value::Int(index),
                Err(_) => Value::Text(Rc::new(Text::written(part))),
            };
            Ok(text.as_str().split('.').take(16).map(part).collect())
        }
        Value::Int(index) => Ok(vec![Value::Int(*index)]),
        other => Err(Fault::new(format!(
            "expected an attribute, found {}",
            other.kind()
        ))),
    }
}

/// Jinja's `title`, which knows fewer beginnings of words than Python's.
fn title(text: &Text) -> Text {
    let mut starts = true;
    text.map_chars(|c, to| {
        match starts {
            true => to.extend(c.to_uppercase()),
            false => to.extend(c.to_lowercase()),
        }
        starts = c == '-' || is_space(c) || matches!(c, '(' | '{' | '[' | '<');
    })
}
