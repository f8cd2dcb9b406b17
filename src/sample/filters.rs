//! Filters that keep the more probable candidates, at least one.

use super::{Candidates, Sampler};

/// Keeps logits at most `n` standard deviations, of all candidates' logits, below the greatest (top-nσ,
/// Tang et al. 2024, <https://arxiv.org/abs/2411.07641>).
#[derive(Clone, Debug)]
pub(super) struct TopNSigma(pub(super) f32);

impl Sampler for TopNSigma {
    fn apply(&mut self, candidates: &mut Candidates) {
        if let Some(best) = candidates.most_probable() {
            let floor = best.logit - self.0 * candidates.deviation();
            candidates.retain(|candidate| candidate.logit >= floor);
        }
    }
}

/// Keeps so many of the most probable candidates (Fan et al. 2018, <https://arxiv.org/abs/1805.04833>).
#[derive(Clone, Debug)]
pub(super) struct TopK(pub(super) usize);

impl Sampler for TopK {
    fn apply(&mut self, candidates: &mut Candidates) {
        candidates.keep_first(self.0);
    }
}

/// Keeps the candidates whose surprise, `-ln p`, is nearest to the expected one, the entropy, until they
/// have this share of the probability (Meister et al. 2022, <https://arxiv.org/abs/2202.00666>).
#[derive(Clone, Debug)]
pub(super) struct Typical(pub(super) f32);

impl Sampler for Typical {
    fn apply(&mut self, candidates: &mut Candidates) {
        if let Some(distribution) = candidates.distribution() {
            let entropy = distribution.entropy(candidates);
            candidates.keep_share(self.0, |logit| {
                (-distribution.log_probability(logit) - entropy).abs()
            });
        }
    }
}

/// Keeps the most probable candidates that have this share of the probability (nucleus sampling,
/// Holtzman et al. 2020, <https://arxiv.org/abs/1904.09751>).
#[derive(Clone, Debug)]
pub(super) struct TopP(pub(super) f32);

impl Sampler for TopP {
    fn apply(&mut self, candidates: &mut Candidates) {
        if let Some(best) = candidates.most_probable() {
            candidates.keep_share(self.0, |logit| best.logit - logit);
        }
    }
}

/// Keeps the candidates at least this times as probable as the most probable one (Nguyen et al. 2024,
/// <https://arxiv.org/abs/2407.01082>).
#[derive(Clone, Debug)]
pub(super) struct MinP(pub(super) f32);

impl Sampler for MinP {
    fn apply(&mut self, candidates: &mut Candidates) {
        if let Some(best) = candidates.most_probable() {
            let floor = best.logit + self.0.ln();
            candidates.retain(|candidate| candidate.logit >= floor);
        }
    }
}
