//! SentencePiece's BPE: of all neighbours whose joined text is a token, those of the highest
//! score are joined first; what is no token at the end is spelt in byte tokens.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

use super::vocab::Vocab;

/// What a vocabulary needs besides its tokens.
#[derive(Debug)]
pub(super) struct Spm {
    byte_tokens: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
}

/// A run of the text; merged-away ones are empty.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: u32,
    bytes: u32,
    previous: u32,
    next: u32,
}

impl Symbol {
    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.bytes as usize
    }
}

/// A pair that could be joined: the higher score first, then the one further left.
#[derive(Debug)]
struct Candidate {
    score: f32,
    left: u32,
    /// Bytes of both together; if they have other ones now, the candidate is stale.
    bytes: u32,
}

impl Candidate {
    fn key(&self) -> (Score, Reverse<u32>) {
        (Score(self.score), Reverse(self.left))
    }
}

struct Score(f32);

impl Ord for Score {
    fn cmp(&self, other: &Score) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Score) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Score) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl Spm {
    /// `unknown` stands for a byte without a byte token.
    pub(super) fn new(vocab: &Vocab, unknown: Option<u32>) -> Spm {
        Spm {
            byte_tokens: vocab.byte_tokens(),
            unknown,
        }
    }

    /// Appends the tokens of a text without special tokens, with a space before it if asked for.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, prefix: bool, ids: &mut Vec<u32>) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 2);
        escaped.push_str(if prefix { "▁" } else { "" });
        escaped.extend(text.chars().map(|c| if c == ' ' { '▁' } else { c }));
        let mut symbols = characters(&escaped);
        merge(vocab, escaped.as_bytes(), &mut symbols);
        for symbol in symbols.iter().filter(|symbol| symbol.bytes > 0) {
            let text = &escaped.as_bytes()[symbol.range()];
            match vocab.find(text) {
                Some(id) => ids.push(id),
                None => ids.extend(text.iter().filter_map(|&byte| self.byte(vocab, byte))),
            }
        }
    }

    fn byte(&self, vocab: &Vocab, byte: u8) -> Option<u32> {
        self.byte_tokens[usize::from(byte)]
            .or_else(|| vocab.find(&[byte]))
            .or(self.unknown)
    }
}

fn characters(text: &str) -> Vec<Symbol> {
    // 32 bits hold all positions: see the limit for the length of a text.
    let symbol = |(index, (start, character)): (u32, (usize, char))| Symbol {
        start: start as u32,
        bytes: character.len_utf8() as u32,
        previous: index.wrapping_sub(1),
        next: index + 1,
    };
    (0..).zip(text.char_indices()).map(symbol).collect()
}

fn merge(vocab: &Vocab, text: &[u8], symbols: &mut [Symbol]) {
    let candidate = |symbols: &[Symbol], left: u32| {
        let first = symbols.get(left as usize)?;
        let bytes = first.bytes + symbols.get(first.next as usize)?.bytes;
        let id = vocab.find(&text[Symbol { bytes, ..*first }.range()])?;
        Some(Candidate {
            score: vocab.score(id),
            left,
            bytes,
        })
    };
    let mut candidates: BinaryHeap<Candidate> = (0..symbols.len() as u32)
        .filter_map(|left| candidate(symbols, left))
        .collect();
    while let Some(Candidate { left, bytes, .. }) = candidates.pop() {
        let Symbol {
            bytes: first,
            next: right,
            previous,
            ..
        } = symbols[left as usize];
        let Some(&Symbol {
            bytes: second,
            next,
            ..
        }) = symbols.get(right as usize)
        else {
            continue;
        };
        if first == 0 || first + second != bytes {
            continue;
        }
        symbols[right as usize].bytes = 0;
        symbols[left as usize].bytes = bytes;
        symbols[left as usize].next = next;
        if let Some(next) = symbols.get_mut(next as usize) {
            next.previous = left;
        }
        candidates.extend(candidate(symbols, left));
        candidates.extend(candidate(symbols, previous));
    }
}
