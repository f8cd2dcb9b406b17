//! F32, F16, BF16: floats, multiplied as such.

use super::{BlockFormat, FloatFormat, Sixteen};
use crate::simd::Simd;

/// 32-bit floats.
pub(crate) struct F32;

impl BlockFormat for F32 {
    type Block = [u8; 4];
    const ELEMENTS: usize = 1;

    fn dequantize(block: &[u8; 4], values: &mut [f32]) {
        values[0] = f32::from_le_bytes(*block);
    }
}

impl FloatFormat for F32 {}

impl Sixteen for F32 {
    type Chunk = [u8; 64];

    #[inline(always)]
    fn floats<S: Simd>(simd: S, chunk: &[u8; 64]) -> S::Floats {
        simd.load(&bytemuck::cast(*chunk))
    }
}

/// 16-bit floats (IEEE binary16).
pub(crate) struct F16;

impl BlockFormat for F16 {
    type Block = [u8; 2];
    const ELEMENTS: usize = 1;

    fn dequantize(block: &[u8; 2], values: &mut [f32]) {
        values[0] = half::f16::from_le_bytes(*block).to_f32();
    }
}

impl FloatFormat for F16 {}

impl Sixteen for F16 {
    type Chunk = [u8; 32];

    #[inline(always)]
    fn floats<S: Simd>(simd: S, chunk: &[u8; 32]) -> S::Floats {
        simd.floats_of_f16(chunk)
    }
}

/// The upper half of 32-bit floats.
pub(crate) struct BF16;

impl BlockFormat for BF16 {
    type Block = [u8; 2];
    const ELEMENTS: usize = 1;

    fn dequantize(block: &[u8; 2], values: &mut [f32]) {
        values[0] = half::bf16::from_le_bytes(*block).to_f32();
    }
}

impl FloatFormat for BF16 {}

impl Sixteen for BF16 {
    type Chunk = [u8; 32];

    #[inline(always)]
    fn floats<S: Simd>(simd: S, chunk: &[u8; 32]) -> S::Floats {
        simd.floats_of_bf16(chunk)
    }
}
