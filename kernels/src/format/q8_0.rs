//! Q8_0: 32 values of 8 bits, one f16 scale. `value = scale * quant`, the quants signed.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, Mins, Order, QuantFormat, part};
use crate::simd::{Signed, Simd};

pub(crate) struct Q8_0;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    pub(super) scale: Half,
    pub(super) quants: [u8; 32],
}

impl BlockFormat for Q8_0 {
    type Block = Block;
    const ELEMENTS: usize = 32;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (value, quant) in values.iter_mut().zip(block.quants) {
            *value = f32::from(quant as i8) * block.scale.to_f32();
        }
    }
}

impl QuantFormat for Q8_0 {
    type Unit = [Block; 8];
    type Quants = Signed;
    const SUB: usize = 32;
    const OFFSET: i32 = 0;
    const MINS: Mins = Mins::None;
    const ORDER: Order = Order::Sequential;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, half: usize) -> [S::Bytes; 2] {
        let [a, b, c, d]: &[Block; 4] = part(unit, 4 * half);
        [
            simd.join(&a.quants, &b.quants),
            simd.join(&c.quants, &d.quants),
        ]
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats {
        simd.strided_f16::<{ size_of::<Block>() }, false>(bytemuck::bytes_of(unit))
    }
}
