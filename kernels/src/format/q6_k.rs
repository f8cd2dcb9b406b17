//! Q6_K: 256 values of 6 bits, an 8-bit scale per 16. `value = scale * (quant - 32)`.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, Mins, Order, QuantFormat, nibbles, part};
use crate::simd::{Simd, SixBits};

pub(crate) struct Q6_K;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    /// Four low bits, value 128n + 64h + i: nibble h of byte 64n + i.
    pub(super) low: [u8; 128],
    /// Two high bits, value 128n + 32j + i: bits 2j and 2j + 1 of byte 32n + i.
    pub(super) high: [u8; 64],
    /// Signed.
    pub(super) scales: [u8; 16],
    pub(super) scale: Half,
}

impl BlockFormat for Q6_K {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let low = block.low[64 * (i / 128) + i % 64] >> (4 * (i / 64 % 2)) & 15;
            let high = block.high[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
            let scale = block.scale.to_f32() * f32::from(block.scales[i / 16] as i8);
            *value = scale * (f32::from(low | high << 4) - 32.0);
        }
    }
}

impl QuantFormat for Q6_K {
    type Unit = Block;
    type Quants = SixBits;
    const SUB: usize = 16;
    const OFFSET: i32 = 32;
    const MINS: Mins = Mins::None;
    const ORDER: Order = Order::Sequential;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, half: usize) -> [S::Bytes; 2] {
        let [low, high] = nibbles(simd, simd.load_bytes(part(&unit.low, 64 * half)));
        // Bits 2j and 2j + 1 become bits 4 and 5.
        let bits = part(&unit.high, 32 * half);
        let first = simd.shift_halves(bits, [-4, -2]);
        let second = simd.shift_halves(bits, [0, 2]);
        [
            simd.or(low, simd.field(first, 0, 0x30)),
            simd.or(high, simd.field(second, 0, 0x30)),
        ]
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        simd.mul(
            simd.floats_of_i8(unit.scales),
            simd.splat_f16(unit.scale.bits()),
        )
    }
}
