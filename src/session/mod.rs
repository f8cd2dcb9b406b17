//! A session: what a model has read so far, and what it expects next.

mod batch;
mod embed;
mod speculation;
mod state;

use std::fmt;
use std::ops::Range;

pub use self::batch::Batch;
pub use self::embed::Pooling;
pub use self::speculation::Speculation;
use self::speculation::Speculator;
use crate::cache::{CacheType, KvCache};
use crate::cancel::CancelToken;
use crate::model::{Model, Pass, Sequence, Workspace};
use crate::{Error, Result};

/// Positions of a session where nothing else is asked for, if the model was trained for so many.
const DEFAULT_CONTEXT: usize = 4096;
/// Tokens of a prompt that are evaluated at a time: enough that unpacking weights costs little.
const PROMPT_CHUNK: usize = 512;
/// The same where the logits of every token are kept.
const LOGITS_CHUNK: usize = 32;
/// Values of a buffer, unless a single token takes more. No published model comes near with a whole
/// chunk, but a small file can describe a layer that is wide and has next to no weights.
const MAX_BUFFER: usize = 1 << 25;

/// Settings of a [`Session`].
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    context_length: Option<usize>,
    cache_type: CacheType,
    speculation: Option<Speculation>,
}

impl SessionOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Positions of the KV cache. Default: what the model was trained for, but at most 4096.
    #[must_use]
    pub fn context_length(mut self, positions: usize) -> Self {
        self.context_length = Some(positions);
        self
    }

    /// How the KV cache stores values. Default: [`CacheType::F16`].
    #[must_use]
    pub fn cache_type(mut self, cache_type: CacheType) -> Self {
        self.cache_type = cache_type;
        self
    }

    /// Guesses which tokens come next, and evaluates several in one pass, which takes less time than one
    /// after the other if enough of them come true. Pieces, finish reasons and the session are as without it:
    /// each token is chosen as always, from the logits behind those before it, and what was guessed wrong is
    /// forgotten. These logits are those without it to the last bit, unless more tokens at a time are asked
    /// for than [`Speculation::max_tokens`] recommends. Default: not to.
    ///
    /// Models with recurrent layers cannot forget: a session with this option is an error.
    #[must_use]
    pub fn speculate(mut self, speculation: Speculation) -> Self {
        self.speculation = Some(speculation);
        self
    }
}

/// How [`Session::feed_with`] reports and stops.
#[derive(Clone, Copy, Default)]
pub struct FeedControl<'a> {
    cancel: Option<&'a CancelToken>,
    progress: Option<&'a dyn Fn(usize, usize)>,
}

impl<'a> FeedControl<'a> {
    /// Neither.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the evaluation when `token` is cancelled.
    #[must_use]
    pub fn cancel(mut self, token: &'a CancelToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// Called after each chunk with the number of tokens evaluated, and of all.
    #[must_use]
    pub fn progress(mut self, report: &'a dyn Fn(usize, usize)) -> Self {
        self.progress = Some(report);
        self
    }
}

impl fmt::Debug for FeedControl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedControl")
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}

impl Model {
    /// A session with the default settings.
    ///
    /// # Errors
    /// As [`Model::session_with`].
    pub fn session(&self) -> Result<Session> {
        self.session_with(&SessionOptions::default())
    }

    /// A session: a KV cache, and the position in it.
    ///
    /// # Errors
    /// [`Error::Argument`] for a context that is empty or beyond all memory; those of
    /// [`Session::speculate`].
    pub fn session_with(&self, options: &SessionOptions) -> Result<Session> {
        Session::new(self.clone(), options)
    }
}

/// A sequence of tokens that a model has evaluated: the KV cache of their positions, and the logits
/// of the last one.
#[derive(Debug)]
pub struct Session {
    model: Model,
    cache_type: CacheType,
    cache: KvCache,
    workspace: Workspace,
    /// Those evaluated.
    tokens: Vec<u32>,
    logits: Vec<f32>,
    /// A token that was generated and not evaluated yet: it comes before the next prompt.
    unevaluated: Option<u32>,
    speculator: Option<Speculator>,
}

impl Session {
    pub(crate) fn new(model: Model, options: &SessionOptions) -> Result<Session> {
        let config = model.config();
        let default = config.sizes.context_length.min(DEFAULT_CONTEXT);
        let positions = options.context_length.unwrap_or(default);
        let most = model.weights().most_positions();
        if !(1..=most).contains(&positions) {
            let expected = match most {
                usize::MAX => "at least 1".to_owned(),
                most => format!("a number from 1 to {most}, of which the model knows positions"),
            };
            return Err(Error::Argument {
                name: "context_length",
                expected,
                found: positions.to_string(),
            });
        }
        let cache = KvCache::new(model.pool(), options.cache_type, config, positions)?;
        let workspace = Workspace::new(model.pool());
        let mut session = Session {
            model,
            cache_type: options.cache_type,
            cache,
            workspace,
            tokens: Vec::new(),
            logits: Vec::new(),
            unevaluated: None,
            speculator: None,
        };
        session.speculate(options.speculation.as_ref())?;
        Ok(session)
    }

    /// Evaluates `tokens` at the next positions. Afterwards [`Session::logits`] are those of the last
    /// one. Nothing happens where there are none.
    ///
    /// # Errors
    /// [`Error::ContextFull`] if they do not all fit, [`Error::Argument`] for an id beyond the vocabulary,
    /// and [`Error::Unsupported`] with an encoder, which has no next token; nothing is evaluated then.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        self.feed_with(tokens, &FeedControl::new())
    }

    /// As [`Session::feed`], with progress and cancellation.
    ///
    /// # Errors
    /// As [`Session::feed`]; [`Error::Cancelled`] within the time of one layer. Then the session
    /// stands behind the last whole chunk, and has no logits.
    pub fn feed_with(&mut self, tokens: &[u32], control: &FeedControl<'_>) -> Result<()> {
        self.check(tokens)?;
        let mut done = 0;
        let most = chunk(PROMPT_CHUNK, self.model.config().widest());
        for chunk in tokens.chunks(most) {
            let is_last = done + chunk.len() == tokens.len();
            let output = if is_last {
                chunk.len() - 1..chunk.len()
            } else {
                0..0
            };
            self.evaluate(chunk, output, true, control.cancel)?;
            done += chunk.len();
            if let Some(report) = control.progress {
                report(done, tokens.len());
            }
        }
        Ok(())
    }

    /// As [`Session::feed`], and gives the logits of every token: `each` is called with the token's
    /// place in `tokens` and its logits, `[vocab_size]`.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn feed_each(&mut self, tokens: &[u32], mut each: impl FnMut(usize, &[f32])) -> Result<()> {
        self.check(tokens)?;
        let vocab = self.model.vocab_size();
        let most = chunk(LOGITS_CHUNK, self.model.config().widest().max(vocab));
        for (index, chunk) in tokens.chunks(most).enumerate() {
            self.evaluate(chunk, 0..chunk.len(), true, None)?;
            for (place, logits) in self.logits.chunks_exact(vocab).enumerate() {
                each(index * most + place, logits);
            }
            self.logits.drain(..self.logits.len() - vocab);
        }
        Ok(())
    }

    /// Whether the tokens can be evaluated at the next positions.
    pub(crate) fn check(&self, tokens: &[u32]) -> Result<()> {
        let model = &self.model;
        if !model.config().is_causal {
            return Err(Error::Unsupported {
                place: model.gguf().place_of_key("general.architecture"),
                what: format!("reading on with an encoder ({})", model.architecture()),
                supported: "Session::embed, which reads a text at once".to_owned(),
            });
        }
        self.check_tokens(tokens)
    }

    /// Whether the tokens are in the vocabulary, and fit.
    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.model.vocab_size();
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(Error::Argument {
                name: "tokens",
                expected: format!("ids below {vocab}"),
                found: token.to_string(),
            });
        }
        let needed = self.position().saturating_add(tokens.len());
        if needed > self.context_length() {
            return Err(Error::ContextFull {
                capacity: self.context_length(),
                needed,
            });
        }
        Ok(())
    }

    fn evaluate(
        &mut self,
        tokens: &[u32],
        output: Range<usize>,
        gives_logits: bool,
        cancel: Option<&CancelToken>,
    ) -> Result<()> {
        self.logits = self.pass(tokens, output, gives_logits, cancel)?;
        self.advance(tokens);
        Ok(())
    }

    /// Evaluates tokens at the next positions, but does not go there yet. Gives what the output is.
    fn pass(
        &mut self,
        tokens: &[u32],
        output: Range<usize>,
        gives_logits: bool,
        cancel: Option<&CancelToken>,
    ) -> Result<Vec<f32>> {
        let pass = Pass {
            config: self.model.config(),
            weights: self.model.weights(),
            level: self.model.level(),
            tokens,
            sequences: &[sequence(
                &self.model,
                &self.cache,
                self.tokens.len(),
                0..tokens.len(),
            )],
            output,
            gives_logits,
            cancel,
        };
        self.workspace.logits.give(std::mem::take(&mut self.logits));
        if !pass.run(self.model.pool(), &mut self.workspace) {
            return Err(Error::Cancelled);
        }
        Ok(self.workspace.logits.take())
    }

    /// Notes that a pass has evaluated these tokens.
    fn advance(&mut self, tokens: &[u32]) {
        self.cache.advance();
        self.tokens.extend_from_slice(tokens);
        self.changed();
    }

    /// Forgets what was only to come.
    fn changed(&mut self) {
        self.unevaluated = None;
        if let Some(speculator) = &mut self.speculator {
            speculator.forget();
        }
    }

    /// The logits of the token fed last, `[vocab_size]`; empty where none was.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Number of tokens evaluated.
    #[must_use]
    pub fn position(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens evaluated.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Positions that fit.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.cache.capacity()
    }

    /// Forgets the tokens from `position` on. The session has no logits then, until it is fed.
    ///
    /// # Errors
    /// [`Error::Argument`] if `position` is beyond [`Session::position`], or if the model has recurrent
    /// layers, which only forget everything.
    pub fn truncate(&mut self, position: usize) -> Result<()> {
        let now = self.position();
        let expected = if position > now {
            Some(format!("at most {now}"))
        } else if (1..now).contains(&position) && !self.cache.can_go_back() {
            Some(format!("0 or {now}, as this model cannot forget in part"))
        } else {
            None
        };
        if let Some(expected) = expected {
            return Err(Error::Argument {
                name: "position",
                expected,
                found: position.to_string(),
            });
        }
        self.tokens.truncate(position);
        self.logits.clear();
        self.changed();
        Ok(())
    }

    /// Goes back to where the tokens that it has read differ from these, and says how many are the
    /// same. The last one of these is never among them, as its logits are wanted.
    pub(crate) fn rewind(&mut self, tokens: &[u32]) -> usize {
        let pairs = self.tokens.iter().zip(tokens);
        let same = pairs.take_while(|(old, new)| old == new).count();
        let same = same.min(tokens.len().saturating_sub(1));
        if self.truncate(same).is_err() {
            self.clear();
        }
        self.position()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.logits.clear();
        self.changed();
    }

    pub(crate) fn unevaluated(&self) -> Option<u32> {
        self.unevaluated
    }

    pub(crate) fn set_unevaluated(&mut self, token: u32) {
        self.unevaluated = Some(token);
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }
}

/// Tokens of a pass at the next positions of a session.
fn sequence<'a>(
    model: &'a Model,
    cache: &'a KvCache,
    position: usize,
    tokens: Range<usize>,
) -> Sequence<'a> {
    Sequence {
        cache,
        ropes: model.weights().ropes(cache.capacity()),
        tokens,
        position,
    }
}

/// `tokens`, or fewer if a token's values would not fit into a buffer so often.
fn chunk(tokens: usize, values: usize) -> usize {
    (MAX_BUFFER / values).clamp(1, tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_whole_for_real_models_and_small_for_monstrous_ones() {
        // Llama 3.1 405B: 53248 hidden values, the widest of the llama family.
        assert_eq!(chunk(PROMPT_CHUNK, 53_248), PROMPT_CHUNK);
        assert_eq!(chunk(LOGITS_CHUNK, 262_144), LOGITS_CHUNK);
        assert_eq!(chunk(PROMPT_CHUNK, 1 << 24), 2);
        assert_eq!(chunk(PROMPT_CHUNK, usize::MAX), 1);
    }
}
