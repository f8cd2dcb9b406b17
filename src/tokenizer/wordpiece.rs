//! WordPiece (Schuster and Nakajima, 2012), as BERT has it: words are spelt in the longest tokens from
//! the left; a word that cannot be spelt is unknown as a whole.
//!
//! Before, accents are dropped, letters made small, and punctuation and ideographs made words of their own.

use std::ops::Range;
use std::sync::LazyLock;

use unicode_normalization::char::decompose_canonical;

use super::memo::Memo;
use super::unicode::{Class, Set, class_of};
use super::vocab::Vocab;
use crate::Result;
use crate::gguf::Gguf;

/// What begins a word, in the vocabulary.
const WORD: char = '▁';

/// Bytes of a token that is looked for; real ones have fewer than a hundred. At each place of a word every
/// length is tried, so the time per byte of a text could otherwise grow with the file.
const MAX_BYTES: usize = 256;

/// Unicode's general categories.
static PUNCTUATION: LazyLock<Set> = LazyLock::new(|| Set::of(r"\p{P}"));
static SYMBOLS: LazyLock<Set> = LazyLock::new(|| Set::of(r"\p{S}"));
static CONTROLS: LazyLock<Set> = LazyLock::new(|| Set::of(r"[\p{Cc}\p{Cf}\p{Co}]"));

/// What a vocabulary needs besides its tokens.
#[derive(Debug)]
pub(super) struct WordPiece {
    lowercase: bool,
    strip_accents: bool,
    unknown: Option<u32>,
    /// Bytes of the longest token, of those that are looked for.
    longest: usize,
}

impl WordPiece {
    pub(super) fn from_gguf(gguf: &Gguf, vocab: &Vocab, unknown: Option<u32>) -> Result<WordPiece> {
        let flag = |name: &str| gguf.optional(&format!("tokenizer.ggml.normalizer.{name}"));
        let lowercase = flag("lowercase")?.unwrap_or(true);
        let lengths = vocab.ids().filter_map(|id| vocab.text(id)).map(<[u8]>::len);
        Ok(WordPiece {
            lowercase,
            strip_accents: flag("strip_accents")?.unwrap_or(lowercase),
            unknown,
            longest: lengths.max().unwrap_or(0).min(MAX_BYTES),
        })
    }

    /// Appends the tokens of a range of the text, in which no special tokens are.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        range: Range<usize>,
        memo: &mut Memo,
        ids: &mut Vec<u32>,
    ) {
        let mut word = String::new();
        let mut at = range.start;
        while let Some(space) = text[at..range.end].find(|c: char| !c.is_whitespace()) {
            let start = at + space;
            let run = &text[start..range.end];
            at = start + run.find(char::is_whitespace).unwrap_or(run.len());
            memo.encode(text, start..at, ids, |run, ids| {
                self.encode_run(vocab, run, &mut word, ids);
            });
        }
    }

    /// Appends the tokens of a run without whitespace. `word` is empty, before and after.
    fn encode_run(&self, vocab: &Vocab, run: &str, word: &mut String, ids: &mut Vec<u32>) {
        for character in run.chars() {
            let Some(character) = self.normalized(character) else {
                continue;
            };
            if stands_alone(character) {
                self.end_word(vocab, word, ids);
                word.push(character);
                self.end_word(vocab, word, ids);
            } else {
                word.push(character);
            }
        }
        self.end_word(vocab, word, ids);
    }

    /// A character as the vocabulary has it; `None` if it is dropped.
    fn normalized(&self, mut character: char) -> Option<char> {
        if self.strip_accents {
            let mut first = None;
            decompose_canonical(character, |part| {
                first.get_or_insert(part);
            });
            character = first.unwrap_or(character);
            if class_of(character) == Class::Mark {
                return None;
            }
        }
        if ['\0', char::REPLACEMENT_CHARACTER].contains(&character) || CONTROLS.has(character) {
            return None;
        }
        if self.lowercase {
            character = character.to_lowercase().next().unwrap_or(character);
        }
        Some(character)
    }

    /// Appends the tokens of a word, and empties it.
    fn end_word(&self, vocab: &Vocab, word: &mut String, ids: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        word.insert(0, WORD);
        let bytes = word.as_bytes();
        let (mut start, first) = (0, ids.len());
        while start < bytes.len() {
            let end = bytes.len().min(start + self.longest);
            let found = (start + 1..=end)
                .rev()
                .find_map(|end| Some((vocab.find(&bytes[start..end])?, end)));
            let Some((id, end)) = found else {
                ids.truncate(first);
                ids.extend(self.unknown);
                break;
            };
            ids.push(id);
            start = end;
        }
        word.clear();
    }
}

/// Whether a character is a word of its own.
fn stands_alone(character: char) -> bool {
    PUNCTUATION.has(character)
        || (character.is_ascii() && SYMBOLS.has(character))
        || is_ideograph(character)
}

/// The blocks of CJK ideographs that BERT knows, without those that Unicode added since.
fn is_ideograph(character: char) -> bool {
    matches!(u32::from(character),
        0x4E00..=0x9FFF
        | 0x3400..=0x4DBF
        | 0x20000..=0x2A6DF
        | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF
        | 0xF900..=0xFAFF
        | 0x2F800..=0x2FA1F)
}
