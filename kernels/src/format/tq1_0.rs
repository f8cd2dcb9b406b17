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

/// Digit `n` behind the point, to base 3, of a byte as a fraction of 256.
#[inline(always)]
fn digit(byte: u8, n: usize) -> u8 {
    let rest = byte.wrapping_mul([1, 3, 9, 27, 81][n]);
    ((u16::from(rest) * 3) >> 8) as u8
}

impl BlockFormat for TQ1_0 {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let quant = match i {
                0..160 => digit(block.first[i % 32], i / 32),
                160..240 => digit(block.second[i % 16], (i - 160) / 16),
                _ => digit(block.third[i % 4], (i - 240) / 4),
            };
            *value = (f32::from(quant) - 1.0) * block.scale.to_f32();
        }
    }
}

impl PackedFormat for TQ1_0 {
    type Unit = Block;
    type Unpacked = Unpacked<Nibbles, 32, 1>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, half: usize) -> [S::Bytes; 2] {
        // Loops over arrays, which become vectors of the instruction set.
        let mut quants = [0; 128];
        if half == 0 {
            digits(&unit.first, 0, &mut quants);
        } else {
            let (first, behind) = quants.split_at_mut(32);
            let (second, third) = behind.split_at_mut(80);
            digits(&unit.first, 4, first);
            digits(&unit.second, 0, second);
            digits(&unit.third, 0, third);
        }
        let [first, second]: [[u8; 64]; 2] = bytemuck::cast(quants);
        [simd.load_bytes(&first), simd.load_bytes(&second)]
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        simd.splat_f16(unit.scale.bits())
    }
}

/// Digit `first` of all bytes, then digit `first + 1`, and so on.
#[inline(always)]
fn digits<const N: usize>(bytes: &[u8; N], first: usize, quants: &mut [u8]) {
    for (n, quants) in quants.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        for i in 0..N {
            quants[i] = digit(bytes[i], first + n);
        }
    }
}
