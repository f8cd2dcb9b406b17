//! Speculative decoding: tokens are guessed, and evaluated in one pass with the token that they follow.
//!
//! The pass gives the logits behind each of them. The session goes on with the first, as if the others had
//! not been evaluated; only when the token that is fed next is the one that was guessed, its logits are
//! there already. So whoever chooses tokens sees the same logits in the same order, whatever was guessed
//! (Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023, who draw the
//! guesses; here they are the most probable ones, and no probability is corrected).
//!
//! ```text
//! drafter         guesses tokens and says how sure it is   lookup.rs, draft.rs
//! calibration     how often such guesses came true
//! costs           how long a pass of more tokens takes
//! Draft           how many guesses are worth a pass        planner.rs
//! Speculator      what was evaluated ahead
//! ```

mod draft;
mod lookup;
mod planner;

#[cfg(test)]
mod tests;

use std::time::Instant;

use gristmill_kernels::most_alike;

use super::{FeedControl, LOGITS_CHUNK, Session, chunk};
use crate::model::Model;
use crate::{Error, Result};

use self::draft::DraftModel;
use self::lookup::PromptLookup;
use self::planner::{Draft, Planner};

/// Guessed tokens of a pass, at most.
const MOST_TOKENS: usize = LOGITS_CHUNK - 1;

/// How a [`Session`] guesses which tokens come next.
///
/// What is generated does not depend on it: see
/// [`SessionOptions::speculate`](crate::SessionOptions::speculate).
///
/// ```
/// # fn main() -> gristmill::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
/// use gristmill::{GenerateOptions, Model, SessionOptions, Speculation};
///
/// let model = Model::open(path)?;
/// let options = SessionOptions::new().speculate(Speculation::prompt_lookup());
/// let mut session = model.session_with(&options)?;
/// let story = session.generate("Once upon a time", &GenerateOptions::new())?.finish()?;
/// println!("{} guesses, {} right", story.timings.drafted_tokens, story.timings.accepted_tokens);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Speculation {
    method: Method,
    max_tokens: Option<usize>,
}

#[derive(Clone, Debug)]
enum Method {
    PromptLookup,
    Draft(Model),
}

impl Speculation {
    /// Guesses that the text goes on as it did where the last few tokens came before: in the prompt or in
    /// what was generated. It costs next to nothing, and helps where a text is mostly copied: edits of
    /// code, quotations, summaries.
    #[must_use]
    pub fn prompt_lookup() -> Self {
        Self::new(Method::PromptLookup)
    }

    /// Guesses with a much smaller model of the same vocabulary, which reads everything too. It helps as far
    /// as that model is faster, and agrees.
    #[must_use]
    pub fn draft(model: &Model) -> Self {
        Self::new(Method::Draft(model.clone()))
    }

    fn new(method: Method) -> Self {
        Self {
            method,
            max_tokens: None,
        }
    }

    /// Guesses at most so many tokens at a time, at most 31. Fewer are guessed where more would not pay.
    ///
    /// Default: as many as can be evaluated together and give to the last bit what each gives alone. That
    /// are 15 with AVX-512, 11 with AVX2, 3 on ARM, and none at the portable level and in WebAssembly. With more the logits
    /// differ by rounding, so that once in a while another of two nearly equal tokens is chosen.
    #[must_use]
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = Some(tokens);
        self
    }
}

impl Session {
    /// Guesses which tokens come next from now on, or no longer: see
    /// [`SessionOptions::speculate`](crate::SessionOptions::speculate).
    ///
    /// # Errors
    /// [`Error::Argument`] if the model, or the one that guesses, cannot forget tokens (it has recurrent
    /// layers), if the vocabularies of the two differ, and if memory does not hold another cache.
    pub fn speculate(&mut self, speculation: Option<&Speculation>) -> Result<()> {
        self.speculator = match speculation {
            None => None,
            Some(speculation) => Some(Speculator::new(self, speculation)?),
        };
        Ok(())
    }

    /// As [`Session::feed_with`] of one token. Up to `most` tokens are evaluated with it, in case that they
    /// are those fed next by this.
    pub(crate) fn feed_next(
        &mut self,
        token: u32,
        most: usize,
        control: &FeedControl<'_>,
    ) -> Result<()> {
        self.check(&[token])?;
        let Some(mut speculator) = self.speculator.take() else {
            return self.feed_with(&[token], control);
        };
        let result = speculator.feed(self, token, most, control);
        self.speculator = Some(speculator);
        result
    }

    /// How many tokens were guessed, and how many were right, of those that were evaluated.
    pub(crate) fn speculated(&self) -> (usize, usize) {
        let counts = self
            .speculator
            .as_ref()
            .map(|own| (own.drafted, own.accepted));
        counts.unwrap_or_default()
    }
}

/// What guesses tokens.
trait Drafter: Send {
    /// Adds what may follow `tokens`, which are not empty.
    fn draft(
        &mut self,
        tokens: &[u32],
        draft: &mut Draft<'_>,
        control: &FeedControl<'_>,
    ) -> Result<()>;

    /// One that knows what this one does.
    fn fork(&mut self) -> Result<Box<dyn Drafter>>;
}

/// What a session guesses, and what it has evaluated ahead.
pub(super) struct Speculator {
    drafter: Box<dyn Drafter>,
    planner: Planner,
    max_tokens: usize,
    /// Guesses that were evaluated behind the session's position and are still to come.
    ahead: Vec<u32>,
    /// How many of them have come.
    come: usize,
    /// `[1 + ahead, vocab]`: behind the token before them, and behind each.
    rows: Vec<f32>,
    drafted: usize,
    accepted: usize,
}

impl Speculator {
    fn new(session: &Session, speculation: &Speculation) -> Result<Speculator> {
        check_goes_back(session)?;
        let drafter: Box<dyn Drafter> = match &speculation.method {
            Method::PromptLookup => Box::new(PromptLookup),
            Method::Draft(model) => Box::new(DraftModel::new(session, model)?),
        };
        let default = most_alike(session.model.level()) - 1;
        let most = speculation.max_tokens.unwrap_or(default);
        Ok(Speculator::with(drafter, most))
    }

    fn with(drafter: Box<dyn Drafter>, max_tokens: usize) -> Speculator {
        Speculator {
            drafter,
            planner: Planner::default(),
            max_tokens: max_tokens.min(MOST_TOKENS),
            ahead: Vec::new(),
            come: 0,
            rows: Vec::new(),
            drafted: 0,
            accepted: 0,
        }
    }

    /// Nothing that was evaluated ahead counts any more.
    pub(super) fn forget(&mut self) {
        self.ahead.clear();
        self.come = 0;
    }

    /// One for a copy of the session.
    pub(super) fn fork(&mut self) -> Result<Speculator> {
        Ok(Speculator {
            planner: self.planner.clone(),
            ..Speculator::with(self.drafter.fork()?, self.max_tokens)
        })
    }

    fn feed(
        &mut self,
        session: &mut Session,
        token: u32,
        most: usize,
        control: &FeedControl<'_>,
    ) -> Result<()> {
        let vocab = session.model.vocab_size();
        if self.ahead.get(self.come) == Some(&token) {
            self.come += 1;
            self.accepted += 1;
        } else {
            self.forget();
            self.evaluate(session, token, most, control)?;
        }
        session.logits.clear();
        let row = &self.rows[self.come * vocab..][..vocab];
        session.logits.extend_from_slice(row);
        session.advance(&[token]);
        Ok(())
    }

    /// Evaluates a token and guesses, whose logits come into `rows`.
    fn evaluate(
        &mut self,
        session: &mut Session,
        token: u32,
        most: usize,
        control: &FeedControl<'_>,
    ) -> Result<()> {
        let guesses = self.guess(session, token, most, control)?;
        let tokens = [&[token], &guesses[..]].concat();
        // The buffer of the pass: a cancelled session has no logits.
        let kept = std::mem::replace(&mut session.logits, std::mem::take(&mut self.rows));
        let start = Instant::now();
        self.rows = session.pass(&tokens, 0..tokens.len(), true, control.cancel)?;
        self.planner.note_pass(tokens.len(), start.elapsed());
        session.logits = kept;
        self.drafted += guesses.len();
        self.ahead = guesses;
        Ok(())
    }

    /// What is worth to be evaluated behind a token.
    fn guess(
        &mut self,
        session: &mut Session,
        token: u32,
        most: usize,
        control: &FeedControl<'_>,
    ) -> Result<Vec<u32>> {
        let widest = session.model.config().widest();
        let vocab = session.model.vocab_size();
        let room = session.context_length() - session.position() - 1;
        let fits = chunk(LOGITS_CHUNK, widest.max(vocab)) - 1;
        let most = self.max_tokens.min(most).min(room).min(fits);
        session.tokens.push(token);
        let guesses = self.planner.plan(&session.tokens, most, |tokens, draft| {
            self.drafter.draft(tokens, draft, control)
        });
        session.tokens.pop();
        let mut guesses = guesses?;
        let known = guesses
            .iter()
            .take_while(|&&guess| (guess as usize) < vocab);
        guesses.truncate(known.count());
        Ok(guesses)
    }
}

impl std::fmt::Debug for Speculator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Speculator")
            .field("max_tokens", &self.max_tokens)
            .field("ahead", &self.ahead)
            .finish_non_exhaustive()
    }
}

/// Guesses that were wrong must be forgotten.
fn check_goes_back(session: &Session) -> Result<()> {
    // Encoders do not go on at all.
    session.check(&[])?;
    if session.cache.can_go_back() {
        return Ok(());
    }
    Err(Error::Argument {
        name: "speculate",
        expected: "models that forget the last tokens".to_owned(),
        found: format!(
            "{}, whose recurrent layers ({}) cannot",
            session.model.gguf().name(),
            session.model.architecture()
        ),
    })
}
