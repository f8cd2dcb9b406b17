//! IQ4_XS: 256 values of 4 bits that number the entries of IQ4_NL's table, a 6-bit scale per 32.
//! `value = scale * TABLE[quant]`.

use bytemuck::{Pod, Zeroable};

use super::iq4_nl::TABLE;
use super::{BlockFormat, Half, Mins, Order, QuantFormat, nibble, nibbles, part, spread_nibbles};
use crate::simd::{Signed, Simd};

pub(crate) struct IQ4_XS;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    scale: Half,
    /// Two high bits of scale j plus 32: bits 2j and 2j + 1.
    high: [u8; 2],
    /// Its four low bits: nibble j % 2 of byte j / 2.
    low: [u8; 4],
    /// Values 32j + i: low nibbles of bytes 16j + i; values 32j + 16 + i: their high nibbles.
    quants: [[u8; 16]; 8],
}

impl Block {
    /// Scale `index` (0..8) plus 32.
    fn sub_scale(&self, index: usize) -> u8 {
        let low = self.low[index / 2] >> (4 * (index % 2)) & 15;
        let high = u16::from_le_bytes(self.high) >> (2 * index) & 3;
        low | (high as u8) << 4
    }
}

impl BlockFormat for IQ4_XS {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let scale = block.scale.to_f32() * (f32::from(block.sub_scale(i / 32)) - 32.0);
            let nibble = nibble(&block.quants[i / 32], i % 32);
            *value = scale * f32::from(TABLE[usize::from(nibble)]);
        }
    }
}

impl QuantFormat for IQ4_XS {
    type Unit = Block;
    type Quants = Signed;
    const SUB: usize = 32;
    const OFFSET: i32 = 0;
    const MINS: Mins = Mins::None;
    const ORDER: Order = Order::LowHalves;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, half: usize) -> [S::Bytes; 2] {
        let bytes = part(unit.quants.as_flattened(), 64 * half);
        let [low, high] = nibbles(simd, simd.load_bytes(bytes));
        [simd.lookup(&TABLE, low), simd.lookup(&TABLE, high)]
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        // Nibbles and pairs of bits, each spread to bytes.
        let low = spread_nibbles(u32::from_le_bytes(unit.low));
        let high = spread_nibbles(spread_pairs(u16::from_le_bytes(unit.high)));
        let scales = (low | high << 4).to_le();
        let scales = simd.floats_of_u8(bytemuck::cast([scales; 2]));
        simd.mul(
            simd.sub(scales, simd.splat(32.0)),
            simd.splat_f16(unit.scale.bits()),
        )
    }
}

/// Each pair of bits in a nibble of its own.
#[inline(always)]
fn spread_pairs(pairs: u16) -> u32 {
    let wide = u32::from(pairs);
    let wide = (wide | wide << 8) & 0x00ff_00ff;
    let wide = (wide | wide << 4) & 0x0f0f_0f0f;
    (wide | wide << 2) & 0x3333_3333
}
