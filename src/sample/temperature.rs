//! The temperature.

use super::{Candidates, Sampler};

/// Divides the logits.
///
/// With a range, the temperature depends on how sure the model is: it goes from `temperature - range` to
/// `temperature + range` with the entropy of the candidates, as a part of the greatest that so many can
/// have, to the power of `exponent` (kalomaze's dynamic temperature, as in llama.cpp's `temp-ext`).
#[derive(Clone, Debug)]
pub(super) struct Temperature {
    pub(super) temperature: f32,
    pub(super) range: f32,
    pub(super) exponent: f32,
}

impl Sampler for Temperature {
    fn apply(&mut self, candidates: &mut Candidates) {
        let temperature = if self.range > 0.0 {
            self.dynamic(candidates)
        } else {
            self.temperature
        };
        candidates.divide(temperature);
    }
}

impl Temperature {
    fn dynamic(&self, candidates: &Candidates) -> f32 {
        let least = (self.temperature - self.range).max(0.0);
        let most = (self.temperature + self.range).min(f32::MAX);
        let count = candidates.len();
        match candidates.distribution() {
            Some(distribution) if count > 1 => {
                let entropy = distribution.entropy(candidates) / (count as f32).ln();
                least + (most - least) * entropy.clamp(0.0, 1.0).powf(self.exponent)
            }
            _ => self.temperature,
        }
    }
}
