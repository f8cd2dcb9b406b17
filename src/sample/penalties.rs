//! Penalties for tokens that came before.

use std::collections::{HashMap, VecDeque};

use super::{Candidates, Sampler};

/// Lowers the logits of the tokens in a window of the text.
///
/// The repeat penalty divides (Keskar et al. 2019, <https://arxiv.org/abs/1909.05858>), but multiplies a
/// negative logit, as everybody does since: dividing would make the token more probable. Presence and
/// frequency penalties are OpenAI's: subtracted once, and once for each time the token is there.
#[derive(Clone, Debug)]
pub(super) struct Penalties {
    pub(super) repeat: f32,
    pub(super) frequency: f32,
    pub(super) presence: f32,
    pub(super) last_n: usize,
    /// The last tokens, and how often each of them is there.
    pub(super) window: VecDeque<u32>,
    pub(super) counts: HashMap<u32, u32>,
}

impl Sampler for Penalties {
    fn apply(&mut self, candidates: &mut Candidates) {
        for (&token, &count) in &self.counts {
            candidates.adjust(token, |logit| {
                let repeated = if logit > 0.0 {
                    logit / self.repeat
                } else {
                    logit * self.repeat
                };
                // Infinities could cancel each other to what is no number.
                let repeated = repeated.clamp(f32::MIN, f32::MAX);
                repeated - (count as f32 * self.frequency + self.presence)
            });
        }
    }

    fn accept(&mut self, token: u32) {
        self.window.push_back(token);
        *self.counts.entry(token).or_default() += 1;
        if self.window.len() > self.last_n
            && let Some(old) = self.window.pop_front()
            && let Some(count) = self.counts.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&old);
            }
        }
    }
}
