//! Products of weights with one token, a few and many, for every format and level of this machine, with
//! one thread.
//!
//! * `dot1` to `dot8`: 1 to 8 tokens with weights that fit into the caches. The throughput is in bytes of
//!   weights, and the limit only reading them.
//! * `memory`: one token with weights that do not fit.
//! * `panel17`, `panel256`: a prompt. The throughput is in products of a weight with an input, and the
//!   limit the level's multiplier. From the two together follows what unpacking the weights costs.

mod common;

use std::collections::HashMap;

use common::{limits, measure};
use criterion::{Criterion, Throughput};
use gristmill_kernels::{
    ColumnsMut, Format, InputGroup, Level, Matrix, Scratch, Store, groups, matmul,
};

const ROWS: usize = 256;
const COLS: usize = 1024;
/// Bytes of weights that caches do not hold.
const MEMORY: usize = 256 << 20;
/// Tokens of a short prompt: more than any level multiplies one by one.
const SHORT: usize = 17;
/// Tokens of a long one.
const LONG: usize = 256;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for tokens in [1, 2, 4, 8] {
        dots(&mut criterion, &format!("dot{tokens}"), tokens, |format| {
            ROWS * row_bytes(format)
        });
    }
    dots(&mut criterion, "memory", 1, |format| {
        MEMORY / row_bytes(format) * row_bytes(format)
    });
    panels(&mut criterion);
    criterion.final_summary();
}

fn dots(criterion: &mut Criterion, name: &str, tokens: usize, size: impl Fn(Format) -> usize) {
    let sizes = Format::ALL.iter().map(|&format| size(format));
    let bytes = weights(sizes.max().unwrap_or(0));
    let mut group = common::group(criterion, name);
    for &format in Format::ALL {
        let bytes = &bytes[..size(format)];
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        for level in Level::available() {
            let id = format!("{}/{level}", format.name());
            let limit = || Some(limits::read(bytes));
            let work = product(format, level, bytes, tokens);
            measure(&mut group, &id, bytes.len(), limit, work);
        }
    }
    group.finish();
}

fn panels(criterion: &mut Criterion) {
    let mut seconds = HashMap::new();
    for tokens in [SHORT, LONG] {
        let mut group = common::group(criterion, &format!("panel{tokens}"));
        let products = ROWS * COLS * tokens;
        group.throughput(Throughput::Elements(products as u64));
        for &format in Format::ALL {
            let bytes = weights(ROWS * row_bytes(format));
            for level in Level::available() {
                let id = format!("{}/{level}", format.name());
                let limit = || limits::products(level, is_float(format));
                let work = product(format, level, &bytes, tokens);
                let time = measure(&mut group, &id, products, limit, work);
                let Some((long, short)) = time.zip(seconds.insert(id, time).flatten()) else {
                    continue;
                };
                // time = unpacking + tokens * token
                let token = (long - short) / (LONG - SHORT) as f64;
                let unpacking = (short - SHORT as f64 * token) / token;
                println!(
                    "{:24}unpack: as long as multiplying {unpacking:.1} tokens",
                    ""
                );
            }
        }
        group.finish();
    }
}

/// The product of `bytes` with some tokens, ready to be repeated.
fn product(format: Format, level: Level, bytes: &[u8], tokens: usize) -> impl FnMut() {
    let rows = bytes.len() / row_bytes(format);
    let matrix = Matrix::new(format, rows, COLS, bytes).expect("whole rows");
    let inputs = inputs(level, tokens);
    let mut out = vec![0.0; tokens * rows];
    let mut scratch = Scratch::new();
    move || {
        let columns = ColumnsMut::new(&mut out, rows);
        matmul(
            level,
            matrix,
            &inputs,
            &mut scratch,
            Store::Replace,
            columns,
        );
        assert!(out[0].is_finite(), "{format:?}");
    }
}

fn is_float(format: Format) -> bool {
    matches!(format, Format::F32 | Format::F16 | Format::BF16)
}

fn row_bytes(format: Format) -> usize {
    format.row_bytes(COLS).expect("whole blocks")
}

/// Weights of any format: all bytes of 0x30 to 0x37, so that scales and floats of any width are ordinary
/// numbers.
fn weights(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|index| 0x30 | (index.wrapping_mul(index) / 3 % 8) as u8)
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
