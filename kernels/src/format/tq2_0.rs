//! TQ2_0: 256 values of -1, 0 or 1, two bits each, one f16 scale. `value = scale * (quant - 1)`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat, part};
use crate::simd::{Nibbles, Simd};

pub(crate) struct TQ2_0;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    /// Values 128n + 32j + i: bits 2j and 2j + 1 of byte 32n + i.
    quants: [u8; 64],
    scale: Half,
}

impl BlockFormat for TQ2_0 {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let quant = block.quants[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
            *value = (f32::from(quant) - 1.0) * block.scale.to_f32();
        }
    }
}

impl PackedFormat for TQ2_0 {
    type Unit = Block;
    type Unpacked = Unpacked<Nibbles, 32, 1>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, vector: usize) -> S::Bytes {
        let first = 4 * (vector % 2) as i32;
        let bytes = part(&unit.quants, 32 * (vector / 2));
        simd.field(simd.shift_halves(bytes, [first, first + 2]), 0, 3)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        simd.splat_f16(unit.scale.bits())
    }
}
