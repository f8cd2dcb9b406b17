use std::ops::Range;

use super::*;
use crate::format::Format;
use crate::inputs::{groups, most_alike};
use crate::testing::{NaiveMatrix, Random, levels, through_int8};

/// Products of random matrices and inputs, against f64 products of the dequantised values.
fn check(format: Format, level: Level, rows: usize, cols: usize, tokens: usize) {
    let matrix = NaiveMatrix::random(format, rows, cols);
    let inputs = Random(tokens as u64).floats(tokens * cols);
    check_product(level, &matrix, (format, rows, cols), &inputs);
}

fn check_product(
    level: Level,
    matrix: &NaiveMatrix,
    (format, rows, cols): (Format, usize, usize),
    inputs: &[f32],
) {
    let tokens = inputs.len() / cols;
    let mut filled: Vec<_> = groups(level, tokens)
        .map(|tokens| {
            let mut group = InputGroup::new();
            group.fill(level, &inputs[tokens.start * cols..tokens.end * cols], cols);
            group
        })
        .collect();
    // Filling again must not leave anything of the first time behind.
    for (group, tokens) in filled.iter_mut().zip(groups(level, tokens)) {
        group.fill(level, &inputs[tokens.start * cols..tokens.end * cols], cols);
    }
    let mut out = vec![1.0; tokens * rows];
    let mut scratch = Scratch::new();
    for (store, before) in [(Store::Replace, 0.0), (Store::Add, 1.0)] {
        out.fill(1.0);
        matmul(
            level,
            matrix.view(),
            &filled,
            &mut scratch,
            store,
            ColumnsMut::new(&mut out, rows),
        );
        for (input, out) in inputs.chunks(cols).zip(out.chunks(rows)) {
            let seen = if format.is_float() {
                input.to_vec()
            } else {
                through_int8(input)
            };
            for (row, ((sum, size), out)) in matrix.product(&seen).into_iter().zip(out).enumerate()
            {
                let error = (f64::from(*out) - sum - before).abs();
                assert!(
                    error <= 4e-6 * size + 1e-6,
                    "{} {level} [{rows}, {cols}] x {tokens}, row {row}: {out} is not {sum} + {before}",
                    format.name()
                );
            }
        }
    }
}

#[test]
fn products_equal_the_naive_ones() {
    for level in levels() {
        for &format in Format::ALL {
            let step = format.block_elements();
            for cols in [
                step,
                3 * step,
                7 * step.min(64),
                9 * step.max(32),
                896,
                1024,
            ] {
                if cols % step != 0 {
                    continue;
                }
                for (rows, tokens) in [(1, 1), (5, 1), (1, 2), (16, 3), (6, 4), (40, 5), (33, 7)] {
                    check(format, level, rows, cols, tokens);
                }
            }
        }
    }
}

/// Where sums are held in 16 bits, or operands saturate, it would show here.
#[test]
fn the_largest_quants_and_inputs_do_not_overflow() {
    let (rows, cols) = (17, 512);
    for level in levels() {
        for &format in Format::ALL {
            let bytes: &[u8] = match format {
                Format::Q8_0 => &[0x7f, 0x80],
                Format::IQ4_NL | Format::IQ4_XS => &[0x00, 0xff],
                Format::MXFP4 | Format::NVFP4 => &[0x77, 0xff],
                format if format.is_float() => &[],
                _ => &[0xff],
            };
            for &byte in bytes {
                let matrix = NaiveMatrix::filled(format, rows, cols, byte);
                for tokens in [1, 8] {
                    for input in [1.0, -1.0] {
                        let inputs = vec![input; tokens * cols];
                        check_product(level, &matrix, (format, rows, cols), &inputs);
                    }
                }
            }
        }
    }
}

/// A thread's share of a small matrix can be empty.
#[test]
fn no_rows_are_a_product_too() {
    for level in levels() {
        for tokens in 1..20 {
            let inputs: Vec<_> = groups(level, tokens)
                .map(|range| {
                    let mut group = InputGroup::new();
                    group.fill(level, &vec![1.0; range.len() * 64], 64);
                    group
                })
                .collect();
            let matrix = NaiveMatrix::random(Format::Q8_0, 3, 64);
            let mut out = vec![1.0; tokens * 3];
            let none = ColumnsMut::new(&mut out, 3).narrow(1..1);
            let rows = matrix.view().narrow(1..1);
            matmul(level, rows, &inputs, &mut Scratch::new(), Store::Add, none);
            assert!(out.iter().all(|&value| value == 1.0), "{level}");
        }
    }
}

#[test]
fn a_part_of_the_rows_gives_the_same_values() {
    let matrix = NaiveMatrix::random(Format::Q4_K, 70, 512);
    let inputs = Random(1).floats(2 * 512);
    for level in levels() {
        let mut group = InputGroup::new();
        group.fill(level, &inputs, 512);
        let group = [group];
        let mut scratch = Scratch::new();
        let mut whole = vec![0.0; 2 * 70];
        let out = ColumnsMut::new(&mut whole, 70);
        matmul(
            level,
            matrix.view(),
            &group,
            &mut scratch,
            Store::Replace,
            out,
        );
        let mut parts = vec![0.0; 2 * 70];
        for range in [0..32, 32..70] {
            let out = ColumnsMut::new(&mut parts, 70).narrow(range.clone());
            matmul(
                level,
                matrix.view().narrow(range),
                &group,
                &mut scratch,
                Store::Replace,
                out,
            );
        }
        assert_eq!(whole, parts, "{level}");
    }
}

/// The kernels read whole units of 256 values, which reach into the next row.
#[test]
fn an_infinite_scale_stays_in_its_row() {
    let (rows, cols) = (20, 32 * 3);
    let inputs = Random(2).floats(2 * cols);
    for level in levels() {
        for &format in Format::ALL {
            if format.block_elements() != 32 || format == Format::MXFP4 {
                continue; // No unit reaches into the next row, or no scale is infinite.
            }
            let matrix = NaiveMatrix::random(format, rows, cols);
            let mut bytes = matrix.view().bytes().to_vec();
            let row_bytes = bytes.len() / rows;
            for block in bytes[row_bytes..2 * row_bytes].chunks_mut(format.block_bytes()) {
                block[..4].copy_from_slice(&[0x00, 0x7c, 0x00, 0x7c]);
            }
            let spoiled = Matrix::new(format, rows, cols, &bytes).expect("as many bytes as before");
            for tokens in [1, 2] {
                let inputs = &inputs[..tokens * cols];
                let (good, bad) = (
                    product(level, matrix.view(), inputs),
                    product(level, spoiled, inputs),
                );
                for (index, (good, bad)) in good.into_iter().zip(bad).enumerate() {
                    let finite = index % rows != 1;
                    assert_eq!(
                        bad.is_finite(),
                        finite,
                        "{} {level}: element {index}",
                        format.name()
                    );
                    assert!(
                        !finite || good == bad,
                        "{} {level}: element {index}",
                        format.name()
                    );
                }
            }
        }
    }
}

/// `inputs` times a matrix, in one group.
fn product(level: Level, matrix: Matrix<'_>, inputs: &[f32]) -> Vec<f32> {
    let all = 0..inputs.len() / matrix.cols();
    product_in(level, matrix, inputs, std::slice::from_ref(&all))
}

/// `inputs` times a matrix, in these groups.
fn product_in(
    level: Level,
    matrix: Matrix<'_>,
    inputs: &[f32],
    groups: &[Range<usize>],
) -> Vec<f32> {
    let cols = matrix.cols();
    let filled = groups.iter().map(|tokens| {
        let mut group = InputGroup::new();
        group.fill(level, &inputs[tokens.start * cols..tokens.end * cols], cols);
        group
    });
    let filled: Vec<_> = filled.collect();
    let mut out = vec![0.0; inputs.len() / matrix.cols() * matrix.rows()];
    let columns = ColumnsMut::new(&mut out, matrix.rows());
    matmul(
        level,
        matrix,
        &filled,
        &mut Scratch::new(),
        Store::Replace,
        columns,
    );
    out
}

#[test]
fn a_few_tokens_give_the_bits_of_each_alone() {
    for level in levels() {
        for &format in Format::ALL {
            let cols = if 896 % format.block_elements() == 0 {
                896
            } else {
                768
            };
            let matrix = NaiveMatrix::random(format, 11, cols);
            for tokens in 2..=most_alike(level) {
                let inputs = Random(tokens as u64).floats(tokens * cols);
                let groups: Vec<_> = groups(level, tokens).collect();
                let together = product_in(level, matrix.view(), &inputs, &groups);
                let alone = inputs
                    .chunks(cols)
                    .map(|input| product(level, matrix.view(), input));
                let alone: Vec<f32> = alone.flatten().collect();
                assert!(together == alone, "{} {level} x {tokens}", format.name());
            }
        }
    }
}
