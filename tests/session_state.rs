//! Sessions as files, and copies of sessions: they go on as if nothing had happened.

mod common;

use std::path::Path;

use common::spec::{self, Spec};
use gristmill::gguf::Gguf;
use gristmill::{CacheType, Model, Session, SessionOptions};

fn model(spec: &Spec) -> Model {
    let gguf = Gguf::from_bytes(spec.gguf()).expect("a sound file");
    Model::builder().threads(2).load(gguf).expect("a model")
}

fn session(model: &Model, cache_type: CacheType, tokens: &[u32]) -> Session {
    let options = SessionOptions::new()
        .context_length(64)
        .cache_type(cache_type);
    let mut session = model.session_with(&options).expect("a small cache");
    session.feed(tokens).expect("room");
    session
}

#[test]
fn copies_and_files_go_on_to_the_same_logits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    for spec in spec::all() {
        let model = model(&spec);
        let (before, after) = spec.tokens.split_at(21);
        for &cache_type in CacheType::ALL {
            let mut session = session(&model, cache_type, before);
            session.save(&path).expect("a file");
            let mut copies = [
                session.fork().expect("memory"),
                model.load_session(&path).expect("a sound file"),
            ];
            for copy in &mut copies {
                assert_eq!(copy.position(), before.len());
                assert_eq!(copy.logits(), session.logits());
            }
            session.feed(after).expect("room");
            for mut copy in copies {
                copy.feed(after).expect("room");
                assert_eq!(
                    copy.logits(),
                    session.logits(),
                    "{} {cache_type}",
                    spec.name
                );
            }
        }
    }
}

#[test]
fn an_empty_session_is_saved_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let model = model(&Spec::golden("llama"));
    let mut empty = model.session().expect("a session");
    empty.save(&path).expect("a file");
    let loaded = model.load_session(&path).expect("a sound file");
    assert_eq!((loaded.position(), loaded.logits().len()), (0, 0));
    assert_eq!(loaded.context_length(), empty.context_length());
}

fn load_error(model: &Model, path: &Path, bytes: &[u8]) -> String {
    std::fs::write(path, bytes).unwrap();
    model
        .load_session(path)
        .expect_err("a wrong file")
        .to_string()
}

#[test]
fn files_that_are_wrong_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let spec = Spec::golden("llama");
    let model = model(&spec);
    let mut saved = session(&model, CacheType::F16, &spec.tokens[..5]);
    saved.save(&path).expect("a file");
    let good = std::fs::read(&path).unwrap();
    // Every bit counts; and so does the end.
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1 << (place % 8);
        load_error(&model, &path, &bad);
    }
    for length in (0..good.len()).step_by(7) {
        let error = load_error(&model, &path, &good[..length]);
        assert!(error.contains("the end of the file"), "{error}");
    }
    let longer = [&good[..], &[0]].concat();
    assert!(load_error(&model, &path, &longer).contains("more bytes"));
    let other = self::model(&Spec::golden("llama-gqa-tied"));
    assert!(load_error(&other, &path, &good).contains("a session of this model"));
    let missing = other.load_session(folder.path().join("none"));
    assert!(matches!(missing, Err(gristmill::Error::Io { .. })));
}
