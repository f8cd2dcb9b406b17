//! The demo model against an independent reading of it in numpy, which rounds no activation:
//! `examples/demo-model/golden.json`.

use std::path::{Path, PathBuf};

use gristmill::tokenizer::EncodeOptions;
use gristmill::{CacheType, FinishReason, GenerateOptions, Model, Session, SessionOptions};
use serde::Deserialize;

/// Activations are rounded to int8 here and not in the reference; measured: up to 0.112.
const LOGIT_TOLERANCE: f32 = 0.25;
/// Nats per token; measured: 0.0009.
const LOSS_TOLERANCE: f64 = 0.005;

#[derive(Deserialize)]
struct Golden {
    bos_id: u32,
    eos_id: u32,
    tokenizer: Vec<Text>,
    prompts: Vec<Prompt>,
    perplexity: Perplexity,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Prompt {
    prompt: String,
    ids: Vec<u32>,
    top: Vec<(u32, f32)>,
    greedy: Vec<u32>,
    margins: Vec<f32>,
}

#[derive(Deserialize)]
struct Perplexity {
    ids: Vec<u32>,
    mean_loss: f64,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo-model")
}

fn golden() -> Golden {
    let text = std::fs::read_to_string(folder().join("golden.json")).expect("golden.json");
    serde_json::from_str(&text).expect("golden.json is what reference.py writes")
}

fn model(threads: usize) -> Model {
    Model::builder()
        .threads(threads)
        .open(folder().join("demo.gguf"))
        .expect("the demo model opens")
}

fn session(model: &Model) -> Session {
    let options = SessionOptions::new().cache_type(CacheType::F32);
    model.session_with(&options).expect("a small cache")
}

fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    best.expect("a vocabulary") as u32
}

#[test]
fn texts_become_the_golden_ids_and_texts_again() {
    let (golden, model) = (golden(), model(1));
    let tokenizer = model.tokenizer();
    assert_eq!(tokenizer.bos(), Some(golden.bos_id));
    assert_eq!(tokenizer.eos(), Some(golden.eos_id));
    let plain = EncodeOptions {
        add_special: false,
        parse_special: false,
    };
    for case in &golden.tokenizer {
        let ids = tokenizer.encode(&case.text, plain).expect("a short text");
        assert_eq!(ids, case.ids, "{:?}", case.text);
        let text = tokenizer
            .decode(&ids, Default::default())
            .expect("its own ids");
        assert_eq!(text, case.text);
    }
    for case in &golden.prompts {
        let ids = tokenizer.encode(&case.prompt, EncodeOptions::default());
        assert_eq!(ids.expect("a short text"), case.ids, "{:?}", case.prompt);
    }
}

#[test]
fn logits_after_a_prompt_are_near_the_golden_ones() {
    let model = model(2);
    for case in &golden().prompts {
        let mut session = session(&model);
        session.feed(&case.ids).expect("room");
        for &(id, golden) in &case.top {
            let error = (session.logits()[id as usize] - golden).abs();
            let what = &case.prompt;
            assert!(
                error <= LOGIT_TOLERANCE,
                "{what:?}: logit {id} is off by {error}"
            );
        }
    }
}

#[test]
fn greedy_tokens_are_the_golden_ones_where_the_margin_decides() {
    let model = model(2);
    for case in &golden().prompts {
        let mut session = session(&model);
        session.feed(&case.ids).expect("room");
        for (place, (&id, &margin)) in case.greedy.iter().zip(&case.margins).enumerate() {
            if margin > 2.0 * LOGIT_TOLERANCE {
                let what = &case.prompt;
                assert_eq!(argmax(session.logits()), id, "{what:?}: token {place}");
            }
            session.feed(&[id]).expect("room");
        }
    }
}

#[test]
fn the_mean_loss_over_two_stories_is_the_golden_one() {
    let model = model(2);
    let golden = golden().perplexity;
    let mut total = 0.0;
    session(&model)
        .feed_each(&golden.ids, |place, logits| {
            if let Some(&next) = golden.ids.get(place + 1) {
                let best = logits.iter().copied().fold(f32::MIN, f32::max) as f64;
                let sum: f64 = logits.iter().map(|&l| (l as f64 - best).exp()).sum();
                total += sum.ln() + best - logits[next as usize] as f64;
            }
        })
        .expect("room");
    let loss = total / (golden.ids.len() - 1) as f64;
    let error = (loss - golden.mean_loss).abs();
    assert!(error <= LOSS_TOLERANCE, "{loss} for {}", golden.mean_loss);
}

#[test]
fn a_story_is_told_to_its_end_with_any_number_of_threads() {
    let golden = golden();
    let options = GenerateOptions::new().max_tokens(400);
    let told = [1, 2].map(|threads| {
        let completion = model(threads).generate("Once upon a time", &options);
        completion.expect("a story")
    });
    assert_eq!(told[0].text, told[1].text);
    assert_eq!(
        told[0].finish_reason,
        FinishReason::EndOfGeneration(golden.eos_id)
    );
    assert!(told[0].text.ends_with(['.', '"']), "{}", told[0].text);
}
