//! The vocabulary: every token's text, kind and score, and the way from a text to its id.

use std::borrow::Cow;

use crate::gguf::{Array, Gguf, ValueType};
use crate::{Error, Result};

use super::hash::Secret;

const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";

/// Tokens of a vocabulary. The largest published ones have some 260 000. In the file an empty
/// token costs 8 bytes, here about 40, so the count needs a bound of its own.
const MAX_TOKENS: u64 = 1 << 22;

/// What a token is, by `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// No kind given (0): stands for no text.
    Undefined,
    /// A piece of ordinary text (1).
    Normal,
    /// What the tokenizer gives for text that it cannot express (2).
    Unknown,
    /// A control token, such as the end of a turn (3): found in a text only on request.
    Control,
    /// A piece added by the model's maker (4): always found in a text, before any other rule.
    UserDefined,
    /// A place that no text uses (5).
    Unused,
    /// One byte, written `<0xXX>` (6).
    Byte,
}

impl TokenKind {
    fn from_number(number: i64) -> Option<TokenKind> {
        Some(match number {
            0 => TokenKind::Undefined,
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => return None,
        })
    }
}

/// The vocabulary of a file.
#[derive(Debug)]
pub(super) struct Vocab {
    texts: Texts,
    kinds: Vec<TokenKind>,
    /// Empty if the file has none.
    scores: Vec<f32>,
    index: Index,
}

impl Vocab {
    pub(super) fn from_gguf(gguf: &Gguf) -> Result<Vocab> {
        let texts = read_texts(gguf)?;
        let kinds = read_kinds(gguf, texts.len())?;
        let scores = read_scores(gguf, texts.len())?;
        let index = Index::new(&texts);
        let vocab = Vocab {
            texts,
            kinds,
            scores,
            index,
        };
        vocab.check_byte_tokens(gguf)?;
        Ok(vocab)
    }

    /// The vocabulary of a file without one.
    pub(super) fn empty() -> Vocab {
        let texts = Texts::default();
        let index = Index::new(&texts);
        Vocab {
            texts,
            kinds: Vec::new(),
            scores: Vec::new(),
            index,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The text as the file stores it.
    pub(super) fn text(&self, id: u32) -> Option<&[u8]> {
        self.texts.get(id)
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(super) fn set_kind(&mut self, id: u32, kind: TokenKind) {
        if let Some(place) = self.kinds.get_mut(id as usize) {
            *place = kind;
        }
    }

    /// The score; 0 if the file has none.
    pub(super) fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or(0.0)
    }

    /// The id of a text; of equal texts, the last one's.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        self.index.find(&self.texts, text)
    }

    /// Whether every text is one token's only: then an id whose text is right is the right id.
    pub(super) fn texts_differ(&self) -> bool {
        self.index.used == self.len()
    }

    /// The ids of all tokens.
    pub(super) fn ids(&self) -> std::ops::Range<u32> {
        0..self.len() as u32 // at most MAX_TOKENS
    }

    /// The token of every byte written as `<0xXX>`, as far as there are any.
    pub(super) fn byte_tokens(&self) -> Box<[Option<u32>; 256]> {
        let mut ids = Box::new([None; 256]);
        for (byte, id) in (0_u8..=255).zip(ids.iter_mut()) {
            *id = self.find(format!("<0x{byte:02X}>").as_bytes());
        }
        ids
    }

    /// A token of kind byte must say which byte it is.
    fn check_byte_tokens(&self, gguf: &Gguf) -> Result<()> {
        for (id, _) in self
            .kinds
            .iter()
            .enumerate()
            .filter(|(_, kind)| **kind == TokenKind::Byte)
        {
            let text = self.texts.get(id as u32).unwrap_or_default();
            if parse_byte(text).is_none() {
                return Err(Error::Malformed {
                    place: gguf.place_of_key(TOKENS),
                    expected: format!("`<0x00>` to `<0xFF>` for byte token {id}"),
                    found: shown(text),
                });
            }
        }
        Ok(())
    }
}

/// The byte that a text of the form `<0xXX>` names.
pub(super) fn parse_byte(text: &[u8]) -> Option<u8> {
    let [b'<', b'0', b'x', high, low, b'>'] = *text else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// A text of the file, fit to be shown in an error: escaped, and not too long.
pub(super) fn shown(text: &[u8]) -> String {
    const SHOWN: usize = 80;
    let cut = if text.len() > SHOWN { "…" } else { "" };
    format!("`{}{cut}`", text[..text.len().min(SHOWN)].escape_ascii())
}

/// Texts one behind the other: a `String` for each would take longer to allocate than to use.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    /// Where each text ends; it begins where the one before ends.
    ends: Vec<u32>,
}

impl Texts {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// `None` and nothing done if all texts together would be 4 GiB or more.
    pub(super) fn push(&mut self, text: &[u8]) -> Option<()> {
        let end = u32::try_from(self.bytes.len().checked_add(text.len())?).ok()?;
        self.bytes.extend_from_slice(text);
        self.ends.push(end);
        Some(())
    }

    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let index = id as usize;
        let end = *self.ends.get(index)? as usize;
        let start = index
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        Some(&self.bytes[start..end])
    }
}

/// From a text to its number: open addressing over numbers, which name a text in [`Texts`].
#[derive(Debug)]
pub(super) struct Index {
    /// A power of two of them, at most three quarters in use.
    slots: Vec<Slot>,
    used: usize,
    longest: usize,
    secret: Secret,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The upper half of the text's hash, which spares most comparisons of texts.
    tag: u32,
    id: u32,
}

const FREE: u32 = u32::MAX;

impl Index {
    pub(super) fn new(texts: &Texts) -> Index {
        let slots = (texts.len() * 4 / 3 + 1).next_power_of_two().max(16);
        let mut index = Index {
            slots: vec![Slot { tag: 0, id: FREE }; slots],
            used: 0,
            longest: 0,
            secret: Secret::new(),
        };
        for id in 0..texts.len() as u32 {
            index.insert(texts, id);
        }
        index
    }

    /// Adds a text; it takes the place of an equal one.
    pub(super) fn insert(&mut self, texts: &Texts, id: u32) {
        let Some(text) = texts.get(id) else { return };
        if self.used >= self.slots.len() / 4 * 3 {
            self.grow(texts);
        }
        self.longest = self.longest.max(text.len());
        let (slot, tag) = self.slot_of(texts, text);
        self.used += usize::from(self.slots[slot].id == FREE);
        self.slots[slot] = Slot { tag, id };
    }

    pub(super) fn find(&self, texts: &Texts, text: &[u8]) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        let (slot, _) = self.slot_of(texts, text);
        Some(self.slots[slot].id).filter(|&id| id != FREE)
    }

    /// The slot that holds the text, or the free one where it would go; and the text's tag.
    fn slot_of(&self, texts: &Texts, text: &[u8]) -> (usize, u32) {
        let hash = self.secret.hash_bytes(text);
        let tag = (hash >> 32) as u32;
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.id == FREE || (slot.tag == tag && texts.get(slot.id) == Some(text)) {
                return (at, tag);
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self, texts: &Texts) {
        let twice = vec![Slot { tag: 0, id: FREE }; self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, twice) {
            if let Some(text) = texts.get(slot.id) {
                let (at, _) = self.slot_of(texts, text);
                self.slots[at] = slot;
            }
        }
    }
}

fn read_texts(gguf: &Gguf) -> Result<Texts> {
    let array: Array = gguf.require(TOKENS)?;
    let limit = |limit, found| Error::Limit {
        place: gguf.place_of_key(TOKENS),
        limit,
        found,
    };
    if array.len() as u64 > MAX_TOKENS {
        return Err(limit(MAX_TOKENS, array.len() as u64));
    }
    let mut texts = Texts::default();
    texts
        .bytes
        .reserve(array.as_bytes().len().saturating_sub(8 * array.len()));
    texts.ends.reserve(array.len());
    for text in array.strings()? {
        let text = match text {
            // An empty text could be found everywhere; llama.cpp gives it this name, too.
            [] => Cow::Owned(format!("[EMPTY_{}]", texts.len()).into_bytes()),
            text => Cow::Borrowed(text),
        };
        texts
            .push(&text)
            .ok_or_else(|| limit(u32::MAX.into(), array.as_bytes().len() as u64))?;
    }
    if texts.len() == 0 || texts.len() != array.len() {
        return Err(Error::Malformed {
            place: gguf.place_of_key(TOKENS),
            expected: "at least one token, and as many as announced".into(),
            found: format!("{} tokens of {}", texts.len(), array.len()),
        });
    }
    Ok(texts)
}

/// The kinds; all are normal if the file does not say.
fn read_kinds(gguf: &Gguf, tokens: usize) -> Result<Vec<TokenKind>> {
    let Some(array) = one_per_token(gguf, TOKEN_TYPES, tokens)? else {
        return Ok(vec![TokenKind::Normal; tokens]);
    };
    let kind = |number: i64| {
        TokenKind::from_number(number).ok_or_else(|| Error::Malformed {
            place: gguf.place_of_key(TOKEN_TYPES),
            expected: "token types from 0 to 6".into(),
            found: number.to_string(),
        })
    };
    match array.element_type() {
        ValueType::U32 => array.numbers::<u32>()?.map(|n| kind(n.into())).collect(),
        _ => array.numbers::<i32>()?.map(|n| kind(n.into())).collect(),
    }
}

fn read_scores(gguf: &Gguf, tokens: usize) -> Result<Vec<f32>> {
    let Some(array) = one_per_token(gguf, SCORES, tokens)? else {
        return Ok(Vec::new());
    };
    // Adding 0 turns -0 into 0: the two are equal scores, but not in the total order used here.
    Ok(array.numbers::<f32>()?.map(|score| score + 0.0).collect())
}

fn one_per_token(gguf: &Gguf, key: &str, tokens: usize) -> Result<Option<Array>> {
    let array: Option<Array> = gguf.optional(key)?;
    match array {
        Some(array) if array.len() != tokens => Err(Error::Malformed {
            place: gguf.place_of_key(key),
            expected: format!("{tokens} elements, one for each token"),
            found: array.len().to_string(),
        }),
        array => Ok(array),
    }
}
