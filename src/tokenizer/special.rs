//! Which tokens mean something to the runtime: by the file's keys, or else by their text.
//!
//! GGUF files often lack the keys, or give such tokens the wrong type. llama.cpp therefore knows
//! them by their texts; the names here are those of its vocabulary loader.

use crate::gguf::Gguf;
use crate::{Error, Result};

use super::cut::Strip;
use super::vocab::{TokenKind, Vocab};

/// A part that a token can play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecialToken {
    /// Begins a text.
    BeginningOfSequence,
    /// Ends a text.
    EndOfSequence,
    /// Ends one speaker's turn.
    EndOfTurn,
    /// Ends a message, after which the same speaker goes on.
    EndOfMessage,
    /// Stands for what the vocabulary cannot express.
    Unknown,
    /// Separates two texts.
    Separator,
    /// Fills up.
    Padding,
    /// A place to be filled in.
    Mask,
    /// Fill-in-the-middle: before the text that precedes the gap.
    FimPrefix,
    /// Fill-in-the-middle: before the text that follows the gap.
    FimSuffix,
    /// Fill-in-the-middle: before what fills the gap.
    FimMiddle,
    /// Fill-in-the-middle: padding.
    FimPadding,
    /// Fill-in-the-middle: before a repository's name.
    FimRepository,
    /// Fill-in-the-middle: between files.
    FimSeparator,
}

use SpecialToken as S;

struct Role {
    role: SpecialToken,
    /// The file's keys without `tokenizer.ggml.` and `_token_id`; of several, the last counts.
    keys: &'static [&'static str],
    /// Texts by which the token is known if the file has no key.
    names: &'static [&'static str],
}

/// In the order of [`SpecialToken`].
#[rustfmt::skip]
const ROLES: [Role; 14] = [
    Role { role: S::BeginningOfSequence, keys: &["bos"], names: &[] },
    Role { role: S::EndOfSequence, keys: &["eos"], names: &[] },
    Role { role: S::EndOfTurn, keys: &["eot"], names: &[
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
        "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>",
        "<end_of_utterance>",
    ] },
    Role { role: S::EndOfMessage, keys: &["eom"], names: &["<|eom_id|>"] },
    Role { role: S::Unknown, keys: &["unknown"], names: &[] },
    Role { role: S::Separator, keys: &["seperator"], names: &[] }, // the key is spelt so
    Role { role: S::Padding, keys: &["padding"], names: &[] },
    Role { role: S::Mask, keys: &["mask"], names: &[] },
    Role { role: S::FimPrefix, keys: &["prefix", "fim_pre"], names: &[
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
        "<|code_prefix|>", "<|prefix|>",
    ] },
    Role { role: S::FimSuffix, keys: &["suffix", "fim_suf"], names: &[
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
        "<|code_suffix|>", "<|suffix|>",
    ] },
    Role { role: S::FimMiddle, keys: &["middle", "fim_mid"], names: &[
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
        "<|code_middle|>", "<|middle|>",
    ] },
    Role { role: S::FimPadding, keys: &["fim_pad"], names: &[
        "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]",
    ] },
    Role { role: S::FimRepository, keys: &["fim_rep"], names: &[
        "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>",
    ] },
    Role { role: S::FimSeparator, keys: &["fim_sep"], names: &["<|file_sep|>"] },
];

/// Texts of tokens that end a generation, whatever the file says of them.
const END_NAMES: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
];

/// Roles whose tokens end a generation.
const END_ROLES: [SpecialToken; 6] = [
    S::FimPadding,
    S::FimRepository,
    S::FimSeparator,
    S::EndOfSequence,
    S::EndOfTurn,
    S::EndOfMessage,
];

/// Texts that gpt-oss means to be seen.
const SHOWN_NAMES: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// The special tokens of a vocabulary.
#[derive(Debug, Default)]
pub(super) struct Specials {
    ids: [Option<u32>; ROLES.len()],
    /// Sorted.
    end_of_generation: Vec<u32>,
}

impl Specials {
    /// Finds them, and gives tokens known by their text the kind that belongs to it.
    ///
    /// `defaults` are used where the file has no key.
    pub(super) fn find(
        gguf: &Gguf,
        vocab: &mut Vocab,
        defaults: &[(SpecialToken, u32)],
    ) -> Result<Specials> {
        let mut specials = Specials::default();
        for &(role, id) in defaults {
            let fits = matches!(
                vocab.kind(id),
                Some(TokenKind::Control | TokenKind::Unknown)
            );
            specials.ids[role as usize] = fits.then_some(id);
        }
        for role in &ROLES {
            for key in role.keys {
                if let Some(id) = read_id(gguf, key, vocab)? {
                    specials.ids[role.role as usize] = Some(id);
                }
            }
        }
        for role in &ROLES {
            let place = &mut specials.ids[role.role as usize];
            if place.is_none() {
                *place = role
                    .names
                    .iter()
                    .find_map(|name| vocab.find(name.as_bytes()));
                mark(vocab, *place, TokenKind::Control);
            }
        }
        specials.find_ends(vocab);
        Ok(specials)
    }

    pub(super) fn id(&self, role: SpecialToken) -> Option<u32> {
        self.ids[role as usize]
    }

    pub(super) fn end_of_generation(&self) -> &[u32] {
        &self.end_of_generation
    }

    fn find_ends(&mut self, vocab: &mut Vocab) {
        let mut ends: Vec<u32> = END_ROLES.iter().filter_map(|&role| self.id(role)).collect();
        for name in END_NAMES {
            let id = vocab.find(name.as_bytes());
            mark(vocab, id, TokenKind::Control);
            ends.extend(id);
        }
        for name in SHOWN_NAMES {
            mark(vocab, vocab.find(name.as_bytes()), TokenKind::UserDefined);
        }
        for (name, kind) in not_ends(vocab) {
            let id = vocab.find(name.as_bytes());
            mark(vocab, id, kind);
            ends.retain(|&end| Some(end) != id);
        }
        ends.sort_unstable();
        ends.dedup();
        self.end_of_generation = ends;
    }
}

/// Names that are no ends in vocabularies that have other ones, and what they are instead.
fn not_ends(vocab: &Vocab) -> Vec<(&'static str, TokenKind)> {
    let has = |name: &str| vocab.find(name.as_bytes()).is_some();
    let mut names = Vec::new();
    // In these formats a message ends with `<|end|>` and the answer goes on.
    if (has("<|return|>") && has("<|call|>")) || (has("<|calls|>") && has("<|flush|>")) {
        names.push(("<|end|>", TokenKind::UserDefined));
    }
    // In these it is ordinary markup.
    if has("<|tool_response>") || has("<|plamo:eos|>") {
        names.push(("</s>", TokenKind::Normal));
    }
    names
}

fn mark(vocab: &mut Vocab, id: Option<u32>, kind: TokenKind) {
    if let Some(id) = id {
        vocab.set_kind(id, kind);
    }
}

fn read_id(gguf: &Gguf, key: &str, vocab: &Vocab) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{key}_token_id");
    let id: Option<u32> = gguf.optional(&key)?;
    match id {
        Some(id) if id as usize >= vocab.len() => Err(Error::Malformed {
            place: gguf.place_of_key(&key),
            expected: format!("a token id below {}", vocab.len()),
            found: id.to_string(),
        }),
        id => Ok(id),
    }
}

/// Which tokens swallow whitespace beside them. GGUF does not store it; llama.cpp, too, goes by
/// the names of models.
#[derive(Debug, Default)]
pub(super) struct Strips {
    /// The only one that swallows whitespace on its left.
    left: Option<u32>,
    /// All swallow whitespace on their right, except some.
    right: bool,
    not_right: Vec<u32>,
}

impl Strips {
    pub(super) fn find(gguf: &Gguf, vocab: &Vocab) -> Result<Strips> {
        let pre: Option<String> = gguf.optional("tokenizer.ggml.pre")?;
        let name: Option<String> = gguf.optional("general.name")?;
        let architecture: Option<String> = gguf.optional("general.architecture")?;
        let architecture = architecture.unwrap_or_default();
        let (pre, name) = (
            pre.unwrap_or_default(),
            name.unwrap_or_default().to_lowercase(),
        );
        let mut strips = Strips::default();
        if ["jina-v2-de", "jina-v2-es", "jina-v2-code"]
            .iter()
            .any(|known| pre.contains(known))
        {
            strips.left = vocab.find(b"<mask>");
        } else if ["phi-3", "phi3"].iter().any(|known| name.contains(known)) {
            strips.right = true;
            let names = ["<unk>", "<s>", "<|endoftext|>"];
            strips.not_right = names
                .iter()
                .filter_map(|n| vocab.find(n.as_bytes()))
                .collect();
        } else if ["nomic-bert-moe", "jina-bert-v3"].contains(&architecture.as_str()) {
            strips.left = vocab.find(b"<mask>");
        } else if name.contains("modern-bert") {
            strips.left = vocab.find(b"[MASK]");
        }
        Ok(strips)
    }

    pub(super) fn of(&self, id: u32) -> Strip {
        Strip {
            left: self.left == Some(id),
            right: self.right && !self.not_right.contains(&id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ROLES;

    #[test]
    fn roles_stand_in_the_order_of_the_enum() {
        for (index, role) in ROLES.iter().enumerate() {
            assert_eq!(role.role as usize, index);
        }
    }
}
