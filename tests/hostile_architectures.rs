//! Metadata that does not fit the tensors, for every architecture: an error or logits, never a panic.

mod common;

use common::gguf_writer::Kv;
use common::spec;
use gristmill::gguf::Gguf;
use gristmill::{Model, SessionOptions};

/// Numbers that a size must not be, or could be by mistake.
const NUMBERS: [u32; 9] = [0, 1, 2, 3, 5, 7, 1000, 1 << 20, u32::MAX];
const FLOATS: [f32; 6] = [0.0, -1.0, 1e-30, 1e30, f32::INFINITY, f32::NAN];

/// Opens a file and evaluates a few tokens, in a small context.
fn try_model(bytes: Vec<u8>, tokens: &[u32]) {
    let Ok(gguf) = Gguf::from_bytes(bytes) else {
        return;
    };
    let Ok(model) = Model::builder().threads(1).load(gguf) else {
        return;
    };
    let options = SessionOptions::new().context_length(8);
    let Ok(mut session) = model.session_with(&options) else {
        return;
    };
    // More tokens than a changed vocabulary has are an error, too.
    if model.is_encoder() {
        let _ = session.embed(&tokens[..3], model.pooling());
    }
    for piece in [&tokens[..3], &tokens[3..4]] {
        let _ = session.feed(piece);
    }
}

#[test]
fn no_value_of_any_key_panics() {
    for spec in spec::all().into_iter().chain(spec::encoders()) {
        let tokens: Vec<u32> = spec.tokens.iter().map(|token| token % 8).collect();
        let with = |key: &str, value: Option<Kv>| {
            let bytes = spec.gguf_with(|name, old| {
                if name == key {
                    value.clone()
                } else {
                    Some(old)
                }
            });
            try_model(bytes, &tokens);
        };
        for (key, kind, _) in &spec.kv {
            with(key, None);
            match kind.as_str() {
                "u32" => NUMBERS
                    .iter()
                    .for_each(|&number| with(key, Some(Kv::U32(number)))),
                "f32" => FLOATS
                    .iter()
                    .for_each(|&number| with(key, Some(Kv::F32(number)))),
                "bool" => [true, false]
                    .iter()
                    .for_each(|&flag| with(key, Some(Kv::Bool(flag)))),
                _ => with(key, Some(Kv::Arr(vec![Kv::U32(0); 3]))),
            }
        }
    }
}
