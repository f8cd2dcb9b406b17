//! What the model itself thinks of tokens.

use super::Candidates;

/// A token and how probable it is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Logprob {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability; minus infinity if that is 0.
    pub logprob: f32,
}

/// How probable a token was, and which were the most probable ones.
///
/// These are the probabilities that the model gives, the softmax of its logits: no option of
/// [`SamplingOptions`](crate::SamplingOptions) changes them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenLogprobs {
    /// The token that was chosen.
    pub chosen: Logprob,
    /// The most probable tokens, the most probable first; of equal ones the lowest id.
    pub top: Vec<Logprob>,
}

impl TokenLogprobs {
    /// Of the token that was chosen from `logits`, `[vocab_size]`, and the `count` most probable ones.
    ///
    /// ```
    /// use gristmill::TokenLogprobs;
    ///
    /// let logprobs = TokenLogprobs::new(&[0.0, 2_f32.ln(), 0.0], 0, 1);
    /// assert_eq!(logprobs.chosen.logprob, 0.25_f32.ln());
    /// assert_eq!(logprobs.top[0].token, 1);
    /// ```
    #[must_use]
    pub fn new(logits: &[f32], chosen: u32, count: usize) -> TokenLogprobs {
        let mut candidates = Candidates::default();
        candidates.fill(logits);
        let distribution = candidates.distribution();
        let logprob = |token, logit: Option<f32>| Logprob {
            token,
            logprob: match (distribution, logit) {
                (Some(distribution), Some(logit)) => distribution.log_probability(logit),
                _ => f32::NEG_INFINITY,
            },
        };
        let top = candidates.ranking(count).into_iter();
        TokenLogprobs {
            chosen: logprob(chosen, candidates.logit(chosen)),
            top: top
                .map(|candidate| logprob(candidate.token, Some(candidate.logit)))
                .collect(),
        }
    }
}
