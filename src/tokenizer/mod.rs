//! Tokenizers: text to token ids and back, built from a GGUF file's metadata.
//!
//! [`Tokenizer::encode`] works in three steps: special tokens are cut out (`cut`), the text between
//! them is cut into pieces (`pretokenizer`, only for byte-pair encoding), and the pieces become
//! tokens (`bpe` or `spm`). Ids equal those of llama.cpp, with few exceptions: a file that names
//! no end-of-sequence token has none.

mod bpe;
mod cut;
mod decode;
mod hash;
mod memo;
mod pretokenizer;
mod scanner;
mod special;
mod spm;
mod stand_in;
mod unicode;
mod unigram;
mod vocab;
mod wordpiece;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::gguf::Gguf;
use crate::{Error, Result};

use bpe::Bpe;
use cut::{Cutter, Fragment};
use decode::Spelling;
use memo::Memo;
use pretokenizer::PreTokenizer;
pub(crate) use pretokenizer::names as pre_tokenizers;
use special::{Specials, Strips};
use spm::Spm;
use unigram::Unigram;
use vocab::Vocab;
use wordpiece::WordPiece;

pub use decode::StreamDecoder;
pub use special::SpecialToken;
pub use vocab::TokenKind;

const MODEL: &str = "tokenizer.ggml.model";

/// Bytes of a text to encode: many times the longest context. Encoding takes up to some 50 bytes
/// of memory for each, and keeps positions in 32 bits.
const MAX_TEXT: usize = 1 << 26;

/// How to turn a text into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add the tokens that the model expects at the beginning and the end, if it does.
    pub add_special: bool,
    /// Find control tokens in the text, such as `<|im_start|>`. Leave this off for text from
    /// others: it could end its turn and speak for someone else.
    pub parse_special: bool,
}

impl Default for EncodeOptions {
    /// Adds special tokens, and takes the text literally.
    fn default() -> EncodeOptions {
        EncodeOptions {
            add_special: true,
            parse_special: false,
        }
    }
}

/// How to turn tokens into a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Show control and unknown tokens as their text; they are left out otherwise.
    pub render_special: bool,
    /// Remove spaces before punctuation and English contractions, in vocabularies whose
    /// published tokenizer does. The text may then differ from the one that was encoded.
    pub clean_up_spaces: bool,
}

/// The tokenizer of a model.
///
/// Cloning it is cheap: clones share one vocabulary.
///
/// ```no_run
/// use gristmill::gguf::Gguf;
/// use gristmill::tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
///
/// # fn main() -> gristmill::Result<()> {
/// let tokenizer = Tokenizer::from_gguf(&Gguf::open("model.gguf")?)?;
/// let ids = tokenizer.encode("Once upon a time", EncodeOptions::default())?;
/// assert_eq!(tokenizer.decode(&ids, DecodeOptions::default())?, "Once upon a time");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    model: Model,
    vocab: Vocab,
    specials: Specials,
    /// Looks for all special tokens.
    all: Cutter,
    /// Looks for those that are found even in text that is taken literally.
    user_defined: Cutter,
    adds_bos: bool,
    adds_eos: bool,
    adds_separator: bool,
    space_prefix: bool,
    clean_spaces: bool,
    /// For errors: the file and the key of the model.
    place: String,
}

#[derive(Debug)]
enum Model {
    Bpe(Bpe),
    Spm(Spm),
    WordPiece(WordPiece),
    Unigram(Unigram),
    /// The file has no vocabulary: token ids only.
    None,
}

/// Values of the metadata key of tokenizers, see [`Tokenizer::from_gguf`].
pub(crate) const KINDS: [&str; 6] = ["gpt2", "gemma4", "llama", "bert", "t5", "none"];

impl Tokenizer {
    /// Builds the tokenizer that the file describes.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a kind of tokenizer or a pre-tokenizer that is not known,
    /// [`Error::Malformed`] and [`Error::Limit`] for a vocabulary that is not sound.
    pub fn from_gguf(gguf: &Gguf) -> Result<Tokenizer> {
        let name: String = gguf.require(MODEL)?;
        let inner = match name.as_str() {
            "gpt2" => Inner::bpe(gguf, "default")?,
            "gemma4" => Inner::bpe(gguf, "gemma4")?,
            "llama" => Inner::spm(gguf)?,
            "bert" => Inner::wordpiece(gguf)?,
            "t5" => Inner::unigram(gguf)?,
            "none" => Inner::none(gguf)?,
            _ => {
                return Err(Error::Unsupported {
                    place: gguf.place_of_key(MODEL),
                    what: format!("tokenizer {}", vocab::shown(name.as_bytes())),
                    supported: KINDS.join(", "),
                });
            }
        };
        Ok(Tokenizer(Arc::new(inner)))
    }

    /// Turns a text into token ids.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a text of more than 64 MiB or one that a pre-tokenizer's regex gives
    /// up on, [`Error::Unsupported`] if the file has no vocabulary.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
        self.encode_with_literals(text, &[], options)
    }

    /// As [`encode`](Tokenizer::encode), but control tokens are not found where they overlap one of
    /// the `literal` ranges of bytes, which are in order. User-defined tokens are, unless they have the
    /// form `<|…|>` or one of its ends. The text around a border is cut and merged as one.
    ///
    /// # Errors
    ///
    /// As [`encode`](Tokenizer::encode).
    pub fn encode_with_literals(
        &self,
        text: &str,
        literal: &[Range<usize>],
        options: EncodeOptions,
    ) -> Result<Vec<u32>> {
        self.check_vocabulary()?;
        let specials = &self.0.specials;
        if text.len() > MAX_TEXT {
            return Err(Error::Argument {
                name: "text",
                expected: format!("at most {MAX_TEXT} bytes"),
                found: format!("{} bytes", text.len()),
            });
        }
        let cutter = if options.parse_special {
            &self.0.all
        } else {
            &self.0.user_defined
        };
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        if options.add_special && self.0.adds_bos {
            ids.extend(specials.id(SpecialToken::BeginningOfSequence));
        }
        let fragments = cutter.cut(&self.0.vocab, text, literal);
        self.encode_fragments(text, fragments, true, &mut ids)?;
        if options.add_special && self.0.adds_separator {
            ids.extend(specials.id(SpecialToken::Separator));
        }
        if options.add_special && self.0.adds_eos {
            ids.extend(specials.id(SpecialToken::EndOfSequence));
        }
        Ok(ids)
    }

    /// Appends the tokens of a text that is cut by special ones. Vocabularies that put a space before
    /// a text do so at its beginning and behind special tokens, if `puts_spaces`.
    fn encode_fragments(
        &self,
        text: &str,
        fragments: Vec<Fragment>,
        puts_spaces: bool,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let mut memo = Memo::new(text.len());
        let mut after_special = true;
        for fragment in fragments {
            match fragment {
                Fragment::Special(id) => {
                    ids.push(id);
                    after_special = true;
                }
                Fragment::Text(range) => {
                    let prefix = puts_spaces && after_special;
                    self.encode_plain(text, range, prefix, &mut memo, ids)?;
                    after_special = false;
                }
            }
        }
        Ok(())
    }

    fn encode_plain(
        &self,
        text: &str,
        range: Range<usize>,
        prefix: bool,
        memo: &mut Memo,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let Inner {
            model,
            vocab,
            space_prefix,
            ..
        } = &*self.0;
        match model {
            Model::Bpe(bpe) => bpe.encode(vocab, text, range, memo, ids)?,
            Model::Spm(spm) => {
                let prefix = *space_prefix && prefix;
                spm.encode(vocab, text, range, prefix, memo, ids);
            }
            Model::WordPiece(wordpiece) => wordpiece.encode(vocab, text, range, memo, ids),
            Model::Unigram(unigram) => unigram.encode(vocab, &text[range], ids),
            Model::None => {}
        }
        Ok(())
    }

    /// As [`encode`](Tokenizer::encode) without special tokens, for a text that goes on another one: no
    /// space is put before it.
    #[cfg(feature = "constrain")]
    pub(crate) fn encode_middle(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        let fragments = self.0.user_defined.cut(&self.0.vocab, text, &[]);
        self.encode_fragments(text, fragments, false, &mut ids)?;
        Ok(ids)
    }

    /// Whether a text is what its tokens stand for, one behind the other.
    #[cfg(feature = "constrain")]
    pub(crate) fn joins_pieces(&self) -> bool {
        matches!(self.0.model, Model::Bpe(_) | Model::Spm(_))
    }

    /// Turns token ids into a text; bytes that are not UTF-8 become U+FFFD.
    ///
    /// Vocabularies that put a space before a text lose it again, unless the first token is a
    /// special one.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for an id that the vocabulary does not have, [`Error::Unsupported`] if
    /// the file has no vocabulary.
    pub fn decode(&self, ids: &[u32], options: DecodeOptions) -> Result<String> {
        let bytes = self.decode_bytes(ids, options)?;
        Ok(match String::from_utf8_lossy(&bytes) {
            Cow::Owned(text) => text,
            Cow::Borrowed(text) => text.to_owned(),
        })
    }

    /// Turns token ids into the bytes of a text, which need not be UTF-8.
    ///
    /// # Errors
    ///
    /// As [`decode`](Tokenizer::decode).
    pub fn decode_bytes(&self, ids: &[u32], options: DecodeOptions) -> Result<Vec<u8>> {
        self.check_vocabulary()?;
        let mut bytes = Vec::with_capacity(4 * ids.len());
        for (index, &id) in ids.iter().enumerate() {
            let piece = self.piece(id, options.render_special)?;
            let drop_space = index == 0 && self.0.space_prefix;
            bytes.extend_from_slice(match &*piece {
                [b' ', rest @ ..] if drop_space => rest,
                piece => piece,
            });
        }
        if options.clean_up_spaces && self.0.clean_spaces {
            bytes = decode::clean_spaces(&bytes);
        }
        Ok(bytes)
    }

    /// The bytes that a token stands for; special tokens stand for their text. `None` if there is
    /// no such token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        decode::piece(&self.0.vocab, self.0.spelling(), id, true)
    }

    /// A token's text as the file has it: with GPT-2's stand-ins for bytes, or `▁` for a space;
    /// what is not UTF-8 becomes U+FFFD. `None` if there is no such token.
    #[must_use]
    pub fn token_text(&self, id: u32) -> Option<Cow<'_, str>> {
        self.0.vocab.text(id).map(String::from_utf8_lossy)
    }

    /// What a token is. `None` if there is no such token.
    #[must_use]
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.0.vocab.kind(id)
    }

    /// A token's score, by which SentencePiece vocabularies rank merges; 0 if the file has none.
    /// `None` if there is no such token.
    #[must_use]
    pub fn token_score(&self, id: u32) -> Option<f32> {
        self.0.vocab.kind(id).map(|_| self.0.vocab.score(id))
    }

    /// The token with exactly this text, as [`token_text`](Tokenizer::token_text) gives it.
    #[must_use]
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.0.vocab.find(text.as_bytes())
    }

    /// Number of tokens; ids are below it. `None` if the file has no vocabulary.
    #[must_use]
    pub fn vocab_size(&self) -> Option<usize> {
        Some(self.0.vocab.len()).filter(|_| !matches!(self.0.model, Model::None))
    }

    /// The token that plays a part in this vocabulary.
    #[must_use]
    pub fn special(&self, role: SpecialToken) -> Option<u32> {
        self.0.specials.id(role)
    }

    /// The token that begins a text.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.special(SpecialToken::BeginningOfSequence)
    }

    /// The token that ends a text. Generation may end with others, too: see
    /// [`end_of_generation`](Tokenizer::end_of_generation).
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.special(SpecialToken::EndOfSequence)
    }

    /// All tokens after which a model has nothing more to say, in rising order.
    #[must_use]
    pub fn end_of_generation(&self) -> &[u32] {
        self.0.specials.end_of_generation()
    }

    /// Whether a model has nothing more to say after this token.
    #[must_use]
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_of_generation().binary_search(&id).is_ok()
    }

    /// Whether [`EncodeOptions::add_special`] puts a token before the text.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.0.adds_bos && self.bos().is_some()
    }

    /// Whether [`EncodeOptions::add_special`] puts a token behind the text.
    #[must_use]
    pub fn adds_eos(&self) -> bool {
        self.0.adds_eos && self.eos().is_some()
    }

    fn piece(&self, id: u32, special: bool) -> Result<Cow<'_, [u8]>> {
        let Inner { vocab, .. } = &*self.0;
        decode::piece(vocab, self.0.spelling(), id, special).ok_or_else(|| Error::Argument {
            name: "token id",
            expected: format!("an id below {}", vocab.len()),
            found: id.to_string(),
        })
    }

    fn check_vocabulary(&self) -> Result<()> {
        match self.0.model {
            Model::None => Err(Error::Unsupported {
                place: self.0.place.clone(),
                what: "text for a model without a vocabulary".into(),
                supported: "token ids".into(),
            }),
            _ => Ok(()),
        }
    }
}

impl Inner {
    fn bpe(gguf: &Gguf, default_pre: &str) -> Result<Inner> {
        let pre = PreTokenizer::from_gguf(gguf, default_pre)?;
        let mut vocab = Vocab::from_gguf(gguf)?;
        let specials = Specials::find(gguf, &mut vocab, &[])?;
        let adds_bos = pre.adds_bos(gguf.optional("tokenizer.ggml.add_bos_token")?);
        let clean_spaces = pre.cleans_spaces();
        let model = Model::Bpe(Bpe::from_gguf(gguf, &vocab, pre)?);
        let inner = Inner::new(gguf, model, vocab, specials)?;
        Inner {
            adds_bos,
            clean_spaces,
            ..inner
        }
        .with_keys(gguf)
    }

    fn spm(gguf: &Gguf) -> Result<Inner> {
        let mut vocab = Vocab::from_gguf(gguf)?;
        let defaults = [
            (SpecialToken::Unknown, 0),
            (SpecialToken::BeginningOfSequence, 1),
            (SpecialToken::EndOfSequence, 2),
        ];
        let specials = Specials::find(gguf, &mut vocab, &defaults)?;
        let model = Model::Spm(Spm::new(&vocab, specials.id(SpecialToken::Unknown)));
        let adds_bos: Option<bool> = gguf.optional("tokenizer.ggml.add_bos_token")?;
        let inner = Inner::new(gguf, model, vocab, specials)?;
        let adds_bos = adds_bos.unwrap_or(true);
        Inner {
            adds_bos,
            space_prefix: true,
            ..inner
        }
        .with_keys(gguf)
    }

    fn wordpiece(gguf: &Gguf) -> Result<Inner> {
        let mut vocab = Vocab::from_gguf(gguf)?;
        let defaults = [
            (SpecialToken::Padding, 0),
            (SpecialToken::Unknown, 100),
            (SpecialToken::BeginningOfSequence, 101),
            (SpecialToken::Separator, 102),
            (SpecialToken::Mask, 103),
        ];
        let specials = Specials::find(gguf, &mut vocab, &defaults)?;
        let unknown = specials.id(SpecialToken::Unknown);
        let model = Model::WordPiece(WordPiece::from_gguf(gguf, &vocab, unknown)?);
        let adds_bos: Option<bool> = gguf.optional("tokenizer.ggml.add_bos_token")?;
        let adds_separator: Option<bool> = gguf.optional("tokenizer.ggml.add_sep_token")?;
        let inner = Inner::new(gguf, model, vocab, specials)?;
        Inner {
            adds_bos: adds_bos.unwrap_or(true),
            adds_separator: adds_separator.unwrap_or(true),
            clean_spaces: true,
            ..inner
        }
        .with_keys(gguf)
    }

    fn unigram(gguf: &Gguf) -> Result<Inner> {
        let mut vocab = Vocab::from_gguf(gguf)?;
        let defaults = [
            (SpecialToken::Padding, 0),
            (SpecialToken::EndOfSequence, 1),
            (SpecialToken::Unknown, 2),
        ];
        let specials = Specials::find(gguf, &mut vocab, &defaults)?;
        let unknown = specials.id(SpecialToken::Unknown);
        let prefix: Option<bool> = gguf.optional("tokenizer.ggml.add_space_prefix")?;
        let space_prefix = prefix.unwrap_or(true);
        let unigram = Unigram::from_gguf(gguf, &vocab, unknown, space_prefix)?;
        let adds_bos: Option<bool> = gguf.optional("tokenizer.ggml.add_bos_token")?;
        let inner = Inner::new(gguf, Model::Unigram(unigram), vocab, specials)?;
        let inner = Inner {
            space_prefix,
            ..inner
        }
        .with_keys(gguf)?;
        let adds_eos: Option<bool> = gguf.optional("tokenizer.ggml.add_eos_token")?;
        Ok(Inner {
            adds_bos: adds_bos.unwrap_or(false),
            adds_eos: adds_eos.unwrap_or(true),
            ..inner
        })
    }

    fn none(gguf: &Gguf) -> Result<Inner> {
        Inner::new(gguf, Model::None, Vocab::empty(), Specials::default())
    }

    fn new(gguf: &Gguf, model: Model, vocab: Vocab, specials: Specials) -> Result<Inner> {
        let strips = Strips::find(gguf, &vocab)?;
        let of_kinds = |kinds: &[TokenKind]| {
            let special = |id: &u32| vocab.kind(*id).is_some_and(|kind| kinds.contains(&kind));
            let tokens = vocab.ids().filter(special);
            Cutter::new(&vocab, tokens.map(|id| (id, strips.of(id))))
        };
        let all = of_kinds(&[
            TokenKind::Control,
            TokenKind::Unknown,
            TokenKind::UserDefined,
        ]);
        let user_defined = of_kinds(&[TokenKind::UserDefined]);
        Ok(Inner {
            model,
            all,
            user_defined,
            vocab,
            specials,
            adds_bos: false,
            adds_eos: false,
            adds_separator: false,
            space_prefix: false,
            clean_spaces: false,
            place: gguf.place_of_key(MODEL),
        })
    }

    /// Takes over what the file says of the options that every model has.
    fn with_keys(mut self, gguf: &Gguf) -> Result<Inner> {
        self.adds_eos = gguf
            .optional("tokenizer.ggml.add_eos_token")?
            .unwrap_or(false);
        let prefix: Option<bool> = gguf.optional("tokenizer.ggml.add_space_prefix")?;
        self.space_prefix = prefix.unwrap_or(self.space_prefix);
        Ok(self)
    }

    fn spelling(&self) -> Spelling {
        match &self.model {
            Model::Bpe(bpe) if bpe.pre().byte_encode() => Spelling::StandIns,
            _ => Spelling::Escaped,
        }
    }
}
