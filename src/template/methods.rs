//! Python's methods of strings.

use std::ops::Range;
use std::rc::Rc;

use super::args::Args;
use super::render::Machine;
use super::text::Text;
use super::value::{Budget, Sequence, Value};
use super::{Fault, Outcome};

pub(super) const NAMES: [&str; 36] = [
    "strip",
    "lstrip",
    "rstrip",
    "split",
    "rsplit",
    "splitlines",
    "partition",
    "rpartition",
    "startswith",
    "endswith",
    "removeprefix",
    "removesuffix",
    "replace",
    "upper",
    "lower",
    "casefold",
    "swapcase",
    "title",
    "capitalize",
    "find",
    "rfind",
    "index",
    "rindex",
    "count",
    "join",
    "format",
    "isdigit",
    "isdecimal",
    "isnumeric",
    "isalpha",
    "isalnum",
    "isspace",
    "isupper",
    "islower",
    "zfill",
    "ljust",
];

impl Machine<'_> {
    pub(super) fn text_method(
        &mut self,
        text: &Rc<Text>,
        name: &str,
        args: &Args,
    ) -> Outcome<Value> {
        self.budget.spend_chars(text)?;
        match name {
            "strip" | "lstrip" | "rstrip" => {
                let range = self.stripped(text, args.text(0, "chars")?.as_deref(), name)?;
                Ok(Value::text(text.slice(range)))
            }
            "split" | "rsplit" => self.split(text, name == "rsplit", args),
            "splitlines" => {
                let lines = lines(text.as_str(), args.flag(0, "keepends"));
                self.parts(text, lines, Sequence::List)
            }
            "partition" | "rpartition" => self.partition(text, name == "rpartition", args),
            "startswith" | "endswith" => self.has_end(text, name == "startswith", args),
            "removeprefix" | "removesuffix" => {
                let end = args.text(0, "affix")?.unwrap_or_default();
                let len = text.as_str().len();
                let range = if name == "removeprefix" {
                    let rest = text.as_str().strip_prefix(end.as_str());
                    rest.map_or(0, |rest| len - rest.len())..len
                } else {
                    0..text
                        .as_str()
                        .strip_suffix(end.as_str())
                        .map_or(len, str::len)
                };
                Ok(Value::text(text.slice(range)))
            }
            "replace" => {
                let old = args.text(0, "old")?.unwrap_or_default();
                let new = args.text(1, "new")?.unwrap_or_default();
                let count = args.int(2, "count")?;
                self.replace(text, &old, &new, count).map(Value::text)
            }
            "find" | "rfind" | "index" | "rindex" | "count" => find(text, name, args),
            "join" => {
                let items = args.require(0, "iterable")?.clone();
                self.join(text, &items, false).map(Value::text)
            }
            "format" => format(text, args, &self.budget).map(Value::text),
            "zfill" | "ljust" => self.padded(text, name, args),
            _ if name.starts_with("is") => Ok(Value::Bool(is(text.as_str(), name))),
            _ => Ok(Value::text(changed_case(text, name))),
        }
    }

    /// What is left without whitespace, or the given characters, at the ends that `name` says.
    pub(super) fn stripped(
        &self,
        text: &Text,
        chars: Option<&Text>,
        name: &str,
    ) -> Outcome<Range<usize>> {
        let tried = chars.map_or(1, |chars| chars.as_str().len());
        self.budget
            .spend_bytes(text.as_str().len().saturating_mul(tried))?;
        let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.as_str().contains(c));
        let whole = text.as_str();
        let start = match name {
            "rstrip" => 0,
            _ => whole.len() - whole.trim_start_matches(goes).len(),
        };
        let rest = &whole[start..];
        let len = match name {
            "lstrip" => rest.len(),
            _ => rest.trim_end_matches(goes).len(),
        };
        Ok(start..start + len)
    }

    fn parts(&self, text: &Text, ranges: Vec<Range<usize>>, kind: Sequence) -> Outcome<Value> {
        self.budget.spend(ranges.len())?;
        let parts = ranges
            .into_iter()
            .map(|range| Value::text(text.slice(range)));
        Value::sequence(kind, parts.collect())
    }

    fn split(&self, text: &Text, from_right: bool, args: &Args) -> Outcome<Value> {
        let most = args
            .int(1, "maxsplit")?
            .and_then(|most| usize::try_from(most).ok());
        let most = most.unwrap_or(usize::MAX);
        let separator = args.text(0, "sep")?;
        let ranges = match separator.as_deref().map(Text::as_str) {
            Some("") => return Err(Fault::new("empty separator")),
            Some(separator) => {
                let found = matches(text.as_str(), separator, most, from_right);
                between(&found, text.as_str().len())
            }
            None => words(text.as_str(), most, from_right),
        };
        self.parts(text, ranges, Sequence::List)
    }

    fn partition(&self, text: &Text, from_right: bool, args: &Args) -> Outcome<Value> {
        let separator = args.text(0, "sep")?.unwrap_or_default();
        if separator.as_str().is_empty() {
            return Err(Fault::new("empty separator"));
        }
        let len = text.as_str().len();
        let found = matches(text.as_str(), separator.as_str(), 1, from_right);
        let ranges = match (found.first(), from_right) {
            (Some(found), _) => vec![0..found.start, found.clone(), found.end..len],
            (None, false) => vec![0..len, len..len, len..len],
            (None, true) => vec![0..0, 0..0, 0..len],
        };
        self.parts(text, ranges, Sequence::Tuple)
    }

    fn has_end(&self, text: &Text, at_start: bool, args: &Args) -> Outcome<Value> {
        let has = |end: &Text| {
            if at_start {
                text.as_str().starts_with(end.as_str())
            } else {
                text.as_str().ends_with(end.as_str())
            }
        };
        let ends = match args.require(0, "prefix")? {
            Value::Text(end) => return Ok(Value::Bool(has(end))),
            Value::List(ends) if ends.kind == Sequence::Tuple => ends,
            other => {
                return Err(Fault::new(format!(
                    "expected a string or a tuple of strings, found {}",
                    other.kind()
                )));
            }
        };
        self.budget.spend(ends.items.len())?;
        let found = ends.items.iter().any(|end| match end {
            Value::Text(end) => has(end),
            _ => false,
        });
        Ok(Value::Bool(found))
    }

    pub(super) fn replace(
        &self,
        text: &Text,
        old: &Text,
        new: &Text,
        count: Option<i64>,
    ) -> Outcome<Text> {
        let most = count
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(usize::MAX);
        let ranges: Vec<Range<usize>> = if old.as_str().is_empty() {
            let starts = text.as_str().char_indices().map(|(at, _)| at);
            let ends = starts.chain([text.as_str().len()]);
            ends.take(most).map(|at| at..at).collect()
        } else {
            matches(text.as_str(), old.as_str(), most, false)
        };
        self.budget.spend(ranges.len())?;
        self.budget
            .spend_bytes(ranges.len().saturating_mul(new.as_str().len()))?;
        Ok(text.replace_ranges(&ranges, new))
    }

    /// The items with a text between them; what is no text is an error, or is turned into one.
    pub(super) fn join(&self, between: &Text, items: &Value, converts: bool) -> Outcome<Text> {
        let mut joined = Text::default();
        for (index, item) in items.items(&self.budget)?.items.iter().enumerate() {
            if index > 0 {
                self.budget.spend_bytes(between.as_str().len())?;
                joined.push(between);
            }
            if !converts && item.as_str().is_none() {
                return Err(Fault::new(format!(
                    "sequence item {index}: expected str instance, {} found",
                    item.kind()
                )));
            }
            let item = item.to_text(&self.budget)?;
            self.budget.spend_bytes(item.as_str().len())?;
            joined.push(&item);
        }
        Ok(joined)
    }

    fn padded(&self, text: &Text, name: &str, args: &Args) -> Outcome<Value> {
        let width = usize::try_from(args.int(0, "width")?.unwrap_or(0)).unwrap_or(0);
        let missing = width.saturating_sub(text.as_str().chars().count());
        self.budget.spend_bytes(missing)?;
        let mut padded = Text::default();
        if name == "zfill" {
            let sign = usize::from(text.as_str().starts_with(['-', '+']));
            padded.push(&text.slice(0..sign));
            padded.push_str(&"0".repeat(missing), false);
            padded.push(&text.slice(sign..text.as_str().len()));
        } else {
            padded.push(text);
            padded.push_str(&" ".repeat(missing), false);
        }
        Ok(Value::text(padded))
    }
}

/// What Python takes for whitespace.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Places of a text in another one, in order.
fn matches(text: &str, part: &str, most: usize, from_right: bool) -> Vec<Range<usize>> {
    let range = |(at, found): (usize, &str)| at..at + found.len();
    if from_right {
        let mut found: Vec<_> = text.rmatch_indices(part).take(most).map(range).collect();
        found.reverse();
        return found;
    }
    text.match_indices(part).take(most).map(range).collect()
}

/// What is left between ranges.
fn between(ranges: &[Range<usize>], len: usize) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(ranges.iter().map(|range| range.end));
    let ends = ranges.iter().map(|range| range.start).chain([len]);
    starts.zip(ends).map(|(start, end)| start..end).collect()
}

/// Words between whitespace, at most one more than `most`.
fn words(text: &str, most: usize, from_right: bool) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices() {
        match (start, is_space(c)) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                words.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    words.extend(start.map(|from| from..text.len()));
    if words.len() > most.saturating_add(1) {
        if from_right {
            let joined = words[words.len() - 1 - most].end;
            words.drain(..words.len() - 1 - most);
            let first = text.len() - text.trim_start_matches(is_space).len();
            words[0] = first..joined;
        } else {
            words.truncate(most + 1);
            words[most].end = text.trim_end_matches(is_space).len();
        }
    }
    words
}

/// Lines without their ends (or with them).
pub(super) fn lines(text: &str, keeps_ends: bool) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let is_end = matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        );
        if is_end {
            let mut end = at + c.len_utf8();
            if c == '\r' && chars.next_if(|&(_, c)| c == '\n').is_some() {
                end += 1;
            }
            lines.push(start..if keeps_ends { end } else { at });
            start = end;
        }
    }
    if start < text.len() {
        lines.push(start..text.len());
    }
    lines
}

fn find(text: &Text, name: &str, args: &Args) -> Outcome<Value> {
    let part = args.text(0, "sub")?.unwrap_or_default();
    let (text, part) = (text.as_str(), part.as_str());
    if name == "count" {
        return Ok(Value::Int(text.matches(part).count() as i64));
    }
    let found = if name.starts_with('r') {
        text.rfind(part)
    } else {
        text.find(part)
    };
    match found {
        Some(at) => Ok(Value::Int(text[..at].chars().count() as i64)),
        None if name.ends_with("find") => Ok(Value::Int(-1)),
        None => Err(Fault::new("substring not found")),
    }
}

fn is(text: &str, name: &str) -> bool {
    let all = |holds: fn(char) -> bool| !text.is_empty() && text.chars().all(holds);
    match name {
        "isdigit" | "isdecimal" => all(|c| c.is_ascii_digit()),
        "isnumeric" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isspace" => all(is_space),
        "isupper" => text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase),
        _ => text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase),
    }
}

pub(super) fn changed_case(text: &Text, name: &str) -> Text {
    let is_swapped = name == "swapcase";
    let mut goes_up = true;
    text.map_chars(|c, to| {
        let is_up = match name {
            "upper" => true,
            "swapcase" => c.is_lowercase(),
            "title" | "capitalize" => goes_up,
            _ => false,
        };
        if !is_swapped {
            goes_up = name == "title" && !c.is_alphabetic();
        }
        match is_up {
            true => to.extend(c.to_uppercase()),
            false => to.extend(c.to_lowercase()),
        }
    })
}

/// `str.format` without format specifications.
fn format(format: &Text, args: &Args, budget: &Budget) -> Outcome<Text> {
    let mut text = Text::default();
    let mut next = 0;
    let mut done = 0;
    let source = format.as_str();
    while let Some(at) = source[done..].find(['{', '}']).map(|at| done + at) {
        text.push(&format.slice(done..at));
        let brace = &source[at..=at];
        if source[at + 1..].starts_with(brace) {
            text.push(&format.slice(at..at + 1));
            done = at + 2;
            continue;
        }
        let end = source[at..]
            .find('}')
            .filter(|&end| end > 0)
            .map(|end| at + end);
        let end = end.ok_or_else(|| Fault::new("a single brace in a format string"))?;
        let field = &source[at + 1..end];
        let value = match field.parse::<usize>() {
            _ if field.is_empty() => {
                next += 1;
                args.positional.get(next - 1)
            }
            Ok(place) => args.positional.get(place),
            Err(_) => args.named(field),
        };
        let value = value.ok_or_else(|| Fault::new(format!("no value for {{{field}}}")))?;
        let value = value.to_text(budget)?;
        budget.spend_bytes(value.as_str().len())?;
        text.push(&value);
        done = end + 1;
    }
    text.push(&format.slice(done..source.len()));
    Ok(text)
}

/// Python's `format % args`, of which `%s`, `%r`, `%d`, `%i`, `%f` with a precision, and `%%`.
pub(super) fn printf(
    format: &Text,
    args: &[Value],
    named: &[(std::sync::Arc<str>, Value)],
    budget: &Budget,
) -> Outcome<Text> {
    let mut text = Text::default();
    let mut args = args.iter();
    let mut done = 0;
    let source = format.as_str();
    while let Some(at) = source[done..].find('%').map(|at| done + at) {
        text.push(&format.slice(done..at));
        let mut rest = &source[at + 1..];
        let mut by_name = None;
        if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            by_name = Some(name);
            rest = after;
        }
        let digits =
            |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let mut precision = 6;
        if let Some(after) = rest.strip_prefix('.') {
            let len = digits(after);
            precision = after[..len].parse().unwrap_or(0).min(300);
            rest = &after[len..];
        }
        let Some(kind) = rest.chars().next() else {
            return Err(Fault::new("incomplete format"));
        };
        done = source.len() - rest.len() + kind.len_utf8();
        if kind == '%' {
            text.push_str("%", false);
            continue;
        }
        let value = match by_name {
            Some(name) => named.iter().find(|(n, _)| &**n == name).map(|(_, v)| v),
            None => args.next(),
        };
        let value = value.ok_or_else(|| Fault::new("not enough arguments for format string"))?;
        let wrong = || Fault::new(format!("%{kind} does not take '{}'", value.kind()));
        match kind {
            's' => {
                let value = value.to_text(budget)?;
                budget.spend_bytes(value.as_str().len())?;
                text.push(&value);
            }
            'r' => value.write_repr(&mut text, budget)?,
            'd' | 'i' => {
                let number = value
                    .as_int()
                    .or(value.as_float().map(|number| number as i64));
                text.push_str(&number.ok_or_else(wrong)?.to_string(), false);
            }
            'f' => {
                let number = value.as_float().ok_or_else(wrong)?;
                text.push_str(&std::format!("{number:.precision$}"), false);
            }
            _ => return Err(Fault::new(format!("unsupported format character '{kind}'"))),
        }
    }
    if args.next().is_some() {
        return Err(Fault::new(
            "not all arguments converted during string formatting",
        ));
    }
    text.push(&format.slice(done..source.len()));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, ranges: Vec<Range<usize>>) -> Vec<&str> {
        ranges.into_iter().map(|range| &text[range]).collect()
    }

    /// Python's `split()`, `split(None, 1)`, `rsplit(None, 1)` and `splitlines()`.
    #[test]
    fn splits_as_python() {
        let text = "  a b\tc ";
        assert_eq!(cut(text, words(text, usize::MAX, false)), ["a", "b", "c"]);
        assert_eq!(cut(text, words(text, 1, false)), ["a", "b\tc"]);
        assert_eq!(cut(text, words(text, 1, true)), ["a b", "c"]);
        assert_eq!(cut(text, words(text, 0, false)), ["a b\tc"]);
        assert_eq!(cut("", words("", usize::MAX, false)), [""; 0]);
        let text = "a\r\nb\n\nc\u{2028}";
        assert_eq!(cut(text, lines(text, false)), ["a", "b", "", "c"]);
        assert_eq!(
            cut(text, lines(text, true)),
            ["a\r\n", "b\n", "\n", "c\u{2028}"]
        );
        let text = "xaxbx";
        let found = matches(text, "x", 2, true);
        assert_eq!(cut(text, between(&found, text.len())), ["xa", "b", ""]);
    }

    #[test]
    fn cases_are_pythons() {
        let changed = |name| {
            changed_case(&Text::written("hELLO they're ßx"), name)
                .as_str()
                .to_owned()
        };
        assert_eq!(changed("title"), "Hello They'Re SSx");
        assert_eq!(changed("capitalize"), "Hello they're ßx");
        assert_eq!(changed("upper"), "HELLO THEY'RE SSX");
        assert_eq!(changed("swapcase"), "Hello THEY'RE SSX");
    }
}
