//! Choosing a token of a large vocabulary; the throughput is in tokens of the vocabulary.

use criterion::{Criterion, Throughput};
use gristmill::{MirostatVersion, SamplerChain, SamplingOptions, TokenLogprobs};

/// As many as Qwen 2.5 has.
const VOCABULARY: usize = 151_936;

/// Logits as models have them: most tokens are far behind the few that fit.
///
/// Sums of three uniform numbers make a bell with a deviation of 2, and a few tokens stand out: one has
/// a third of the probability, the bell half a percent.
fn logits(step: u32) -> Vec<f32> {
    let mut state = step;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let mut logits: Vec<f32> = (0..VOCABULARY)
        .map(|_| (uniform() + uniform() + uniform() - 1.5) * 4.0)
        .collect();
    for rank in 1..60 {
        let token = (uniform() * VOCABULARY as f32) as usize;
        logits[token] = 18.0 - 1.3 * (rank as f32).ln();
    }
    logits
}

fn cases() -> Vec<(&'static str, SamplingOptions)> {
    let default = SamplingOptions {
        temperature: 0.8,
        seed: Some(1),
        dry_sequence_breakers: Vec::new(),
        ..Default::default()
    };
    let none = SamplingOptions {
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        ..default.clone()
    };
    let with = |options: &SamplingOptions, change: fn(&mut SamplingOptions)| {
        let mut options = options.clone();
        change(&mut options);
        options
    };
    let greedy = with(&default, |o| o.temperature = 0.0);
    vec![
        ("greedy", greedy),
        ("default", default.clone()),
        ("penalties", with(&default, |o| o.repeat_penalty = 1.1)),
        ("dry", with(&default, |o| o.dry_multiplier = 0.8)),
        ("temperature", none.clone()),
        ("top-p", with(&none, |o| o.top_p = 0.95)),
        ("min-p", with(&none, |o| o.min_p = 0.05)),
        ("typical", with(&none, |o| o.typical_p = 0.95)),
        ("top-n-sigma", with(&none, |o| o.top_n_sigma = 1.0)),
        ("dynatemp", with(&none, |o| o.dynatemp_range = 0.5)),
        (
            "mirostat1",
            with(&none, |o| o.mirostat = Some(MirostatVersion::V1)),
        ),
        (
            "mirostat2",
            with(&none, |o| o.mirostat = Some(MirostatVersion::V2)),
        ),
        (
            "everything",
            with(&default, |o| {
                (o.repeat_penalty, o.dry_multiplier, o.top_n_sigma) = (1.1, 0.8, 2.0);
                (o.typical_p, o.xtc_probability, o.dynatemp_range) = (0.95, 0.5, 0.5);
            }),
        ),
    ]
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("sampling");
    group.throughput(Throughput::Elements(VOCABULARY as u64));
    group.sample_size(20);
    let steps: Vec<Vec<f32>> = (0..8).map(logits).collect();
    for (name, options) in cases() {
        let mut chain = SamplerChain::new(&options).expect("sound options");
        // A text of 4096 tokens behind which to choose.
        for token in 0..4096 {
            chain.accept(token * 7919 % 997);
        }
        let mut steps = steps.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| steps.next().map(|logits| chain.sample(logits)));
        });
    }
    // Nothing stands out, so nothing can be left out.
    let flat: Vec<f32> = logits(1).iter().map(|logit| logit / 100.0).collect();
    let options = SamplingOptions {
        temperature: 1.0,
        top_k: 0,
        ..Default::default()
    };
    let mut chain = SamplerChain::new(&options).expect("sound options");
    group.bench_function("top-p/flat", |bencher| {
        bencher.iter(|| chain.sample(&flat));
    });
    group.bench_function("logprobs", |bencher| {
        bencher.iter(|| TokenLogprobs::new(&steps[0], 1, 20));
    });
    group.finish();
    criterion.final_summary();
}
