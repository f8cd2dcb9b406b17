//! Unpacking rows into a panel: 16 of them to a vector, integers with their scales and mins, or floats.

use bytemuck::Pod;

use super::LANES;
use crate::format::{FloatFormat, QuantFormat, UNIT, stored_quants};
use crate::inputs::BLOCK;
use crate::matrix::Matrix;
use crate::simd::{Line, Quants, Simd};

/// Lines of a sub-block of `sub` values, with mins or without.
pub(super) const fn sub_block_lines<S: Simd, Q: Quants>(sub: usize, mins: bool) -> usize {
    let behind = mins || leaves_out::<S, Q>();
    (sub / 4 + 1 + behind as usize) * S::TILE_VECTORS
}

/// Whether the panel has what [`Simd::left_out`] finds, where other formats have mins.
pub(super) const fn leaves_out<S: Simd, Q: Quants>() -> bool {
    S::LEAVES_OUT && Q::SIGNED
}

/// Lines of a sub-block of a format.
const fn lines_of<S: Simd, F: QuantFormat>() -> usize {
    assert!(!(F::Quants::SIGNED && F::MINS.exist()));
    sub_block_lines::<S, F::Quants>(F::SUB, F::MINS.exist())
}

/// Lines of 32 columns.
pub(super) const fn block_lines<S: Simd, F: QuantFormat>() -> usize {
    BLOCK / F::SUB * lines_of::<S, F>()
}

/// Unpacks 16 rows, from `first` on, into vector `vector` of the panel.
#[inline(always)]
pub(super) fn unpack_quants<S: Simd, F: QuantFormat>(
    simd: S,
    weights: &Matrix<'_>,
    first: usize,
    vector: usize,
    panel: &mut [Line],
) {
    let rows = panel_rows(weights, first);
    let unit_lines = UNIT / F::SUB * lines_of::<S, F>();
    for (unit, lines) in panel.chunks_exact_mut(unit_lines).enumerate() {
        let copies;
        let units = match units_in_place(&rows, unit) {
            Some(units) => units,
            None => {
                copies = copy_units(&rows, unit);
                copies.each_ref()
            }
        };
        unpack_unit::<S, F>(simd, units, vector, lines);
    }
}

/// The bytes from 16 rows of a panel on; behind the last row of the matrix it is repeated, and not
/// stored.
#[inline(always)]
fn panel_rows<'a>(weights: &Matrix<'a>, first: usize) -> [&'a [u8]; LANES] {
    std::array::from_fn(|row| weights.rows_from((first + row).min(weights.rows() - 1)))
}

/// Unit number `unit` of each row. The last one may be partial: then the next row's bytes follow,
/// and what they become in the panel is not to be read. `None` where the matrix ends before.
#[inline(always)]
fn units_in_place<'a, U: Pod>(rows: &[&'a [u8]; LANES], unit: usize) -> Option<[&'a U; LANES]> {
    let range = unit * size_of::<U>()..(unit + 1) * size_of::<U>();
    let fits = range.end <= rows[LANES - 1].len();
    fits.then(|| rows.map(|bytes| bytemuck::from_bytes(&bytes[range.clone()])))
}

/// The same at the end of the matrix, with zeros behind it.
#[cold]
fn copy_units<U: Pod>(rows: &[&[u8]; LANES], unit: usize) -> [U; LANES] {
    rows.map(|bytes| {
        let bytes = &bytes[unit * size_of::<U>()..];
        let mut copy = U::zeroed();
        let count = bytes.len().min(size_of::<U>());
        bytemuck::bytes_of_mut(&mut copy)[..count].copy_from_slice(&bytes[..count]);
        copy
    })
}

#[inline(always)]
fn unpack_unit<S: Simd, F: QuantFormat>(
    simd: S,
    units: [&F::Unit; LANES],
    vector: usize,
    lines: &mut [Line],
) {
    // Loops, not closures and `map`: those may stay calls, which pass vectors through memory.
    let mut rows = [simd.bits(simd.splat(0.0)); LANES];
    for half in 0..2 {
        let mut vectors = [rows; 2];
        for row in 0..LANES {
            let [first, second] = stored_quants::<S, F>(simd, units[row], half);
            vectors[0][row] = first;
            vectors[1][row] = second;
        }
        for (half_vector, rows) in vectors.into_iter().enumerate() {
            let columns = simd.transpose(rows);
            for (column, quants) in columns.into_iter().enumerate() {
                let sixteen = F::ORDER.sixteens()[4 * half_vector + column / 4];
                let step = 32 * half + 4 * sixteen + column % 4;
                let line = panel_line::<S, F>(step / steps::<F>(), step % steps::<F>(), vector);
                simd.store_bytes(quants, &mut lines[line].0);
            }
        }
    }
    for row in 0..LANES {
        rows[row] = simd.bits(F::scales(simd, units[row]));
    }
    let (scales, mins) = (steps::<F>(), steps::<F>() + 1);
    let columns = simd.transpose(rows);
    let (first, behind) = columns.split_at(UNIT / F::SUB);
    store_scales::<S, F>(simd, first, scales, vector, lines);
    if F::MINS.exist() && F::SUB == 32 {
        store_scales::<S, F>(simd, behind, mins, vector, lines);
    } else if F::MINS.exist() {
        for row in 0..LANES {
            rows[row] = simd.bits(F::mins(simd, units[row]));
        }
        store_scales::<S, F>(simd, &simd.transpose(rows), mins, vector, lines);
    } else if leaves_out::<S, F::Quants>() {
        for lines in lines.chunks_exact_mut(lines_of::<S, F>()) {
            let mut sums = simd.splat_int(0);
            for step in 0..steps::<F>() {
                let quants = &lines[panel_line::<S, F>(0, step, vector)];
                sums = simd.left_out(sums, simd.load_bytes(&quants.0));
            }
            let scales = simd.load(lines[panel_line::<S, F>(0, scales, vector)].floats());
            let left_out = simd.bits(simd.mul(simd.to_floats(sums), scales));
            simd.store_bytes(left_out, &mut lines[panel_line::<S, F>(0, mins, vector)].0);
        }
    }
}

/// Lines of quants in a sub-block.
const fn steps<F: QuantFormat>() -> usize {
    F::SUB / 4
}

/// Puts the scales or mins of 16 rows behind the quants of their sub-blocks.
#[inline(always)]
fn store_scales<S: Simd, F: QuantFormat>(
    simd: S,
    scales: &[S::Bytes],
    index: usize,
    vector: usize,
    lines: &mut [Line],
) {
    for (sub_block, &scales) in scales.iter().enumerate() {
        let line = panel_line::<S, F>(sub_block, index, vector);
        simd.store_bytes(scales, &mut lines[line].0);
    }
}

/// Where a vector of the panel lies in the lines of its unit.
const fn panel_line<S: Simd, F: QuantFormat>(
    sub_block: usize,
    index: usize,
    vector: usize,
) -> usize {
    sub_block * lines_of::<S, F>() + index * S::TILE_VECTORS + vector
}

/// Unpacks 16 rows, from `first` on, into vector `vector` of the panel. Columns behind the last one
/// are not to be read.
#[inline(always)]
pub(super) fn unpack_floats<S: Simd, F: FloatFormat>(
    simd: S,
    weights: &Matrix<'_>,
    first: usize,
    vector: usize,
    panel: &mut [Line],
) {
    let rows = panel_rows(weights, first);
    let panel_chunks = panel.chunks_exact_mut(LANES * S::TILE_VECTORS);
    for (chunk, lines) in panel_chunks.enumerate() {
        let copies;
        let chunks = match units_in_place(&rows, chunk) {
            Some(chunks) => chunks,
            None => {
                copies = copy_units(&rows, chunk);
                copies.each_ref()
            }
        };
        unpack_chunk::<S, F>(simd, chunks, vector, lines);
    }
}

#[inline(always)]
fn unpack_chunk<S: Simd, F: FloatFormat>(
    simd: S,
    chunks: [&F::Chunk; LANES],
    vector: usize,
    lines: &mut [Line],
) {
    let mut values = [simd.bits(simd.splat(0.0)); LANES];
    for row in 0..LANES {
        values[row] = simd.bits(F::floats(simd, chunks[row]));
    }
    let columns = simd.transpose(values);
    for (column, values) in columns.into_iter().enumerate() {
        simd.store_bytes(values, &mut lines[column * S::TILE_VECTORS + vector].0);
    }
}
