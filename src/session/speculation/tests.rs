//! Drafters that guess badly, or well, with the demo model.

use super::*;
use crate::{GenerateOptions, SessionOptions};

type Guess = fn(&[u32], usize) -> Vec<u32>;

/// Guesses whatever, and is sure of it.
struct Hostile(Guess);

impl Drafter for Hostile {
    fn draft(&mut self, tokens: &[u32], draft: &mut Draft<'_>, _: &FeedControl<'_>) -> Result<()> {
        for token in (self.0)(tokens, draft.room()) {
            draft.push(token, 1.0);
        }
        Ok(())
    }

    fn fork(&mut self) -> Result<Box<dyn Drafter>> {
        Ok(Box::new(Hostile(self.0)))
    }
}

fn session() -> Session {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    let model = Model::builder().threads(1).open(path).expect("a model");
    let options = SessionOptions::new().context_length(150);
    model.session_with(&options).expect("a session")
}

#[test]
fn rubbish_changes_nothing_and_is_soon_not_evaluated_any_more() {
    let options = GenerateOptions::new().max_tokens(100);
    let mut plain = session();
    let expected = plain.generate("Once upon a time", &options).unwrap();
    let expected = expected.finish().unwrap();
    let rubbish: [Guess; 5] = [
        |_, room| vec![0; room],
        |_, room| vec![u32::MAX; room],
        |tokens, room| vec![tokens[tokens.len() - 1]; room],
        |tokens, room| {
            (0..room as u32)
                .map(|i| (i + 7 * tokens.len() as u32) % 1536)
                .collect()
        },
        |_, _| Vec::new(),
    ];
    for (index, guess) in rubbish.into_iter().enumerate() {
        let mut session = session();
        session.speculator = Some(Speculator::with(Box::new(Hostile(guess)), MOST_TOKENS));
        let found = session.generate("Once upon a time", &options).unwrap();
        let found = found.finish().unwrap();
        assert_eq!(
            (&found.tokens, &found.text),
            (&expected.tokens, &expected.text),
            "{index}"
        );
        assert_eq!(session.tokens(), plain.tokens(), "{index}");
        assert!(
            found.timings.drafted_tokens < 300,
            "{index}: {:?}",
            found.timings
        );
    }
}
