//! Takes an answer apart as it comes: what was thought, what is said, which tools are called.

use crate::template::{Json, ToolCall};

use super::calls;
use super::markers::{CHANNEL_ENDS, Markers, Part, SEPARATORS};

/// Bytes of a header; what is longer is none.
const MAX_HEADER: usize = 256;

/// What was found in an answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) calls: Vec<ToolCall>,
}

/// A part that is open.
#[derive(Clone, Debug)]
struct Open {
    part: Part,
    /// Its marker, which is given out with it where it turns out to be nothing of that kind.
    marker: &'static str,
    close: &'static [&'static str],
    /// The tool that a header named.
    tool: Option<String>,
}

/// Reads an answer piece by piece. All text of it is given out again, but for the markers and the
/// spaces around them.
#[derive(Debug)]
pub(super) struct Splitter {
    markers: Vec<&'static Markers>,
    tools: Vec<Json>,
    /// `None` in the answer itself.
    open: Option<Open>,
    /// What is not given out yet: a possible beginning of a marker, or an open part.
    buffer: String,
    /// How far the buffer was searched.
    searched: usize,
    /// Spaces that are given out if no marker follows.
    spaces: String,
    /// Whether spaces are dropped, since a marker was before.
    trims: bool,
    /// Whether the answer has any text.
    has_text: bool,
}

impl Splitter {
    /// Behind a prompt that ends with `tail`: some templates open the first part themselves.
    pub(super) fn new(markers: Vec<&'static Markers>, tools: Vec<Json>, tail: &str) -> Splitter {
        let opened = markers.iter().filter_map(|row| {
            let at = tail.rfind(row.open)? + row.open.len();
            let is_closed = row.close.iter().any(|close| tail[at..].contains(close));
            let counts = matches!(row.part, Part::Reasoning | Part::Header) && !is_closed;
            counts.then_some((at, *row))
        });
        let opened = opened.max_by_key(|(at, _)| *at);
        let is_header = opened.is_some_and(|(_, row)| row.part == Part::Header);
        Splitter {
            open: opened.map(|(_, row)| Open::new(row)),
            buffer: opened
                .filter(|_| is_header)
                .map_or("", |(at, _)| &tail[at..])
                .to_owned(),
            markers,
            tools,
            searched: 0,
            spaces: String::new(),
            trims: opened.is_some(),
            has_text: false,
        }
    }

    /// All texts that mean something, of which some vocabularies make control tokens.
    pub(super) fn texts(&self) -> Vec<&'static str> {
        let markers = self.markers.iter();
        let texts = markers.flat_map(|row| [row.open].into_iter().chain(row.close.iter().copied()));
        let separators = SEPARATORS.iter().filter(|_| !self.tools.is_empty());
        texts.chain(separators.copied()).collect()
    }

    /// Reads on, and adds what is found.
    pub(super) fn push(&mut self, text: &str, found: &mut Found) {
        self.buffer.push_str(text);
        while self.step(found) {}
    }

    /// The end of the answer.
    pub(super) fn finish(&mut self, found: &mut Found) {
        while self.step(found) {}
        let rest = std::mem::take(&mut self.buffer);
        match self.open.take() {
            Some(open) if open.part == Part::Calls => {
                // Also where only the closing marker is missing.
                self.close_calls(open, &rest, "", found);
            }
            Some(open) if open.part == Part::Reasoning => {
                self.give(Part::Reasoning, &rest, found);
                self.spaces.clear();
            }
            Some(open) if open.part == Part::Header => {}
            _ => self.give(Part::Answer, &rest, found),
        }
        found.text.push_str(&std::mem::take(&mut self.spaces));
    }

    /// Goes on to the next marker; false if more text is needed.
    fn step(&mut self, found: &mut Found) -> bool {
        match self.open.as_ref().map(|open| open.part) {
            Some(Part::Calls) => self.step_calls(found),
            Some(Part::Header) => self.step_header(found),
            Some(Part::Reasoning) => self.step_text(Part::Reasoning, found),
            Some(Part::Answer) | None => self.step_text(Part::Answer, found),
        }
    }

    fn step_calls(&mut self, found: &mut Found) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        if open.is_bare() && !calls::may_be_bare(&self.buffer) {
            self.open = None;
            return true;
        }
        let Some((at, close)) = first(&self.buffer[self.searched..], open.close.iter().copied())
        else {
            // A marker may have come in part.
            let longest = open
                .close
                .iter()
                .map(|close| close.len())
                .max()
                .unwrap_or(0);
            let safe = self.buffer.len().saturating_sub(longest);
            self.searched = self.searched.max(floor(&self.buffer, safe));
            return false;
        };
        let at = self.searched + at;
        let body = self.buffer[..at].to_owned();
        self.buffer.drain(..at + close.len());
        let open = self.open.take();
        let is_calls = open.is_some_and(|open| self.close_calls(open, &body, close, found));
        self.open_behind(close);
        self.trims = is_calls;
        true
    }

    /// Adds the calls of a part, or the part as text if there are none in it; says which.
    fn close_calls(&mut self, open: Open, body: &str, close: &str, found: &mut Found) -> bool {
        let calls = match &open.tool {
            Some(name) => body
                .trim()
                .parse()
                .ok()
                .and_then(|json| calls::named(name, json))
                .map(|call| vec![call]),
            None => calls::parse(open.marker, body, &self.tools),
        };
        let is_calls = calls.is_some();
        match calls {
            Some(calls) => {
                found.calls.extend(calls);
                self.spaces.clear();
            }
            None => self.give(Part::Answer, &[open.marker, body, close].concat(), found),
        }
        is_calls
    }

    /// gpt-oss: `<|channel|>analysis`, `<|channel|>final`, or a tool behind `to=functions.`
    fn step_header(&mut self, found: &mut Found) -> bool {
        let ends = self.candidates();
        let Some((at, close)) = first(&self.buffer, ends.into_iter()) else {
            if self.buffer.len() > MAX_HEADER {
                self.open = None;
                let text = std::mem::take(&mut self.buffer);
                self.give(Part::Answer, &text, found);
            }
            return false;
        };
        let header = self.buffer[..at].to_owned();
        self.buffer.drain(..at + close.len());
        let tool = header.split_once("to=functions.").map(|(_, rest)| {
            let end = rest.find(|c: char| c.is_whitespace() || c == '<');
            rest[..end.unwrap_or(rest.len())].to_owned()
        });
        let part = match &tool {
            Some(_) => Part::Calls,
            None if header.contains("analysis") => Part::Reasoning,
            None => Part::Answer,
        };
        self.trims = true;
        self.searched = 0;
        self.open = Some(Open {
            part,
            marker: "",
            close: CHANNEL_ENDS,
            tool,
        });
        true
    }

    /// Gives out text up to the next marker.
    fn step_text(&mut self, part: Part, found: &mut Found) -> bool {
        if self.begins_bare_calls() {
            return true;
        }
        let markers = self.candidates();
        let Some((at, marker)) = first(&self.buffer, markers.iter().copied()) else {
            let keep = held_back(&self.buffer, &markers);
            let rest = self.buffer.split_off(self.buffer.len() - keep);
            let text = std::mem::replace(&mut self.buffer, rest);
            self.give(part, &text, found);
            return false;
        };
        let text = self.buffer[..at].to_owned();
        self.give(part, &text, found);
        // Only a marker that still counts behind this text.
        if !self.candidates().contains(&marker) {
            self.give(part, marker, found);
        } else {
            self.open_behind(marker);
            // Spaces before what turns out to be no call are given out yet.
            if self
                .open
                .as_ref()
                .is_none_or(|open| open.part != Part::Calls)
            {
                self.spaces.clear();
            }
        }
        self.buffer.drain(..at + marker.len());
        self.searched = 0;
        true
    }

    /// What may end the text here. Reasoning begins only where nothing was said before, so that an
    /// answer can speak of its marker.
    fn candidates(&self) -> Vec<&'static str> {
        match &self.open {
            Some(open) => open.close.to_vec(),
            None => {
                let opens = self.markers.iter().filter(|row| {
                    let is_late = self.has_text && row.part == Part::Reasoning;
                    !row.open.is_empty() && !is_late
                });
                opens.map(|row| row.open).collect()
            }
        }
    }

    /// An answer that begins as a call in JSON may be one, in models that write calls so.
    fn begins_bare_calls(&mut self) -> bool {
        let row = self.markers.iter().find(|row| row.open.is_empty());
        let is_start = self.open.is_none() && !self.has_text && !self.buffer.trim().is_empty();
        let Some(row) = row.filter(|_| is_start && calls::may_be_bare(&self.buffer)) else {
            return false;
        };
        self.open = Some(Open::new(row));
        self.searched = 0;
        true
    }

    /// Opens what a marker opens.
    fn open_behind(&mut self, marker: &str) {
        self.trims = true;
        self.searched = 0;
        let row = self
            .markers
            .iter()
            .find(|row| row.open == marker && row.part != Part::Answer);
        self.open = row.map(|row| Open::new(row));
    }

    /// Gives text out, but the spaces at its end only when more follows.
    fn give(&mut self, part: Part, text: &str, found: &mut Found) {
        let text = if self.trims { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        self.trims = false;
        let said = text.trim_end();
        let to = match part {
            Part::Reasoning => &mut found.reasoning,
            _ => &mut found.text,
        };
        if said.is_empty() {
            self.spaces.push_str(text);
            return;
        }
        to.push_str(&std::mem::take(&mut self.spaces));
        to.push_str(said);
        self.spaces.push_str(&text[said.len()..]);
        self.has_text |= part != Part::Reasoning;
    }
}

impl Open {
    fn new(row: &Markers) -> Open {
        Open {
            part: row.part,
            marker: row.open,
            close: row.close,
            tool: None,
        }
    }

    /// Whether nothing but its looks says that it is a call.
    fn is_bare(&self) -> bool {
        self.marker.is_empty() && self.tool.is_none()
    }
}

/// The first of these texts in another, and of several at one place the longest.
fn first(text: &str, of: impl Iterator<Item = &'static str>) -> Option<(usize, &'static str)> {
    let places = of.filter_map(|marker| Some((text.find(marker)?, marker)));
    places.min_by_key(|(at, marker)| (*at, usize::MAX - marker.len()))
}

/// Bytes at the end of a text that could become one of these texts.
fn held_back(text: &str, markers: &[&str]) -> usize {
    let longest = |marker: &&str| {
        let most = marker.len().saturating_sub(1).min(text.len());
        let is_end = |len: &usize| marker.is_char_boundary(*len) && text.ends_with(&marker[..*len]);
        (1..=most).rev().find(is_end).unwrap_or(0)
    };
    markers.iter().map(longest).max().unwrap_or(0)
}

/// The character boundary at or before a place.
fn floor(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}
