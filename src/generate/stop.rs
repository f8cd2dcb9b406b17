//! Finding stop strings in a text that comes in pieces.

use crate::{Error, Result};

/// Passes a text through up to the first stop string.
///
/// What could still become a stop string is held back, so no part of one is ever passed. The first
/// stop string is the one that is complete first, and of those that end at the same place the
/// longest; so the result does not depend on how the text is cut into pieces.
#[derive(Clone, Debug)]
pub(super) struct StopMatcher {
    stops: Vec<Stop>,
    /// The end of the text so far, as long as the longest beginning of a stop string that it is.
    held: String,
    found: bool,
}

impl StopMatcher {
    pub(super) fn new(stops: &[String]) -> Result<StopMatcher> {
        if stops.iter().any(String::is_empty) {
            return Err(Error::Argument {
                name: "stop",
                expected: "a text of at least one character".into(),
                found: "an empty one".into(),
            });
        }
        let stops = stops
            .iter()
            .map(|stop| Stop::new(stop.as_bytes()))
            .collect();
        Ok(StopMatcher {
            stops,
            held: String::new(),
            found: false,
        })
    }

    /// Takes the next piece of the text, and appends what can be passed to `passed`. Gives the
    /// index of the stop string that is complete now; after that nothing is passed any more.
    pub(super) fn push(&mut self, piece: &str, passed: &mut String) -> Option<usize> {
        if self.found {
            return None;
        }
        let before = self.held.len();
        self.held.push_str(piece);
        for (at, byte) in piece.bytes().enumerate() {
            for stop in &mut self.stops {
                stop.advance(byte);
            }
            if let Some(index) = self.complete() {
                let start = before + at + 1 - self.stops[index].text.len();
                passed.push_str(&self.held[..start]);
                self.held.clear();
                self.found = true;
                return Some(index);
            }
        }
        // Both are UTF-8, so a beginning of one begins at a character of the other.
        let partial = self
            .stops
            .iter()
            .map(|stop| stop.matched)
            .max()
            .unwrap_or(0);
        passed.extend(self.held.drain(..self.held.len() - partial));
        None
    }

    /// Passes what was held back: the text ends here.
    pub(super) fn finish(&mut self, passed: &mut String) {
        passed.push_str(&self.held);
        self.held.clear();
        for stop in &mut self.stops {
            stop.matched = 0;
        }
    }

    /// The longest stop string that is complete, the first of equal ones.
    fn complete(&self) -> Option<usize> {
        let complete = self
            .stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| stop.is_complete());
        complete
            .rev()
            .max_by_key(|(_, stop)| stop.text.len())
            .map(|(index, _)| index)
    }
}

/// One stop string, matched byte by byte as Knuth, Morris and Pratt do.
#[derive(Clone, Debug)]
struct Stop {
    text: Box<[u8]>,
    /// For each count of matched bytes, less one: how many match still if the next does not.
    fallback: Box<[usize]>,
    matched: usize,
}

impl Stop {
    fn new(text: &[u8]) -> Stop {
        let mut fallback = vec![0; text.len()];
        let mut matched = 0;
        for at in 1..text.len() {
            matched = next_matched(text, &fallback, matched, text[at]);
            fallback[at] = matched;
        }
        Stop {
            text: text.into(),
            fallback: fallback.into(),
            matched: 0,
        }
    }

    fn advance(&mut self, byte: u8) {
        self.matched = next_matched(&self.text, &self.fallback, self.matched, byte);
    }

    fn is_complete(&self) -> bool {
        self.matched == self.text.len()
    }
}

/// How many bytes of `text`, which is not complete yet, match when `byte` follows.
fn next_matched(text: &[u8], fallback: &[usize], mut matched: usize, byte: u8) -> usize {
    while matched > 0 && text[matched] != byte {
        matched = fallback[matched - 1];
    }
    if text[matched] == byte {
        matched + 1
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is passed after each piece and at the end, and the stop string found.
    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<usize>) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut matcher = StopMatcher::new(&stops).unwrap();
        let mut found = None;
        let mut outputs = Vec::new();
        for piece in pieces {
            let mut passed = String::new();
            found = found.or(matcher.push(piece, &mut passed));
            outputs.push(passed);
        }
        let mut rest = String::new();
        matcher.finish(&mut rest);
        outputs.push(rest);
        (outputs, found)
    }

    /// By definition: the least end, then the least start.
    fn naive(stops: &[String], text: &str) -> Option<(usize, usize)> {
        let found = |(index, stop): (usize, &String)| {
            text.find(stop.as_str())
                .map(|start| (start + stop.len(), start, index))
        };
        let first = stops.iter().enumerate().filter_map(found).min();
        first.map(|(_, start, index)| (start, index))
    }

    #[test]
    fn holds_back_what_may_become_a_stop_string() {
        let (passed, found) = run(&["\n\nQ:"], &["An", "swer.\n", "\n", "Q", ":x"]);
        assert_eq!(passed, ["An", "swer.", "", "", "", ""]);
        assert_eq!(found, Some(0));

        let (passed, found) = run(&["\n\nQ:"], &["one\n", "\nA", " b\n\n"]);
        assert_eq!(passed, ["one", "\n\nA", " b", "\n\n"]);
        assert_eq!(found, None);
    }

    #[test]
    fn finds_a_stop_string_inside_a_piece_and_passes_nothing_after_it() {
        let (passed, found) = run(&["stop"], &["go on stop here", "more"]);
        assert_eq!(passed, ["go on ", "", ""]);
        assert_eq!(found, Some(0));
    }

    #[test]
    fn falls_back_to_a_shorter_beginning() {
        let (passed, found) = run(&["aab"], &["a", "a", "a", "a", "b"]);
        assert_eq!(passed, ["", "", "a", "a", "", ""]);
        assert_eq!(found, Some(0));
    }

    #[test]
    fn cuts_at_characters_only() {
        // `€` and `₭` share their first two bytes.
        let (passed, found) = run(&["é€", "€x"], &["é", "₭", "é", "€"]);
        assert_eq!(passed, ["", "é₭", "", "", ""]);
        assert_eq!(found, Some(0));
    }

    #[test]
    fn the_first_complete_one_wins_and_of_those_the_longest() {
        assert_eq!(
            run(&["abcd", "bc"], &["xabcd"]),
            (vec!["xa".into(), String::new()], Some(1))
        );
        assert_eq!(
            run(&["c", "abc", "bc"], &["xabc"]),
            (vec!["x".into(), String::new()], Some(1))
        );
        assert_eq!(run(&["ab", "ab"], &["ab"]).1, Some(0));
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        let refused = StopMatcher::new(&["a".into(), String::new()]);
        assert!(matches!(refused, Err(Error::Argument { name: "stop", .. })));
    }

    /// Few characters, of one to four bytes, some sharing bytes.
    fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
        let character = prop::sample::select(vec!['a', 'b', 'é', 'è', '€', '₭', '😀', '😁']);
        prop::collection::vec(character, length).prop_map(|text| text.into_iter().collect())
    }

    proptest! {
        #[test]
        fn any_split_gives_what_a_search_in_the_whole_text_finds(
            stops in prop::collection::vec(text(1..5), 0..4),
            pieces in prop::collection::vec(text(0..4), 0..16),
        ) {
            let whole = pieces.concat();
            let expected = naive(&stops, &whole);
            let mut matcher = StopMatcher::new(&stops).unwrap();
            let mut passed = String::new();
            let mut found = None;
            let mut seen = String::new();
            for piece in &pieces {
                found = found.or(matcher.push(piece, &mut passed));
                seen.push_str(piece);
                if found.is_none() {
                    // Exactly what could become a stop string is held back.
                    let could = |at: &usize| stops.iter().any(|s| s.starts_with(&seen[*at..]));
                    let first = seen.char_indices().map(|(at, _)| at).find(could);
                    prop_assert_eq!(passed.len(), first.unwrap_or(seen.len()));
                }
            }
            matcher.finish(&mut passed);
            prop_assert_eq!(found, expected.map(|(_, index)| index));
            prop_assert_eq!(&passed, &whole[..expected.map_or(whole.len(), |(start, _)| start)]);
        }
    }
}
