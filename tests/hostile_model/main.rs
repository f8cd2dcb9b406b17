//! Models that lie about themselves: metadata, tensors, weights and requests that a model must refuse
//! with an error that names the place, or survive, but never panic at.
//!
//! The identifiers are those of published weaknesses of GGUF runtimes that the case stands for. Files
//! that are damaged as containers are in `hostile_gguf.rs`.

mod cases;
#[path = "../common/mod.rs"]
mod common;
mod tiny;

use std::sync::LazyLock;

use gristmill::{
    CacheType, GenerateOptions, Level, Model, SamplerChain, SamplingOptions, Session,
    SessionOptions,
};
use gristmill_kernels::Format;
use proptest::prelude::*;

use cases::Case;
use common::gguf_writer::Kv;
use common::spec::weights;
use tiny::{Tensor, Tiny, load, sound};

#[test]
fn hostile_models_end_in_errors_that_name_the_place() {
    for case in cases::all() {
        let Case {
            name,
            model,
            expected,
        } = case;
        let text = match model.load() {
            Ok(_) => panic!("{name}: loaded"),
            Err(error) => error.to_string(),
        };
        for part in expected.iter().chain(&["<memory>: "]) {
            assert!(text.contains(part), "{name}: {part:?} not in {text:?}");
        }
        assert!(text.len() < 500, "{name}: {text}");
    }
}

#[test]
fn every_tensor_must_be_there_in_its_shape() {
    for Tensor { name, shape, .. } in sound().tensors {
        let place = format!("<memory>: tensor `{name}`: expected shape [");
        let check = |what: &str, model: Tiny| {
            let text = match model.load() {
                Ok(_) => panic!("{name} {what}: loaded"),
                Err(error) => error.to_string(),
            };
            assert!(text.starts_with(&place), "{name} {what}: {text}");
        };
        if name != "output.weight" {
            check("is missing", sound().without(&name));
        }
        let longer = [&[shape[0] + 1], &shape[1..]].concat();
        check(
            "has longer rows",
            sound().put(Tensor::random(&name, &longer)),
        );
        // Any number of embeddings is a shape: the tokenizer's vocabulary is compared later.
        if name != "token_embd.weight" {
            let rows = shape.get(1).map_or(2, |rows| rows + 1);
            let more = Tensor::random(&name, &[shape[0], rows]);
            check("has more rows", sound().put(more));
        }
        let deep = Tensor::random(&name, &[shape[0], shape.get(1).copied().unwrap_or(1), 2]);
        check("has another dimension", sound().put(deep));
    }
}

#[test]
fn the_model_that_the_cases_change_is_sound() {
    let model = sound().load().expect("sound");
    let completion = model
        .generate("ab", &GenerateOptions::new().max_tokens(4))
        .expect("sound");
    assert!(!completion.tokens.is_empty());
    let mut session = model.session().expect("memory");
    session.feed(&[1, 10, 7]).expect("room");
    assert!(session.logits().iter().all(|logit| logit.is_finite()));
    let tied = sound().without("output.weight").load().expect("tied");
    assert_eq!(tied.vocab_size(), 12);
}

fn argument(result: gristmill::Result<Session>, expected: &[&str]) {
    let text = match result {
        Ok(session) => panic!("a session of {} positions", session.context_length()),
        Err(error) => error.to_string(),
    };
    for part in expected.iter().chain(&["option context_length"]) {
        assert!(text.contains(part), "{part:?} not in {text:?}");
    }
}

#[test]
fn a_context_that_memory_cannot_hold_is_an_error() {
    let model = sound().load().expect("sound");
    let session = |positions| model.session_with(&SessionOptions::new().context_length(positions));
    argument(session(0), &["at least 1", "found 0"]);
    for positions in [1 << 44, 1 << 57, 1 << 62, usize::MAX / 2, usize::MAX] {
        argument(
            session(positions),
            &["fits into memory", &positions.to_string()],
        );
    }
}

/// The system promises each layer's part where it would refuse the whole.
#[test]
#[cfg(target_os = "linux")]
fn a_context_of_which_memory_holds_only_each_part_is_an_error() {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    if read("/proc/sys/vm/overcommit_memory").trim() != "0" {
        println!("skipped: this system promises memory that it does not have, or none");
        return;
    }
    let kilobytes = |name: &str| -> usize {
        let info = read("/proc/meminfo");
        let line = info
            .lines()
            .find(|line| line.starts_with(name))
            .expect("a line");
        line.split_whitespace()
            .nth(1)
            .and_then(|kb| kb.parse().ok())
            .expect("a number")
    };
    let memory = 1024 * (kilobytes("MemTotal:") + kilobytes("SwapTotal:"));
    let model = sound().load().expect("sound");
    // Two layers of keys and values: four parts of 2 heads of 8 values of 2 bytes.
    let positions = memory / 5 * 4 / 32;
    argument(
        model.session_with(&SessionOptions::new().context_length(positions)),
        &["fits into memory"],
    );
}

#[test]
fn tokens_that_do_not_exist_are_an_error() {
    let model = sound().load().expect("sound");
    let mut session = model.session().expect("memory");
    for token in [12, 1 << 31, u32::MAX] {
        let text = session
            .feed(&[1, token])
            .expect_err("no such token")
            .to_string();
        assert!(text.contains("ids below 12"), "{text}");
        assert!(text.contains(&token.to_string()), "{text}");
    }
    assert_eq!(session.position(), 0);
    assert!(session.truncate(usize::MAX).is_err());
    assert!(session.feed(&[1; 33]).is_err(), "33 tokens in 32 positions");
}

/// A model whose matrices are of one format and hold the same few bytes over and over.
fn filled(format: Format, pattern: &[u8]) -> Tiny {
    let mut tiny = Tiny::new(256, 256);
    for tensor in tiny
        .tensors
        .iter_mut()
        .filter(|tensor| tensor.shape.len() == 2)
    {
        let row = format
            .row_bytes(tensor.shape[0] as usize)
            .expect("whole blocks");
        let bytes = row * tensor.shape[1] as usize;
        tensor.ggml_type = format.ggml_type();
        tensor.data = pattern.iter().copied().cycle().take(bytes).collect();
    }
    tiny
}

/// Evaluates a prompt and single tokens and samples, whatever the logits are.
fn exercise(model: &Model, cache_type: CacheType) {
    let options = SessionOptions::new().cache_type(cache_type);
    let mut session = model.session_with(&options).expect("memory");
    let random = SamplingOptions {
        temperature: 0.7,
        seed: Some(1),
        ..SamplingOptions::default()
    };
    for sampling in [SamplingOptions::default(), random] {
        let mut sampler = SamplerChain::new(&sampling).expect("sound options");
        session.clear();
        session.feed(&[1, 5, 6, 7, 8, 9, 10, 11, 5]).expect("room");
        for _ in 0..2 {
            // Without any number there is nothing to choose.
            let token = sampler.sample(session.logits()).unwrap_or(0);
            assert!((token as usize) < model.vocab_size());
            session.feed(&[token]).expect("room");
        }
    }
}

#[test]
fn weights_without_sense_do_not_panic() {
    let noise: Vec<u8> = weights("noise", 3, 4099, 128.0, 128.0)
        .iter()
        .map(|&x| x as u8)
        .collect();
    // As f16: NaN, infinity, the largest number, anything. As bf16 and f32 the same, but for the
    // f16 infinity, so they have their own.
    let patterns: [&[u8]; 6] = [
        &[0xff],
        &[0x00, 0x7c],
        &[0xff, 0x7b],
        &[0x00, 0x00, 0x80, 0x7f],
        &[0xff, 0xff, 0x7f, 0x7f],
        &noise,
    ];
    for &format in Format::ALL {
        for pattern in patterns {
            let file = filled(format, pattern).file();
            for level in Level::available() {
                let model = load(file.clone(), level).expect("sound but for the weights");
                exercise(&model, CacheType::F16);
                exercise(&model, CacheType::F32);
            }
        }
    }
}

#[test]
fn norms_and_angles_without_sense_do_not_panic() {
    for value in [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 0.0] {
        for name in [
            "blk.0.attn_norm.weight",
            "blk.1.ffn_norm.weight",
            "output_norm.weight",
        ] {
            let norm = Tensor::floats(name, &[32], &[value; 32]);
            exercise(&sound().put(norm).load().expect("a shape"), CacheType::F16);
        }
    }
    let extremes = [f32::MIN_POSITIVE, 1e-45, 1.0, f32::MAX];
    for base in extremes {
        for factor in extremes {
            let model = sound()
                .set("llama.rope.freq_base", Kv::F32(base))
                .set("llama.rope.scaling.type", Kv::text("yarn"))
                .set("llama.rope.scaling.factor", Kv::F32(factor))
                .set("llama.rope.scaling.attn_factor", Kv::F32(factor));
            exercise(&model.load().expect("in range"), CacheType::F16);
        }
    }
}

static SOUND: LazyLock<(Vec<u8>, usize)> = LazyLock::new(|| {
    let tiny = sound();
    let file = tiny.file();
    let data: usize = tiny.tensors.iter().map(|tensor| tensor.data.len()).sum();
    let header = file.len() - data;
    (file, header)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn flipped_bytes_fail_to_open_or_evaluate_but_never_panic(
        in_header in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..3),
        anywhere in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..8),
    ) {
        let (mut file, header) = SOUND.clone();
        for (index, flip) in in_header {
            file[index.index(header)] ^= flip;
        }
        for (index, flip) in anywhere {
            let index = index.index(file.len());
            file[index] ^= flip;
        }
        match load(file, Level::detect()) {
            Ok(model) => {
                // An error is as good as a text.
                let _ = model.generate("ab a", &GenerateOptions::new().max_tokens(3));
            }
            Err(error) => prop_assert!(error.to_string().contains("<memory>: "), "{error}"),
        }
    }
}
