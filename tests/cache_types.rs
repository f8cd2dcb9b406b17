//! The types of the KV cache, on the demo model: what they lose, and that long contexts, over which
//! attention is cut into parts of 1024 positions, depend on nothing but the tokens.

use std::path::{Path, PathBuf};

use gristmill::{CacheType, Model, Session, SessionOptions};
use serde_json::Value;

const CACHE_TYPES: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Q8_0];

/// Positions read before tokens come one at a time: these cross the end of the second part.
const PROMPT: usize = 2040;
const STEPS: usize = 16;

fn demo(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/demo-model")
        .join(file)
}

fn session(cache_type: CacheType, threads: usize) -> Session {
    let model = Model::builder()
        .threads(threads)
        .open(demo("demo.gguf"))
        .expect("the demo model opens");
    let options = SessionOptions::new()
        .cache_type(cache_type)
        .context_length(PROMPT + STEPS);
    model.session_with(&options).expect("a small cache")
}

/// Two stories that the model was not trained on.
fn stories() -> Vec<u32> {
    let text = std::fs::read_to_string(demo("golden.json")).expect("golden.json");
    let golden: Value = serde_json::from_str(&text).expect("JSON");
    serde_json::from_value(golden["perplexity"]["ids"].clone()).expect("ids")
}

/// -ln of the probability of each token but the first.
fn losses(session: &mut Session, ids: &[u32]) -> Vec<f64> {
    let mut losses = Vec::new();
    session
        .feed_each(ids, |place, logits| {
            if let Some(&next) = ids.get(place + 1) {
                let exp = |logit: f32| f64::from(logit - logits[next as usize]).exp();
                losses.push(logits.iter().map(|&logit| exp(logit)).sum::<f64>().ln());
            }
        })
        .expect("room");
    losses
}

/// The logits of `STEPS` tokens, one after the other, behind the prompt.
fn steps(session: &mut Session, ids: &[u32]) -> Vec<Vec<f32>> {
    session.feed(&ids[..PROMPT]).expect("room");
    let step = |id: &u32| {
        session.feed(&[*id]).expect("room");
        session.logits().to_vec()
    };
    ids[PROMPT..].iter().map(step).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

/// So many tokens that the context is full: stories, again and again.
fn long_text() -> Vec<u32> {
    stories().into_iter().cycle().take(PROMPT + STEPS).collect()
}

#[test]
fn fewer_bits_lose_next_to_nothing() {
    let ids = stories();
    let exact = losses(&mut session(CacheType::F32, 2), &ids);
    // Nats of a token at most, and of the mean.
    for (cache_type, one, mean) in [(CacheType::F16, 0.25, 5e-3), (CacheType::Q8_0, 0.25, 5e-3)] {
        let found = losses(&mut session(cache_type, 2), &ids);
        let differences: Vec<f64> = found.iter().zip(&exact).map(|(a, b)| a - b).collect();
        let most = differences
            .iter()
            .fold(0.0, |most: f64, d| most.max(d.abs()));
        let found = differences.iter().sum::<f64>() / differences.len() as f64;
        println!("{cache_type:?}: {most} at most, {found} in the mean");
        assert!(
            most > 0.0 && most <= one,
            "{cache_type:?}: a token is off by {most}"
        );
        assert!(
            found.abs() <= mean,
            "{cache_type:?}: the mean is off by {found}"
        );
    }
}

#[test]
fn beyond_one_part_of_attention_threads_do_not_change_a_bit() {
    let ids = long_text();
    for cache_type in CACHE_TYPES {
        let one = steps(&mut session(cache_type, 1), &ids);
        let three = steps(&mut session(cache_type, 3), &ids);
        assert!(one == three, "{cache_type:?}");
    }
}

#[test]
fn parts_of_attention_are_merged_to_what_one_part_gives() {
    let ids = long_text();
    for cache_type in CACHE_TYPES {
        // Many tokens at a time are not cut into parts.
        let mut session = session(cache_type, 2);
        let mut whole = Vec::new();
        session.feed(&ids[..PROMPT - 112]).expect("room");
        session
            .feed_each(&ids[PROMPT - 112..], |_, logits| {
                whole.push(logits.to_vec());
            })
            .expect("room");
        session.clear();
        let parts = steps(&mut session, &ids);
        let pairs = parts.iter().zip(&whole[112..]);
        let most = pairs
            .map(|(parts, whole)| largest_difference(parts, whole))
            .fold(0.0, f32::max);
        println!("{cache_type:?}: {most}");
        assert!(most <= 0.1, "{cache_type:?}: a logit differs by {most}");
    }
}
