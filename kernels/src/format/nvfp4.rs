//! NVFP4: 64 floats of 4 bits (E2M1), a float of 8 bits per 16 as their scale (UE4M3: no sign, four
//! bits of exponent, three of mantissa). `value = scale * TABLE[quant]`.

use bytemuck::{Pod, Zeroable};

use super::mxfp4::{TABLE, raised};
use super::unpacked::Unpacked;
use super::{BlockFormat, PackedFormat};
use crate::simd::{Simd, SixBits};

pub(crate) struct NVFP4;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    /// Twice the scales of [`TABLE`], whose values are doubled.
    scales: [u8; 4],
    /// Values 16s + i: low nibble of byte i of part s; values 16s + 8 + i: its high nibble.
    quants: [[u8; 8]; 4],
}

/// A scale, halved. Zero where the format has no number.
fn half_of_scale(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    match (bits, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => mantissa * 2_f32.powi(-10),
        _ => (1.0 + mantissa / 8.0) * 2_f32.powi(exponent - 8),
    }
}

impl BlockFormat for NVFP4 {
    type Block = Block;
    const ELEMENTS: usize = 64;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let nibble = block.quants[i / 16][i % 8] >> (4 * (i / 8 % 2)) & 15;
            *value = f32::from(TABLE[usize::from(nibble)]) * half_of_scale(block.scales[i / 16]);
        }
    }
}

impl PackedFormat for NVFP4 {
    type Unit = [Block; 4];
    type Unpacked = Unpacked<SixBits, 16, 16>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, vector: usize) -> S::Bytes {
        let mut words = [0; 8];
        for (i, quants) in unit[vector].quants.iter().enumerate() {
            let quants = u64::from_le_bytes(*quants);
            words[2 * i] = quants & 0x0f0f_0f0f_0f0f_0f0f;
            words[2 * i + 1] = quants >> 4 & 0x0f0f_0f0f_0f0f_0f0f;
        }
        simd.lookup(&const { raised(16) }, simd.words(words))
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats {
        // As the upper bits of an f16 they are 2^8 times too small.
        let mut halves = [0; 16];
        for (i, half) in halves.iter_mut().enumerate() {
            let bits = unit[i / 4].scales[i % 4];
            *half = if bits == 0x7f {
                0
            } else {
                u16::from(bits & 0x7f) << 7
            }
            .to_le();
        }
        let scales = simd.floats_of_f16(&bytemuck::cast(halves));
        simd.mul(scales, simd.splat(128.0))
    }
}
