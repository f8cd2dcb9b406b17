//! Embeddings: the values before the output matrix, which it turns into golden logits; and the vectors of
//! encoders, against those of llama.cpp: `tests/golden/encoders/*.json`.

mod common;

use common::gguf_writer::Kv;
use common::spec::{self, Spec};
use gristmill::gguf::Gguf;
use gristmill::{CacheType, Error, Level, Model, Pooling, Session, SessionOptions};

fn session(spec: &Spec) -> Session {
    session_at(spec, Level::detect(), 2)
}

fn session_at(spec: &Spec, level: Level, threads: usize) -> Session {
    let gguf = Gguf::from_bytes(spec.gguf()).expect("a sound file");
    let builder = Model::builder().level(level).threads(threads);
    let model = builder
        .load(gguf)
        .unwrap_or_else(|error| panic!("{}: {error}", spec.name));
    let options = SessionOptions::new()
        .context_length(spec.n_ctx)
        .cache_type(CacheType::F32);
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

/// Vectors have the length 1 here, logits some 8 times that: so this is the tolerance of the others.
const TOLERANCE: f32 = 2e-5;

/// llama.cpp rounds GELU to 16 bits.
const GELU_TOLERANCE: f32 = 3e-4;

fn pooling(name: &str) -> Pooling {
    match name {
        "mean" => Pooling::Mean,
        "first" => Pooling::First,
        "last" => Pooling::Last,
        other => panic!("unknown pooling {other}"),
    }
}

/// The largest difference of a vector of length 1 and the direction of another.
fn difference(vector: &[f32], golden: &[f32]) -> f32 {
    assert_eq!(vector.len(), golden.len());
    let length = golden.iter().map(|value| value * value).sum::<f32>().sqrt();
    let pairs = vector.iter().zip(golden);
    let differences = pairs.map(|(a, b)| (a - b / length).abs());
    differences.fold(0.0, f32::max)
}

#[test]
fn encoders_give_the_golden_vectors_at_every_level() {
    let specs = spec::encoders();
    assert!(specs.len() >= 4);
    for spec in &specs {
        for level in Level::available() {
            let [mut session, mut alone] = [2, 1].map(|threads| session_at(spec, level, threads));
            assert!(session.model().is_encoder());
            for golden in &spec.embeddings {
                let (tokens, pooling) = (&spec.tokens[..golden.tokens], pooling(&golden.pooling));
                let vector = session.embed(tokens, pooling).expect("a vector");
                let exact = golden.vector_gelu_f32.as_ref();
                let what = format!("{} {level} {pooling:?} of {}", spec.name, tokens.len());
                let off = difference(&vector, exact.unwrap_or(&golden.vector));
                assert!(off <= TOLERANCE, "{what}: {off}");
                let off = difference(&vector, &golden.vector);
                assert!(off <= GELU_TOLERANCE, "{what}: {off} from llama.cpp");
                let same = alone.embed(tokens, pooling).expect("a vector");
                assert_eq!(vector, same, "{what}: one thread");
            }
        }
    }
}

#[test]
fn an_encoder_pools_as_its_file_says_and_generates_nothing() {
    let poolings = [("bert", Pooling::First), ("nomic-bert", Pooling::Mean)];
    let specs = spec::encoders();
    for (name, pooling) in poolings {
        let spec = specs.iter().find(|spec| spec.name == name).expect(name);
        let mut session = session(spec);
        assert_eq!(session.model().pooling(), pooling);
        for result in [
            session.feed(&spec.tokens),
            session.feed_each(&spec.tokens, |_, _| panic!("logits")),
        ] {
            let error = result.expect_err("no next token");
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains("Session::embed"), "{error}");
        }
        assert_eq!(session.position(), 0);
        let too_long = vec![1; spec.n_ctx + 1];
        let error = session.embed(&too_long, pooling).expect_err("no room");
        assert!(matches!(error, Error::ContextFull { .. }), "{error}");
    }
}

/// Attention in parts of 1024 positions must see the text's end from its beginning.
#[test]
fn a_long_text_is_read_as_a_whole() {
    let specs = spec::encoders();
    let spec = specs.iter().find(|spec| spec.name == "qwen2-encoder");
    let spec = spec.expect("a specification");
    let gguf = Gguf::from_bytes(spec.gguf_with(|key, value| {
        Some(match key {
            "qwen2.context_length" => Kv::U32(4096),
            _ => value,
        })
    }));
    let model = Model::builder().load(gguf.expect("a sound file"));
    let model = model.expect("a model");
    let options = SessionOptions::new().cache_type(CacheType::F32);
    let mut session = model.session_with(&options).expect("a cache");
    let mut tokens: Vec<u32> = (0..2500).map(|index| index * 7919 % 128).collect();
    let mut embed = |tokens: &[u32]| session.embed(tokens, Pooling::First).expect("a vector");
    let before = embed(&tokens);
    assert!(difference(&before, &embed(&tokens)) == 0.0);
    tokens[2400..].fill(5);
    assert!(difference(&before, &embed(&tokens)) > 1e-4);
}

#[test]
fn masks_that_an_architecture_does_not_have_are_refused() {
    let causal_bert = &spec::encoders()[0];
    assert_eq!(causal_bert.arch, "bert");
    let bytes = causal_bert.gguf_with(|key, value| {
        Some(match key {
            "bert.attention.causal" => Kv::Bool(true),
            _ => value,
        })
    });
    let gguf = Gguf::from_bytes(bytes).expect("a sound file");
    let error = Model::builder().load(gguf).expect_err("no logits");
    assert!(error.to_string().contains("attention.causal"), "{error}");
}
