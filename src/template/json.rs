//! JSON: what tools, their calls and variables of a template are made of.

use std::fmt;
use std::str::FromStr;

use super::text::Text;
use super::value::{Budget, Dict, Value, float_text};
use super::{Fault, Outcome};
use crate::{Error, Result};

/// Arrays and objects inside of each other that are read.
const MAX_DEPTH: usize = 64;

/// A JSON value. Objects keep their order, and numbers that are no `i64` are floats.
///
/// ```
/// use gristmill::chat::Json;
///
/// let json: Json = r#"{"city": "Lisboa", "days": 3}"#.parse()?;
/// assert_eq!(json.get("days"), Some(&Json::Int(3)));
/// assert_eq!(json.to_string(), r#"{"city": "Lisboa", "days": 3}"#);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "JSON's own words")]
pub enum Json {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// An object of these entries.
    pub fn object<K: Into<String>>(entries: impl IntoIterator<Item = (K, Json)>) -> Json {
        Json::Object(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }

    /// An object's entry.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// An object's entry, to be changed.
    #[must_use]
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Json> {
        match self {
            Json::Object(entries) => entries.iter_mut().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes of all text in it, and one for each value.
    pub(super) fn size(&self) -> usize {
        1 + match self {
            Json::String(text) => text.len(),
            Json::Array(items) => items.iter().map(Json::size).sum(),
            Json::Object(entries) => entries.iter().map(|(k, v)| k.len() + v.size()).sum(),
            _ => 0,
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::String(text)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Json {
        Json::Int(value)
    }
}

impl From<f64> for Json {
    fn from(value: f64) -> Json {
        Json::Float(value)
    }
}

impl From<Vec<Json>> for Json {
    fn from(items: Vec<Json>) -> Json {
        Json::Array(items)
    }
}

impl FromStr for Json {
    type Err = Error;

    /// # Errors
    ///
    /// [`Error::Argument`] with the place of what is no JSON, or is nested more than 64 deep.
    fn from_str(text: &str) -> Result<Json> {
        parse(text).map_err(|found| Error::Argument {
            name: "json",
            expected: "JSON".into(),
            found,
        })
    }
}

impl fmt::Display for Json {
    /// As Python's `json.dumps` writes it, without escaping what is not ASCII.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unlimited = Budget::new(u64::MAX);
        let text = Value::input(self).and_then(|value| Style::default().write(&value, &unlimited));
        f.write_str(text.map_err(|_| fmt::Error)?.as_str())
    }
}

/// Reads a JSON text; the error says what was found where.
pub(super) fn parse(text: &str) -> std::result::Result<Json, String> {
    let mut parser = Parser { text, at: 0 };
    parser
        .value(0)
        .filter(|_| {
            parser.spaces();
            parser.at == text.len()
        })
        .ok_or_else(|| {
            let found: String = parser.rest().chars().take(20).collect();
            format!("{found:?} at byte {}", parser.at)
        })
}

/// Reads the JSON at the beginning of a text, and gives what stands behind it.
pub(crate) fn parse_prefix(text: &str) -> Option<(Json, &str)> {
    let mut parser = Parser { text, at: 0 };
    let json = parser.value(0)?;
    Some((json, parser.rest()))
}

/// Stands at what it does not understand when it fails.
struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn takes(&mut self, text: &str) -> bool {
        self.spaces();
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        self.spaces();
        if depth > MAX_DEPTH {
            return None;
        }
        match self.rest().bytes().next()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Json::String),
            b'-' | b'0'..=b'9' => self.number(),
            _ if self.takes("true") => Some(Json::Bool(true)),
            _ if self.takes("false") => Some(Json::Bool(false)),
            _ if self.takes("null") => Some(Json::Null),
            _ => None,
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        self.takes("{");
        if self.takes("}") {
            return Some(Json::Object(entries));
        }
        loop {
            self.spaces();
            let key = self.string()?;
            if !self.takes(":") {
                return None;
            }
            entries.push((key, self.value(depth + 1)?));
            if !self.takes(",") {
                return self.takes("}").then_some(Json::Object(entries));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        let mut items = Vec::new();
        self.takes("[");
        if self.takes("]") {
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if !self.takes(",") {
                return self.takes("]").then_some(Json::Array(items));
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let rest = self.rest();
        let text = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let digits = text.strip_prefix('-').unwrap_or(text);
        let whole = &digits[..digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len())];
        let fraction = digits[whole.len()..].strip_prefix('.');
        let is_sound = !whole.is_empty()
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(|fraction| fraction.starts_with(|c: char| c.is_ascii_digit()));
        let number = match text.parse::<i64>() {
            Ok(number) => Json::Int(number),
            Err(_) => Json::Float(text.parse().ok().filter(|n: &f64| n.is_finite())?),
        };
        is_sound.then(|| self.at += text.len())?;
        Some(number)
    }

    fn string(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut rest = self.rest().strip_prefix('"')?;
        loop {
            let end = rest.find(['"', '\\'])?;
            let plain = &rest[..end];
            if plain.bytes().any(|byte| byte < b' ') {
                return None;
            }
            text.push_str(plain);
            let after = &rest[end + 1..];
            if rest.as_bytes()[end] == b'"' {
                self.at = self.text.len() - after.len();
                return Some(text);
            }
            let (c, after) = escape(after)?;
            text.push(c);
            rest = after;
        }
    }
}

/// The character of an escape, without its backslash, and what follows.
fn escape(text: &str) -> Option<(char, &str)> {
    let c = match text.bytes().next()? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        c @ (b'"' | b'\\' | b'/') => char::from(c),
        b'u' => {
            let (high, rest) = unit(&text[1..])?;
            if !(0xD800..0xDC00).contains(&high) {
                // Half of a pair alone is no character.
                return Some((char::from_u32(high).unwrap_or('\u{FFFD}'), rest));
            }
            let low = rest.strip_prefix("\\u").and_then(unit);
            return Some(match low {
                Some((low @ 0xDC00..0xE000, rest)) => {
                    let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                    (char::from_u32(code)?, rest)
                }
                _ => ('\u{FFFD}', rest),
            });
        }
        _ => return None,
    };
    Some((c, &text[1..]))
}

fn unit(text: &str) -> Option<(u32, &str)> {
    let digits = text.get(..4)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let code = u32::from_str_radix(digits, 16).ok().filter(|_| is_number)?;
    Some((code, &text[4..]))
}

/// How a value is written: the parameters of Python's `json.dumps`.
pub(super) struct Style {
    pub(super) ascii: bool,
    pub(super) indent: Option<String>,
    pub(super) separators: (String, String),
    pub(super) sort: bool,
}

impl Default for Style {
    fn default() -> Style {
        Style {
            ascii: false,
            indent: None,
            separators: (", ".into(), ": ".into()),
            sort: false,
        }
    }
}

impl Style {
    /// Writes a value; what is input in it is input in the text.
    pub(super) fn write(&self, value: &Value, budget: &Budget) -> Outcome<Text> {
        let mut text = Text::default();
        self.value(value, 0, &mut text, budget)?;
        Ok(text)
    }

    fn value(&self, value: &Value, level: usize, to: &mut Text, budget: &Budget) -> Outcome<()> {
        budget.spend(1)?;
        match value {
            Value::None => to.push_str("null", false),
            Value::Bool(value) => to.push_str(if *value { "true" } else { "false" }, false),
            Value::Int(value) => to.push_str(&value.to_string(), false),
            Value::Float(value) => to.push_str(&number(*value), false),
            Value::Text(text) => {
                budget.spend_chars(text)?;
                self.string(text, to);
            }
            Value::List(list) if value.kind() != "generator" => {
                let each = |index: usize, to: &mut Text| {
                    self.value(&list.items[index], level + 1, to, budget)
                };
                self.items(("[", "]"), list.items.len(), level, to, budget, each)?;
            }
            Value::Dict(dict) => self.dict(dict, level, to, budget)?,
            other => {
                let kind = other.kind();
                return Err(Fault::new(format!(
                    "Object of type {kind} is not JSON serializable"
                )));
            }
        }
        Ok(())
    }

    fn dict(&self, dict: &Dict, level: usize, to: &mut Text, budget: &Budget) -> Outcome<()> {
        let mut entries: Vec<&(Value, Value)> = dict.entries.iter().collect();
        if self.sort {
            budget.spend(8 * entries.len())?;
            entries.sort_by(|(a, _), (b, _)| a.as_str().cmp(&b.as_str()));
        }
        let each = |index: usize, to: &mut Text| {
            let (key, value) = entries[index];
            match key {
                Value::Text(key) => {
                    budget.spend_chars(key)?;
                    self.string(key, to);
                }
                other => {
                    to.push_str("\"", false);
                    self.value(other, level + 1, to, budget)?;
                    to.push_str("\"", false);
                }
            }
            to.push_str(&self.separators.1, false);
            self.value(value, level + 1, to, budget)
        };
        self.items(("{", "}"), entries.len(), level, to, budget, each)
    }

    fn items(
        &self,
        (open, close): (&str, &str),
        count: usize,
        level: usize,
        to: &mut Text,
        budget: &Budget,
        each: impl Fn(usize, &mut Text) -> Outcome<()>,
    ) -> Outcome<()> {
        to.push_str(open, false);
        let new_line = |level: usize, to: &mut Text| {
            if let Some(indent) = self.indent.as_ref().filter(|_| count > 0) {
                budget.spend_bytes(indent.len().saturating_mul(level))?;
                to.push_str("\n", false);
                to.push_str(&indent.repeat(level), false);
            }
            Ok(())
        };
        for index in 0..count {
            if index > 0 {
                to.push_str(&self.separators.0, false);
            }
            new_line(level + 1, to)?;
            each(index, to)?;
        }
        new_line(level, to)?;
        to.push_str(close, false);
        Ok(())
    }

    fn string(&self, text: &Text, to: &mut Text) {
        to.push_str("\"", false);
        for (_, c, is_input) in text.chars() {
            match c {
                '"' => to.push_str("\\\"", is_input),
                '\\' => to.push_str("\\\\", is_input),
                '\n' => to.push_str("\\n", is_input),
                '\r' => to.push_str("\\r", is_input),
                '\t' => to.push_str("\\t", is_input),
                '\u{8}' => to.push_str("\\b", is_input),
                '\u{c}' => to.push_str("\\f", is_input),
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        to.push_str(&format!("\\u{unit:04x}"), is_input);
                    }
                }
                c => to.push_char(c, is_input),
            }
        }
        to.push_str("\"", false);
    }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.into()
    } else {
        float_text(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_json_is() {
        let text =
            r#" {"a": [1, -2.5, 1e3, true, false, null], "é\n\u00e9\ud83d\ude00": {}, "b": ""} "#;
        let expected = Json::object([
            (
                "a",
                vec![
                    Json::Int(1),
                    Json::Float(-2.5),
                    Json::Float(1000.0),
                    Json::Bool(true),
                    Json::Bool(false),
                    Json::Null,
                ]
                .into(),
            ),
            ("é\né😀", Json::Object(Vec::new())),
            ("b", "".into()),
        ]);
        assert_eq!(text.parse::<Json>().unwrap(), expected);
        assert_eq!(expected.to_string().parse::<Json>().unwrap(), expected);
    }

    #[test]
    fn refuses_what_is_none() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "01",
            "1.",
            "-",
            ".5",
            "nan",
            "\"",
            "\"\\x\"",
            "\"\n\"",
            "1 2",
            "\"\\u12\"",
            "\"\\u+123\"",
            "1e999",
            "'a'",
            "tru",
            &deep,
        ] {
            assert!(text.parse::<Json>().is_err(), "{text:.20}");
        }
    }
}
