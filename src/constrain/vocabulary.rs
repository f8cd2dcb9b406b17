//! A model's vocabulary as a tree of bytes, which grammars are matched with.

use std::fmt;
use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::tokenizer::{TokenKind, Tokenizer};
use crate::{Error, Model, Result};

/// Bytes of a token; the tree has room for 1023 levels. The longest of published vocabularies have some
/// hundred. Longer ones are never allowed.
const MAX_TOKEN: usize = 1000;
/// Nodes of the tree, of which there is at most one for each byte; its indices have 22 bits.
const MAX_NODES: usize = (1 << 22) - 1;
/// Bytes of all tokens: some thirty times as many as in the largest of published vocabularies.
const MAX_BYTES: usize = 1 << 26;
/// What the tree's control tokens begin with: no text has this byte.
const MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// States of the machine that finds terminals, in one to two kilobytes each: a fifth of the default.
const MAX_LEXER_STATES: usize = 50_000;

/// What compiles grammars for the vocabulary of a model.
pub(crate) struct Vocabulary {
    pub(super) factory: ParserFactory,
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// Takes 0.4 s and up to 60 MB for 150 000 tokens.
    pub(crate) fn new(model: &Model) -> Result<Vocabulary> {
        let tokenizer = model.tokenizer();
        let trie = trie(model, tokenizer)?;
        let environment: TokEnv = Arc::new(Environment {
            tokenizer: tokenizer.clone(),
            trie,
        });
        let factory = ParserFactory::new_simple(&environment);
        let mut factory = factory.map_err(|error| unsupported(model, error.to_string()))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.max_lexer_states = MAX_LEXER_STATES;
        limits.verbose_errors = false;
        Ok(Vocabulary { factory })
    }
}

fn unsupported(model: &Model, what: String) -> Error {
    Error::Unsupported {
        place: model.gguf().place_of_key("tokenizer.ggml.model"),
        what,
        supported: "byte-pair encoding and SentencePiece".into(),
    }
}

fn trie(model: &Model, tokenizer: &Tokenizer) -> Result<TokTrie> {
    let size = tokenizer
        .vocab_size()
        .filter(|_| tokenizer.joins_pieces())
        .ok_or_else(|| unsupported(model, "a constraint with this tokenizer".into()))?;
    let words: Vec<Vec<u8>> = (0..size as u32).map(|id| word(tokenizer, id)).collect();
    let bytes = words.iter().map(Vec::len).sum::<usize>();
    let nodes = nodes(&words);
    for (found, limit) in [(bytes, MAX_BYTES), (nodes, MAX_NODES), (size, 1 << 23)] {
        if found > limit {
            return Err(Error::Limit {
                place: model.gguf().place_of_key("tokenizer.ggml.tokens"),
                limit: limit as u64,
                found: found as u64,
            });
        }
    }
    let ends = tokenizer.end_of_generation();
    let end = ends.first().copied().unwrap_or(INVALID_TOKEN);
    let trie = TokTrie::from(&TokRxInfo::new(size as u32, end), &words);
    Ok(match ends {
        [] => trie,
        ends => trie.with_eos_tokens(ends),
    })
}

/// The bytes by which a token is found in the tree; none for one that no text has.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    let is_control = matches!(
        tokenizer.token_kind(id),
        Some(TokenKind::Control | TokenKind::Unknown)
    );
    match &*bytes {
        [] => Vec::new(),
        bytes if bytes.len() > MAX_TOKEN => Vec::new(),
        bytes if is_control => [&[MARK], bytes].concat(),
        [MARK, ..] => Vec::new(),
        bytes => bytes.to_vec(),
    }
}

/// Nodes of the tree of these words, but for those of words that there are twice.
fn nodes(words: &[Vec<u8>]) -> usize {
    let mut sorted: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    sorted.sort_unstable();
    let shared = |pair: &[&[u8]]| {
        pair[0]
            .iter()
            .zip(pair[1])
            .take_while(|(a, b)| a == b)
            .count()
    };
    let all = sorted.iter().map(|word| word.len()).sum::<usize>();
    // Of two equal words, the second has a node of its own.
    let of_pair =
        |pair: &[&[u8]]| shared(pair) - usize::from(pair[0] == pair[1] && !pair[0].is_empty());
    all - sorted.windows(2).map(of_pair).sum::<usize>()
}

/// The tree, and how text becomes tokens where a grammar leaves no choice.
struct Environment {
    tokenizer: Tokenizer,
    trie: TokTrie,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let encode = |text: &str| {
            let tokens = self.tokenizer.encode_middle(text).ok()?;
            let is_same = self.trie.decode_raw(&tokens) == text.as_bytes();
            is_same.then_some(tokens)
        };
        let greedy = |text: &str| self.trie.greedy_tokenize(text.as_bytes());
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            encode(text).unwrap_or_else(|| greedy(text))
        })
    }
}
