use std::ops::Range;

use super::*;
use crate::testing::{Random, levels, through_int8};
use crate::{Level, Line};

fn close(found: &[f32], expected: &[f64], bound: f64) {
    assert_eq!(found.len(), expected.len(), "lengths");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= bound * (1.0 + expected.abs()),
            "element {i}: {found} is not {expected}"
        );
    }
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

#[test]
fn rms_norm_follows_its_formula() {
    for level in levels() {
        for cols in [1, 15, 16, 40, 576] {
            let rows = Random(1).floats(3 * cols);
            let weight = Random(2).floats(cols);
            let mut out = vec![0.0; rows.len()];
            rms_norm(level, &rows, &weight, 1e-3, &mut out);
            for (row, out) in rows.chunks(cols).zip(out.chunks(cols)) {
                let row = doubles(row);
                let mean = row.iter().map(|x| x * x).sum::<f64>() / cols as f64;
                let expected: Vec<_> = row
                    .iter()
                    .zip(doubles(&weight))
                    .map(|(x, w)| x / (mean + 1e-3_f32 as f64).sqrt() * w)
                    .collect();
                close(out, &expected, 1e-6);
            }
        }
    }
}

#[test]
fn softmax_and_silu_follow_their_formulas_over_the_whole_range() {
    for level in levels() {
        for count in [1, 7, 16, 100] {
            let mut values: Vec<f32> = Random(3).floats(count).iter().map(|x| x * 50.0).collect();
            let exps: Vec<_> = doubles(&values).into_iter().map(f64::exp).collect();
            let gate: Vec<_> = doubles(&values)
                .into_iter()
                .map(|x| x / (1.0 + (-x).exp()) * 0.5)
                .collect();
            let mut silu = values.clone();
            silu_mul(level, &mut silu, &vec![0.5; count]);
            close(&silu, &gate, 1e-6);
            softmax(level, &mut values);
            let sum: f64 = exps.iter().sum();
            close(
                &values,
                &exps.iter().map(|exp| exp / sum).collect::<Vec<_>>(),
                1e-6,
            );
        }
        let mut large = vec![-1e30, 1e30, f32::NEG_INFINITY, 0.0];
        silu_mul(level, &mut large, &[1.0; 4]);
        assert_eq!(large[1], 1e30, "{level}");
        assert!(
            large[0].abs() < 1e-6 && large[3] == 0.0,
            "{level}: {large:?}"
        );
    }
}

#[test]
fn rotation_turns_pairs_and_leaves_the_rest() {
    let angles = [0.5_f64, 2.0, -1.0];
    let cos: Vec<_> = angles.iter().map(|a| a.cos() as f32).collect();
    let sin: Vec<_> = angles.iter().map(|a| a.sin() as f32).collect();
    for level in levels() {
        for (pairing, pairs) in [
            (Pairing::Adjacent, [(0, 1), (2, 3), (4, 5)]),
            (Pairing::Halves, [(0, 3), (1, 4), (2, 5)]),
        ] {
            let before = Random(4).floats(16);
            let mut heads = before.clone();
            rotate(level, pairing, &cos, &sin, 8, &mut heads);
            let mut expected = doubles(&before);
            for head in [0, 8] {
                for ((a, b), angle) in pairs.into_iter().zip(angles) {
                    let (x, y) = (expected[head + a], expected[head + b]);
                    expected[head + a] = x * angle.cos() - y * angle.sin();
                    expected[head + b] = x * angle.sin() + y * angle.cos();
                }
            }
            close(&heads, &expected, 1e-6);
        }
    }
}

#[test]
fn halves_are_the_nearest() {
    let values = [0.0, -1.0, 1.0 + 2.0_f32.powi(-11), 65504.0, 1e-7, 3.0, 0.1];
    for level in levels() {
        let mut halves = [0; 7];
        to_f16(level, &values, &mut halves);
        assert_eq!(
            halves,
            values.map(|value| half::f16::from_f32(value).to_bits()),
            "{level}"
        );
        let mut sum = values;
        add_to(level, &mut sum, &values);
        assert_eq!(sum, values.map(|value| value * 2.0));
    }
}

fn naive_attention(
    queries: &[f32],
    visible: &[Range<usize>],
    keys: &[f32],
    values: &[f32],
    dim: usize,
) -> Vec<f64> {
    let (queries, keys, values) = (doubles(queries), doubles(keys), doubles(values));
    queries
        .chunks(dim)
        .zip(visible)
        .flat_map(|(query, visible)| {
            let score = |p: usize| {
                query
                    .iter()
                    .zip(&keys[p * dim..])
                    .map(|(q, k)| q * k)
                    .sum::<f64>()
            };
            let exps: Vec<_> = visible.clone().map(|p| score(p).exp()).collect();
            let sum: f64 = exps.iter().sum();
            let values = &values;
            (0..dim)
                .map(move |i| {
                    let weighted = visible
                        .clone()
                        .zip(&exps)
                        .map(|(p, exp)| exp * values[p * dim + i]);
                    weighted.sum::<f64>() / if sum > 0.0 { sum } else { 1.0 }
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// What a cache of `cache_type` keeps of `rows`, `[positions, dim]`.
fn through_cache(cache_type: CacheType, dim: usize, rows: &[f32]) -> Vec<f32> {
    match cache_type {
        CacheType::F32 => rows.to_vec(),
        CacheType::F16 => rows
            .iter()
            .map(|&value| half::f16::from_f32(value).to_f32())
            .collect(),
        CacheType::Q8_0 => rows.chunks(dim).flat_map(through_int8).collect(),
    }
}

/// Random keys or values of a head, and the lines that they are stored in.
fn head(level: Level, layout: HeadLayout, side: Side, positions: usize) -> (Vec<f32>, Vec<Line>) {
    let dim = layout.head_dim;
    let rows = Random(6 + side as u64).floats(positions * dim);
    // What is behind the last position must not count.
    let mut lines = vec![bytemuck::cast([f32::NAN; 16]); layout.lines()];
    for (position, row) in rows.chunks(dim).enumerate() {
        layout.store(level, side, &mut lines, position, row);
    }
    (through_cache(layout.cache_type, dim, &rows), lines)
}

#[test]
fn attention_equals_the_naive_one() {
    let mut scratch = AttentionScratch::new();
    for (level, cache_type) in levels().flat_map(|level| {
        [CacheType::F32, CacheType::F16, CacheType::Q8_0].map(|cache_type| (level, cache_type))
    }) {
        for (dim, positions, rows) in [
            (16, 1, 1),
            (64, 5, 7),
            (80, 300, 9),
            (40, 700, 3),
            (128, 257, 20),
        ] {
            let layout = HeadLayout::new(cache_type, dim, positions).expect("a small size");
            let queries: Vec<f32> = Random(5)
                .floats(rows * dim)
                .iter()
                .map(|x| x * 2.0)
                .collect();
            let (keys, key_lines) = head(level, layout, Side::Keys, positions);
            let (values, value_lines) = head(level, layout, Side::Values, positions);
            // Causal, a window, and a row that sees nothing.
            let visible: Vec<_> = (0..rows)
                .map(|row| match row % 3 {
                    0 => 0..positions - row.min(positions - 1),
                    1 => positions / 2..positions,
                    _ => 0..0,
                })
                .collect();
            let mut out = vec![9.0; rows * dim];
            let attention = Attention {
                queries: &queries,
                visible: &visible,
                layout,
                keys: &key_lines,
                values: &value_lines,
            };
            attend(level, attention, &mut scratch, &mut out);
            let expected = naive_attention(&queries, &visible, &keys, &values, dim);
            close(&out, &expected, 2e-5);
            for ((row, visible), [largest, sum]) in
                visible.iter().enumerate().zip(scratch.softmax())
            {
                let scores = visible.clone().map(|position| {
                    let products = (0..dim).map(|i| {
                        f64::from(queries[row * dim + i]) * f64::from(keys[position * dim + i])
                    });
                    products.sum::<f64>()
                });
                let expected: f64 = scores
                    .map(|score| (score - f64::from(*largest)).exp())
                    .sum();
                close(&[*sum], &[expected], 1e-4);
            }
        }
    }
}

#[test]
fn a_cache_beyond_the_address_space_has_no_layout() {
    for cache_type in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
        assert_eq!(HeadLayout::new(cache_type, 64, usize::MAX), None);
        assert_eq!(HeadLayout::new(cache_type, usize::MAX / 64, 128), None);
    }
}

#[test]
fn a_cache_type_is_found_by_its_name_and_an_unknown_one_lists_them() {
    let named = ["f32", "f16", "q8_0"].map(|name| name.parse().expect(name));
    assert_eq!(named, [CacheType::F32, CacheType::F16, CacheType::Q8_0]);
    assert_eq!(CacheType::ALL, named);
    let error = "q4_0".parse::<CacheType>().expect_err("no such type");
    assert_eq!(
        error.to_string(),
        "no cache type \"q4_0\"; there are: f32, f16, q8_0"
    );
}
