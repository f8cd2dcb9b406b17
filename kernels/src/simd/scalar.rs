//! The portable level: plain arrays and loops.

use std::array::from_fn;

use half::{bf16, f16};

use super::{Kernel, MAGIC, MAGIC_BITS, Quants, Simd, tile_shape};

/// Portable Rust; there is nothing to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar;

type Bytes = [u8; 64];
type Ints = [i32; 16];
type Floats = [f32; 16];

impl Scalar {
    /// One quant times one activation.
    #[inline(always)]
    fn product<Q: Quants>(quant: u8, activation: i8) -> i32 {
        let quant = if Q::SIGNED {
            i32::from(quant as i8)
        } else {
            i32::from(quant)
        };
        quant * i32::from(activation)
    }
}

impl Simd for Scalar {
    type Bytes = Bytes;
    type Ints = Ints;
    type Floats = Floats;
    const SIGNED_BIAS: i32 = 0;
    tile_shape!(1 x 4: 1 2 3 4);

    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> Bytes {
        *from
    }
    #[inline(always)]
    fn store_bytes(self, bytes: Bytes, to: &mut [u8; 64]) {
        *to = bytes;
    }
    #[inline(always)]
    fn join(self, low: &[u8; 32], high: &[u8; 32]) -> Bytes {
        from_fn(|i| if i < 32 { low[i] } else { high[i - 32] })
    }
    #[inline(always)]
    fn split_nibbles(self, low: &[u8; 16], high: &[u8; 16]) -> Bytes {
        from_fn(|i| {
            let byte = if i < 32 { low[i % 16] } else { high[i % 16] };
            if i % 32 < 16 { byte & 15 } else { byte >> 4 }
        })
    }
    #[inline(always)]
    fn split_fields(self, bytes: &[u8; 32], first: u32, second: u32, mask: u8) -> Bytes {
        from_fn(|i| (bytes[i % 32] >> if i < 32 { first } else { second }) & mask)
    }
    #[inline(always)]
    fn field(self, bytes: Bytes, shift: u32, mask: u8) -> Bytes {
        bytes.map(|byte| (byte >> shift) & mask)
    }
    #[inline(always)]
    fn shift_left(self, bytes: Bytes, shift: u32) -> Bytes {
        bytes.map(|byte| byte << shift)
    }
    #[inline(always)]
    fn or(self, a: Bytes, b: Bytes) -> Bytes {
        from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn add_where(self, bytes: Bytes, bits: u64, value: u8) -> Bytes {
        from_fn(|i| bytes[i].wrapping_add(if bits >> i & 1 == 1 { value } else { 0 }))
    }
    #[inline(always)]
    fn bias_signed(self, bytes: Bytes) -> Bytes {
        bytes
    }
    #[inline(always)]
    fn transpose(self, rows: [Bytes; 16]) -> [Bytes; 16] {
        from_fn(|column| from_fn(|i| rows[i / 4][4 * column + i % 4]))
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Ints {
        [value; 16]
    }
    #[inline(always)]
    fn dot<Q: Quants>(self, sums: Ints, quants: Bytes, activations: Bytes) -> Ints {
        from_fn(|lane| {
            (4 * lane..4 * lane + 4).fold(sums[lane], |sum, i| {
                sum + Self::product::<Q>(quants[i], activations[i] as i8)
            })
        })
    }
    #[inline(always)]
    fn to_floats(self, ints: Ints) -> Floats {
        ints.map(|int| int as f32)
    }
    #[inline(always)]
    fn sums_of_fours(self, vectors: [Ints; 4]) -> [i32; 16] {
        from_fn(|lane| vectors[lane % 4][lane / 4 * 4..][..4].iter().sum())
    }

    #[inline(always)]
    fn dot_start<Q: Quants>(self, start: i32) -> Ints {
        [start; 16]
    }
    #[inline(always)]
    fn dot_step<Q: Quants>(self, sums: Ints, quants: Bytes, activations: [i8; 4]) -> Ints {
        from_fn(|lane| {
            (0..4).fold(sums[lane], |sum, i| {
                sum + Self::product::<Q>(quants[4 * lane + i], activations[i])
            })
        })
    }
    #[inline(always)]
    fn dot_end<Q: Quants>(self, sums: Ints, _start: i32, scales: Floats) -> Floats {
        // Without a fused multiply-subtract the magic number would cost digits: convert instead.
        from_fn(|lane| (sums[lane] - MAGIC_BITS) as f32 * scales[lane])
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Floats {
        [value; 16]
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> Floats {
        *from
    }
    #[inline(always)]
    fn load_half(self, from: &[f32; 8]) -> Floats {
        from_fn(|lane| if lane < 8 { from[lane] } else { 0.0 })
    }
    #[inline(always)]
    fn store(self, floats: Floats, to: &mut [f32; 16]) {
        *to = floats;
    }
    #[inline(always)]
    fn keep(self, floats: Floats, lanes: usize) -> Floats {
        from_fn(|lane| if lane < lanes { floats[lane] } else { 0.0 })
    }
    #[inline(always)]
    fn add(self, a: Floats, b: Floats) -> Floats {
        from_fn(|lane| a[lane] + b[lane])
    }
    #[inline(always)]
    fn sub(self, a: Floats, b: Floats) -> Floats {
        from_fn(|lane| a[lane] - b[lane])
    }
    #[inline(always)]
    fn mul(self, a: Floats, b: Floats) -> Floats {
        from_fn(|lane| a[lane] * b[lane])
    }
    #[inline(always)]
    fn div(self, a: Floats, b: Floats) -> Floats {
        from_fn(|lane| a[lane] / b[lane])
    }
    #[inline(always)]
    fn mul_add(self, a: Floats, b: Floats, c: Floats) -> Floats {
        // Not `f32::mul_add`: without the instruction it is a function call.
        from_fn(|lane| a[lane] * b[lane] + c[lane])
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Floats, b: Floats, c: Floats) -> Floats {
        from_fn(|lane| c[lane] - a[lane] * b[lane])
    }
    #[inline(always)]
    fn max(self, a: Floats, b: Floats) -> Floats {
        from_fn(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }
    #[inline(always)]
    fn min(self, a: Floats, b: Floats) -> Floats {
        from_fn(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
    }
    #[inline(always)]
    fn abs(self, a: Floats) -> Floats {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn scale_exponent(self, a: Floats, n: Floats) -> Floats {
        from_fn(|lane| a[lane] * f32::from_bits(((n[lane] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn sum(self, a: Floats) -> f32 {
        // Halves onto halves, as the vector levels do it.
        let eight: [f32; 8] = from_fn(|i| a[i] + a[i + 8]);
        let four: [f32; 4] = from_fn(|i| eight[i] + eight[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    fn maximum(self, a: Floats) -> f32 {
        a.into_iter().fold(
            f32::NEG_INFINITY,
            |max, value| if value > max { value } else { max },
        )
    }
    #[inline(always)]
    fn floats_of_u8(self, bytes: [u8; 16]) -> Floats {
        bytes.map(f32::from)
    }
    #[inline(always)]
    fn floats_of_i8(self, bytes: [u8; 16]) -> Floats {
        bytes.map(|byte| f32::from(byte as i8))
    }
    #[inline(always)]
    fn floats_of_f16(self, bytes: &[u8; 32]) -> Floats {
        from_fn(|lane| f16::from_le_bytes([bytes[2 * lane], bytes[2 * lane + 1]]).to_f32())
    }
    #[inline(always)]
    fn floats_of_f16_half(self, halves: [u16; 8]) -> Floats {
        from_fn(|lane| {
            if lane < 8 {
                f16::from_bits(halves[lane]).to_f32()
            } else {
                0.0
            }
        })
    }
    #[inline(always)]
    fn splat_f16(self, half: u16) -> Floats {
        [f16::from_bits(half).to_f32(); 16]
    }
    #[inline(always)]
    fn floats_of_bf16(self, bytes: &[u8; 32]) -> Floats {
        from_fn(|lane| bf16::from_le_bytes([bytes[2 * lane], bytes[2 * lane + 1]]).to_f32())
    }
    #[inline(always)]
    fn to_f16(self, floats: Floats, to: &mut [u16; 16]) {
        *to = floats.map(|float| f16::from_f32(float).to_bits());
    }
    #[inline(always)]
    fn maxima_of_fours(self, vectors: [Floats; 4]) -> [f32; 16] {
        from_fn(|lane| {
            let [a, b, c, d] = from_fn(|i| vectors[lane % 4][lane / 4 * 4 + i]);
            let (ab, cd) = (if a > b { a } else { b }, if c > d { c } else { d });
            if ab > cd { ab } else { cd }
        })
    }
    #[inline(always)]
    fn to_i8(self, floats: [Floats; 4]) -> Bytes {
        from_fn(|i| {
            // Adding 1.5 * 2^23 rounds to nearest, ties to even, and leaves the integer in the low bits.
            ((floats[i / 16][i % 16] + MAGIC).to_bits() as i32).wrapping_sub(MAGIC_BITS) as u8
        })
    }
    #[inline(always)]
    fn spread32(self, scales: Floats, chunk: usize) -> Floats {
        from_fn(|lane| scales[2 * chunk + lane / 8])
    }
    #[inline(always)]
    fn spread16(self, scales: Floats, chunk: usize) -> Floats {
        from_fn(|lane| scales[4 * chunk + lane / 4])
    }
    #[inline(always)]
    fn bits(self, floats: Floats) -> Bytes {
        bytemuck::cast(floats)
    }
    #[inline(always)]
    fn prefetch(self, _address: *const u8) {}
}
