//! Settings of a generation.

use std::fmt;
use std::sync::Arc;

use super::guide::GuideMaker;
use crate::{CancelToken, Sampler, SamplingOptions};

/// Tokens that are generated at most where nothing else is asked for.
const DEFAULT_MAX_TOKENS: usize = 512;

/// What [`Session::generate`](crate::Session::generate) does with a prompt, and when it stops.
///
/// ```
/// use gristmill::{GenerateOptions, SamplingOptions};
///
/// let options = GenerateOptions::new()
///     .max_tokens(64)
///     .sampling(SamplingOptions { temperature: 0.8, seed: Some(1), ..Default::default() })
///     .stop("\n\n");
/// ```
#[derive(Clone)]
pub struct GenerateOptions {
    pub(super) max_tokens: usize,
    pub(super) sampling: SamplingOptions,
    pub(super) samplers: Vec<MakeSampler>,
    pub(super) guide: Option<GuideMaker>,
    pub(super) logprobs: Option<usize>,
    pub(super) stops: Vec<String>,
    pub(super) add_special: bool,
    pub(super) parse_special: bool,
    pub(super) ignore_end_of_generation: bool,
    pub(super) cancel: CancelToken,
    pub(super) progress: Option<Progress>,
}

/// Is told how many tokens of a prompt are evaluated, and how many there are.
type Progress = Arc<dyn Fn(usize, usize) + Send + Sync>;

/// Makes a sampler for each generation.
type MakeSampler = Arc<dyn Fn() -> Box<dyn Sampler> + Send + Sync>;

impl GenerateOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops after this many tokens; `usize::MAX` goes on until the context is full. Default: 512.
    #[must_use]
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens;
        self
    }

    /// How each token is chosen. Default: always the most probable one.
    #[must_use]
    pub fn sampling(mut self, sampling: SamplingOptions) -> Self {
        self.sampling = sampling;
        self
    }

    /// Adds a sampler of one's own behind the penalties, in front of the filters; call it again for more
    /// than one. `make` is called for each generation. Default: none.
    ///
    /// ```
    /// use gristmill::{Candidates, GenerateOptions, Sampler};
    ///
    /// /// Only these tokens, in increasing order.
    /// struct Only(Vec<u32>);
    ///
    /// impl Sampler for Only {
    ///     fn apply(&mut self, candidates: &mut Candidates) {
    ///         candidates.retain(|candidate| self.0.binary_search(&candidate.token).is_ok());
    ///     }
    /// }
    ///
    /// let options = GenerateOptions::new().sampler(|| Only(vec![5, 8, 13]));
    /// ```
    #[must_use]
    pub fn sampler<S: Sampler + 'static>(
        mut self,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        self.samplers.push(Arc::new(move || Box::new(make())));
        self
    }

    /// Lets only those tokens come that a guide allows.
    #[cfg(feature = "constrain")]
    pub(crate) fn guide(mut self, make: GuideMaker) -> Self {
        self.guide = Some(make);
        self
    }

    /// Whether a token can be taken unseen where a guide allows no other one: it would be chosen, nothing
    /// is reported of it, and the text does not end with it.
    pub(super) fn takes_unseen(&self) -> bool {
        let sampling = &self.sampling;
        sampling.banned.is_empty()
            && sampling.forced.is_empty()
            && sampling.logit_bias.is_empty()
            && self.samplers.is_empty()
            && self.stops.is_empty()
            && self.logprobs.is_none()
    }

    /// Reports how probable each token was, and as many of the most probable ones. Default: nothing.
    #[must_use]
    pub fn logprobs(mut self, top: usize) -> Self {
        self.logprobs = Some(top);
        self
    }

    /// Stops before this text; call it again for more than one. No part of a stop string is ever
    /// given out. Default: none.
    #[must_use]
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.stops.push(text.into());
        self
    }

    /// Puts the token that begins a text before the prompt, if the model expects one and the
    /// session is empty. Default: yes.
    #[must_use]
    pub fn add_special(mut self, add: bool) -> Self {
        self.add_special = add;
        self
    }

    /// Finds special tokens such as `<|im_start|>` in the prompt. Leave this off for text from
    /// others. Default: no.
    #[must_use]
    pub fn parse_special(mut self, parse: bool) -> Self {
        self.parse_special = parse;
        self
    }

    /// Never chooses a token that ends the text, so that it goes on. Default: no.
    #[must_use]
    pub fn ignore_end_of_generation(mut self, ignore: bool) -> Self {
        self.ignore_end_of_generation = ignore;
        self
    }

    /// Stops when this token is cancelled, within one layer of the model. Default: a token that
    /// nobody else has.
    #[must_use]
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }

    /// Called with the number of tokens of the prompt that are evaluated, and of all: at the
    /// beginning and after each chunk.
    #[must_use]
    pub fn progress(mut self, report: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(report));
        self
    }
}

impl Default for GenerateOptions {
    fn default() -> GenerateOptions {
        GenerateOptions {
            max_tokens: DEFAULT_MAX_TOKENS,
            sampling: SamplingOptions::default(),
            samplers: Vec::new(),
            guide: None,
            logprobs: None,
            stops: Vec::new(),
            add_special: true,
            parse_special: false,
            ignore_end_of_generation: false,
            cancel: CancelToken::new(),
            progress: None,
        }
    }
}

impl fmt::Debug for GenerateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenerateOptions")
            .field("max_tokens", &self.max_tokens)
            .field("sampling", &self.sampling)
            .field("samplers", &self.samplers.len())
            .field("guided", &self.guide.is_some())
            .field("logprobs", &self.logprobs)
            .field("stops", &self.stops)
            .field("add_special", &self.add_special)
            .field("parse_special", &self.parse_special)
            .field("ignore_end_of_generation", &self.ignore_end_of_generation)
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}
