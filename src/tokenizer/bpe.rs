//! Byte-pair encoding: neighbouring symbols are merged, the pair of the lowest rank first.
//!
//! Merging works on numbers. A symbol that is a token has the token's id. Files also have merges
//! that pass through texts which are no tokens; such a text gets a number behind the tokens'.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use crate::gguf::{Array, Gguf};
use crate::{Error, Result};

use super::hash::Secret;
use super::memo::Memo;
use super::pretokenizer::PreTokenizer;
use super::stand_in::stand_in;
use super::vocab::{Index, Texts, Vocab, shown};

const MERGES: &str = "tokenizer.ggml.merges";

/// Merges of a vocabulary; the largest published list has some 515 000. Each costs up to 40 bytes
/// here but as few as 11 in the file.
const MAX_MERGES: u64 = 1 << 23;

/// A symbol in no merge and no token; also the place of a symbol that was merged away.
const NO_SYMBOL: u32 = u32::MAX;

/// What the symbols are before the first merge.
#[derive(Debug)]
enum Alphabet {
    /// Bytes, in GPT-2's stand-in characters.
    Bytes(Box<[u32; 256]>),
    /// Characters; what is no token is spelt in byte tokens.
    Characters(Box<[Option<u32>; 256]>),
}

/// The merges of a vocabulary.
#[derive(Debug)]
pub(super) struct Bpe {
    pre: PreTokenizer,
    alphabet: Alphabet,
    /// Texts in merges that are no tokens; the first has the number `vocab.len()`.
    extra: Extra,
    merges: HashMap<u64, Merge, Secret>,
}

#[derive(Clone, Copy, Debug)]
struct Merge {
    rank: u32,
    result: u32,
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    /// Where its text begins in the piece; it ends where the next one's begins.
    start: u32,
    id: u32,
    previous: u32,
    next: u32,
}

/// Memory used again for every piece.
#[derive(Debug, Default)]
struct Scratch {
    stand_ins: String,
    symbols: Vec<Symbol>,
    /// Rank and left symbol of pairs that could be merged; some of them no longer exist.
    candidates: BinaryHeap<Reverse<(u32, u32)>>,
}

impl Bpe {
    pub(super) fn from_gguf(gguf: &Gguf, vocab: &Vocab, pre: PreTokenizer) -> Result<Bpe> {
        let mut extra = Extra::new();
        let merges = read_merges(gguf, vocab, &mut extra)?;
        let alphabet = if pre.byte_encode() {
            let mut utf8 = [0; 4];
            Alphabet::Bytes(Box::new(std::array::from_fn(|byte| {
                let text = stand_in(byte as u8).encode_utf8(&mut utf8).as_bytes();
                extra.find(vocab, text)
            })))
        } else {
            Alphabet::Characters(vocab.byte_tokens())
        };
        Ok(Bpe {
            pre,
            alphabet,
            extra,
            merges,
        })
    }

    pub(super) fn pre(&self) -> &PreTokenizer {
        &self.pre
    }

    /// Appends the tokens of a range of the text, in which no special tokens are.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        range: Range<usize>,
        memo: &mut Memo,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let mut scratch = Scratch::default();
        let mut pieces = Vec::new();
        self.pre.split(text, range, &mut pieces)?;
        for piece in pieces {
            memo.encode(text, piece, ids, |piece, ids| {
                if self.pre.escapes_spaces() {
                    let escaped = piece.replace(' ', "▁");
                    self.encode_piece(vocab, &escaped, &mut scratch, ids);
                } else {
                    self.encode_piece(vocab, piece, &mut scratch, ids);
                }
            });
        }
        Ok(())
    }

    fn encode_piece(&self, vocab: &Vocab, piece: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        if self.pre.takes_whole(piece)
            && let Some(id) = self.find_whole(vocab, piece, &mut scratch.stand_ins)
        {
            ids.push(id);
            return;
        }
        self.split_into_symbols(vocab, piece, &mut scratch.symbols);
        self.merge(scratch);
        for (symbol, text) in parts(&scratch.symbols, piece.as_bytes()) {
            if (symbol as usize) < vocab.len() {
                ids.push(symbol);
            } else {
                self.spell(vocab, text, ids);
            }
        }
    }

    fn find_whole(&self, vocab: &Vocab, piece: &str, stand_ins: &mut String) -> Option<u32> {
        match self.alphabet {
            Alphabet::Characters(_) => vocab.find(piece.as_bytes()),
            Alphabet::Bytes(_) => {
                stand_ins.clear();
                stand_ins.extend(piece.bytes().map(stand_in));
                vocab.find(stand_ins.as_bytes())
            }
        }
    }

    fn split_into_symbols(&self, vocab: &Vocab, piece: &str, symbols: &mut Vec<Symbol>) {
        symbols.clear();
        let mut push = |start: usize, id| {
            let at = symbols.len() as u32;
            let (previous, next) = (at.wrapping_sub(1), at + 1);
            symbols.push(Symbol {
                start: start as u32,
                id,
                previous,
                next,
            });
        };
        match &self.alphabet {
            Alphabet::Bytes(ids) => {
                piece
                    .bytes()
                    .enumerate()
                    .for_each(|(at, byte)| push(at, ids[usize::from(byte)]));
            }
            Alphabet::Characters(_) => {
                for (at, character) in piece.char_indices() {
                    let text = &piece.as_bytes()[at..][..character.len_utf8()];
                    push(at, self.extra.find(vocab, text));
                }
            }
        }
    }

    /// Merges until no pair is left that has a rank.
    fn merge(&self, scratch: &mut Scratch) {
        let Scratch {
            symbols,
            candidates,
            ..
        } = scratch;
        candidates.clear();
        let ids = |symbols: &[Symbol], left: u32| {
            let left = symbols.get(left as usize)?;
            Some((left.id, symbols.get(left.next as usize)?.id))
        };
        let candidate = |symbols: &[Symbol], left: u32| {
            let (left_id, right_id) = ids(symbols, left)?;
            Some(Reverse((self.find_merge(left_id, right_id)?.rank, left)))
        };
        candidates.extend((0..symbols.len() as u32).filter_map(|left| candidate(symbols, left)));
        while let Some(Reverse((rank, left))) = candidates.pop() {
            // Only one pair has this rank. If it is not there any more, the candidate is stale.
            let merge = ids(symbols, left).and_then(|(a, b)| self.find_merge(a, b));
            let Some(merge) = merge.filter(|merge| merge.rank == rank) else {
                continue;
            };
            join(symbols, left, merge.result);
            let previous = symbols[left as usize].previous;
            candidates.extend(candidate(symbols, left));
            candidates.extend(candidate(symbols, previous));
        }
    }

    fn find_merge(&self, left: u32, right: u32) -> Option<Merge> {
        self.merges.get(&pair(left, right)).copied()
    }

    /// A symbol that is no token, byte by byte. Bytes without a token are dropped.
    fn spell(&self, vocab: &Vocab, text: &[u8], ids: &mut Vec<u32>) {
        match &self.alphabet {
            Alphabet::Bytes(symbols) => ids.extend(
                text.iter()
                    .map(|&byte| symbols[usize::from(byte)])
                    .filter(|&id| (id as usize) < vocab.len()),
            ),
            Alphabet::Characters(bytes) => {
                ids.extend(text.iter().filter_map(|&byte| bytes[usize::from(byte)]));
            }
        }
    }
}

/// Puts the symbol and its right neighbour together.
fn join(symbols: &mut [Symbol], left: u32, result: u32) {
    let right = symbols[left as usize].next;
    let next = symbols[right as usize].next;
    symbols[right as usize].id = NO_SYMBOL;
    symbols[left as usize].id = result;
    symbols[left as usize].next = next;
    if let Some(next) = symbols.get_mut(next as usize) {
        next.previous = left;
    }
}

/// The symbols that are left, with their texts.
fn parts<'a>(symbols: &'a [Symbol], piece: &'a [u8]) -> impl Iterator<Item = (u32, &'a [u8])> {
    let next = |symbol: &&Symbol| symbols.get(symbol.next as usize);
    std::iter::successors(symbols.first(), next).map(move |symbol| {
        let end = next(&symbol).map_or(piece.len(), |next| next.start as usize);
        (symbol.id, &piece[symbol.start as usize..end])
    })
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Texts that only merges know.
#[derive(Debug)]
struct Extra {
    texts: Texts,
    index: Index,
}

impl Extra {
    fn new() -> Extra {
        let texts = Texts::default();
        Extra {
            index: Index::new(&texts),
            texts,
        }
    }

    /// The number of a text, [`NO_SYMBOL`] if it has none.
    fn find(&self, vocab: &Vocab, text: &[u8]) -> u32 {
        let extra = || {
            self.index
                .find(&self.texts, text)
                .map(|id| id + vocab.len() as u32)
        };
        vocab.find(text).or_else(extra).unwrap_or(NO_SYMBOL)
    }

    /// The number of a text; a new one if it has none. `None` if there are too many texts.
    fn find_or_add(&mut self, vocab: &Vocab, text: &[u8]) -> Option<u32> {
        let found = self.find(vocab, text);
        if found != NO_SYMBOL {
            return Some(found);
        }
        let id = self.texts.len() as u32; // at most three for each of MAX_MERGES
        self.texts.push(text)?;
        self.index.insert(&self.texts, id);
        Some(id + vocab.len() as u32)
    }
}

fn read_merges(
    gguf: &Gguf,
    vocab: &Vocab,
    extra: &mut Extra,
) -> Result<HashMap<u64, Merge, Secret>> {
    let array: Array = gguf.require(MERGES)?;
    let limit = |limit, found| Error::Limit {
        place: gguf.place_of_key(MERGES),
        limit,
        found,
    };
    if array.len() as u64 > MAX_MERGES {
        return Err(limit(MAX_MERGES, array.len() as u64));
    }
    let mut merges = HashMap::with_capacity_and_hasher(array.len(), Secret::new());
    let mut joined = Vec::new();
    let (mut expected, may_guess) = (0, vocab.texts_differ());
    for (rank, merge) in (0..).zip(array.strings()?) {
        let (left, right) = split_merge(merge).ok_or_else(|| Error::Malformed {
            place: gguf.place_of_key(MERGES),
            expected: format!("two texts with a space between them in merge {rank}"),
            found: shown(merge),
        })?;
        joined.clear();
        joined.extend_from_slice(left);
        joined.extend_from_slice(right);
        // Most vocabularies list the results of the merges in the merges' order.
        let guess = Some(expected).filter(|&id| may_guess && vocab.text(id) == Some(&joined));
        let mut number = |text| {
            let bytes = array.as_bytes().len() as u64;
            extra
                .find_or_add(vocab, text)
                .ok_or_else(|| limit(u32::MAX.into(), bytes))
        };
        let (left, right) = (number(left)?, number(right)?);
        let result = guess.map_or_else(|| number(&joined), Ok)?;
        expected = result.saturating_add(1);
        merges
            .entry(pair(left, right))
            .or_insert(Merge { rank, result });
    }
    Ok(merges)
}

/// Cuts at the first space after the first byte: a text may begin with a space, not contain one.
fn split_merge(merge: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = merge.iter().skip(1).position(|&byte| byte == b' ')? + 1;
    Some((&merge[..at], &merge[at + 1..])).filter(|(_, right)| !right.is_empty())
}
