//! How tokens are chosen.

use crate::{Error, Result};

/// How the next token is chosen.
///
/// A temperature of 0, the default, always takes the most probable token. Otherwise one is drawn of those
/// that are left by a chain in llama.cpp's default order (`common_params_sampling` of its
/// `common/common.h`); names and defaults are llama.cpp's too, so that a temperature alone already makes
/// sense:
///
/// 1. `logit_bias` and `banned`;
/// 2. `repeat_penalty`, `presence_penalty`, `frequency_penalty`;
/// 3. DRY;
/// 4. samplers of your own (see [`Sampler`](crate::Sampler));
/// 5. the filters: top-nσ, `top_k`, `typical_p`, `top_p`, `min_p`, XTC;
/// 6. the temperature, and the draw.
///
/// With a temperature of 0 the first four steps apply, too. Mirostat takes the place of the filters: it
/// comes after the temperature.
///
/// ```
/// use gristmill::{SamplerChain, SamplingOptions};
///
/// # fn main() -> gristmill::Result<()> {
/// let options = SamplingOptions {
///     temperature: 0.8,
///     min_p: 0.1,
///     repeat_penalty: 1.1,
///     banned: vec![2],
///     seed: Some(1),
///     ..Default::default()
/// };
/// let mut sampler = SamplerChain::new(&options)?;
/// // Token 3 is improbable, 2 is banned.
/// let token = sampler.sample(&[1.0, 1.2, 5.0, -9.0]);
/// assert!(token == Some(0) || token == Some(1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingOptions {
    /// What the logits are divided by before the draw: below 1 probable tokens become more
    /// probable, above 1 less. 0 takes the most probable token. Default: 0.
    pub temperature: f32,
    /// Only this many of the most probable tokens; 0 for all. Default: 40.
    pub top_k: usize,
    /// Only the most probable tokens that together reach this probability (nucleus sampling, [Holtzman
    /// et al. 2020](https://arxiv.org/abs/1904.09751)), in `0.0..=1.0`; 1 for all, and one token is
    /// always left. Default: 0.95.
    pub top_p: f32,
    /// Only tokens at least this times as probable as the most probable one ([Nguyen et al.
    /// 2024](https://arxiv.org/abs/2407.01082)), in `0.0..=1.0`; 0 for all. Default: 0.05.
    pub min_p: f32,
    /// Only the tokens whose surprise, `-ln p`, is nearest to the distribution's entropy, that together
    /// reach this probability (locally typical sampling, [Meister et al.
    /// 2022](https://arxiv.org/abs/2202.00666)), in `0.0..=1.0`; 1 for all. Default: 1.
    pub typical_p: f32,
    /// Only tokens whose logit is at most this many standard deviations of all logits below the greatest
    /// (top-nσ, [Tang et al. 2024](https://arxiv.org/abs/2411.07641)); 0 for all. Default: 0.
    pub top_n_sigma: f32,
    /// How often XTC, "exclude top choices", removes the most probable tokens ([by
    /// p-e-w](https://github.com/oobabooga/text-generation-webui/pull/6335)), in `0.0..=1.0`.
    /// Default: 0.
    pub xtc_probability: f32,
    /// XTC removes all tokens at least as probable as this, but for the least probable of them; so
    /// nothing above 0.5. In `0.0..=1.0`. Default: 0.1.
    pub xtc_threshold: f32,
    /// Makes the temperature depend on how sure the model is: from `temperature - dynatemp_range` where
    /// it is sure of a token to `temperature + dynatemp_range` where all are equal. Default: 0.
    pub dynatemp_range: f32,
    /// The temperature goes with the entropy, as a part of the greatest possible one, to the power of
    /// this. Default: 1.
    pub dynatemp_exponent: f32,
    /// A logit is divided by this if it is positive, and multiplied if it is negative, where the token is
    /// in the window ([Keskar et al. 2019](https://arxiv.org/abs/1909.05858)); more than 0, and 1 for no
    /// penalty. Default: 1.
    pub repeat_penalty: f32,
    /// Subtracted from a logit where the token is in the window. Default: 0.
    pub presence_penalty: f32,
    /// Subtracted from a logit as many times as the token is in the window. Default: 0.
    pub frequency_penalty: f32,
    /// The window of these three: so many of the last tokens, of the prompt and of the text behind it.
    /// Default: 64.
    pub repeat_last_n: usize,
    /// The strength of DRY, "don't repeat yourself" ([by
    /// p-e-w](https://github.com/oobabooga/text-generation-webui/pull/5677)): a token that would go on
    /// with a repetition of `n` tokens loses `dry_multiplier * dry_base ^ (n - dry_allowed_length)` of
    /// its logit. 0 for no penalty. Default: 0.
    pub dry_multiplier: f32,
    /// How the penalty grows with each token of a repetition; at least 1. Default: 1.75.
    pub dry_base: f32,
    /// Shorter repetitions cost nothing. Default: 2.
    pub dry_allowed_length: usize,
    /// The window of DRY: so many of the last tokens. Default: all, `usize::MAX`.
    pub dry_penalty_last_n: usize,
    /// Texts over which no repetition reaches. They take a tokenizer to be found, see
    /// [`SamplerChain::for_tokenizer`](crate::SamplerChain::for_tokenizer). Default: a line break, a
    /// colon, a quotation mark and an asterisk.
    pub dry_sequence_breakers: Vec<String>,
    /// Steers the surprise of the text instead of filtering ([Basu et al.
    /// 2021](https://arxiv.org/abs/2007.14966)). Default: `None`.
    pub mirostat: Option<MirostatVersion>,
    /// The surprise that Mirostat aims at, in bits per token. Default: 5.
    pub mirostat_tau: f32,
    /// How fast Mirostat follows. Default: 0.1.
    pub mirostat_eta: f32,
    /// Added to the logits of these tokens; minus infinity bans one. Default: none.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that are never chosen. Default: none.
    pub banned: Vec<u32>,
    /// The first tokens, whatever the logits are; then choosing begins. Default: none.
    pub forced: Vec<u32>,
    /// The same seed gives the same draws from the same logits; `None` gives others each time.
    /// Default: `None`.
    pub seed: Option<u64>,
}

/// How Mirostat finds what is too surprising.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MirostatVersion {
    /// By an estimate of the distribution's exponent: the algorithm of the paper.
    V1,
    /// By the surprise of each token.
    V2,
}

impl Default for SamplingOptions {
    fn default() -> SamplingOptions {
        SamplingOptions {
            temperature: 0.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            top_n_sigma: 0.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_last_n: 64,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: usize::MAX,
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
            mirostat: None,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            logit_bias: Vec::new(),
            banned: Vec::new(),
            forced: Vec::new(),
            seed: None,
        }
    }
}

/// Which numbers an option can have.
struct Range {
    least: f32,
    most: f32,
    expected: &'static str,
}

const SHARE: Range = Range {
    least: 0.0,
    most: 1.0,
    expected: "a number from 0 to 1",
};
const AT_LEAST_0: Range = Range {
    least: 0.0,
    most: f32::MAX,
    expected: "a finite number of at least 0",
};
const AT_LEAST_1: Range = Range {
    least: 1.0,
    most: f32::MAX,
    expected: "a finite number of at least 1",
};
const POSITIVE: Range = Range {
    least: f32::from_bits(1),
    most: f32::MAX,
    expected: "a finite number of more than 0",
};
const FINITE: Range = Range {
    least: f32::MIN,
    most: f32::MAX,
    expected: "a finite number",
};

impl SamplingOptions {
    pub(super) fn check(&self) -> Result<()> {
        self.check_numbers()?;
        for &(token, bias) in &self.logit_bias {
            if bias.is_nan() || bias == f32::INFINITY {
                let found = format!("{bias} for token {token}");
                return refuse("logit_bias", "finite numbers or minus infinity", found);
            }
        }
        if self.dry_sequence_breakers.iter().any(String::is_empty) {
            let found = "an empty one".to_owned();
            return refuse("dry_sequence_breakers", "texts", found);
        }
        for &token in &self.forced {
            let by_bias = self.logit_bias.contains(&(token, f32::NEG_INFINITY));
            if self.banned.contains(&token) || by_bias {
                let found = format!("token {token}, which is banned");
                return refuse("forced", "tokens that may be chosen", found);
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        for (name, value, range) in [
            ("temperature", self.temperature, AT_LEAST_0),
            ("top_p", self.top_p, SHARE),
            ("min_p", self.min_p, SHARE),
            ("typical_p", self.typical_p, SHARE),
            ("top_n_sigma", self.top_n_sigma, AT_LEAST_0),
            ("xtc_probability", self.xtc_probability, SHARE),
            ("xtc_threshold", self.xtc_threshold, SHARE),
            ("dynatemp_range", self.dynatemp_range, AT_LEAST_0),
            ("dynatemp_exponent", self.dynatemp_exponent, AT_LEAST_0),
            ("repeat_penalty", self.repeat_penalty, POSITIVE),
            ("presence_penalty", self.presence_penalty, FINITE),
            ("frequency_penalty", self.frequency_penalty, FINITE),
            ("dry_multiplier", self.dry_multiplier, AT_LEAST_0),
            ("dry_base", self.dry_base, AT_LEAST_1),
            ("mirostat_tau", self.mirostat_tau, AT_LEAST_0),
            ("mirostat_eta", self.mirostat_eta, AT_LEAST_0),
        ] {
            if !(range.least..=range.most).contains(&value) {
                return refuse(name, range.expected, value.to_string());
            }
        }
        Ok(())
    }

    /// Refuses tokens that the vocabulary has not.
    pub(super) fn check_tokens(&self, vocab_size: usize) -> Result<()> {
        let biased = self.logit_bias.iter().map(|&(token, _)| token);
        let lists = [
            ("logit_bias", biased.collect()),
            ("banned", self.banned.clone()),
            ("forced", self.forced.clone()),
        ];
        for (name, tokens) in lists {
            if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
                return refuse(name, format!("ids below {vocab_size}"), token.to_string());
            }
        }
        Ok(())
    }

    pub(super) fn has_dry(&self) -> bool {
        self.dry_multiplier > 0.0 && self.dry_penalty_last_n > 0
    }

    pub(super) fn has_penalties(&self) -> bool {
        let none = self.repeat_penalty == 1.0
            && self.presence_penalty == 0.0
            && self.frequency_penalty == 0.0;
        self.repeat_last_n > 0 && !none
    }
}

pub(super) fn refuse<T>(
    name: &'static str,
    expected: impl Into<String>,
    found: String,
) -> Result<T> {
    Err(Error::Argument {
        name,
        expected: expected.into(),
        found,
    })
}
