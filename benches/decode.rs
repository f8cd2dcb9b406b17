//! One token through the whole forward pass, behind a short and a longer context, and a token of each of
//! several sessions; the throughput is in tokens.

mod common;

use criterion::{Criterion, SamplingMode, Throughput};
use gristmill::{Model, SessionOptions};

/// Tokens in the cache before.
const DEPTHS: [usize; 2] = [16, 1024];

/// Sessions of a batch.
const SESSIONS: [usize; 4] = [1, 4, 8, 16];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("decode");
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(1));
    for (name, path) in common::models() {
        let model = Model::open(&path).expect("a model");
        for depth in DEPTHS {
            let options = SessionOptions::new().context_length(depth + 1);
            let filled = || {
                let mut session = model.session_with(&options).expect("a session");
                session.feed(&vec![1; depth]).expect("room in the context");
                session
            };
            // Filled once, and only if this benchmark is one of those asked for.
            let mut session = None;
            group.bench_function(format!("{depth}/{name}"), |bencher| {
                let session = session.get_or_insert_with(filled);
                bencher.iter(|| {
                    session.truncate(depth).expect("as many tokens");
                    session.feed(&[1]).expect("room in the context");
                });
            });
        }
    }
    group.finish();
    batches(&mut criterion);
    criterion.final_summary();
}

/// A token of each of several sessions, which have read a few.
fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    for (name, path) in common::models() {
        let model = Model::open(&path).expect("a model");
        let options = SessionOptions::new().context_length(DEPTHS[0] + 1);
        for count in SESSIONS {
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(format!("{count}/{name}"), |bencher| {
                let open = |_| {
                    let mut session = model.session_with(&options).expect("a session");
                    session.feed(&[1; DEPTHS[0]]).expect("room in the context");
                    session
                };
                let mut sessions: Vec<_> = (0..count).map(open).collect();
                let mut batch = model.batch();
                bencher.iter(|| {
                    for session in &mut sessions {
                        session.truncate(DEPTHS[0]).expect("as many tokens");
                    }
                    let mut entries: Vec<_> = sessions.iter_mut().map(|one| (one, 1)).collect();
                    batch.step(&mut entries).expect("room in the context");
                });
            });
        }
    }
    group.finish();
}
