//! SentencePiece's BPE: of all neighbours whose joined text is a token, those of the highest
//! score are joined first; what is no token at the end is spelt in byte tokens.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

use super::memo::Memo;
use super::vocab::Vocab;

/// What a vocabulary needs besides its tokens.
#[derive(Debug)]
pub(super) struct Spm {
    byte_tokens: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
    joints: Joints,
}

/// Memory used again for every piece.
#[derive(Debug, Default)]
struct Scratch {
    /// The piece as tokens are written.
    escaped: String,
    symbols: Vec<Symbol>,
    candidates: BinaryHeap<Candidate>,
}

/// A run of the piece; merged-away ones are empty.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: u32,
    bytes: u32,
    previous: u32,
    next: u32,
}

/// Which characters stand side by side in some token: nothing is ever joined across a place where
/// two meet that do not, so what lies between such places is merged by itself.
///
/// A character counts by its last byte on the left of a place and by its first one on the right. A
/// space, and `▁`, has a number of its own: most words begin with it, and its bytes are others', too.
#[derive(Debug)]
struct Joints(Box<[[bool; 256]; 256]>);

/// A byte of no text.
const SPACE: u8 = 0xff;

impl Joints {
    fn of(vocab: &Vocab) -> Joints {
        let mut joints = Joints(Box::new([[false; 256]; 256]));
        for id in vocab.ids() {
            // What is not UTF-8 is never found in a text.
            let text = str::from_utf8(vocab.text(id).unwrap_or_default()).unwrap_or_default();
            let mut left = None;
            for character in text.chars() {
                let (first, last) = sides(character);
                if let Some(left) = left.replace(last) {
                    joints.0[usize::from(left)][usize::from(first)] = true;
                }
            }
        }
        joints
    }

    /// Cuts a range of the text where nothing can be joined. The first piece may be empty, if there
    /// is a space before the range.
    fn pieces<'a>(
        &'a self,
        text: &'a str,
        range: Range<usize>,
        space_before: bool,
    ) -> impl Iterator<Item = Range<usize>> + 'a {
        let Range { mut start, end } = range;
        let mut left = space_before.then_some(SPACE);
        let cuts = text[start..end]
            .char_indices()
            .map(move |(at, character)| (start + at, character));
        let cuts = cuts.filter_map(move |(at, character)| {
            let (first, last) = sides(character);
            let left = left.replace(last)?;
            (!self.0[usize::from(left)][usize::from(first)]).then_some(at)
        });
        cuts.chain((start < end).then_some(end))
            .map(move |end| std::mem::replace(&mut start, end)..end)
    }
}

/// What a character counts by on the right of a place, and on the left.
fn sides(character: char) -> (u8, u8) {
    if matches!(character, ' ' | '▁') {
        return (SPACE, SPACE);
    }
    let mut utf8 = [0; 4];
    match *character.encode_utf8(&mut utf8).as_bytes() {
        [first, .., last] => (first, last),
        [only] => (only, only),
        [] => (0, 0),
    }
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
            joints: Joints::of(vocab),
        }
    }

    /// Appends the tokens of a range of the text, in which no special tokens are; as if a space were
    /// before it, if asked for.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        range: Range<usize>,
        prefix: bool,
        memo: &mut Memo,
        ids: &mut Vec<u32>,
    ) {
        let mut scratch = Scratch::default();
        let mut pieces = self.joints.pieces(text, range, prefix);
        if prefix {
            let first = &text[pieces.next().unwrap_or_default()];
            self.encode_piece(vocab, &format!(" {first}"), &mut scratch, ids);
        }
        for piece in pieces {
            memo.encode(text, piece, ids, |piece, ids| {
                self.encode_piece(vocab, piece, &mut scratch, ids);
            });
        }
    }

    fn encode_piece(&self, vocab: &Vocab, piece: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        let mut escaped = std::mem::take(&mut scratch.escaped);
        escaped.clear();
        escaped.extend(piece.chars().map(|c| if c == ' ' { '▁' } else { c }));
        scratch.symbols.clear();
        scratch.symbols.extend(characters(&escaped));
        merge(vocab, escaped.as_bytes(), scratch);
        for symbol in scratch.symbols.iter().filter(|symbol| symbol.bytes > 0) {
            let text = &escaped.as_bytes()[symbol.range()];
            match vocab.find(text) {
                Some(id) => ids.push(id),
                None => ids.extend(text.iter().filter_map(|&byte| self.byte(vocab, byte))),
            }
        }
        scratch.escaped = escaped;
    }

    fn byte(&self, vocab: &Vocab, byte: u8) -> Option<u32> {
        self.byte_tokens[usize::from(byte)]
            .or_else(|| vocab.find(&[byte]))
            .or(self.unknown)
    }
}

fn characters(text: &str) -> impl Iterator<Item = Symbol> {
    // 32 bits hold all positions: see the limit for the length of a text.
    let symbol = |(index, (start, character)): (u32, (usize, char))| Symbol {
        start: start as u32,
        bytes: character.len_utf8() as u32,
        previous: index.wrapping_sub(1),
        next: index + 1,
    };
    (0..).zip(text.char_indices()).map(symbol)
}

fn merge(vocab: &Vocab, text: &[u8], scratch: &mut Scratch) {
    let Scratch {
        symbols,
        candidates,
        ..
    } = scratch;
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
    candidates.extend((0..symbols.len() as u32).filter_map(|left| candidate(symbols, left)));
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
