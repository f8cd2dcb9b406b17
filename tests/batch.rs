//! Several sessions in one pass give what each gives alone.

mod common;

use common::spec::{self, Spec};
use gristmill::gguf::Gguf;
use gristmill::{CacheType, Error, Level, Model, Session, SessionOptions};

/// Between golden logits and ours it is 2e-4; here, only the order of sums differs.
const TOLERANCE: f32 = 2e-4;

fn model(spec: &Spec) -> Model {
    let gguf = Gguf::from_bytes(spec.gguf()).expect("a sound file");
    Model::builder().threads(2).load(gguf).expect("a model")
}

fn session(model: &Model, tokens: &[u32], context_length: usize) -> Session {
    let options = SessionOptions::new()
        .context_length(context_length)
        .cache_type(CacheType::F32);
    let mut session = model.session_with(&options).expect("a small cache");
    session.feed(tokens).expect("room");
    session
}

#[test]
fn sessions_together_give_what_each_gives_alone() {
    for spec in spec::all() {
        let model = model(&spec);
        // At different positions, so that parts and windows differ.
        let starts = [0, 1, 7, 20, 30];
        let open = || starts.map(|start| session(&model, &spec.tokens[..start], 64));
        let (mut alone, mut together) = (open(), open());
        let mut batch = model.batch();
        for step in 0..4 {
            let tokens = starts.map(|start| spec.tokens[start + step]);
            for (session, token) in alone.iter_mut().zip(tokens) {
                session.feed(&[token]).expect("room");
            }
            let mut entries: Vec<_> = together.iter_mut().zip(tokens).collect();
            batch.step(&mut entries).expect("room");
            for (alone, together) in alone.iter().zip(&together) {
                assert_eq!(alone.position(), together.position());
                let pairs = alone.logits().iter().zip(together.logits());
                let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(
                    error <= TOLERANCE,
                    "{}: step {step} differs by {error}",
                    spec.name
                );
            }
        }
    }
}

#[test]
fn what_does_not_fit_changes_no_session() {
    let spec = Spec::golden("llama");
    let (model, other) = (model(&spec), model(&spec));
    let mut batch = model.batch();
    batch.step(&mut []).expect("nothing to do");
    let mut good = session(&model, &[1, 2], 8);
    let mut full = session(&model, &[1, 2, 3], 3);
    let mut foreign = session(&other, &[1], 8);
    let error = batch.step(&mut [(&mut good, 1), (&mut full, 1)]);
    assert!(matches!(error, Err(Error::ContextFull { .. })), "{error:?}");
    let error = batch.step(&mut [(&mut good, 1), (&mut foreign, 1)]);
    assert!(error.is_err_and(|error| error.to_string().contains("of another model")));
    let error = batch.step(&mut [(&mut good, 128)]);
    assert!(error.is_err_and(|error| error.to_string().contains("ids below 128")));
    assert_eq!((good.position(), full.position()), (2, 3));
}

/// A pass of a few tokens gives each the bits that it gets alone: at the levels that multiply them one by
/// one with each row, and wherever a context is cut into parts.
#[test]
fn a_few_tokens_together_give_the_bits_of_one_after_the_other() {
    for spec in spec::all() {
        for level in Level::available() {
            let few = gristmill_kernels::most_alike(level);
            let gguf = Gguf::from_bytes(spec.gguf()).expect("a sound file");
            let model = Model::builder().level(level).load(gguf).expect("a model");
            let deep = spec.name == "llama" || spec.name == "llama-gqa-tied";
            for (&cache_type, depth) in
                CacheType::ALL
                    .iter()
                    .zip([3, if deep { 1018 } else { 5 }, 7])
            {
                let options = SessionOptions::new()
                    .context_length(depth + few)
                    .cache_type(cache_type);
                let mut session = model.session_with(&options).expect("a small cache");
                let tokens: Vec<u32> = spec
                    .tokens
                    .iter()
                    .copied()
                    .cycle()
                    .take(depth + few)
                    .collect();
                session.feed(&tokens[..depth]).expect("room");
                let mut together = session.fork().expect("memory");
                let mut alone = Vec::new();
                for token in &tokens[depth..] {
                    session.feed(&[*token]).expect("room");
                    alone.push(session.logits().to_vec());
                }
                together
                    .feed_each(&tokens[depth..], |place, logits| {
                        let what = format!("{} {level} {cache_type} {place}", spec.name);
                        assert!(logits == alone[place], "{what}");
                    })
                    .expect("room");
            }
        }
    }
}
