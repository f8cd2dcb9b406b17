//! Mirostat: text of a given surprise (Basu et al. 2021, <https://arxiv.org/abs/2007.14966>).

use super::{Candidate, Candidates, MirostatVersion};

/// Keeps as many candidates as make the surprise of the chosen tokens, in bits, come near to `tau`.
///
/// Version 1 is the paper's algorithm 1; version 2 that of its authors' program, which needs no estimate.
#[derive(Clone, Debug)]
pub(super) struct Mirostat {
    version: MirostatVersion,
    tau: f64,
    eta: f64,
    /// The greatest surprise that is let through; follows the error.
    mu: f64,
}

/// Candidates by which version 1 estimates the distribution's exponent, as in the authors' program.
const ESTIMATE: usize = 100;

impl Mirostat {
    pub(super) fn new(version: MirostatVersion, tau: f32, eta: f32) -> Mirostat {
        let tau = f64::from(tau);
        Mirostat {
            version,
            tau,
            eta: f64::from(eta),
            mu: 2.0 * tau,
        }
    }

    /// Removes the candidates that are too surprising, but for the most probable one.
    pub(super) fn truncate(&self, candidates: &mut Candidates) {
        match self.version {
            MirostatVersion::V1 => {
                let count = self.count(&candidates.ranking(ESTIMATE), candidates.len());
                candidates.keep_first(count);
            }
            MirostatVersion::V2 => {
                let best = candidates.most_probable();
                if let (Some(distribution), Some(best)) = (candidates.distribution(), best) {
                    let bits = |logit| surprise(distribution.log_probability(logit));
                    candidates.retain(|candidate| {
                        candidate.token == best.token || bits(candidate.logit) <= self.mu
                    });
                }
            }
        }
    }

    /// Follows the surprise of the candidate that was chosen.
    pub(super) fn follow(&mut self, candidates: &Candidates, chosen: Candidate) {
        if let Some(distribution) = candidates.distribution() {
            let observed = surprise(distribution.log_probability(chosen.logit));
            self.mu -= self.eta * (observed - self.tau);
        }
    }

    /// Version 1: how many of `all` to keep, from the first of the ranking. Their probabilities are
    /// taken for a Zipf distribution with the exponent `s`.
    fn count(&self, first: &[Candidate], all: usize) -> usize {
        let (mut products, mut squares) = (0.0, 0.0);
        for (place, pair) in first.windows(2).enumerate() {
            let step = ((place + 2) as f64 / (place + 1) as f64).ln();
            products += step * (f64::from(pair[0].logit) - f64::from(pair[1].logit));
            squares += step * step;
        }
        let s = products / squares;
        let epsilon = s - 1.0;
        let all_powers = 1.0 - (all as f64).powf(-epsilon);
        let share = if epsilon.abs() < 1e-9 {
            1.0 / (all as f64).ln()
        } else {
            epsilon / all_powers
        };
        // The conversion saturates; what is no number, as with one candidate, is 0.
        ((share * self.mu.exp2()).powf(1.0 / s) as usize).clamp(1, all.max(1))
    }
}

/// In bits, from a natural logarithm.
fn surprise(log_probability: f32) -> f64 {
    -f64::from(log_probability) * std::f64::consts::LOG2_E
}
