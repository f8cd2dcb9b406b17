//! DRY, "don't repeat yourself": penalties for going on with what was said before.

use std::collections::{HashMap, VecDeque};

use crate::tokenizer::Tokenizer;

use super::{Candidates, Sampler};

/// Lowers the logits of tokens that would prolong a repetition, by p-e-w
/// (<https://github.com/oobabooga/text-generation-webui/pull/5677>).
///
/// If the last `n` tokens were followed by a token somewhere before, that token's logit goes down by
/// `multiplier * base ^ (n - allowed_length)`, for the greatest such `n` of at least `allowed_length`.
/// The repetition does not reach back over a sequence breaker.
#[derive(Clone, Debug)]
pub(super) struct Dry {
    pub(super) multiplier: f32,
    pub(super) base: f32,
    pub(super) allowed_length: usize,
    pub(super) last_n: usize,
    pub(super) breakers: Option<Breakers>,
    /// The last tokens, the latest first.
    pub(super) window: VecDeque<u32>,
    /// How many of them are behind the last breaker.
    pub(super) unbroken: usize,
}

impl Sampler for Dry {
    fn apply(&mut self, candidates: &mut Candidates) {
        if self.unbroken.min(self.window.len()) < self.allowed_length {
            return;
        }
        for (token, length) in self.repetitions() {
            let breakers = self.breakers.as_ref();
            if breakers.is_some_and(|breakers| breakers.is_completed_by(token)) {
                continue;
            }
            let excess = (length - self.allowed_length) as f32;
            let penalty = self.multiplier * self.base.powf(excess);
            candidates.adjust(token, |logit| logit - penalty);
        }
    }

    fn accept(&mut self, token: u32) {
        self.window.push_front(token);
        self.window.truncate(self.last_n);
        let breakers = self.breakers.as_mut();
        if breakers.is_some_and(|breakers| breakers.accept(token)) {
            self.unbroken = 0;
        } else {
            self.unbroken = self.unbroken.saturating_add(1);
        }
    }
}

impl Dry {
    /// The tokens that would prolong a repetition, and how long that is without them.
    fn repetitions(&mut self) -> HashMap<u32, usize> {
        let window = &*self.window.make_contiguous();
        let mut longest = HashMap::new();
        for (place, length) in common_prefixes(window).into_iter().enumerate().skip(1) {
            let length = length.min(self.unbroken);
            if length >= self.allowed_length {
                let best = longest.entry(window[place - 1]).or_insert(length);
                *best = length.max(*best);
            }
        }
        longest
    }
}

/// For each place, how many tokens from there on are those at the beginning; the Z-algorithm (Gusfield,
/// *Algorithms on Strings, Trees and Sequences*, 1997), which is linear.
fn common_prefixes(tokens: &[u32]) -> Vec<usize> {
    let mut lengths = vec![0; tokens.len()];
    // What is known to be a repetition of the beginning and reaches furthest.
    let (mut start, mut end) = (0, 0);
    for place in 1..tokens.len() {
        let mut length = if place < end {
            lengths[place - start].min(end - place)
        } else {
            0
        };
        while place + length < tokens.len() && tokens[length] == tokens[place + length] {
            length += 1;
        }
        lengths[place] = length;
        if place + length > end {
            (start, end) = (place, place + length);
        }
    }
    lengths
}

/// Finds texts in the text that tokens make, also where they go over the end of a token.
#[derive(Clone, Debug)]
pub(super) struct Breakers {
    tokenizer: Tokenizer,
    texts: Vec<Vec<u8>>,
    /// The end of the text: what may be the beginning of the longest breaker.
    tail: Vec<u8>,
}

impl Breakers {
    /// Of texts that are not empty.
    pub(super) fn new(tokenizer: &Tokenizer, texts: &[String]) -> Breakers {
        Breakers {
            tokenizer: tokenizer.clone(),
            texts: texts.iter().map(|text| text.clone().into_bytes()).collect(),
            tail: Vec::new(),
        }
    }

    /// The text with the token behind it, as far back as matters.
    fn text_with(&self, token: u32) -> Vec<u8> {
        let mut text = self.tail.clone();
        text.extend_from_slice(&self.tokenizer.token_bytes(token).unwrap_or_default());
        text
    }

    /// Whether a breaker ends in this token.
    fn is_completed_by(&self, token: u32) -> bool {
        self.is_in(&self.text_with(token))
    }

    /// Goes on to the next token, and says whether a breaker ends in it.
    fn accept(&mut self, token: u32) -> bool {
        let mut text = self.text_with(token);
        let found = self.is_in(&text);
        let longest = self.texts.iter().map(Vec::len).max().unwrap_or(1);
        self.tail = text.split_off(text.len().saturating_sub(longest - 1));
        found
    }

    /// Whether a breaker ends in the text, behind the tail.
    fn is_in(&self, text: &[u8]) -> bool {
        let is_found = |breaker: &Vec<u8>| {
            let from = (self.tail.len() + 1).saturating_sub(breaker.len());
            let mut windows = text[from..].windows(breaker.len());
            windows.any(|window| window == breaker.as_slice())
        };
        self.texts.iter().any(is_found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prefixes_are_as_long_as_comparing_says(
            tokens in prop::collection::vec(0_u32..3, 0..60),
        ) {
            let expected: Vec<usize> = (0..tokens.len())
                .map(|place| {
                    if place == 0 {
                        return 0;
                    }
                    let pairs = tokens.iter().zip(&tokens[place..]);
                    pairs.take_while(|(a, b)| a == b).count()
                })
                .collect();
            prop_assert_eq!(common_prefixes(&tokens), expected);
        }
    }
}
