//! How fast a generation was.

use std::time::Duration;

/// How long a generation took. Time that the caller spent between two pieces does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Tokens of the prompt that were to be evaluated.
    pub prompt_tokens: usize,
    /// Until the first token was chosen.
    pub prompt_duration: Duration,
    /// Tokens generated, without one that ended the text.
    pub generated_tokens: usize,
    /// From the first token on.
    pub generation_duration: Duration,
    /// Tokens of the text evaluated in that time: all but the last that was chosen, since the first is chosen
    /// from the prompt's logits.
    pub evaluated_tokens: usize,
    /// Tokens that were guessed and evaluated in case that they come next: see
    /// [`SessionOptions::speculate`](crate::SessionOptions::speculate).
    pub drafted_tokens: usize,
    /// How many of them came next.
    pub accepted_tokens: usize,
}

impl Timings {
    /// Tokens of the prompt evaluated per second; 0 if there were none.
    #[must_use]
    pub fn prompt_tokens_per_second(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_duration)
    }

    /// Tokens evaluated per second after the first; 0 if there were none.
    #[must_use]
    pub fn generated_tokens_per_second(&self) -> f64 {
        rate(self.evaluated_tokens, self.generation_duration)
    }
}

fn rate(tokens: usize, duration: Duration) -> f64 {
    if duration.is_zero() {
        0.0
    } else {
        tokens as f64 / duration.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_tokens_by_seconds_and_finite() {
        let timings = Timings {
            prompt_tokens: 30,
            prompt_duration: Duration::from_millis(250),
            evaluated_tokens: 5,
            ..Timings::default()
        };
        assert_eq!(timings.prompt_tokens_per_second(), 120.0);
        assert_eq!(timings.generated_tokens_per_second(), 0.0);
    }
}
