//! SentencePiece's Unigram model (Kudo, "Subword Regularization", 2018): of all ways to spell a text in
//! tokens, the one with the largest sum of scores.
//!
//! Before, a map in the file replaces characters (such as ligatures), and spaces are merged.

use super::vocab::{TokenKind, Vocab};
use crate::gguf::Gguf;
use crate::{Error, Result};

const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// What a space is in the vocabulary.
const SPACE: &str = "▁";

/// How much worse an unknown character is than the worst token.
const UNKNOWN_PENALTY: f32 = 10.0;

/// What a vocabulary needs besides its tokens.
#[derive(Debug)]
pub(super) struct Unigram {
    map: CharacterMap,
    unknown: Option<u32>,
    unknown_score: f32,
    /// Tokens that may be found, sorted by their texts.
    sorted: Vec<u32>,
    space_prefix: bool,
    merge_spaces: bool,
}

/// The best spelling of a text up to some place.
#[derive(Clone, Copy, Debug)]
struct Best {
    id: Option<u32>,
    /// Where the last token begins.
    start: u32,
    score: f64,
}

impl Unigram {
    pub(super) fn from_gguf(
        gguf: &Gguf,
        vocab: &Vocab,
        unknown: Option<u32>,
        space_prefix: bool,
    ) -> Result<Unigram> {
        let is_of =
            |id: u32, kinds: &[TokenKind]| vocab.kind(id).is_some_and(|kind| kinds.contains(&kind));
        let normal = vocab.ids().filter(|id| is_of(*id, &[TokenKind::Normal]));
        let least = normal.map(|id| vocab.score(id)).fold(0.0, f32::min);
        let found = [TokenKind::Normal, TokenKind::UserDefined, TokenKind::Unused];
        let mut sorted: Vec<u32> = vocab.ids().filter(|id| is_of(*id, &found)).collect();
        sorted.sort_by_key(|id| vocab.text(*id));
        Ok(Unigram {
            map: CharacterMap::from_gguf(gguf)?,
            unknown,
            unknown_score: least - UNKNOWN_PENALTY,
            sorted,
            space_prefix,
            merge_spaces: gguf
                .optional("tokenizer.ggml.remove_extra_whitespaces")?
                .unwrap_or(false),
        })
    }

    /// Appends the tokens of a text without special tokens.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let text = self.normalized(text);
        let bytes = text.as_bytes();
        let nothing = Best {
            id: None,
            start: 0,
            score: f64::NEG_INFINITY,
        };
        let mut best = vec![nothing; bytes.len() + 1];
        best[0].score = 0.0;
        for (start, character) in text.char_indices() {
            let mut offer = |end: usize, id: Option<u32>, score: f32| {
                let score = best[start].score + f64::from(score);
                if score > best[end].score {
                    let start = start as u32;
                    best[end] = Best { id, start, score };
                }
            };
            let end = start + character.len_utf8();
            let mut has_character = false;
            self.tokens_at(vocab, &bytes[start..], |id, length| {
                let is_user_defined = vocab.kind(id) == Some(TokenKind::UserDefined);
                let score = if is_user_defined {
                    0.0
                } else {
                    vocab.score(id)
                };
                has_character |= start + length == end;
                offer(start + length, Some(id), score);
            });
            if !has_character {
                offer(end, None, self.unknown_score);
            }
        }
        let first = ids.len();
        let mut end = bytes.len();
        let mut is_after_unknown = false;
        while end > 0 {
            let Best { id, start, .. } = best[end];
            // Neighbours that are unknown become one.
            if id.is_some() || !is_after_unknown {
                ids.extend(id.or(self.unknown));
            }
            is_after_unknown = id.is_none();
            end = start as usize;
        }
        ids[first..].reverse();
    }

    /// Calls `each` with the tokens that `bytes` begin with, the shortest first, and with their lengths.
    fn tokens_at(&self, vocab: &Vocab, bytes: &[u8], mut each: impl FnMut(u32, usize)) {
        let mut candidates = &self.sorted[..];
        for (place, &byte) in bytes.iter().enumerate() {
            // All candidates begin with the bytes so far; those that end there come first.
            let next = |id: &u32| vocab.text(*id).and_then(|text| text.get(place).copied());
            let start = candidates.partition_point(|id| next(id) < Some(byte));
            let end = candidates.partition_point(|id| next(id) <= Some(byte));
            candidates = &candidates[start..end];
            let Some(&first) = candidates.first() else {
                return;
            };
            if vocab.text(first).map(<[u8]>::len) == Some(place + 1) {
                each(first, place + 1);
            }
        }
    }

    /// The text as the vocabulary has it.
    fn normalized(&self, text: &str) -> String {
        let mut normalized = String::with_capacity(2 * text.len());
        let mut is_in_word = false;
        let mut has_prefix = !self.space_prefix;
        let mut rest = text;
        while !rest.is_empty() {
            let (replacement, length) = self.map.replace(rest);
            for character in replacement.chars() {
                if character != ' ' {
                    if !is_in_word && (!has_prefix || self.merge_spaces) {
                        normalized.push_str(SPACE);
                        has_prefix = true;
                    }
                    is_in_word = true;
                    normalized.push(character);
                } else {
                    is_in_word = false;
                    if !self.merge_spaces {
                        normalized.push_str(SPACE);
                    }
                }
            }
            rest = &rest[length..];
        }
        normalized
    }
}

/// What replaces characters: a trie in a double array (Yata et al., "A Compact Static Double-Array Keeping
/// Character Codes", 2007), whose values are places in a list of texts that end with a zero.
#[derive(Debug, Default)]
struct CharacterMap {
    nodes: Vec<u32>,
    texts: Vec<u8>,
}

impl CharacterMap {
    fn from_gguf(gguf: &Gguf) -> Result<CharacterMap> {
        let Some(bytes) = gguf.optional::<Vec<u32>>(CHARSMAP)? else {
            return Ok(CharacterMap::default());
        };
        let malformed = |expected: &str, found: usize| Error::Malformed {
            place: gguf.place_of_key(CHARSMAP),
            expected: expected.to_owned(),
            found: found.to_string(),
        };
        let bytes: Option<Vec<u8>> = bytes.iter().map(|&byte| u8::try_from(byte).ok()).collect();
        let bytes = bytes.ok_or_else(|| malformed("bytes", 256))?;
        let Some((size, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(malformed("at least 4 bytes", bytes.len()));
        };
        let size = u32::from_le_bytes(*size) as usize;
        let Some((nodes, texts)) = rest.split_at_checked(size) else {
            return Err(malformed("as many bytes as it says", rest.len()));
        };
        let nodes = nodes
            .as_chunks()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word));
        Ok(CharacterMap {
            nodes: nodes.collect(),
            texts: texts.to_vec(),
        })
    }

    /// What replaces the longest known beginning of a text that is not empty, and the length of that; where
    /// nothing does, the first character itself.
    fn replace<'a>(&'a self, text: &'a str) -> (&'a str, usize) {
        let found = self.longest(text.as_bytes());
        // A map that splits a character or holds no UTF-8 is none.
        let found = found.filter(|(_, length)| text.is_char_boundary(*length));
        let replacement = found.and_then(|(place, length)| {
            let text = self.texts.get(place..)?.split(|&byte| byte == 0).next()?;
            Some((std::str::from_utf8(text).ok()?, length))
        });
        let length = text.chars().next().map_or(0, char::len_utf8);
        replacement.unwrap_or((&text[..length], length))
    }

    /// The value of the longest key that `bytes` begin with, and its length.
    fn longest(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let node = |place: u32| self.nodes.get(place as usize).copied();
        let base = |node: u32| (node >> 10) << ((node & (1 << 9)) >> 6);
        let mut place = base(node(0)?);
        let mut longest = None;
        for (index, &byte) in bytes.iter().enumerate() {
            place ^= u32::from(byte);
            let Some(found) = node(place)
                .filter(|found| byte != 0 && found & ((1 << 31) | 0xff) == u32::from(byte))
            else {
                break;
            };
            place ^= base(found);
            if found >> 8 & 1 == 1 {
                let value = node(place)? & !(1 << 31);
                longest = Some((value as usize, index + 1));
            }
        }
        longest
    }
}
