//! Choosing the next token from the logits.

mod candidates;
mod random;

#[cfg(test)]
mod tests;

use crate::{Error, Result};

use candidates::{Candidate, Profile};
use random::Random;

/// How the next token is chosen.
///
/// A temperature of 0, the default, always takes the most probable token. Otherwise the filters
/// apply one after the other, as in llama.cpp: `top_k`, `top_p`, `min_p`; then one of the tokens
/// that are left is drawn. The filters' defaults are llama.cpp's too, so that a temperature alone
/// already makes sense:
///
/// ```
/// # use gristmill::SamplingOptions;
/// let sampling = SamplingOptions { temperature: 0.8, seed: Some(1), ..Default::default() };
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingOptions {
    /// What the logits are divided by before the draw: below 1 probable tokens become more
    /// probable, above 1 less. 0 takes the most probable token. Default: 0.
    pub temperature: f32,
    /// Only this many of the most probable tokens; 0 for all. Default: 40.
    pub top_k: usize,
    /// Only the most probable tokens that together reach this probability, in `0.0..=1.0`; 1 for
    /// all, and one token is always left. Default: 0.95.
    pub top_p: f32,
    /// Only tokens at least this times as probable as the most probable one, in `0.0..=1.0`; 0 for
    /// all. Default: 0.05.
    pub min_p: f32,
    /// The same seed gives the same draws from the same logits; `None` gives others each time.
    /// Default: `None`.
    pub seed: Option<u64>,
}

impl Default for SamplingOptions {
    fn default() -> SamplingOptions {
        SamplingOptions {
            temperature: 0.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            seed: None,
        }
    }
}

impl SamplingOptions {
    fn check(&self) -> Result<()> {
        let check = |name, value: f32, most: f32, expected: &str| {
            if (0.0..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::Argument {
                name,
                expected: expected.into(),
                found: value.to_string(),
            })
        };
        check(
            "temperature",
            self.temperature,
            f32::MAX,
            "a finite number of at least 0",
        )?;
        check("top_p", self.top_p, 1.0, "a number from 0 to 1")?;
        check("min_p", self.min_p, 1.0, "a number from 0 to 1")
    }
}

/// Chooses tokens as its [`SamplingOptions`] say.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    random: Random,
    candidates: Vec<Candidate>,
    scratch: Vec<Candidate>,
    weights: Vec<f32>,
}

impl Sampler {
    /// A sampler at the beginning of its seed's sequence.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for an option that is out of its range.
    pub fn new(options: &SamplingOptions) -> Result<Sampler> {
        options.check()?;
        Ok(Sampler {
            options: options.clone(),
            random: options
                .seed
                .map_or_else(Random::from_entropy, Random::from_seed),
            candidates: Vec::new(),
            scratch: Vec::new(),
            weights: Vec::new(),
        })
    }

    /// Chooses a token; its id is its place in the logits. Of equal logits the lower id goes first.
    ///
    /// NaN and minus infinity are never chosen, infinity counts as a very great number. If nothing
    /// is left to choose from, the answer is 0.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        let Some(greatest) = candidates::greatest(logits) else {
            return 0;
        };
        if self.options.temperature == 0.0 {
            // `greatest` is what infinity counts as.
            return logits
                .iter()
                .position(|&logit| logit >= greatest)
                .map_or(0, |id| id as u32);
        }
        self.filter(logits, greatest);
        self.draw(greatest)
    }

    /// Leaves in `candidates` what the filters let through, at least one token.
    fn filter(&mut self, logits: &[f32], greatest: f32) {
        let SamplingOptions {
            top_k,
            top_p,
            min_p,
            ..
        } = self.options;
        let list = &mut self.candidates;
        let floor = candidates::min_p_floor(min_p, greatest);
        let possible = |candidate: &Candidate| candidate.logit >= floor;
        let mut mass = 0.0;
        list.clear();
        if (1..logits.len()).contains(&top_k) {
            candidates::top_k(logits, top_k, list);
            mass = candidates::mass(list.iter().copied(), greatest);
            list.retain(possible);
        } else if top_p < 1.0 {
            let profile = Profile::new(candidates::all(logits), greatest);
            mass = profile.mass();
            let reach = profile.reach(mass * f64::from(top_p));
            let near = |candidate: &Candidate| {
                Profile::distance(candidate.logit, greatest) < reach && possible(candidate)
            };
            list.extend(candidates::all(logits).filter(near));
        } else {
            list.extend(candidates::all(logits).filter(possible));
        }
        // `min_p` has been applied already, to the same effect: both keep a beginning of the
        // ranking, and `top_p` weighs what there was before.
        if top_p < 1.0 {
            let mass = mass * f64::from(top_p);
            candidates::keep_mass(list, mass, greatest, &mut self.scratch);
        }
    }

    /// Draws one of the candidates.
    fn draw(&mut self, greatest: f32) -> u32 {
        let temperature = self.options.temperature;
        let weight = |candidate: &Candidate| ((candidate.logit - greatest) / temperature).exp();
        self.weights.clear();
        self.weights.extend(self.candidates.iter().map(weight));
        let total: f64 = self.weights.iter().copied().map(f64::from).sum();
        let mut left = self.random.next_unit() * total;
        let mut drawn = 0;
        for (candidate, &weight) in self.candidates.iter().zip(&self.weights) {
            if weight == 0.0 {
                continue;
            }
            drawn = candidate.id;
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
        drawn
    }
}
