//! Embeddings: the values before the output matrix, which it turns into golden logits.

mod common;

use common::spec::Spec;
use gristmill::gguf::Gguf;
use gristmill::{CacheType, Model, Pooling, Session, SessionOptions};

fn session(spec: &Spec) -> Session {
    let gguf = Gguf::from_bytes(spec.gguf()).expect("a sound file");
    let model = Model::builder().threads(2).load(gguf).expect("a model");
    let options = SessionOptions::new().cache_type(CacheType::F32);
    model.session_with(&options).expect("a small cache")
}

/// The cosine of the angle between two vectors.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// The output matrix times a vector.
fn logits(spec: &Spec, vector: &[f32]) -> Vec<f32> {
    let (_, shape, output) = spec
        .data()
        .find(|(name, ..)| *name == "output.weight")
        .expect("an output matrix");
    let rows = output.chunks_exact(shape[0] as usize);
    let dot = |row: &[f32]| row.iter().zip(vector).map(|(a, b)| a * b).sum();
    rows.map(dot).collect()
}

#[test]
fn the_output_matrix_makes_golden_logits_of_embeddings() {
    let spec = Spec::golden("llama");
    let mut session = session(&spec);
    for (&row, golden) in spec.rows.iter().zip(&spec.logits) {
        let tokens = &spec.tokens[..=row];
        let vector = session.embed(tokens, Pooling::Last).expect("a vector");
        let squares: f32 = vector.iter().map(|value| value * value).sum();
        assert!((squares - 1.0).abs() < 1e-5, "length 1");
        let cosine = cosine(&logits(&spec, &vector), golden);
        assert!(cosine > 1.0 - 1e-8, "row {row}: {cosine}");
    }
    assert_eq!(session.position(), 0);
}

#[test]
fn vectors_of_tokens_are_pooled() {
    let spec = Spec::golden("qwen2");
    let mut session = session(&spec);
    let (tokens, same) = (&spec.tokens[..40], 1.0 - 1e-8);
    let mut embed = |tokens, pooling| session.embed(tokens, pooling).expect("a vector");
    let alone = embed(&tokens[..1], Pooling::Last);
    assert!(cosine(&embed(tokens, Pooling::First), &alone) > same);
    assert!(cosine(&embed(&tokens[..1], Pooling::Mean), &alone) > same);
    // The output matrix makes the mean of the logits of their mean.
    let mean = embed(tokens, Pooling::Mean);
    let mut sum = vec![0.0; session.model().vocab_size()];
    let add = |_, logits: &[f32]| sum.iter_mut().zip(logits).for_each(|(a, b)| *a += b);
    session.feed_each(tokens, add).expect("room");
    assert!(cosine(&logits(&spec, &mean), &sum) > same);
}

#[test]
fn nothing_has_no_vector() {
    let mut session = session(&Spec::golden("llama"));
    assert!(session.embed(&[], Pooling::Mean).is_err());
    assert!(session.embed(&[1000], Pooling::Mean).is_err());
}
