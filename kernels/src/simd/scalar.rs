//! The portable level: plain arrays and loops, in shapes that compilers turn into the vector
//! instructions that every target has. Elementwise on 16-bit integers, which SSE2 and NEON multiply
//! eight at a time: the even and the odd bytes of a vector, and the sums of two products.

use std::array::from_fn;

use half::{bf16, f16};

use super::{Kernel, MAGIC, MAGIC_BITS, Quants, Signed, Simd, tile_shape};

/// Portable Rust; there is nothing to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar;

type Bytes = [u8; 64];
type Ints = [i32; 16];
type Floats = [f32; 16];

/// Sums of two products, which fit: 2 * 128 * 127 < 2^15.
type Pairs = [i16; 32];

impl Scalar {
    /// The even and the odd bytes of 64 quants.
    #[inline(always)]
    fn halves<Q: Quants>(quants: Bytes) -> [Pairs; 2] {
        let pairs: Pairs = bytemuck::cast(quants);
        if Q::SIGNED {
            [
                pairs.map(|pair| pair << 8 >> 8),
                pairs.map(|pair| pair >> 8),
            ]
        } else {
            // Below 128, so the sign of the pair is that of the odd byte: positive.
            [pairs.map(|pair| pair & 0xff), pairs.map(|pair| pair >> 8)]
        }
    }

    #[inline(always)]
    fn pairs<Q: Quants>(quants: Bytes, even: Pairs, odd: Pairs) -> Pairs {
        let quants = Self::halves::<Q>(quants);
        from_fn(|i| quants[0][i] * even[i] + quants[1][i] * odd[i])
    }

    /// Adds to each integer its two pairs.
    #[inline(always)]
    fn add_pairs(sums: Ints, pairs: Pairs) -> Ints {
        let pairs: Ints = bytemuck::cast(pairs);
        from_fn(|lane| sums[lane] + (pairs[lane] << 16 >> 16) + (pairs[lane] >> 16))
    }

    /// Whether the pairs of a sub-block of 32 fit into 16 bits.
    const fn sums_fit_i16<Q: Quants>() -> bool {
        !Q::SIGNED && 8 * 2 * (Q::MAX as i32) * 127 <= i16::MAX as i32
    }

    /// Exact; without the detection of features that the `half` crate does for each value, and
    /// without denormal floats, which are slow.
    #[inline(always)]
    fn float_of_f16(half: u16) -> f32 {
        let sign = u32::from(half & 0x8000) << 16;
        let bits = u32::from(half & 0x7fff) << 13;
        // Selections, not branches, so that eight at a time are converted.
        let subnormal = f32::from_bits(bits + (113 << 23)) - f32::from_bits(113 << 23);
        let rebias = if bits >= 31 << 23 {
            224 << 23
        } else {
            112 << 23
        };
        let magnitude = if bits < 1 << 23 {
            subnormal.to_bits()
        } else {
            bits + rebias
        };
        f32::from_bits(magnitude | sign)
    }
}

impl Simd for Scalar {
    type Bytes = Bytes;
    type Ints = Ints;
    type Floats = Floats;
    const SIGNED_BIAS: i32 = 0;
    // Unpacking once for all tokens pays from the second on.
    const DOT_TOKENS: usize = 1;
    // On Sapphire Rapids, with SSE2: 39 GOP/s with 4-bit weights and 28 with others; 1 x 4 36 and 24.
    tile_shape!(1 x 2: 1 2);

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
        bytemuck::cast([*low, *high])
    }
    #[inline(always)]
    fn join_four(self, parts: [&[u8; 16]; 4]) -> Bytes {
        bytemuck::cast(parts.map(|part| *part))
    }
    #[inline(always)]
    fn shift_halves(self, bytes: &[u8; 32], shifts: [i32; 2]) -> Bytes {
        bytemuck::cast(shifts.map(|shift| {
            bytes.map(|byte| {
                if shift < 0 {
                    byte << -shift
                } else {
                    byte >> shift
                }
            })
        }))
    }
    #[inline(always)]
    fn field(self, bytes: Bytes, shift: u32, mask: u8) -> Bytes {
        bytes.map(|byte| (byte >> shift) & mask)
    }
    #[inline(always)]
    fn or(self, a: Bytes, b: Bytes) -> Bytes {
        from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn around(self, center: u8, bytes: Bytes, below: u64) -> Bytes {
        from_fn(|i| {
            let sign = (below >> i & 1) as u8;
            center.wrapping_add((bytes[i] ^ 0_u8.wrapping_sub(sign)).wrapping_add(sign))
        })
    }
    #[inline(always)]
    fn lookup(self, table: &[i8; 16], bytes: Bytes) -> Bytes {
        bytes.map(|byte| table[usize::from(byte & 15)] as u8)
    }
    #[inline(always)]
    fn add_bits(self, pair: [Bytes; 2], bits: [&[u8; 4]; 4], value: u8) -> [Bytes; 2] {
        let bits = bits.map(|bits| u32::from_le_bytes(*bits));
        from_fn(|vector| {
            from_fn(|i| {
                let bit = bits[i / 16] >> (16 * vector + i % 16) & 1;
                pair[vector][i] + bit as u8 * value
            })
        })
    }
    #[inline(always)]
    fn bias_signed(self, bytes: Bytes) -> Bytes {
        bytes
    }
    #[inline(always)]
    fn transpose(self, rows: [Bytes; 16]) -> [Bytes; 16] {
        let rows: [[u32; 16]; 16] = bytemuck::cast(rows);
        let mut columns = [[0; 16]; 16];
        for (i, row) in rows.iter().enumerate() {
            for (column, &dword) in columns.iter_mut().zip(row) {
                column[i] = dword;
            }
        }
        bytemuck::cast(columns)
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Ints {
        [value; 16]
    }
    #[inline(always)]
    fn dot<Q: Quants>(self, sums: Ints, quants: Bytes, activations: Bytes) -> Ints {
        let [even, odd] = Self::halves::<Signed>(activations);
        Self::add_pairs(sums, Self::pairs::<Q>(quants, even, odd))
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
        [if Self::sums_fit_i16::<Q>() { 0 } else { start }; 16]
    }
    #[inline(always)]
    fn dot_step<Q: Quants>(self, sums: Ints, quants: Bytes, activations: [i8; 4]) -> Ints {
        let [a, b, c, d] = activations.map(i16::from);
        let even = from_fn(|i| if i % 2 == 0 { a } else { c });
        let odd = from_fn(|i| if i % 2 == 0 { b } else { d });
        let pairs = Self::pairs::<Q>(quants, even, odd);
        if Self::sums_fit_i16::<Q>() {
            let sums: Pairs = bytemuck::cast(sums);
            bytemuck::cast::<Pairs, _>(from_fn(|i| sums[i] + pairs[i]))
        } else {
            Self::add_pairs(sums, pairs)
        }
    }
    #[inline(always)]
    fn dot_end<Q: Quants>(self, sums: Ints, start: i32, scales: Floats) -> Floats {
        let sums = if Self::sums_fit_i16::<Q>() {
            Self::add_pairs([start; 16], bytemuck::cast(sums))
        } else {
            sums
        };
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
    fn store(self, floats: Floats, to: &mut [f32; 16]) {
        *to = floats;
    }
    #[inline(always)]
    fn keep(self, floats: Floats, lanes: u16) -> Floats {
        from_fn(|lane| {
            if lanes >> lane & 1 == 1 {
                floats[lane]
            } else {
                0.0
            }
        })
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
    fn sums(self, vectors: [Floats; 4]) -> [f32; 4] {
        // In the order of the vector levels: inside fours, then halves onto halves.
        vectors.map(|a| {
            let four: [f32; 4] =
                from_fn(|i| (a[4 * i] + a[4 * i + 2]) + (a[4 * i + 1] + a[4 * i + 3]));
            (four[0] + four[2]) + (four[1] + four[3])
        })
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
        from_fn(|lane| {
            Self::float_of_f16(u16::from_le_bytes([bytes[2 * lane], bytes[2 * lane + 1]]))
        })
    }
    #[inline(always)]
    fn strided_f16<const STRIDE: usize, const PAIRS: bool>(self, blocks: &[u8]) -> Floats {
        from_fn(|lane| {
            let at = lane % 8 * STRIDE + if PAIRS { lane / 8 * 2 } else { 0 };
            Self::float_of_f16(u16::from_le_bytes([blocks[at], blocks[at + 1]]))
        })
    }
    #[inline(always)]
    fn splat_f16(self, half: u16) -> Floats {
        [Self::float_of_f16(half); 16]
    }
    #[inline(always)]
    fn splat_two_f16(self, low: u16, high: u16) -> Floats {
        bytemuck::cast([low, high].map(|half| [Self::float_of_f16(half); 8]))
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
    fn spread(self, scales: Floats, lanes: [usize; 4]) -> Floats {
        from_fn(|lane| scales[lanes[lane / 4]])
    }
    #[inline(always)]
    fn bits(self, floats: Floats) -> Bytes {
        bytemuck::cast(floats)
    }
    #[inline(always)]
    fn prefetch(self, _address: *const u8) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_becomes_the_float_of_the_half_crate() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (Scalar::float_of_f16(bits), f16::from_bits(bits).to_f32());
            let same = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
            assert!(same, "{bits:#x}: {ours} is not {theirs}");
        }
    }
}
