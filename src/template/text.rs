//! Strings that remember which of their bytes came from outside of the template.

use std::ops::Range;

/// A string of a template, and which bytes of it are input: text of a message, a tool or a
/// variable, however the template has cut, joined or changed it since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    text: String,
    /// In order, not empty, not touching.
    input: Vec<Range<usize>>,
    /// Marked by the filter `safe`: what is added to it is escaped for HTML, as in Jinja.
    safe: bool,
}

impl Text {
    /// Text that the template wrote itself.
    pub(super) fn written(text: impl Into<String>) -> Text {
        Text {
            text: text.into(),
            ..Text::default()
        }
    }

    pub(super) fn input(text: impl Into<String>) -> Text {
        let text = text.into();
        let mut input = Vec::new();
        if !text.is_empty() {
            input.push(0..text.len());
        }
        Text {
            text,
            input,
            safe: false,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn into_parts(self) -> (String, Vec<Range<usize>>) {
        (self.text, self.input)
    }

    pub(super) fn is_safe(&self) -> bool {
        self.safe
    }

    pub(super) fn with_safe(mut self, safe: bool) -> Text {
        self.safe = safe;
        self
    }

    pub(super) fn push(&mut self, other: &Text) {
        let shift = self.text.len();
        self.text.push_str(&other.text);
        for range in &other.input {
            self.mark(range.start + shift..range.end + shift);
        }
    }

    pub(super) fn push_str(&mut self, text: &str, is_input: bool) {
        let start = self.text.len();
        self.text.push_str(text);
        if is_input && !text.is_empty() {
            self.mark(start..self.text.len());
        }
    }

    pub(super) fn push_char(&mut self, c: char, is_input: bool) {
        self.push_str(c.encode_utf8(&mut [0; 4]), is_input);
    }

    /// The range is behind all others.
    fn mark(&mut self, range: Range<usize>) {
        match self.input.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.input.push(range),
        }
    }

    /// A part, in bytes; the borders are those of characters.
    pub(super) fn slice(&self, range: Range<usize>) -> Text {
        let first = self.input.partition_point(|input| input.end <= range.start);
        let input = self.input[first..]
            .iter()
            .take_while(|input| input.start < range.end)
            .map(|input| input.start.max(range.start)..input.end.min(range.end))
            .map(|input| input.start - range.start..input.end - range.start)
            .collect();
        Text {
            text: self.text[range].to_owned(),
            input,
            safe: self.safe,
        }
    }

    /// The characters with their places, and whether they are input.
    pub(super) fn chars(&self) -> impl Iterator<Item = (usize, char, bool)> {
        let mut ranges = self.input.iter().peekable();
        self.text.char_indices().map(move |(at, c)| {
            while ranges.next_if(|range| range.end <= at).is_some() {}
            let is_input = ranges.peek().is_some_and(|range| range.start <= at);
            (at, c, is_input)
        })
    }

    /// Each character replaced by what `change` writes for it.
    pub(super) fn map_chars(&self, mut change: impl FnMut(char, &mut String)) -> Text {
        let mut mapped = Text::default().with_safe(self.safe);
        let mut changed = String::new();
        for (_, c, is_input) in self.chars() {
            change(c, &mut changed);
            mapped.push_str(&changed, is_input);
            changed.clear();
        }
        mapped
    }

    /// The parts between the given ranges, which are in order and do not overlap, each range
    /// replaced by `with`.
    pub(super) fn replace_ranges(&self, ranges: &[Range<usize>], with: &Text) -> Text {
        let mut replaced = Text::default().with_safe(self.safe);
        let mut done = 0;
        for range in ranges {
            replaced.push(&self.slice(done..range.start));
            replaced.push(with);
            done = range.end;
        }
        replaced.push(&self.slice(done..self.text.len()));
        replaced
    }

    /// Escaped for HTML, unless it is marked as safe.
    pub(super) fn escaped(&self) -> Text {
        if self.safe {
            return self.clone();
        }
        let mut escaped = Text::default().with_safe(true);
        for (_, c, is_input) in self.chars() {
            match c {
                '&' => escaped.push_str("&amp;", is_input),
                '<' => escaped.push_str("&lt;", is_input),
                '>' => escaped.push_str("&gt;", is_input),
                '\'' => escaped.push_str("&#39;", is_input),
                '"' => escaped.push_str("&#34;", is_input),
                c => escaped.push_char(c, is_input),
            }
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A text made of parts, and for each byte whether it is input.
    fn text() -> impl Strategy<Value = (Text, Vec<bool>)> {
        prop::collection::vec(("[aé<]{0,3}", any::<bool>()), 0..6).prop_map(|parts| {
            let mut text = Text::default();
            let mut marks = Vec::new();
            for (part, is_input) in parts {
                text.push_str(&part, is_input);
                marks.extend(std::iter::repeat_n(is_input, part.len()));
            }
            (text, marks)
        })
    }

    fn marks(text: &Text) -> Vec<bool> {
        let mut marks = vec![false; text.as_str().len()];
        for range in &text.input {
            marks[range.clone()].fill(true);
        }
        marks
    }

    proptest! {
        #[test]
        fn marks_follow_the_bytes(
            (a, a_marks) in text(),
            (b, b_marks) in text(),
            from in any::<prop::sample::Index>(),
            to in any::<prop::sample::Index>(),
        ) {
            let mut joined = a.clone();
            joined.push(&b);
            let whole = [a_marks, b_marks].concat();
            prop_assert_eq!(marks(&joined), whole.clone());
            let borders: Vec<usize> = (0..=joined.as_str().len())
                .filter(|&at| joined.as_str().is_char_boundary(at))
                .collect();
            let (from, to) = (borders[from.index(borders.len())], borders[to.index(borders.len())]);
            let range = from.min(to)..from.max(to);
            let part = joined.slice(range.clone());
            prop_assert_eq!(part.as_str(), &joined.as_str()[range.clone()]);
            prop_assert_eq!(marks(&part), whole[range].to_vec());
            for (at, _, is_input) in joined.chars() {
                prop_assert_eq!(is_input, whole[at]);
            }
            let same = joined.map_chars(|c, to| to.push(c));
            prop_assert_eq!(marks(&same), whole);
        }
    }
}
