//! From a prompt to text: the loop of evaluating, choosing a token and decoding it.

mod guide;
mod options;
mod stop;
mod timings;

use std::fmt;
use std::iter::FusedIterator;
use std::time::Instant;

use crate::tokenizer::{EncodeOptions, StreamDecoder, Tokenizer};
use crate::{
    Error, FeedControl, Model, Result, SamplerChain, Session, SessionOptions, TokenLogprobs,
};

use stop::StopMatcher;

pub(crate) use guide::Guide;
#[cfg(feature = "constrain")]
pub(crate) use guide::MakeGuide;
pub use options::GenerateOptions;
pub use timings::Timings;

/// Text that became complete, and the tokens it came with.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Piece {
    /// The text: whole characters, often a word. Only the last piece's can be empty.
    pub text: String,
    /// The tokens chosen since the piece before. A part of their text may come with the next piece:
    /// an incomplete character, or what may become a stop string.
    pub tokens: Vec<u32>,
    /// How probable each of `tokens` was; empty unless [`GenerateOptions::logprobs`] asks for it.
    pub logprobs: Vec<TokenLogprobs>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended the text with this token, which belongs to no piece.
    EndOfGeneration(u32),
    /// [`GenerateOptions::max_tokens`] tokens were generated.
    MaxTokens,
    /// The text came to a stop string; this is its index, in the order they were added.
    StopString(usize),
    /// The text is complete by the grammar that it follows, which allows nothing more.
    Complete,
    /// The session has no position left.
    ContextFull,
    /// No token can be chosen: all are banned or removed by a sampler, or no logit is a number.
    NoCandidate,
    /// The token of [`GenerateOptions::cancel`] was cancelled.
    Cancelled,
    /// By the error that the iterator gave.
    Failed,
}

/// A finished generation.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Completion {
    /// The text that follows the prompt.
    pub text: String,
    /// The tokens that were chosen, also those of a stop string.
    pub tokens: Vec<u32>,
    /// How probable each of `tokens` was; empty unless [`GenerateOptions::logprobs`] asks for it.
    pub logprobs: Vec<TokenLogprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// How long it took.
    pub timings: Timings,
}

impl Model {
    /// Continues a prompt, and gives the whole text at once.
    ///
    /// The session made for it is as large as the prompt and
    /// [`max_tokens`](GenerateOptions::max_tokens) need, up to [`Model::context_length`].
    ///
    /// ```
    /// # fn main() -> gristmill::Result<()> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    /// use gristmill::{GenerateOptions, Model};
    ///
    /// let model = Model::open(path)?;
    /// let story = model.generate("Once upon a time", &GenerateOptions::new().max_tokens(20))?;
    /// println!("{} [{:?}]", story.text, story.finish_reason);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Session::generate`] and its iterator.
    pub fn generate(&self, prompt: &str, options: &GenerateOptions) -> Result<Completion> {
        let prompt = encode(self.tokenizer(), prompt, options, true)?;
        let positions = prompt.len().saturating_add(options.max_tokens);
        let positions = positions.min(self.context_length()).max(1);
        let mut session = self.session_with(&SessionOptions::new().context_length(positions))?;
        session.generate_from(&prompt, options)?.finish()
    }
}

impl Session {
    /// Continues a prompt, as an iterator over pieces of the text.
    ///
    /// What the session has read and generated before comes before the prompt, which may be empty
    /// then. The prompt is evaluated by the first call of `next`, and each token only when the next
    /// one is asked for: whoever drops the iterator stops the work, and can go on with the session.
    ///
    /// ```
    /// # fn main() -> gristmill::Result<()> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    /// # let model = gristmill::Model::open(path)?;
    /// use gristmill::GenerateOptions;
    ///
    /// let mut session = model.session()?;
    /// for piece in session.generate("Once upon a time", &GenerateOptions::new().max_tokens(20))? {
    ///     print!("{}", piece?.text);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for an option out of range or an empty prompt with nothing before it,
    /// [`Error::ContextFull`] if the prompt does not fit, and the errors of [`Tokenizer::encode`].
    pub fn generate(&mut self, prompt: &str, options: &GenerateOptions) -> Result<Generation<'_>> {
        let is_start = self.position() == 0 && self.unevaluated().is_none();
        let prompt = encode(self.model().tokenizer(), prompt, options, is_start)?;
        self.generate_from(&prompt, options)
    }

    /// As [`Session::generate`], from a prompt in tokens.
    ///
    /// # Errors
    ///
    /// As [`Session::generate`]; [`Error::Argument`] for an id beyond the vocabulary.
    pub fn generate_from(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Generation<'_>> {
        self.generate_behind(&[], prompt, options)
    }

    /// As [`Session::generate_from`], with the tokens `before` that the session has evaluated and
    /// the samplers are to know, too.
    pub(crate) fn generate_behind(
        &mut self,
        before: &[u32],
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Generation<'_>> {
        let prompt: Vec<u32> = self
            .unevaluated()
            .into_iter()
            .chain(prompt.iter().copied())
            .collect();
        if prompt.is_empty() && self.logits().is_empty() {
            return Err(Error::Argument {
                name: "prompt",
                expected: "a text, since nothing comes before it".into(),
                found: "an empty one".into(),
            });
        }
        self.check(&prompt)?;
        let timings = Timings {
            prompt_tokens: prompt.len(),
            ..Timings::default()
        };
        Ok(Generation {
            sampler: sampler(self.model().tokenizer(), &[before, &prompt], options)?,
            decoder: StreamDecoder::new(self.model().tokenizer(), false),
            stops: StopMatcher::new(&options.stops)?,
            guide: match &options.guide {
                Some(make) => Some(make.guide(self.model())?),
                None => None,
            },
            options: options.clone(),
            session: self,
            prompt: Some(prompt),
            piece: Piece::default(),
            finish_reason: None,
            when_full: WhenFull::End,
            timings,
        })
    }
}

fn encode(
    tokenizer: &Tokenizer,
    prompt: &str,
    options: &GenerateOptions,
    is_start: bool,
) -> Result<Vec<u32>> {
    let add_special = options.add_special && is_start;
    let options = EncodeOptions {
        add_special,
        parse_special: options.parse_special,
    };
    let mut tokens = tokenizer.encode(prompt, options)?;
    if add_special && tokenizer.adds_eos() {
        // The text is to go on.
        tokens.pop();
    }
    Ok(tokens)
}

/// The chain behind the prompt.
fn sampler(
    tokenizer: &Tokenizer,
    prompt: &[&[u32]],
    options: &GenerateOptions,
) -> Result<SamplerChain> {
    let mut sampling = options.sampling.clone();
    if options.ignore_end_of_generation {
        let ends = tokenizer.end_of_generation();
        sampling.banned.extend_from_slice(ends);
    }
    let mut chain = SamplerChain::for_tokenizer(&sampling, tokenizer)?;
    for make in &options.samplers {
        chain.push_boxed(make());
    }
    for &token in prompt.iter().copied().flatten() {
        chain.accept(token);
    }
    Ok(chain)
}

/// The pieces of a text as [`Session::generate`] generates them.
pub struct Generation<'session> {
    session: &'session mut Session,
    options: GenerateOptions,
    sampler: SamplerChain,
    /// Which tokens may come.
    guide: Option<Box<dyn Guide>>,
    decoder: StreamDecoder,
    stops: StopMatcher,
    /// `None` once it is evaluated.
    prompt: Option<Vec<u32>>,
    /// The next piece, as far as it has come.
    piece: Piece,
    finish_reason: Option<FinishReason>,
    when_full: WhenFull,
    timings: Timings,
}

/// What happens when the session has no position left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenFull {
    End,
    /// The iterator pauses, see [`Generation::hold_when_full`].
    Hold,
    /// It has.
    Held,
}

impl Generation<'_> {
    /// Why it ended; `None` before the last piece.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// How long it took so far.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Tokens that were chosen and are in no piece yet.
    pub(crate) fn pending_tokens(&self) -> &[u32] {
        &self.piece.tokens
    }

    pub(crate) fn session(&self) -> &Session {
        self.session
    }

    /// Shows control tokens with these texts.
    pub(crate) fn show_tokens(&mut self, texts: impl IntoIterator<Item = &'static str>) {
        self.decoder.show(texts);
    }

    /// Pauses when the session has no position left: the iterator gives `None` without a reason,
    /// and goes on after [`Generation::resume`] or [`Generation::end_full`].
    pub(crate) fn hold_when_full(&mut self) {
        self.when_full = WhenFull::Hold;
    }

    pub(crate) fn is_held(&self) -> bool {
        self.when_full == WhenFull::Held && self.finish_reason.is_none()
    }

    /// Ends a generation that is held.
    pub(crate) fn end_full(&mut self) {
        self.end(FinishReason::ContextFull);
    }

    /// Goes on behind these tokens instead.
    pub(crate) fn resume(&mut self, tokens: &[u32]) {
        let same = self.session.rewind(tokens);
        let rest = &tokens[same..];
        self.timings.prompt_tokens += rest.len();
        self.prompt = Some(rest.to_vec());
        self.when_full = WhenFull::Hold;
    }

    /// Generates what is left, and gives it as one.
    ///
    /// # Errors
    ///
    /// The first error that the iterator gives.
    pub fn finish(mut self) -> Result<Completion> {
        let mut rest = Piece::default();
        for piece in &mut self {
            let piece = piece?;
            rest.text.push_str(&piece.text);
            rest.tokens.extend(piece.tokens);
            rest.logprobs.extend(piece.logprobs);
        }
        Ok(Completion {
            text: rest.text,
            tokens: rest.tokens,
            logprobs: rest.logprobs,
            finish_reason: self.finish_reason.unwrap_or(FinishReason::Failed),
            timings: self.timings,
        })
    }

    /// Evaluates what is not evaluated yet and chooses one token.
    fn step(&mut self) -> Result<()> {
        let start = Instant::now();
        let is_prompt = self.prompt.is_some();
        let result = self.evaluate().and_then(|()| self.choose());
        let timings = &mut self.timings;
        let duration = if is_prompt {
            &mut timings.prompt_duration
        } else {
            &mut timings.generation_duration
        };
        *duration += start.elapsed();
        match result {
            Err(Error::Cancelled) => {
                self.end(FinishReason::Cancelled);
                Ok(())
            }
            result => result,
        }
    }

    fn evaluate(&mut self) -> Result<()> {
        if self.options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if self.prompt.is_none()
            && let Some(token) = self.session.unevaluated()
        {
            let forced = self.forced();
            if !forced.is_empty() {
                return self.evaluate_forced(token, &forced);
            }
        }
        let mut control = FeedControl::new().cancel(&self.options.cancel);
        if let Some(prompt) = &self.prompt {
            if let Some(report) = &self.options.progress {
                report(0, prompt.len());
                control = control.progress(&**report);
            }
            self.session.feed_with(prompt, &control)?;
            self.prompt = None;
        } else if let Some(token) = self.session.unevaluated() {
            // Of the tokens to come, all but the one that this one's logits give.
            let left = self.options.max_tokens - self.timings.generated_tokens;
            let before = self.session.speculated();
            let fed = self
                .session
                .feed_next(token, left.saturating_sub(1), &control);
            let after = self.session.speculated();
            self.timings.drafted_tokens += after.0 - before.0;
            self.timings.accepted_tokens += after.1 - before.1;
            fed?;
            self.timings.evaluated_tokens += 1;
        }
        Ok(())
    }

    /// The tokens behind the one that is to be evaluated, as far as there is no choice.
    fn forced(&mut self) -> Vec<u32> {
        let left = self.options.max_tokens - self.timings.generated_tokens;
        let room = self.session.context_length() - self.session.position();
        let Some(guide) = self.guide.as_mut().filter(|_| self.options.takes_unseen()) else {
            return Vec::new();
        };
        let mut forced = guide.forced();
        let tokenizer = self.session.model().tokenizer();
        let ends = |&id: &u32| tokenizer.is_end_of_generation(id);
        let count = forced.iter().position(ends).unwrap_or(forced.len());
        forced.truncate(count.min(left).min(room.saturating_sub(1)));
        forced
    }

    /// Evaluates a token, and those that are forced behind it, in one pass.
    fn evaluate_forced(&mut self, token: u32, forced: &[u32]) -> Result<()> {
        let control = FeedControl::new().cancel(&self.options.cancel);
        let tokens = [&[token], forced].concat();
        self.session.feed_with(&tokens, &control)?;
        self.timings.evaluated_tokens += tokens.len();
        for &token in forced {
            if let Some(guide) = &mut self.guide {
                guide.accept(token)?;
            }
            self.sampler.accept(token);
            self.give_out(token)?;
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.guide.as_ref().is_some_and(|guide| guide.is_complete())
    }

    /// Chooses a token, and decides whether it was the last one.
    fn choose(&mut self) -> Result<()> {
        let max_tokens = self.options.max_tokens;
        if self.timings.generated_tokens < max_tokens && !self.is_complete() {
            match self.sample()? {
                None => self.end(FinishReason::NoCandidate),
                Some(token) if self.ends_text(token) => {
                    self.end(FinishReason::EndOfGeneration(token));
                }
                Some(token) => self.take(token)?,
            }
        }
        if self.finish_reason.is_some() {
            return Ok(());
        }
        if self.is_complete() {
            self.end(FinishReason::Complete);
        } else if self.timings.generated_tokens >= max_tokens {
            self.end(FinishReason::MaxTokens);
        } else if self.session.position() == self.session.context_length() {
            match self.when_full {
                WhenFull::End => self.end(FinishReason::ContextFull),
                _ => self.when_full = WhenFull::Held,
            }
        }
        Ok(())
    }

    fn ends_text(&self, token: u32) -> bool {
        let tokenizer = self.session.model().tokenizer();
        !self.options.ignore_end_of_generation && tokenizer.is_end_of_generation(token)
    }

    fn sample(&mut self) -> Result<Option<u32>> {
        let logits = logits(self.session);
        let Some(guide) = &mut self.guide else {
            return Ok(self.sampler.sample(logits));
        };
        let token = self.sampler.sample_among(logits, guide.allowed()?);
        if let Some(token) = token {
            guide.accept(token)?;
        }
        Ok(token)
    }

    fn take(&mut self, token: u32) -> Result<()> {
        self.give_out(token)?;
        if let Some(count) = self.options.logprobs {
            let logprobs = TokenLogprobs::new(logits(self.session), token, count);
            self.piece.logprobs.push(logprobs);
        }
        self.session.set_unevaluated(token);
        Ok(())
    }

    fn give_out(&mut self, token: u32) -> Result<()> {
        let text = self.decoder.push(token)?;
        let stop = self.stops.push(text, &mut self.piece.text);
        self.finish_reason = stop.map(FinishReason::StopString);
        self.piece.tokens.push(token);
        self.timings.generated_tokens += 1;
        Ok(())
    }

    /// Ends the text, and gives out what was held back.
    fn end(&mut self, reason: FinishReason) {
        let stop = self.stops.push(self.decoder.finish(), &mut self.piece.text);
        self.stops.finish(&mut self.piece.text);
        self.finish_reason = Some(stop.map_or(reason, FinishReason::StopString));
    }
}

/// The logits of tokens that there are: some files have more rows, for the sake of a round number.
fn logits(session: &Session) -> &[f32] {
    let logits = session.logits();
    let tokens = session.model().tokenizer().vocab_size();
    &logits[..tokens.unwrap_or(logits.len()).min(logits.len())]
}

impl fmt::Debug for Generation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("options", &self.options)
            .field("finish_reason", &self.finish_reason)
            .field("timings", &self.timings)
            .finish_non_exhaustive()
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        while self.finish_reason.is_none() && self.piece.text.is_empty() {
            if self.is_held() {
                return None;
            }
            if let Err(error) = self.step() {
                self.finish_reason = Some(FinishReason::Failed);
                self.piece = Piece::default();
                return Some(Err(error));
            }
        }
        let piece = std::mem::take(&mut self.piece);
        (piece != Piece::default()).then_some(Ok(piece))
    }
}

impl FusedIterator for Generation<'_> {}
