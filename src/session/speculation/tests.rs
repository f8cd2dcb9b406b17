//! Drafters that guess badly, or well, with the demo model.

use std::time::Duration;

use super::*;
use crate::{GenerateOptions, SessionOptions};

type Rubbish = fn(&[u32], usize) -> Vec<u32>;
type Guess = std::sync::Arc<dyn Fn(&[u32], usize) -> Vec<u32> + Send + Sync>;

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
        Ok(Box::new(Hostile(self.0.clone())))
    }
}

fn session() -> Session {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    let model = Model::builder().threads(1).open(path).expect("a model");
    let options = SessionOptions::new().context_length(150);
    model.session_with(&options).expect("a session")
}

#[test]
fn rubbish_changes_nothing() {
    let options = GenerateOptions::new().max_tokens(100);
    let mut plain = session();
    let expected = plain.generate("Once upon a time", &options).unwrap();
    let expected = expected.finish().unwrap();
    let rubbish: [Rubbish; 5] = [
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
        session.speculator = Some(Speculator::with(
            Box::new(Hostile(std::sync::Arc::new(guess))),
            MOST_TOKENS,
        ));
        let found = session.generate("Once upon a time", &options).unwrap();
        let found = found.finish().unwrap();
        assert_eq!(
            (&found.tokens, &found.text),
            (&expected.tokens, &expected.text),
            "{index}"
        );
        assert_eq!(session.tokens(), plain.tokens(), "{index}");
    }
}

#[test]
fn guesses_that_fail_are_soon_not_evaluated_any_more() {
    let mut planner = Planner::default();
    let mut tokens = vec![1];
    let mut evaluated = Vec::new();
    for _ in 0..40 {
        let plan = planner.plan(&tokens, 15, |_, draft| {
            while draft.push(7, 1.0) {}
            Ok(())
        });
        let guesses = plan.unwrap().len();
        evaluated.push(guesses);
        // Another token takes 0.4 of a pass.
        let duration = Duration::from_micros(10_000 + 4_000 * guesses as u64);
        planner.note_pass(1 + guesses, duration);
        tokens.push(1);
    }
    assert!(evaluated[0] > 0, "{evaluated:?}");
    assert!(
        evaluated[20..].iter().all(|&guesses| guesses == 0),
        "{evaluated:?}"
    );
}

/// A drafter that knows the text is asked for as many guesses as fit, up to the end of the context; and
/// what it guessed is dropped with what it followed.
#[test]
fn right_guesses_end_with_the_context_and_with_what_they_followed() {
    let prompt = [1535, 300, 301, 302, 303];
    let ends = GenerateOptions::new()
        .max_tokens(usize::MAX)
        .ignore_end_of_generation(true);
    let mut plain = session();
    let text = plain
        .generate_from(&prompt, &ends)
        .unwrap()
        .finish()
        .unwrap();
    let all: std::sync::Arc<Vec<u32>> = std::sync::Arc::new([&prompt[..], &text.tokens].concat());
    let knows = |all: &std::sync::Arc<Vec<u32>>| {
        let all = all.clone();
        let guess = move |tokens: &[u32], room: usize| {
            let end = all.len().min(tokens.len() + room);
            all[tokens.len().min(end)..end].to_vec()
        };
        Some(Speculator::with(
            Box::new(Hostile(std::sync::Arc::new(guess))),
            15,
        ))
    };
    let model = plain.model().clone();
    for positions in 6..60 {
        let options = SessionOptions::new().context_length(positions);
        let mut session = model.session_with(&options).unwrap();
        session.speculator = knows(&all);
        let found = session
            .generate_from(&prompt, &ends)
            .unwrap()
            .finish()
            .unwrap();
        assert_eq!(
            found.tokens[..],
            all[prompt.len()..=positions],
            "{positions}"
        );
        assert_eq!(session.tokens(), &all[..positions], "{positions}");
    }
    for change in 0..4 {
        let mut session = session();
        session.speculator = knows(&all);
        let mut generation = session.generate_from(&prompt, &ends).unwrap();
        generation
            .by_ref()
            .take(9)
            .for_each(|piece| assert!(piece.is_ok()));
        let speculator = session.speculator.as_ref().unwrap();
        let guessed = speculator.ahead[speculator.come];
        match change {
            0 => session.feed(&[5]).unwrap(),
            1 => session.truncate(3).unwrap(),
            2 => {
                session.clear();
                session.feed(&[8]).unwrap();
            }
            _ => {
                let mut batch = session.model().batch();
                batch.step(&mut [(&mut session, 6)]).unwrap();
            }
        }
        let mut other = session.model().session().unwrap();
        other.feed(session.tokens()).unwrap();
        session.feed_next(guessed, 0, &FeedControl::new()).unwrap();
        other.feed(&[guessed]).unwrap();
        let pairs = session.logits().iter().zip(other.logits());
        let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 0.5, "{change}: logits differ by {error}");
    }
}
