//! From tokens to bytes and text.

use std::borrow::Cow;

use crate::Result;

use super::Tokenizer;
use super::stand_in::byte_of;
use super::vocab::{TokenKind, Vocab, parse_byte};

/// How a vocabulary writes ordinary text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Bytes in GPT-2's stand-in characters.
    StandIns,
    /// As it is, with `▁` for a space.
    Escaped,
}

/// The bytes that a token stands for; `None` if there is no such token.
///
/// Control and unknown tokens stand for nothing, or for their own text if `special` is set.
pub(super) fn piece(
    vocab: &Vocab,
    spelling: Spelling,
    id: u32,
    special: bool,
) -> Option<Cow<'_, [u8]>> {
    let text = vocab.text(id)?;
    Some(match vocab.kind(id)? {
        TokenKind::Control | TokenKind::Unknown if !special => Cow::Borrowed(&[]),
        TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined => Cow::Borrowed(text),
        TokenKind::Undefined | TokenKind::Unused => Cow::Borrowed(&[]),
        TokenKind::Byte => Cow::Owned(parse_byte(text).into_iter().collect()),
        TokenKind::Normal => match spelling {
            Spelling::StandIns => Cow::Owned(from_stand_ins(text)),
            Spelling::Escaped => unescaped(text),
        },
    })
}

/// What is no stand-in is kept as it is.
fn from_stand_ins(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match byte_of(character) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes.extend_from_slice(chunk.invalid());
    }
    bytes
}

/// Spaces for every `▁`.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    const ESCAPE: &[u8] = "▁".as_bytes();
    let is_escape = |at: usize| text[at..].starts_with(ESCAPE);
    if !(0..text.len()).any(is_escape) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escape = is_escape(at);
        bytes.push(if escape { b' ' } else { text[at] });
        at += if escape { ESCAPE.len() } else { 1 };
    }
    Cow::Owned(bytes)
}

/// Removes the space before `?`, `!`, `.`, `,`, the spaces around a lone `'`, and the space before
/// `'s`, `'m`, `'re` and `'ve`: what GPT-2's decoder does, one rule after the other.
pub(super) fn clean_spaces(text: &[u8]) -> Vec<u8> {
    let text = drop_spaces(text, |after| {
        matches!(after, [b'?' | b'!' | b'.' | b',', ..])
    });
    let mut lone = Vec::with_capacity(text.len());
    let mut rest = &text[..];
    while let [byte, after @ ..] = rest {
        // Not at the very beginning, and a space is used only once.
        let found = after.starts_with(b"' ") && *byte == b' ';
        lone.push(if found { b'\'' } else { *byte });
        rest = if found { &after[2..] } else { after };
    }
    drop_spaces(&lone, |after| {
        matches!(
            after,
            [b'\'', b's' | b'm', ..] | [b'\'', b'r' | b'v', b'e', ..]
        )
    })
}

/// Drops every space that stands before what is wanted.
fn drop_spaces(text: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let keep = |&(at, byte): &(usize, &u8)| *byte != b' ' || !wanted(&text[at + 1..]);
    text.iter()
        .enumerate()
        .filter(keep)
        .map(|(_, byte)| *byte)
        .collect()
}

/// Turns tokens into text as they come, and never cuts a character in two.
///
/// A character's bytes may be spread over several tokens: they are held back until the character
/// is complete. Bytes that cannot become a character any more are replaced by U+FFFD.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    special: bool,
    /// Control tokens that are shown all the same, in order.
    shown: Vec<u32>,
    /// An incomplete character: at most three bytes.
    pending: Vec<u8>,
    text: String,
}

impl StreamDecoder {
    /// A decoder that shows control tokens as their text if `render_special` is set, and leaves
    /// them out otherwise.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, render_special: bool) -> StreamDecoder {
        let tokenizer = tokenizer.clone();
        StreamDecoder {
            tokenizer,
            special: render_special,
            shown: Vec::new(),
            pending: Vec::new(),
            text: String::new(),
        }
    }

    /// Shows also the tokens that these texts are, if they are any.
    pub(crate) fn show(&mut self, texts: impl IntoIterator<Item = &'static str>) {
        let ids = texts
            .into_iter()
            .filter_map(|text| self.tokenizer.token_id(text));
        self.shown.extend(ids.collect::<Vec<u32>>());
        self.shown.sort_unstable();
    }

    /// Takes a token and gives the text that became complete with it; often one word, sometimes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`](crate::Error::Argument) if the vocabulary has no such token; the
    /// decoder is as it was before.
    pub fn push(&mut self, id: u32) -> Result<&str> {
        let special = self.special || self.shown.binary_search(&id).is_ok();
        let piece = self.tokenizer.piece(id, special)?;
        self.pending.extend_from_slice(&piece);
        self.text.clear();
        let mut complete = 0;
        for chunk in self.pending.utf8_chunks() {
            self.text.push_str(chunk.valid());
            complete += chunk.valid().len();
            if is_incomplete(chunk.invalid())
                && complete + chunk.invalid().len() == self.pending.len()
            {
                break;
            }
            self.text.push_str(if chunk.invalid().is_empty() {
                ""
            } else {
                "\u{fffd}"
            });
            complete += chunk.invalid().len();
        }
        self.pending.drain(..complete);
        Ok(&self.text)
    }

    /// Ends the text: an incomplete character becomes U+FFFD. The decoder can then be used again.
    pub fn finish(&mut self) -> &str {
        let rest = !self.pending.is_empty();
        self.pending.clear();
        self.text.clear();
        self.text.push_str(if rest { "\u{fffd}" } else { "" });
        &self.text
    }
}

/// Whether more bytes could make a character of these.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
