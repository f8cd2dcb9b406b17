//! What is not a product with weights, at every level of this machine, with one thread.
//!
//! * `attention`: query rows of one head over 4096 positions, for every type of cache. The throughput is
//!   in products. The limit is reading keys and values for a single row, the multiplier of floats for
//!   more: 7 rows are a token of a model whose heads share keys by seven, 56 a piece of a prompt.
//! * `inputs`: floats to the integers that weights are multiplied with, one token and 28; `norm`: rows
//!   of floats. The throughput is in floats.

mod common;

use common::{limits, measure};
use criterion::{Criterion, Throughput};
use gristmill_kernels::ops::{
    Attention, AttentionScratch, CacheType, HeadLayout, Side, attend, rms_norm,
};
use gristmill_kernels::{InputGroup, Level, Line, groups};

const HEAD_DIM: usize = 64;
const POSITIONS: usize = 4096;
/// Values of a token.
const COLS: usize = 1024;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    attention(&mut criterion);
    inputs(&mut criterion);
    norm(&mut criterion);
    criterion.final_summary();
}

fn attention(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "attention");
    for rows in [1, 7, 56] {
        let products = 2 * rows * POSITIONS * HEAD_DIM;
        group.throughput(Throughput::Elements(products as u64));
        let (queries, visible) = (floats(rows * HEAD_DIM), vec![0..POSITIONS; rows]);
        for &cache_type in CacheType::ALL {
            let layout = HeadLayout::new(cache_type, HEAD_DIM, POSITIONS).expect("a small cache");
            let keys = cache(layout, Side::Keys);
            let values = cache(layout, Side::Values);
            let attention = Attention {
                queries: &queries,
                visible: &visible,
                alibi: &[],
                soft_cap: None,
                keys: (layout, &keys),
                values: (layout, &values),
            };
            let both = 2 * layout.lines() * size_of::<Line>();
            for level in Level::available() {
                let id = format!("{rows}/{cache_type}/{level}");
                let mut scratch = AttentionScratch::new();
                let mut out = vec![0.0; queries.len()];
                let work = || attend(level, attention, &mut scratch, &mut out);
                if rows == 1 {
                    let read = || Some(limits::read(&vec![1; both]));
                    measure(&mut group, &id, both, read, work);
                } else {
                    let multiplier = || limits::products(level, true);
                    measure(&mut group, &id, products, multiplier, work);
                }
            }
        }
    }
    group.finish();
}

/// A full side of a head's cache.
fn cache(layout: HeadLayout, side: Side) -> Vec<Line> {
    let mut lines = vec![Line::default(); layout.lines()];
    let row = floats(HEAD_DIM);
    for position in 0..POSITIONS {
        layout.store(Level::detect(), side, &mut lines, position, &row);
    }
    lines
}

fn inputs(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "inputs");
    for tokens in [1, 28] {
        let values = floats(tokens * COLS);
        group.throughput(Throughput::Elements(values.len() as u64));
        for level in Level::available() {
            let ranges = groups(level, tokens);
            let mut filled = vec![InputGroup::new(); ranges.len()];
            let work = || {
                for (group, range) in filled.iter_mut().zip(ranges.clone()) {
                    group.fill(level, &values[range.start * COLS..range.end * COLS], COLS);
                }
            };
            let id = format!("{tokens}/{level}");
            measure(&mut group, &id, values.len(), || None, work);
        }
    }
    group.finish();
}

fn norm(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "norm");
    let (rows, weight) = (floats(7 * COLS), floats(COLS));
    group.throughput(Throughput::Elements(rows.len() as u64));
    for level in Level::available() {
        let mut out = vec![0.0; rows.len()];
        let work = || rms_norm(level, &rows, &weight, 1e-6, &mut out);
        measure(&mut group, level.name(), rows.len(), || None, work);
    }
    group.finish();
}

/// Any numbers between -1 and 1.
fn floats(count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| (index * 31 % 257) as f32 / 128.0 - 1.0)
        .collect()
}
