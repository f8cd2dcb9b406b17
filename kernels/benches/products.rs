//! The two products, for every format and level of this machine, with one thread and weights that fit
//! into its caches: what is measured is computing, not memory.
//!
//! The throughput of `dot` (one token) is in bytes of weights, to be held against what memory
//! delivers; that of `panel` (a prompt) in products of a weight with an input.

use criterion::{Criterion, SamplingMode, Throughput};
use gristmill_kernels::{
    ColumnsMut, Format, InputGroup, Level, Matrix, Scratch, Store, groups, matmul,
};
use std::time::Duration;

const ROWS: usize = 256;
const COLS: usize = 1024;
/// Tokens of the panel product.
const TOKENS: usize = 256;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, tokens) in [("dot", 1), ("panel", TOKENS)] {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_millis(100));
        group.measurement_time(Duration::from_millis(400));
        for &format in Format::ALL {
            let bytes = weights(format);
            let matrix = Matrix::new(format, ROWS, COLS, &bytes).expect("whole rows");
            group.throughput(match tokens {
                1 => Throughput::Bytes(bytes.len() as u64),
                _ => Throughput::Elements((ROWS * COLS * tokens) as u64),
            });
            for level in Level::available() {
                let inputs = inputs(level, tokens);
                let mut out = vec![0.0; tokens * ROWS];
                let mut scratch = Scratch::new();
                group.bench_function(format!("{}/{level}", format.name()), |bencher| {
                    bencher.iter(|| {
                        let out = ColumnsMut::new(&mut out, ROWS);
                        matmul(level, matrix, &inputs, &mut scratch, Store::Replace, out);
                    });
                });
                assert!(out.iter().all(|value| value.is_finite()), "{format:?}");
            }
        }
        group.finish();
    }
    criterion.final_summary();
}

/// A matrix's bytes: all of 0x30 to 0x37, so that scales and floats of any width are ordinary numbers.
fn weights(format: Format) -> Vec<u8> {
    let bytes = ROWS * format.row_bytes(COLS).expect("whole blocks");
    (0..bytes)
        .map(|index| 0x30 | (index * index / 3 % 8) as u8)
        .collect()
}

fn inputs(level: Level, tokens: usize) -> Vec<InputGroup> {
    let values: Vec<f32> = (0..tokens * COLS)
        .map(|index| (index * 31 % 257) as f32 / 128.0 - 1.0)
        .collect();
    groups(level, tokens)
        .map(|range| {
            let mut group = InputGroup::new();
            group.fill(level, &values[range.start * COLS..range.end * COLS], COLS);
            group
        })
        .collect()
}
