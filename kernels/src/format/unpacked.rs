//! Rows unpacked to a byte a value, in memory of their own.
//!
//! The products are compiled for each format that they read as it lies in the file. Formats that few
//! files have, or whose quants have to be found one by one, are unpacked into this form first, a few
//! rows at a time, so that they stay in the cache; then all of them take the same way. What that adds
//! is little beside finding the quants.

use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Mins, Order, PackedFormat, QuantFormat, UNIT};
use crate::dot::prefetch;
use crate::level::Level;
use crate::matrix::Matrix;
use crate::simd::{Kernel, Line, Quants, Simd};

/// 256 values with a scale per `SUB` (16 or 32). `value = scale * (quant - OFFSET)`.
pub(crate) struct Unpacked<Q, const SUB: usize, const OFFSET: i32>(PhantomData<Q>);

/// A unit of an unpacked row.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct UnpackedUnit {
    /// In their order.
    quants: [Line; 4],
    /// As [`QuantFormat::scales`] has them.
    scales: Line,
}

impl<Q: Quants, const SUB: usize, const OFFSET: i32> BlockFormat for Unpacked<Q, SUB, OFFSET> {
    type Block = UnpackedUnit;
    const ELEMENTS: usize = UNIT;

    fn dequantize(block: &UnpackedUnit, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let quant = i32::from(block.quants[i / 64].0[i % 64]) - OFFSET;
            *value = block.scales.floats()[i / SUB] * quant as f32;
        }
    }
}

impl<Q: Quants, const SUB: usize, const OFFSET: i32> QuantFormat for Unpacked<Q, SUB, OFFSET> {
    type Unit = UnpackedUnit;
    type Quants = Q;
    const SUB: usize = SUB;
    const OFFSET: i32 = OFFSET;
    const MINS: Mins = Mins::None;
    const ORDER: Order = Order::Sequential;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &UnpackedUnit, half: usize) -> [S::Bytes; 2] {
        [
            simd.load_bytes(&unit.quants[2 * half].0),
            simd.load_bytes(&unit.quants[2 * half + 1].0),
        ]
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &UnpackedUnit) -> S::Floats {
        simd.load(unit.scales.floats())
    }
}

/// Unpacks all rows of a matrix, each into whole units.
pub(crate) type Unpack = fn(Level, Matrix<'_>, &mut Vec<UnpackedUnit>);

/// [`Unpack`] for a format.
pub(crate) fn unpack_rows<F: PackedFormat>(
    level: Level,
    rows: Matrix<'_>,
    units: &mut Vec<UnpackedUnit>,
) {
    level.run(UnpackRows::<F>(rows, units, PhantomData));
}

struct UnpackRows<'a, F>(Matrix<'a>, &'a mut Vec<UnpackedUnit>, PhantomData<F>);

impl<F: PackedFormat> Kernel for UnpackRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(rows, units, _) = self;
        let row_units = rows.cols().div_ceil(UNIT);
        units.resize(rows.rows() * row_units, UnpackedUnit::zeroed());
        for (row, units) in units.chunks_exact_mut(row_units).enumerate() {
            let bytes = rows.row(row);
            for (packed, unit) in bytes.chunks(size_of::<F::Unit>()).zip(units) {
                prefetch(simd, packed);
                let copy;
                let packed = if packed.len() == size_of::<F::Unit>() {
                    bytemuck::from_bytes(packed)
                } else {
                    let mut blocks = F::Unit::zeroed();
                    bytemuck::bytes_of_mut(&mut blocks)[..packed.len()].copy_from_slice(packed);
                    copy = blocks;
                    &copy
                };
                unpack_unit::<S, F>(simd, packed, unit);
            }
        }
    }
}

#[inline(always)]
fn unpack_unit<S: Simd, F: PackedFormat>(simd: S, packed: &F::Unit, unit: &mut UnpackedUnit) {
    for vector in 0..4 {
        let quants = F::quants(simd, packed, vector);
        simd.store_bytes(quants, &mut unit.quants[vector].0);
    }
    simd.store(F::scales(simd, packed), unit.scales.floats_mut());
}
