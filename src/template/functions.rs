//! Functions that a template can call, and the methods of lists and dicts.

use std::sync::Arc;

use super::args::Args;
use super::render::{Machine, Scope};
use super::text::Text;
use super::value::{Budget, Dict, List, Sequence, Value};
use super::{Fault, Outcome};

pub(super) const NAMES: [&str; 5] = [
    "range",
    "namespace",
    "dict",
    "raise_exception",
    "strftime_now",
];

/// Numbers of a `range`: as many as Jinja's sandbox allows.
const MAX_RANGE: i64 = 100_000;

const DICT_METHODS: [&str; 5] = ["items", "keys", "values", "get", "copy"];
const LIST_METHODS: [&str; 3] = ["index", "count", "copy"];

/// Whether this is a method of the value. Those that change a list or a dict do not exist here, as
/// in the sandbox that published templates are made for.
pub(super) fn has_method(value: &Value, name: &str) -> bool {
    match value {
        Value::Text(_) => super::methods::NAMES.contains(&name),
        Value::Dict(_) => DICT_METHODS.contains(&name),
        Value::List(list) if list.kind != Sequence::Iterator => LIST_METHODS.contains(&name),
        Value::Loop(_) => name == "cycle",
        _ => false,
    }
}

/// Puts an entry into a dict that is being made.
pub(super) fn insert(
    dict: &mut Vec<(Value, Value)>,
    key: Value,
    value: Value,
    budget: &Budget,
) -> Outcome<()> {
    if matches!(key, Value::Dict(_) | Value::List(_) | Value::Undefined(_)) {
        return Err(Fault::new(format!("unhashable type: '{}'", key.kind())));
    }
    for (known, old) in dict.iter_mut() {
        if known.equals(&key, budget)? {
            *old = value;
            return Ok(());
        }
    }
    dict.push((key, value));
    Ok(())
}

impl Machine<'_> {
    pub(super) fn function(&mut self, name: &str, args: &Args) -> Outcome<Value> {
        match name {
            "range" => self.range(args),
            "namespace" => {
                let mut scope = Scope::new();
                for (key, value) in self.entries(args)? {
                    let name: Arc<str> = key.as_str().unwrap_or_default().into();
                    scope.insert(name, value);
                }
                self.namespaces.push(scope);
                Ok(Value::Namespace(self.namespaces.len() - 1))
            }
            "dict" => Value::dict(self.entries(args)?),
            "raise_exception" => {
                let message = args.require(0, "message")?.to_text(&self.budget)?;
                Err(Fault::Refused(message.as_str().to_owned()))
            }
            "strftime_now" => {
                let format = args.text(0, "format")?.unwrap_or_default();
                self.budget.spend(format.as_str().len())?;
                Ok(Value::written(self.clock.format(format.as_str())))
            }
            _ => Err(Fault::new(format!("the function '{name}' is not known"))),
        }
    }

    /// The entries of a dict and of named arguments.
    fn entries(&self, args: &Args) -> Outcome<Vec<(Value, Value)>> {
        let mut entries = Vec::new();
        if let Some(first) = args.positional.first() {
            match first {
                Value::Dict(dict) => entries.extend(dict.entries.iter().cloned()),
                pairs => {
                    for pair in &pairs.items(&self.budget)?.items {
                        match &pair.items(&self.budget)?.items[..] {
                            [key, value] => {
                                insert(&mut entries, key.clone(), value.clone(), &self.budget)?;
                            }
                            _ => return Err(Fault::new("expected pairs of key and value")),
                        }
                    }
                }
            }
        }
        self.budget.spend(entries.len())?;
        for (name, value) in &args.named {
            let key = Value::written(&**name);
            insert(&mut entries, key, value.clone(), &self.budget)?;
        }
        Ok(entries)
    }

    fn range(&self, args: &Args) -> Outcome<Value> {
        let int = |place| args.int(place, "range");
        let (start, stop, step) = match (int(0)?, int(1)?, int(2)?) {
            (Some(stop), None, _) => (0, stop, 1),
            (Some(start), Some(stop), step) => (start, stop, step.unwrap_or(1)),
            _ => return Err(Fault::new("range expected an integer")),
        };
        if step == 0 {
            return Err(Fault::new("range() arg 3 must not be zero"));
        }
        let mut items = Vec::new();
        let mut at = start;
        while if step > 0 { at < stop } else { at > stop } {
            if items.len() as i64 >= MAX_RANGE {
                return Err(Fault::Limit {
                    what: "numbers of a range",
                    limit: MAX_RANGE as u64,
                });
            }
            self.budget.spend(1)?;
            items.push(Value::Int(at));
            match at.checked_add(step) {
                Some(next) => at = next,
                None => break,
            }
        }
        Value::list(items)
    }

    /// `value.name(args)`.
    pub(super) fn method(&mut self, value: &Value, name: &str, args: &Args) -> Outcome<Value> {
        match value {
            Value::Text(text) => self.text_method(text, name, args),
            Value::Dict(dict) => self.dict_method(value, dict, name, args),
            Value::List(list) => self.list_method(value, list, name, args),
            Value::Loop(of) if !args.positional.is_empty() => {
                Ok(args.positional[of.index % args.positional.len()].clone())
            }
            other => Err(Fault::new(format!(
                "'{}' has no method '{name}'",
                other.kind()
            ))),
        }
    }

    fn dict_method(&self, value: &Value, dict: &Dict, name: &str, args: &Args) -> Outcome<Value> {
        self.budget.spend(dict.entries.len())?;
        match name {
            "items" => items_of(dict, Sequence::List),
            "keys" => Value::list(dict.entries.iter().map(|(key, _)| key.clone()).collect()),
            "values" => Value::list(dict.entries.iter().map(|(_, v)| v.clone()).collect()),
            "get" => {
                let found = dict.find(args.require(0, "key")?, &self.budget)?;
                let default = || args.get(1, "default").cloned().unwrap_or(Value::None);
                Ok(found.unwrap_or_else(default))
            }
            _ => Ok(value.clone()),
        }
    }

    fn list_method(&self, value: &Value, list: &List, name: &str, args: &Args) -> Outcome<Value> {
        if name == "copy" {
            return Ok(value.clone());
        }
        let wanted = args.require(0, "value")?;
        let mut count = 0;
        for (place, item) in list.items.iter().enumerate() {
            if item.equals(wanted, &self.budget)? {
                if name == "index" {
                    return Ok(Value::Int(place as i64));
                }
                count += 1;
            }
        }
        match name {
            "count" => Ok(Value::Int(count)),
            _ => {
                let mut shown = Text::default();
                wanted.write_repr(&mut shown, &self.budget)?;
                Err(Fault::new(format!("{} is not in list", shown.as_str())))
            }
        }
    }
}

/// Pairs of key and value.
pub(super) fn items_of(dict: &Dict, kind: Sequence) -> Outcome<Value> {
    let pair = |(key, value): &(Value, Value)| {
        Value::sequence(Sequence::Tuple, vec![key.clone(), value.clone()])
    };
    let pairs = dict.entries.iter().map(pair).collect::<Outcome<_>>()?;
    Value::sequence(kind, pairs)
}
