//! Opening a file, and a model, and that with a prompt of 16 tokens up to the first token's logits. The
//! throughput is that of the vocabulary's tokens: the header is mostly those.

mod common;

use criterion::{Criterion, Throughput};
use gristmill::Model;
use gristmill::gguf::Gguf;

const PROMPT: [u32; 16] = [
    40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55,
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("load");
    group.sample_size(20);
    for (name, path) in common::models() {
        let model = Model::open(&path).expect("a model");
        group.throughput(Throughput::Elements(model.vocab_size() as u64));
        group.bench_function(format!("gguf/{name}"), |bencher| {
            bencher.iter(|| Gguf::open(&path).expect("a GGUF file"));
        });
        group.bench_function(format!("model/{name}"), |bencher| {
            bencher.iter(|| Model::open(&path).expect("a model"));
        });
        group.bench_function(format!("first-token/{name}"), |bencher| {
            bencher.iter(|| {
                let model = Model::open(&path).expect("a model");
                let mut session = model.session().expect("a session");
                session.feed(&PROMPT).expect("room in the context");
                session
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
