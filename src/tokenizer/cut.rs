//! Cuts special tokens out of a text, before anything else looks at it.
//!
//! The rule: longest token first, each over all the text that is left so far. Going through the
//! text once per token would be slow for vocabularies with thousands of such tokens, so here the
//! longest token at each place is found first, and the places are visited by falling length. One
//! that was cut off by a longer token nearby comes back with the longest that still fits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

use super::vocab::{TokenKind, Vocab};

/// Bytes of a token that is looked for in texts; longer ones are not found. Real ones have fewer
/// than a hundred. The time per byte of a text could otherwise grow with the file.
const MAX_BYTES: usize = 1024;

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// Bytes of the text; never empty.
    Text(Range<usize>),
    Special(u32),
}

/// On which sides whitespace next to a token belongs to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strip {
    pub(super) left: bool,
    pub(super) right: bool,
}

/// A set of tokens to look for.
#[derive(Debug)]
pub(super) struct Cutter {
    /// Sorted by text, each text once.
    entries: Vec<Entry>,
    /// Bit `256 * a + b`: a token begins with the bytes `a`, `b`, or is `a` alone.
    starts: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Entry {
    id: u32,
    bytes: u32,
    /// The longest other entry that this one's text begins with.
    shorter: Option<u32>,
    strip: Strip,
    /// Found in literal text, too.
    is_text: bool,
}

impl Cutter {
    /// Looks for the given tokens; those whose text is not UTF-8 cannot be found.
    pub(super) fn new(vocab: &Vocab, tokens: impl Iterator<Item = (u32, Strip)>) -> Cutter {
        let text_of = |id| vocab.text(id).unwrap_or_default();
        let findable = |text: &[u8]| {
            (1..=MAX_BYTES).contains(&text.len()) && std::str::from_utf8(text).is_ok()
        };
        let mut entries: Vec<Entry> = tokens
            .filter(|&(id, _)| findable(text_of(id)))
            .map(|(id, strip)| Entry {
                id,
                bytes: text_of(id).len() as u32,
                shorter: None,
                strip,
                is_text: vocab.kind(id) == Some(TokenKind::UserDefined)
                    && !looks_like_control(text_of(id)),
            })
            .collect();
        entries.sort_by_key(|entry| text_of(entry.id));
        entries.dedup_by_key(|entry| text_of(entry.id));
        let mut cutter = Cutter {
            entries,
            starts: vec![0; 1 << 10],
        };
        cutter.link(text_of);
        for entry in &cutter.entries {
            match *text_of(entry.id) {
                [a] => cutter.starts[usize::from(a) * 4..][..4].fill(u64::MAX),
                [a, b, ..] => cutter.starts[start_bit(a, b).0] |= start_bit(a, b).1,
                [] => {}
            }
        }
        cutter
    }

    /// Finds every entry's `shorter` one: those it may begin with stand before it, on a stack.
    fn link<'v>(&mut self, text_of: impl Fn(u32) -> &'v [u8]) {
        let mut open: Vec<u32> = Vec::new();
        for at in 0..self.entries.len() {
            let text = text_of(self.entries[at].id);
            while let Some(&top) = open.last() {
                if text.starts_with(text_of(self.entries[top as usize].id)) {
                    break;
                }
                open.pop();
            }
            self.entries[at].shorter = open.last().copied();
            open.push(at as u32);
        }
    }

    /// Cuts the text; a text without special tokens is one fragment, an empty one none. Only
    /// user-defined tokens are found where they overlap one of the `literal` ranges, which are in
    /// order; and not those that look like control tokens.
    pub(super) fn cut(&self, vocab: &Vocab, text: &str, literal: &[Range<usize>]) -> Vec<Fragment> {
        let mut taken = BTreeMap::new();
        let longest = |at: usize, end: usize| {
            let after = literal.partition_point(|range| range.end <= at);
            let free = literal
                .get(after)
                .map_or(text.len(), |range| range.start.max(at))
                - at;
            self.longest(vocab, &text.as_bytes()[at..end], free)
        };
        if !self.entries.is_empty() {
            let mut places: BinaryHeap<(u32, Reverse<usize>)> = (0..text.len())
                .filter(|&at| self.may_start(&text.as_bytes()[at..]))
                .filter_map(|at| longest(at, text.len()).map(|entry| (entry, at)))
                .map(|(entry, at)| (entry.bytes, Reverse(at)))
                .collect();
            while let Some((bytes, Reverse(at))) = places.pop() {
                let Some(end) = free_until(&taken, at, text.len()) else {
                    continue;
                };
                let Some(entry) = longest(at, end) else {
                    continue;
                };
                if entry.bytes < bytes {
                    places.push((entry.bytes, Reverse(at)));
                    continue;
                }
                let range = strip(text.as_bytes(), &taken, at, at + bytes as usize..end, entry);
                taken.insert(range.start, (range.end, entry.id));
            }
        }
        fragments(&taken, text.len())
    }

    fn may_start(&self, text: &[u8]) -> bool {
        match *text {
            [a, b, ..] => self.starts[start_bit(a, b).0] & start_bit(a, b).1 != 0,
            _ => !text.is_empty(),
        }
    }

    /// The longest entry that the text begins with, of which only those that are found in literal
    /// text may be longer than `free` bytes.
    ///
    /// It is the last entry not after the text in the order of texts, or one that this begins
    /// with: everything between a text's beginning and the text begins in the same way.
    fn longest(&self, vocab: &Vocab, text: &[u8], free: usize) -> Option<&Entry> {
        let text = &text[..text.len().min(MAX_BYTES)];
        let text_of = |entry: &Entry| vocab.text(entry.id).unwrap_or_default();
        let after = self.entries.partition_point(|entry| text_of(entry) <= text);
        let mut entry = self.entries.get(after.checked_sub(1)?)?;
        let common = text_of(entry)
            .iter()
            .zip(text)
            .take_while(|(a, b)| a == b)
            .count();
        let fits = |entry: &Entry| {
            let bytes = entry.bytes as usize;
            bytes <= common && (bytes <= free || entry.is_text)
        };
        while !fits(entry) {
            entry = self.entries.get(entry.shorter? as usize)?;
        }
        Some(entry)
    }
}

/// Whether a token's text has the form of control tokens, `<|…|>`, or one of its ends. Files, and
/// llama.cpp for gpt-oss, call some of them user-defined so that they are shown.
fn looks_like_control(text: &[u8]) -> bool {
    let starts = ["<|", "<｜"].map(str::as_bytes);
    let ends = ["|>", "｜>"].map(str::as_bytes);
    starts.iter().any(|start| text.starts_with(start)) || ends.iter().any(|end| text.ends_with(end))
}

/// Word and bit of [`Cutter::starts`].
fn start_bit(a: u8, b: u8) -> (usize, u64) {
    (usize::from(a) * 4 + usize::from(b >> 6), 1 << (b & 63))
}

/// Start to end and token of what has been cut out.
type Taken = BTreeMap<usize, (usize, u32)>;

/// Where the free text at `at` ends; `None` if `at` has been cut out.
fn free_until(taken: &Taken, at: usize, len: usize) -> Option<usize> {
    let before = taken
        .range(..=at)
        .next_back()
        .map_or(0, |(_, &(end, _))| end);
    let next = taken.range(at..).next().map_or(len, |(&start, _)| start);
    (before <= at).then_some(next)
}

/// The range of a token together with the whitespace that it swallows; `free` is the free text
/// behind it.
fn strip(text: &[u8], taken: &Taken, at: usize, free: Range<usize>, entry: &Entry) -> Range<usize> {
    let spaces = |bytes: &mut dyn Iterator<Item = &u8>| {
        bytes
            .take_while(|byte| matches!(byte, b'\t'..=b'\r' | b' '))
            .count()
    };
    let before = taken
        .range(..at)
        .next_back()
        .map_or(0, |(_, &(end, _))| end);
    let left = if entry.strip.left {
        spaces(&mut text[before..at].iter().rev())
    } else {
        0
    };
    let right = if entry.strip.right {
        spaces(&mut text[free.clone()].iter())
    } else {
        0
    };
    at - left..free.start + right
}

fn fragments(taken: &Taken, len: usize) -> Vec<Fragment> {
    let mut fragments = Vec::with_capacity(2 * taken.len() + 1);
    let mut done = 0;
    for (&start, &(end, id)) in taken {
        if done < start {
            fragments.push(Fragment::Text(done..start));
        }
        fragments.push(Fragment::Special(id));
        done = end;
    }
    if done < len {
        fragments.push(Fragment::Text(done..len));
    }
    fragments
}
