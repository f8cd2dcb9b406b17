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
            gate_mul(level, Activation::Silu, &mut silu, &vec![0.5; count]);
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
        activate(level, Activation::Silu, &mut large);
        assert_eq!(large[1], 1e30, "{level}");
        assert!(
            large[0].abs() < 1e-6 && large[3] == 0.0,
            "{level}: {large:?}"
        );
    }
}

#[test]
fn the_delta_rule_follows_its_formula() {
    for level in levels() {
        for (key_dim, value_dim) in [(1, 1), (16, 16), (24, 20), (128, 128)] {
            let floats = |seed, count| Random(seed).floats(count);
            let (query, key) = (floats(1, key_dim), floats(2, key_dim));
            let value = floats(3, value_dim);
            let mut state = floats(4, key_dim * value_dim);
            let mut out = vec![9.0; value_dim];
            let (decay, rate) = (0.75, 0.3);
            let mut expected = doubles(&state);
            let products = |row: &[f64], with: &[f32]| {
                let pairs = row.iter().zip(doubles(with));
                pairs.map(|(a, b)| a * b).sum::<f64>()
            };
            let mut expected_out = Vec::new();
            for (row, value) in expected.chunks_mut(key_dim).zip(doubles(&value)) {
                row.iter_mut().for_each(|x| *x *= f64::from(decay));
                let error = f64::from(rate) * (value - products(row, &key));
                for (x, key) in row.iter_mut().zip(doubles(&key)) {
                    *x += error * key;
                }
                expected_out.push(products(row, &query));
            }
            let step = DeltaStep {
                query: &query,
                key: &key,
                value: &value,
                decay,
                rate,
            };
            delta_step(level, step, &mut state, &mut out);
            close(&state, &expected, 1e-5);
            close(&out, &expected_out, 1e-5);
        }
    }
}

#[test]
fn layer_norm_follows_its_formula() {
    for level in levels() {
        for cols in [1, 15, 16, 40, 576] {
            let rows: Vec<f32> = Random(1).floats(3 * cols).iter().map(|x| x + 0.5).collect();
            let weight = Random(2).floats(cols);
            let mut out = vec![0.0; rows.len()];
            layer_norm(level, &rows, &weight, 1e-3, &mut out);
            for (row, out) in rows.chunks(cols).zip(out.chunks(cols)) {
                let row = doubles(row);
                let mean = row.iter().sum::<f64>() / cols as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols as f64;
                let scale = 1.0 / (variance + f64::from(1e-3_f32)).sqrt();
                let expected = row
                    .iter()
                    .zip(doubles(&weight))
                    .map(|(x, w)| (x - mean) * scale * w);
                close(out, &expected.collect::<Vec<_>>(), 1e-5);
            }
        }
    }
}

#[test]
fn activations_and_soft_caps_follow_their_formulas() {
    let formula = |activation: Activation, x: f64| match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (scale * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Activation::ClampedSilu => x.min(7.0) / (1.0 + (-1.702 * x.min(7.0)).exp()),
    };
    for level in levels() {
        for count in [1, 7, 16, 100] {
            let values: Vec<f32> = Random(3).floats(count).iter().map(|x| x * 20.0).collect();
            let up: Vec<f32> = Random(4).floats(count).iter().map(|x| x * 20.0).collect();
            let pairs = || doubles(&values).into_iter().zip(doubles(&up));
            for activation in [Activation::Silu, Activation::Gelu, Activation::ClampedSilu] {
                let mut gated = values.clone();
                gate_mul(level, activation, &mut gated, &up);
                let factor = |up: f64| match activation {
                    Activation::ClampedSilu => up.clamp(-7.0, 7.0) + 1.0,
                    _ => up,
                };
                let expected = pairs().map(|(x, up)| formula(activation, x) * factor(up));
                close(&gated, &expected.collect::<Vec<_>>(), 2e-6);
            }
            let mut plain = values.clone();
            activate(level, Activation::Gelu, &mut plain);
            let expected = pairs().map(|(x, _)| formula(Activation::Gelu, x));
            close(&plain, &expected.collect::<Vec<_>>(), 2e-6);
            let mut gated = values.clone();
            sigmoid_mul(level, &mut gated, &up);
            let expected = pairs().map(|(x, gate)| x / (1.0 + (-gate).exp()));
            close(&gated, &expected.collect::<Vec<_>>(), 2e-6);
            let mut capped = values.clone();
            soft_cap(level, 5.0, &mut capped);
            let expected = pairs().map(|(x, _)| 5.0 * (x / 5.0).tanh());
            close(&capped, &expected.collect::<Vec<_>>(), 2e-6);
        }
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
    attention: &Attention<'_>,
    (keys, key_dim): (&[f32], usize),
    (values, value_dim): (&[f32], usize),
) -> Vec<Naive> {
    let (queries, keys, values) = (doubles(attention.queries), doubles(keys), doubles(values));
    let rows = queries.chunks(key_dim).zip(attention.visible).enumerate();
    let row = |(row, (query, visible)): (usize, (&[f64], &Range<usize>))| {
        let score = |p: usize| {
            let pairs = query.iter().zip(&keys[p * key_dim..]);
            let mut score = pairs.map(|(q, k)| q * k).sum::<f64>();
            if let Some(cap) = attention.soft_cap.map(f64::from) {
                score = cap * (score / cap).tanh();
            }
            let bias = attention.alibi.get(row);
            score
                + bias.map_or(0.0, |alibi| {
                    f64::from(alibi.slope) * (p as f64 - alibi.position as f64)
                })
        };
        let scores: Vec<f64> = visible.clone().map(score).collect();
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        let value = |i: usize| {
            let weighted = visible.clone().zip(&scores);
            let total: f64 = weighted
                .map(|(p, score)| score.exp() * values[p * value_dim + i])
                .sum();
            total / if sum > 0.0 { sum } else { 1.0 }
        };
        Naive {
            out: (0..value_dim).map(value).collect(),
            scores,
        }
    };
    rows.map(row).collect()
}

/// What attention gives for a row, and what the softmax is of.
struct Naive {
    out: Vec<f64>,
    scores: Vec<f64>,
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
    for (level, &cache_type) in levels().flat_map(|level| {
        CacheType::ALL
            .iter()
            .map(move |cache_type| (level, cache_type))
    }) {
        for (key_dim, value_dim, positions, rows, soft_cap) in [
            (16, 16, 1, 1, None),
            (64, 64, 5, 7, None),
            (80, 80, 300, 9, None),
            (40, 72, 700, 3, Some(1.5)),
            (128, 33, 257, 20, None),
        ] {
            let layout = |dim| HeadLayout::new(cache_type, dim, positions).expect("a small size");
            let queries: Vec<f32> = Random(5)
                .floats(rows * key_dim)
                .iter()
                .map(|x| x * 2.0)
                .collect();
            let (keys, key_lines) = head(level, layout(key_dim), Side::Keys, positions);
            let (values, value_lines) = head(level, layout(value_dim), Side::Values, positions);
            // Causal, a window, and a row that sees nothing.
            let visible: Vec<_> = (0..rows)
                .map(|row| match row % 3 {
                    0 => 0..positions - row.min(positions - 1),
                    1 => positions / 2..positions,
                    _ => 0..0,
                })
                .collect();
            let alibi: Vec<_> = (0..rows)
                .map(|row| Alibi {
                    slope: 0.5 / (row + 1) as f32,
                    position: positions - 1,
                })
                .collect();
            for alibi in [&alibi[..], &[]] {
                let mut out = vec![9.0; rows * value_dim];
                let attention = Attention {
                    queries: &queries,
                    visible: &visible,
                    alibi,
                    soft_cap,
                    keys: (layout(key_dim), &key_lines),
                    values: (layout(value_dim), &value_lines),
                };
                attend(level, attention, &mut scratch, &mut out);
                let naive = naive_attention(&attention, (&keys, key_dim), (&values, value_dim));
                let found = out.chunks(value_dim).zip(scratch.softmax());
                for (naive, (out, [largest, sum])) in naive.iter().zip(found) {
                    close(out, &naive.out, 2e-5);
                    let exponentials = naive
                        .scores
                        .iter()
                        .map(|score| (score - f64::from(*largest)).exp());
                    close(&[*sum], &[exponentials.sum()], 1e-4);
                }
            }
        }
    }
}

#[test]
fn a_position_lies_in_the_lines_that_it_uses() {
    let level = Level::detect();
    for &cache_type in CacheType::ALL {
        for dim in [16, 40, 64, 80] {
            let layout = HeadLayout::new(cache_type, dim, 100).expect("a small size");
            for side in [Side::Keys, Side::Values] {
                for positions in [0, 1, 15, 16, 17, 99] {
                    let mut lines = vec![bytemuck::cast([0_u8; 64]); layout.lines()];
                    for position in 0..positions {
                        layout.store(level, side, &mut lines, position, &vec![1.0; dim]);
                    }
                    let used = layout.used(side, positions);
                    for (place, line) in lines.iter().enumerate() {
                        let is_written = bytemuck::cast::<Line, [u8; 64]>(*line) != [0; 64];
                        let is_used = used.iter().any(|range| range.contains(&place));
                        assert!(is_used || !is_written, "{cache_type} {side:?} line {place}");
                    }
                }
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
