//! Prompt lookup: the text goes on as it did before (Saxena, "Prompt Lookup Decoding", 2023).

use super::planner::Draft;
use super::{Drafter, FeedControl};
use crate::Result;

/// Tokens that are compared at most.
const MOST_EQUAL: usize = 32;

/// Guesses what came behind the last place where the longest end of the text was before.
pub(super) struct PromptLookup;

impl Drafter for PromptLookup {
    fn draft(&mut self, tokens: &[u32], draft: &mut Draft<'_>, _: &FeedControl<'_>) -> Result<()> {
        let Some((next, equal)) = longest_match(tokens) else {
            return Ok(());
        };
        let mut guessed = Vec::new();
        for place in 0..draft.room() {
            // What reaches the end of the text goes on in what was guessed.
            let at = next + place;
            let token = tokens.get(at).copied();
            let token = token.unwrap_or_else(|| guessed[at - tokens.len()]);
            guessed.push(token);
            draft.push(token, probability(equal + place));
        }
        Ok(())
    }

    fn fork(&mut self) -> Result<Box<dyn Drafter>> {
        Ok(Box::new(PromptLookup))
    }
}

/// How sure a guess is behind so many equal tokens, before it is known how often it comes true.
fn probability(equal: usize) -> f32 {
    1.0 - 0.7 / equal as f32
}

/// The place behind the longest end of `tokens` that is in them before, the last of several, and its
/// length.
fn longest_match(tokens: &[u32]) -> Option<(usize, usize)> {
    let (&last, before) = tokens.split_last()?;
    let mut best = None;
    let mut longest = 0;
    for (place, _) in before
        .iter()
        .enumerate()
        .rev()
        .filter(|&(_, &token)| token == last)
    {
        let ends = before[..place].iter().rev().zip(before.iter().rev());
        let equal = 1 + ends
            .take(MOST_EQUAL - 1)
            .take_while(|(a, b)| a == b)
            .count();
        if equal > longest {
            (best, longest) = (Some((place + 1, equal)), equal);
        }
        if longest == MOST_EQUAL {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_match_counts_and_of_equal_ones_the_last() {
        assert_eq!(longest_match(&[]), None);
        assert_eq!(longest_match(&[1]), None);
        assert_eq!(longest_match(&[1, 2, 3]), None);
        assert_eq!(longest_match(&[3, 1, 2, 3]), Some((1, 1)));
        assert_eq!(longest_match(&[2, 3, 9, 3, 8, 2, 3]), Some((2, 2)));
        assert_eq!(longest_match(&[2, 3, 9, 2, 3, 8, 2, 3]), Some((5, 2)));
        assert_eq!(longest_match(&[7; 5]), Some((4, 4)));
        assert_eq!(longest_match(&[7; 50]), Some((49, MOST_EQUAL)));
    }
}
