//! XTC, "exclude top choices".

use super::random::Random;
use super::{Candidates, Sampler};

/// With a probability, removes all candidates that are at least as probable as the threshold but the
/// least probable one of them, by p-e-w (<https://github.com/oobabooga/text-generation-webui/pull/6335>).
#[derive(Clone, Debug)]
pub(super) struct Xtc {
    pub(super) probability: f32,
    pub(super) threshold: f32,
    pub(super) random: Random,
}

impl Sampler for Xtc {
    fn apply(&mut self, candidates: &mut Candidates) {
        if self.random.next_unit() >= f64::from(self.probability) {
            return;
        }
        let Some(distribution) = candidates.distribution() else {
            return;
        };
        let floor = self.threshold.ln();
        let is_top = |logit| distribution.log_probability(logit) >= floor;
        let top = candidates
            .iter()
            .filter(|candidate| is_top(candidate.logit));
        if let Some(last) = top.max_by(super::Candidate::rank) {
            candidates.retain(|candidate| candidate.rank(&last).is_ge());
        }
    }
}
