//! TQ1_0: 256 values of -1, 0 or 1, five to a byte, one f16 scale. `value = scale * (quant - 1)`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat};
use crate::simd::{Nibbles, Simd};

pub(crate) struct TQ1_0;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    /// Values 32n + i: digit n (0..5) of byte i.
    first: [u8; 32],
    /// Values 160 + 16n + i: digit n (0..5) of byte i.
    second: [u8; 16],
    /// Values 240 + 4n + i: digit n (0..4) of byte i.
    third: [u8; 4],
    scale: Half,
}

/// Digit `n` behind the point, to base 3, of a byte as a fraction of 256; `power` is 3 to the `n`.
#[inline(always)]
fn digit(byte: u8, power: u8) -> u8 {
    ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as u8
}

impl BlockFormat for TQ1_0 {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let (byte, n) = match i {
                0..160 => (block.first[i % 32], i / 32),
                160..240 => (block.second[i % 16], (i - 160) / 16),
                _ => (block.third[i % 4], (i - 240) / 4),
            };
            let quant = digit(byte, 3_u8.pow(n as u32));
            *value = (f32::from(quant) - 1.0) * block.scale.to_f32();
        }
    }
}

/// The powers of 3 for the digits of each sixteen values.
const POWERS: [[[u8; 16]; 4]; 4] = [
    [[1; 16], [1; 16], [3; 16], [3; 16]],
    [[9; 16], [9; 16], [27; 16], [27; 16]],
    [[81; 16], [81; 16], [1; 16], [3; 16]],
    [
        [9; 16],
        [27; 16],
        [81; 16],
        [1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27],
    ],
];

impl PackedFormat for TQ1_0 {
    type Unit = Block;
    type Unpacked = Unpacked<Nibbles, 32, 1>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, vector: usize) -> S::Bytes {
        let [low, high]: [[u8; 16]; 2] = bytemuck::cast(unit.first);
        let (second, third) = (unit.second, bytemuck::cast([unit.third; 4]));
        let bytes = match vector {
            0 | 1 => [low, high, low, high],
            2 => [low, high, second, second],
            _ => [second, second, second, third],
        };
        let (bytes, powers): ([u8; 64], [u8; 64]) =
            (bytemuck::cast(bytes), bytemuck::cast(POWERS[vector]));
        // A loop over arrays, which becomes vectors of the instruction set.
        let mut quants = [0; 64];
        for i in 0..64 {
            quants[i] = digit(bytes[i], powers[i]);
        }
        simd.load_bytes(&quants)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        simd.splat_f16(unit.scale.bits())
    }
}
