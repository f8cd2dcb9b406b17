//! Each step by itself, against its definition.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::gguf::Gguf;
use crate::tokenizer::EncodeOptions;

/// The logits that are left for the draw with temperature 1, moved so that token 0 has its own.
fn changed(options: &SamplingOptions, text: &[u32], logits: &[f32]) -> Vec<f32> {
    let mut chain = chain(options);
    for &token in text {
        chain.accept(token);
    }
    let left = left(&mut chain, logits);
    let moved = left[0].logit - logits[0];
    left.iter()
        .map(|candidate| candidate.logit - moved)
        .collect()
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-4, "{found:?}, expected {expected:?}");
    }
}

#[test]
fn each_filter_follows_its_definition() {
    let logits = logits(&[0.1, 0.4, 0.05, 0.15, 0.3]);
    let top_k = |top_k| kept(&SamplingOptions { top_k, ..plain() }, &logits);
    assert_eq!(top_k(1), [1]);
    assert_eq!(top_k(3), [1, 3, 4]);
    assert_eq!(top_k(5), [0, 1, 2, 3, 4]);
    assert_eq!(top_k(0), [0, 1, 2, 3, 4]);
    let top_p = |top_p| kept(&SamplingOptions { top_p, ..plain() }, &logits);
    assert_eq!(top_p(0.0), [1]);
    assert_eq!(top_p(0.39), [1]);
    assert_eq!(top_p(0.41), [1, 4]);
    assert_eq!(top_p(0.84), [1, 3, 4]);
    assert_eq!(top_p(0.94), [0, 1, 3, 4]);
    assert_eq!(top_p(1.0), [0, 1, 2, 3, 4]);
    let min_p = |min_p| kept(&SamplingOptions { min_p, ..plain() }, &logits);
    assert_eq!(min_p(0.0), [0, 1, 2, 3, 4]);
    assert_eq!(min_p(0.2), [0, 1, 3, 4]);
    assert_eq!(min_p(0.3), [1, 3, 4]);
    assert_eq!(min_p(1.0), [1]);
    // The entropy is 1.39, the surprises 2.30, 0.92, 3.00, 1.90 and 1.20: so 4, 1, 3, 0, 2.
    let typical = |typical_p| {
        kept(
            &SamplingOptions {
                typical_p,
                ..plain()
            },
            &logits,
        )
    };
    assert_eq!(typical(0.0), [4]);
    assert_eq!(typical(0.29), [4]);
    assert_eq!(typical(0.31), [1, 4]);
    assert_eq!(typical(0.71), [1, 3, 4]);
    assert_eq!(typical(0.86), [0, 1, 3, 4]);
    assert_eq!(typical(0.96), [0, 1, 2, 3, 4]);
    // Mean 2, deviation sqrt(2); the greatest is 4.
    let sigma = |top_n_sigma| {
        let options = SamplingOptions {
            top_n_sigma,
            ..plain()
        };
        kept(&options, &[0.0, 4.0, 2.0, 1.0, 3.0])
    };
    assert_eq!(sigma(0.7), [1]);
    assert_eq!(sigma(0.71), [1, 4]);
    assert_eq!(sigma(1.42), [1, 2, 4]);
    assert_eq!(sigma(2.13), [1, 2, 3, 4]);
    assert_eq!(sigma(0.0), [0, 1, 2, 3, 4]);
}

#[test]
fn xtc_removes_the_top_choices_but_the_last_of_them() {
    let logits = logits(&[0.1, 0.4, 0.05, 0.15, 0.3]);
    let xtc = |xtc_threshold| {
        let options = SamplingOptions {
            xtc_probability: 1.0,
            xtc_threshold,
            ..plain()
        };
        kept(&options, &logits)
    };
    assert_eq!(xtc(0.14), [0, 2, 3]);
    assert_eq!(xtc(0.2), [0, 2, 3, 4]);
    assert_eq!(xtc(0.35), [0, 1, 2, 3, 4]);
    assert_eq!(xtc(0.9), [0, 1, 2, 3, 4]);
    assert_eq!(xtc(0.0), [2]);
    let mut chain = chain(&SamplingOptions {
        xtc_probability: 0.3,
        ..plain()
    });
    let applied = (0..10_000).filter(|_| left(&mut chain, &logits).len() < 5);
    let applied = applied.count();
    // Five standard deviations.
    assert!((2_770..3_230).contains(&applied), "{applied}");
}

#[test]
fn penalties_follow_their_definition_within_the_window() {
    let logits = [0.5, 2.0, -2.0, 1.0];
    let with = |repeat_penalty, presence_penalty, frequency_penalty, repeat_last_n| {
        let options = SamplingOptions {
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            repeat_last_n,
            ..plain()
        };
        changed(&options, &[3, 1, 2, 1], &logits)
    };
    assert_close(&with(2.0, 0.0, 0.0, 64), &[0.5, 1.0, -4.0, 0.5]);
    assert_close(&with(2.0, 0.0, 0.0, 3), &[0.5, 1.0, -4.0, 1.0]);
    assert_close(&with(1.0, 0.7, 0.0, 64), &[0.5, 1.3, -2.7, 0.3]);
    assert_close(&with(1.0, 0.0, 0.7, 64), &[0.5, 0.6, -2.7, 0.3]);
    assert_close(&with(1.0, 0.0, 0.7, 2), &[0.5, 1.3, -2.7, 1.0]);
    assert_close(&with(1.0, 0.0, -0.7, 1), &[0.5, 2.7, -2.0, 1.0]);
    assert_close(&with(2.0, 0.5, 0.25, 64), &[0.5, 0.0, -4.75, -0.25]);
    assert_close(&with(2.0, 0.5, 0.25, 0), &logits);
}

#[test]
fn biases_are_added_and_bans_hold() {
    let options = SamplingOptions {
        logit_bias: vec![(1, 1.5), (2, -0.5), (3, f32::NEG_INFINITY), (99, 1.0)],
        banned: vec![4, 99],
        ..plain()
    };
    assert_close(&changed(&options, &[], &[0.0; 5]), &[0.0, 1.5, -0.5]);
    // A sampler of one's own brings nothing back.
    struct All;
    impl Sampler for All {
        fn apply(&mut self, candidates: &mut Candidates) {
            (0..9).for_each(|token| candidates.set_logit(token, 5.0));
        }
    }
    let mut chain = chain(&options);
    chain.push(All);
    let left = left(&mut chain, &[0.0; 5]);
    assert_eq!(left.iter().map(|c| c.token).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_temperature_that_is_dynamic_depends_on_the_entropy() {
    let temperature = |range, exponent, shares: &[f32]| {
        let options = SamplingOptions {
            dynatemp_range: range,
            dynatemp_exponent: exponent,
            ..plain()
        };
        let logits = logits(shares);
        let left = left(&mut chain(&options), &logits);
        (logits[1] - logits[0]) / (left[1].logit - left[0].logit)
    };
    // The entropy of 1/4 and 3/4 is 0.811 bits of one.
    assert_close(&[temperature(0.5, 1.0, &[0.25, 0.75])], &[0.5 + 0.811_278]);
    assert_close(&[temperature(0.5, 2.0, &[0.25, 0.75])], &[0.5 + 0.658_172]);
    assert_close(&[temperature(3.0, 1.0, &[0.25, 0.75])], &[4.0 * 0.811_278]);
    assert_close(&[temperature(0.0, 2.0, &[0.25, 0.75])], &[1.0]);
}

#[test]
fn dry_follows_its_definition() {
    // `c` would go on with `a b c`, `b` with `c`, `y` with `b c`.
    let [a, b, c, y] = [0, 1, 2, 3];
    let text = [a, b, c, c, b, c, y, a, b, c];
    let with = |dry_allowed_length, dry_penalty_last_n| {
        let options = SamplingOptions {
            dry_multiplier: 0.5,
            dry_base: 2.0,
            dry_allowed_length,
            dry_penalty_last_n,
            ..plain()
        };
        changed(&options, &text, &[0.0; 4])
    };
    assert_close(&with(2, usize::MAX), &[0.0, 0.0, -1.0, -0.5]);
    assert_close(&with(1, usize::MAX), &[0.0, -0.5, -2.0, -1.0]);
    assert_close(&with(3, usize::MAX), &[0.0, 0.0, -0.5, 0.0]);
    assert_close(&with(4, usize::MAX), &[0.0; 4]);
    // The window has `b c y a b c`.
    assert_close(&with(1, 6), &[0.0, 0.0, 0.0, -1.0]);
    assert_close(&with(1, 0), &[0.0; 4]);
}

#[test]
fn no_repetition_reaches_over_a_sequence_breaker() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo-model/demo.gguf");
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(path).unwrap()).unwrap();
    let size = tokenizer.vocab_size().unwrap();
    let encode = |text: &str| {
        let options = EncodeOptions {
            add_special: false,
            parse_special: false,
        };
        tokenizer.encode(text, options).unwrap()
    };
    // Tokens with a lower logit than before, behind a text.
    let penalised = |text: &str, breakers: &[&str]| {
        let options = SamplingOptions {
            dry_multiplier: 1.0,
            dry_allowed_length: 1,
            dry_sequence_breakers: breakers.iter().map(|text| (*text).to_owned()).collect(),
            ..plain()
        };
        let mut chain = SamplerChain::for_tokenizer(&options, &tokenizer).unwrap();
        for token in encode(text) {
            chain.accept(token);
        }
        let left = left(&mut chain, &vec![0.0; size]);
        let lower = left.into_iter().filter(|candidate| candidate.logit < 0.0);
        let lower = lower.map(|c| (c.token, (-c.logit).log(1.75).round() as usize + 1));
        lower.collect::<Vec<_>>()
    };
    let sentence = "the little cat sat on the mat. the little cat";
    let tokens = encode(sentence);
    let start = encode("the little cat").len();
    let next = tokens[start];
    let length = |breakers: &[&str]| {
        let all = penalised(sentence, breakers);
        all.iter()
            .find(|(token, _)| *token == next)
            .map(|(_, length)| *length)
    };
    // Whole tokens behind the last place of a text.
    let behind = |breaker: &str| {
        let bytes = tokenizer.decode_bytes(&tokens, Default::default()).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let mut left = text.len() - text.rfind(breaker).unwrap() - breaker.len();
        let lengths = tokens.iter().rev();
        let lengths = lengths.map(|&token| tokenizer.token_bytes(token).unwrap().len());
        let is_behind = |length: &usize| {
            let fits = *length <= left;
            left = left.saturating_sub(*length);
            fits
        };
        Some(lengths.take_while(is_behind).count()).filter(|&count| count > 0)
    };
    let whole = length(&[]);
    assert!(whole >= Some(3), "{whole:?}");
    assert_eq!(length(&["nowhere", "mat. the sun"]), whole);
    for breaker in [". the", "e li", "ttle", "tle c", "cat"] {
        assert_eq!(length(&[breaker]), behind(breaker), "{breaker}");
        assert_eq!(
            length(&["nowhere", breaker, ". t"]),
            behind(breaker),
            "{breaker}"
        );
    }
    assert!(behind(". the") > behind("e li") && behind("cat").is_none());
    // A token that ends a breaker is no repetition.
    let next = tokenizer.token_bytes(next).unwrap();
    assert_eq!(length(&[str::from_utf8(&next).unwrap()]), None);
}

#[test]
fn mirostat_follows_its_definition() {
    let shares: Vec<f32> = (1..=200).map(|rank| (rank as f32).powf(-1.3)).collect();
    let logits: Vec<f32> = shares.iter().rev().map(|share| share.ln() + 2.0).collect();
    for version in [MirostatVersion::V1, MirostatVersion::V2] {
        let options = SamplingOptions {
            mirostat: Some(version),
            mirostat_tau: 3.0,
            mirostat_eta: 0.2,
            ..plain()
        };
        let mut chain = chain(&options);
        let (tau, eta) = (3.0, f64::from(0.2_f32));
        let mut expected = reference::Mirostat {
            mu: 2.0 * tau,
            tau,
            eta,
        };
        let mut surprise = 0.0;
        for step in 0..2_000 {
            let mut kept = match version {
                MirostatVersion::V1 => expected.kept_v1(&logits),
                MirostatVersion::V2 => expected.kept_v2(&logits),
            };
            let token = chain.choose(&logits, None).unwrap();
            kept.sort_unstable();
            let found: Vec<u32> = chain.candidates.iter().map(|c| c.token).collect();
            assert_eq!(found, kept, "{version:?}, step {step}");
            let before = expected.mu;
            expected.follow(&logits, &kept, token);
            surprise += tau + (before - expected.mu) / eta;
        }
        let mean = surprise / 2_000.0;
        assert!((mean - tau).abs() < 0.1, "{version:?}: {mean}");
    }
}

#[test]
fn log_probabilities_are_those_of_the_softmax() {
    let logits = [1.0_f32, -2.0, f32::NAN, 3.5, f32::NEG_INFINITY, 3.5, 0.25];
    let pairs: Vec<(u32, f64)> = (0..)
        .zip(logits.map(f64::from))
        .filter(|(_, logit)| *logit > f64::NEG_INFINITY)
        .collect();
    let p = reference::probabilities(&pairs);
    let expected = |token: u32| {
        let at = pairs.iter().position(|pair| pair.0 == token);
        at.map_or(f32::NEG_INFINITY, |at| p[at].ln() as f32)
    };
    for chosen in 0..9 {
        let found = TokenLogprobs::new(&logits, chosen, 3);
        let close = |logprob: &Logprob| {
            let expected = expected(logprob.token);
            logprob.logprob == expected || (logprob.logprob - expected).abs() < 1e-5
        };
        assert_eq!(found.chosen.token, chosen);
        assert!(
            close(&found.chosen) && found.top.iter().all(close),
            "{found:?}"
        );
        let top: Vec<u32> = found.top.iter().map(|logprob| logprob.token).collect();
        assert_eq!(top, [3, 5, 0]);
    }
    assert_eq!(TokenLogprobs::new(&logits, 0, usize::MAX).top.len(), 5);
    assert!(TokenLogprobs::new(&[], 0, 5).top.is_empty());
}

proptest! {
    #[test]
    fn dry_finds_what_comparing_finds(
        text in prop::collection::vec(0_u32..4, 0..40),
        dry_allowed_length in 1_usize..5,
    ) {
        let options = SamplingOptions {
            dry_multiplier: 0.5,
            dry_base: 1.25,
            dry_allowed_length,
            ..plain()
        };
        let found = changed(&options, &text, &[0.0; 5]);
        let expected: Vec<f32> = (0..5)
            .map(|token| match reference::repetition(&text, token) {
                length if length < dry_allowed_length => 0.0,
                length => -0.5 * 1.25_f32.powi((length - dry_allowed_length) as i32),
            })
            .collect();
        let moved = expected[0] - found[0];
        for (a, b) in found.iter().zip(&expected) {
            prop_assert!((a + moved - b).abs() < 1e-3 * b.abs().max(1.0), "{found:?} {expected:?}");
        }
    }
}
