//! Opening a file, and a model. The throughput is that of the vocabulary's tokens: the header is
//! mostly those.

mod common;

use criterion::{Criterion, Throughput};
use gristmill::Model;
use gristmill::gguf::Gguf;

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
    }
    group.finish();
    criterion.final_summary();
}
