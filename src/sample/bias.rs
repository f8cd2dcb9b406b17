//! Changing the logits of given tokens.

use super::{Candidates, Sampler};

/// Adds a number to the logits of some tokens, and removes others.
#[derive(Clone, Debug)]
pub(super) struct Bias {
    pub(super) biases: Vec<(u32, f32)>,
    pub(super) banned: Vec<u32>,
}

impl Sampler for Bias {
    fn apply(&mut self, candidates: &mut Candidates) {
        for &(token, bias) in &self.biases {
            if bias == f32::NEG_INFINITY {
                candidates.set_logit(token, bias);
            } else {
                candidates.adjust(token, |logit| logit + bias);
            }
        }
        for &token in &self.banned {
            candidates.set_logit(token, f32::NEG_INFINITY);
        }
    }
}
