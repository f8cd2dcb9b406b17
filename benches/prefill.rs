//! Reading a prompt; the throughput is in tokens.

mod common;

use criterion::{Criterion, SamplingMode, Throughput};
use gristmill::Model;

/// Tokens of the prompt.
const TOKENS: u32 = 256;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("prefill");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(TOKENS.into()));
    for (name, path) in common::models() {
        let model = Model::open(&path).expect("a model");
        let mut session = model.session().expect("a session");
        let ids: Vec<u32> = (0..TOKENS)
            .map(|index| index * 7919 % model.vocab_size() as u32)
            .collect();
        group.bench_function(format!("{TOKENS}/{name}"), |bencher| {
            bencher.iter(|| {
                session.clear();
                session.feed(&ids).expect("room in the context");
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
