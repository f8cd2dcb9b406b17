//! Choosing the next token from the logits: a chain of samplers, each of which changes or removes
//! candidates, and a draw.

mod bias;
mod candidates;
mod dry;
mod exp;
mod filters;
mod logprobs;
mod mirostat;
mod options;
mod penalties;
mod random;
mod temperature;
mod xtc;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::Result;
use crate::tokenizer::Tokenizer;

use bias::Bias;
use dry::{Breakers, Dry};
use filters::{MinP, TopK, TopNSigma, TopP, Typical};
use mirostat::Mirostat;
use penalties::Penalties;
use random::Random;
use temperature::Temperature;
use xtc::Xtc;

pub use candidates::{Candidate, Candidates};
pub use logprobs::{Logprob, TokenLogprobs};
pub use options::{MirostatVersion, SamplingOptions};

/// One step of choosing a token: it changes the logits of candidates, or removes some.
///
/// One of your own comes between the penalties and the filters, see [`SamplerChain::push`] and
/// [`GenerateOptions::sampler`](crate::GenerateOptions::sampler). This one lets no token come twice:
///
/// ```
/// use gristmill::{Candidates, Sampler, SamplerChain, SamplingOptions};
///
/// #[derive(Default)]
/// struct Once(Vec<u32>);
///
/// impl Sampler for Once {
///     fn apply(&mut self, candidates: &mut Candidates) {
///         for &token in &self.0 {
///             candidates.set_logit(token, f32::NEG_INFINITY);
///         }
///     }
///
///     fn accept(&mut self, token: u32) {
///         self.0.push(token);
///     }
/// }
///
/// # fn main() -> gristmill::Result<()> {
/// let mut chain = SamplerChain::new(&SamplingOptions::default())?;
/// chain.push(Once::default());
/// let logits = [0.0, 2.0, 1.0];
/// assert_eq!([(); 4].map(|()| chain.sample(&logits)), [Some(1), Some(2), Some(0), None]);
/// # Ok(())
/// # }
/// ```
pub trait Sampler: Send {
    /// Changes the candidates for the next token.
    fn apply(&mut self, candidates: &mut Candidates);

    /// Is told each token of the text in turn: those of the prompt, then those that are chosen.
    fn accept(&mut self, token: u32) {
        let _ = token;
    }
}

/// Chooses tokens as its [`SamplingOptions`] say.
pub struct SamplerChain {
    /// In reverse order.
    forced: Vec<u32>,
    /// What also applies where the most probable token is taken.
    changes: Vec<Box<dyn Sampler>>,
    filters: Vec<Box<dyn Sampler>>,
    mirostat: Option<Mirostat>,
    /// `None` to take the most probable token.
    random: Option<Random>,
    candidates: Candidates,
}

impl SamplerChain {
    /// A chain at the beginning of its seed's sequence. Ids that turn out to be beyond the vocabulary are
    /// never chosen.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`](crate::Error::Argument) for an option that is out of its range, a token both
    /// forced and banned, and for DRY with sequence breakers, which takes a tokenizer.
    pub fn new(options: &SamplingOptions) -> Result<SamplerChain> {
        if options.has_dry() && !options.dry_sequence_breakers.is_empty() {
            let found = format!("{:?}", options.dry_sequence_breakers);
            let expected = "none, as there is no tokenizer to find them with";
            return options::refuse("dry_sequence_breakers", expected, found);
        }
        SamplerChain::build(options, None)
    }

    /// As [`SamplerChain::new`], for the texts of a tokenizer.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`](crate::Error::Argument) for an option that is out of its range, a token both
    /// forced and banned, and an id that the vocabulary has not.
    pub fn for_tokenizer(options: &SamplingOptions, tokenizer: &Tokenizer) -> Result<SamplerChain> {
        if let Some(size) = tokenizer.vocab_size() {
            options.check_tokens(size)?;
        }
        SamplerChain::build(options, Some(tokenizer))
    }

    fn build(options: &SamplingOptions, tokenizer: Option<&Tokenizer>) -> Result<SamplerChain> {
        options.check()?;
        let seed = options.seed.unwrap_or_else(random::entropy);
        let is_greedy = options.temperature == 0.0 && options.dynatemp_range == 0.0;
        let mirostat = options.mirostat.filter(|_| !is_greedy);
        let filters = match mirostat {
            _ if is_greedy => Vec::new(),
            Some(_) => vec![temperature(options)],
            None => filters(options, seed),
        };
        Ok(SamplerChain {
            forced: options.forced.iter().rev().copied().collect(),
            changes: changes(options, tokenizer),
            filters,
            mirostat: mirostat
                .map(|version| Mirostat::new(version, options.mirostat_tau, options.mirostat_eta)),
            random: (!is_greedy).then(|| Random::from_seed(seed)),
            candidates: Candidates::default(),
        })
    }

    /// Adds a sampler of one's own, behind those that change logits and those added before, and in front
    /// of the filters.
    pub fn push(&mut self, sampler: impl Sampler + 'static) {
        self.push_boxed(Box::new(sampler));
    }

    pub(crate) fn push_boxed(&mut self, sampler: Box<dyn Sampler>) {
        self.changes.push(sampler);
    }

    /// Chooses a token and goes on behind it; its id is its place in the logits. Of equally probable
    /// tokens the lower id goes first.
    ///
    /// NaN and minus infinity are never chosen, infinity counts as a very great number. `None` if nothing
    /// is left to choose from.
    pub fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        self.sample_of(logits, None)
    }

    /// As [`SamplerChain::sample`], of the tokens that are `allowed`: bit `id % 32` of word `id / 32`. The
    /// others are gone before the first step of the chain.
    pub fn sample_among(&mut self, logits: &[f32], allowed: &[u32]) -> Option<u32> {
        self.sample_of(logits, Some(allowed))
    }

    fn sample_of(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> Option<u32> {
        let is_allowed = |&token: &u32| {
            (token as usize) < logits.len()
                && allowed.is_none_or(|words| candidates::has_bit(words, token))
        };
        let token = match self.forced.pop() {
            Some(token) => Some(token).filter(is_allowed),
            None => self.choose(logits, allowed),
        }?;
        self.accept(token);
        Some(token)
    }

    /// Goes on behind a token that comes from elsewhere, such as the prompt.
    pub fn accept(&mut self, token: u32) {
        for sampler in self.changes.iter_mut().chain(&mut self.filters) {
            sampler.accept(token);
        }
    }

    fn choose(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> Option<u32> {
        let candidates = &mut self.candidates;
        match allowed {
            None if self.random.is_none() && self.changes.is_empty() => {
                return candidates::most_probable(logits);
            }
            None => candidates.fill(logits),
            Some(allowed) => candidates.fill_allowed(logits, allowed),
        }
        for sampler in self.changes.iter_mut().chain(&mut self.filters) {
            sampler.apply(candidates);
        }
        let Some(random) = &mut self.random else {
            return candidates.most_probable().map(|best| best.token);
        };
        if let Some(mirostat) = &self.mirostat {
            mirostat.truncate(candidates);
        }
        let chosen = candidates.draw(random.next_unit())?;
        if let Some(mirostat) = &mut self.mirostat {
            mirostat.follow(candidates, chosen);
        }
        Some(chosen.token)
    }
}

impl fmt::Debug for SamplerChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SamplerChain").finish_non_exhaustive()
    }
}

/// What changes the logits of single tokens.
fn changes(options: &SamplingOptions, tokenizer: Option<&Tokenizer>) -> Vec<Box<dyn Sampler>> {
    let mut chain: Vec<Box<dyn Sampler>> = Vec::new();
    if !options.logit_bias.is_empty() || !options.banned.is_empty() {
        chain.push(Box::new(Bias {
            biases: options.logit_bias.clone(),
            banned: options.banned.clone(),
        }));
    }
    if options.has_penalties() {
        chain.push(Box::new(Penalties {
            repeat: options.repeat_penalty,
            frequency: options.frequency_penalty,
            presence: options.presence_penalty,
            last_n: options.repeat_last_n,
            window: VecDeque::new(),
            counts: HashMap::new(),
        }));
    }
    if options.has_dry() {
        let texts = &options.dry_sequence_breakers;
        chain.push(Box::new(Dry {
            multiplier: options.dry_multiplier,
            base: options.dry_base,
            allowed_length: options.dry_allowed_length,
            last_n: options.dry_penalty_last_n,
            breakers: tokenizer.map(|tokenizer| Breakers::new(tokenizer, texts)),
            window: VecDeque::new(),
            unbroken: 0,
        }));
    }
    chain
}

/// The filters and the temperature, without those that do nothing.
fn filters(options: &SamplingOptions, seed: u64) -> Vec<Box<dyn Sampler>> {
    /// XTC draws from a sequence of its own.
    const XTC: u64 = 0x5c7c;
    let mut chain: Vec<Box<dyn Sampler>> = Vec::new();
    if options.top_n_sigma > 0.0 {
        chain.push(Box::new(TopNSigma(options.top_n_sigma)));
    }
    if options.top_k > 0 {
        chain.push(Box::new(TopK(options.top_k)));
    }
    if options.typical_p < 1.0 {
        chain.push(Box::new(Typical(options.typical_p)));
    }
    if options.top_p < 1.0 {
        chain.push(Box::new(TopP(options.top_p)));
    }
    if options.min_p > 0.0 {
        chain.push(Box::new(MinP(options.min_p)));
    }
    if options.xtc_probability > 0.0 {
        chain.push(Box::new(Xtc {
            probability: options.xtc_probability,
            threshold: options.xtc_threshold,
            random: Random::from_seed(seed ^ XTC),
        }));
    }
    chain.push(temperature(options));
    chain
}

fn temperature(options: &SamplingOptions) -> Box<dyn Sampler> {
    Box::new(Temperature {
        temperature: options.temperature,
        range: options.dynatemp_range,
        exponent: options.dynatemp_exponent,
    })
}
