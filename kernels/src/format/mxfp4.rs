//! MXFP4: 32 floats of 4 bits (E2M1), one power of two as their scale (E8M0), as the OCP
//! Microscaling Formats define them. `value = scale * TABLE[quant]`.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Mins, Order, QuantFormat, nibble, nibbles_of_four, part};
use crate::simd::{FiveBits, Simd};

/// Twice the values of E2M1: sign, two bits of exponent, one of mantissa.
pub(super) const TABLE: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

pub(crate) struct MXFP4;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    /// The scale is 2 to the power of this less 127; less 128 with a table of doubled values.
    exponent: u8,
    /// Low nibbles: values 0..16; high nibbles: values 16..32.
    quants: [u8; 16],
}

impl BlockFormat for MXFP4 {
    type Block = Block;
    const ELEMENTS: usize = 32;

    fn dequantize(block: &Block, values: &mut [f32]) {
        let scale = match block.exponent {
            0 => f32::from_bits(1 << 21),
            1 => f32::from_bits(1 << 22),
            exponent => f32::from_bits(u32::from(exponent - 1) << 23),
        };
        for (i, value) in values.iter_mut().enumerate() {
            *value = f32::from(TABLE[usize::from(nibble(&block.quants, i))]) * scale;
        }
    }
}

/// The table with `offset` added to all values.
pub(super) const fn raised(offset: i8) -> [i8; 16] {
    let mut table = TABLE;
    let mut i = 0;
    while i < 16 {
        table[i] += offset;
        i += 1;
    }
    table
}

impl QuantFormat for MXFP4 {
    type Unit = [Block; 8];
    type Quants = FiveBits;
    const SUB: usize = 32;
    const OFFSET: i32 = 12;
    const MINS: Mins = Mins::None;
    const ORDER: Order = Order::LowHalves;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, half: usize) -> [S::Bytes; 2] {
        let [a, b, c, d]: &[Block; 4] = part(unit, 4 * half);
        let [low, high] = nibbles_of_four(simd, [&a.quants, &b.quants, &c.quants, &d.quants]);
        let table = const { raised(Self::OFFSET as i8) };
        [simd.lookup(&table, low), simd.lookup(&table, high)]
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats {
        // Denormal scales, of blocks of zeros, are zero here: products with them would be slow.
        let mut scales = [0.0; 16];
        for (lane, scale) in scales.iter_mut().enumerate() {
            let exponent = unit[lane % 8].exponent.saturating_sub(1);
            *scale = f32::from_bits(u32::from(exponent) << 23);
        }
        simd.load(&scales)
    }
}
