//! Logits of tiny random models against those of llama.cpp: `tests/golden/*.json`.

mod common;

use common::spec::{self, Spec};
use gristmill::gguf::Gguf;
use gristmill::{CacheType, Level, Model, Session, SessionOptions};

/// The oracle's own noise is up to 4e-5, and an independent float64 evaluation differs by 3e-5. Of GELU
/// this holds for the logits that the oracle computed without its table of f16.
const TOLERANCE: f32 = 2e-4;

fn session(spec: &Spec, level: Level, threads: usize) -> Session {
    open(&spec.name, spec.gguf(), spec.n_ctx, level, threads)
}

fn open(name: &str, file: Vec<u8>, n_ctx: usize, level: Level, threads: usize) -> Session {
    let gguf = Gguf::from_bytes(file).expect("a sound file");
    let model = Model::builder()
        .level(level)
        .threads(threads)
        .load(gguf)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let options = SessionOptions::new()
        .context_length(n_ctx)
        .cache_type(CacheType::F32);
    model.session_with(&options).expect("a small cache")
}

/// The logits after every token, fed in pieces of the given lengths; the last one repeats.
fn logits(session: &mut Session, tokens: &[u32], pieces: &[usize]) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    let mut rest = tokens;
    let mut pieces = pieces.iter().copied();
    let mut piece = 1;
    while !rest.is_empty() {
        piece = pieces.next().unwrap_or(piece).min(rest.len());
        let (now, later) = rest.split_at(piece);
        session
            .feed_each(now, |_, logits| all.push(logits.to_vec()))
            .expect("room");
        rest = later;
    }
    all
}

fn check(spec: &Spec, found: &[Vec<f32>], what: &str) {
    let golden = spec.logits_gelu_f32.as_ref().unwrap_or(&spec.logits);
    for (&row, golden) in spec.rows.iter().zip(golden) {
        assert_eq!(found[row].len(), golden.len(), "{}: vocabulary", spec.name);
        let error = found[row]
            .iter()
            .zip(golden)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(
            error <= TOLERANCE,
            "{} {what}: row {row} differs by {error}",
            spec.name
        );
    }
}

#[test]
fn logits_equal_the_golden_ones_at_every_level_whole_and_split() {
    for spec in spec::all() {
        for level in Level::available() {
            for threads in [1, 2] {
                let mut session = session(&spec, level, threads);
                for pieces in [&[usize::MAX][..], &[17, 1], &[1], &[9]] {
                    session.clear();
                    let found = logits(&mut session, &spec.tokens, pieces);
                    check(
                        &spec,
                        &found,
                        &format!("{level}, {threads} threads, pieces {pieces:?}"),
                    );
                }
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for spec in spec::all() {
        for level in Level::available() {
            let one = logits(&mut session(&spec, level, 1), &spec.tokens, &[20, 1]);
            for threads in [2, 3] {
                let found = logits(&mut session(&spec, level, threads), &spec.tokens, &[20, 1]);
                assert_eq!(one, found, "{} {level}, {threads} threads", spec.name);
            }
        }
    }
}

/// Files of NVFP4 have a number for each matrix, or for each expert's, that its products are multiplied by.
#[test]
fn matrices_of_half_the_values_with_a_scale_of_two_give_the_same() {
    const NO_MATRICES: [&str; 4] = ["token_embd", "position_embd", "norm", "conv"];
    for spec in spec::all() {
        let mut writer = spec.metadata(|_, value| Some(value));
        for (name, shape, mut data) in spec.data() {
            let matrix = name.strip_suffix(".weight").filter(|matrix| {
                shape.len() > 1 && !NO_MATRICES.iter().any(|other| matrix.contains(other))
                    || matrix.contains("shortconv.in")
            });
            if let Some(matrix) = matrix {
                data.iter_mut().for_each(|value| *value /= 2.0);
                let count = shape.get(2).copied().unwrap_or(1);
                let twos = vec![2.0; count as usize];
                writer = writer.f32_tensor(&format!("{matrix}.scale"), &[count], &twos);
            }
            writer = writer.f32_tensor(name, shape, &data);
        }
        let level = Level::detect();
        let scaled = open(&spec.name, writer.build(), spec.n_ctx, level, 2);
        let found = [session(&spec, level, 2), scaled]
            .map(|mut session| logits(&mut session, &spec.tokens, &[20, 1]));
        assert_eq!(found[0], found[1], "{}", spec.name);
    }
}

#[test]
fn feeding_at_once_leaves_the_logits_of_the_last_token() {
    let spec = Spec::golden("qwen2");
    let mut session = session(&spec, Level::detect(), 2);
    session.feed(&spec.tokens).expect("room");
    let golden = spec.logits.last().expect("the last row");
    let error = session
        .logits()
        .iter()
        .zip(golden)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(error <= TOLERANCE, "differs by {error}");
    assert_eq!(session.position(), spec.tokens.len());
}

#[test]
fn a_session_goes_back_and_on_as_if_nothing_had_been_there() {
    let spec = Spec::golden("llama");
    let mut session = session(&spec, Level::detect(), 2);
    session.feed(&spec.tokens[..20]).expect("room");
    session.feed(&[1, 2, 3]).expect("room");
    session.truncate(20).expect("a position before");
    assert!(session.logits().is_empty());
    session.feed(&spec.tokens[20..]).expect("room");
    let golden = spec.logits.last().expect("the last row");
    let error = session
        .logits()
        .iter()
        .zip(golden)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(error <= TOLERANCE, "differs by {error}");
}

#[test]
fn a_cache_of_f16_is_near() {
    let spec = Spec::golden("llama-gqa-tied");
    let gguf = Gguf::from_bytes(spec.gguf()).expect("a sound file");
    let model = Model::builder().load(gguf).expect("a model");
    let mut session = model.session().expect("a session");
    let found = logits(&mut session, &spec.tokens, &[usize::MAX]);
    let last = found.last().expect("tokens");
    let golden = spec.logits.last().expect("the last row");
    let error = last
        .iter()
        .zip(golden)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(error > 0.0 && error < 2e-2, "differs by {error}");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_happens() {
    let spec = Spec::golden("llama");
    let gguf = Gguf::from_bytes(spec.gguf()).expect("a sound file");
    let model = Model::builder().load(gguf).expect("a model");
    let mut session = model
        .session_with(&SessionOptions::new().context_length(10))
        .expect("a session");
    session.feed(&[1; 8]).expect("room");
    let full = session.feed(&[1; 3]).expect_err("no room");
    assert!(
        matches!(
            full,
            gristmill::Error::ContextFull {
                capacity: 10,
                needed: 11
            }
        ),
        "{full}"
    );
    let wrong = session.feed(&[128]).expect_err("no such token");
    assert!(
        wrong.to_string().contains("ids below 128, found 128"),
        "{wrong}"
    );
    assert_eq!(session.position(), 8);
    session.feed(&[1; 2]).expect("room");
    assert!(session.truncate(11).is_err());
}
