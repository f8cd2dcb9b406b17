//! WebAssembly's 128-bit vectors: a vector is four of them. Conversions from and to f16, for which
//! there is no instruction, are the portable level's.

use std::arch::wasm32::*;

use super::{Kernel, MAGIC, MAGIC_BITS, Quants, Scalar, Signed, Simd, tile_shape};

/// 128-bit vectors; there is nothing to prove, as the target has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd128;

/// Four registers of bytes, integers or floats.
type Four = [v128; 4];

/// The even and the odd bytes of a register as 16-bit integers.
#[inline(always)]
fn halves<Q: Quants>(bytes: v128) -> [v128; 2] {
    intrinsics! {
        if Q::SIGNED {
            [i16x8_shr(i16x8_shl(bytes, 8), 8), i16x8_shr(bytes, 8)]
        } else {
            [v128_and(bytes, u16x8_splat(0xff)), u16x8_shr(bytes, 8)]
        }
    }
}

/// 4 rows of 4 dwords as 4 columns.
#[inline(always)]
fn transpose4([a, b, c, d]: Four) -> Four {
    intrinsics! {
        let (ab_low, ab_high) =
            (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
        let (cd_low, cd_high) =
            (i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
        [
            i64x2_shuffle::<0, 2>(ab_low, cd_low),
            i64x2_shuffle::<1, 3>(ab_low, cd_low),
            i64x2_shuffle::<0, 2>(ab_high, cd_high),
            i64x2_shuffle::<1, 3>(ab_high, cd_high),
        ]
    }
}

impl Simd for Simd128 {
    type Bytes = Four;
    type Ints = Four;
    type Floats = Four;
    const SIGNED_BIAS: i32 = 0;
    // As at the scalar level.
    const DOT_TOKENS: usize = 1;
    tile_shape!(1 x 2: 1 2);

    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> Four {
        intrinsics! { four!(i => v128_load(from.as_ptr().add(16 * i).cast())) }
    }
    #[inline(always)]
    fn store_bytes(self, bytes: Four, to: &mut [u8; 64]) {
        intrinsics! { four!(i => v128_store(to.as_mut_ptr().add(16 * i).cast(), bytes[i])); }
    }
    #[inline(always)]
    fn join(self, low: &[u8; 32], high: &[u8; 32]) -> Four {
        intrinsics! { four!(i => v128_load([low, high][i / 2].as_ptr().add(16 * (i % 2)).cast())) }
    }
    #[inline(always)]
    fn join_four(self, parts: [&[u8; 16]; 4]) -> Four {
        intrinsics! { four!(i => v128_load(parts[i].as_ptr().cast())) }
    }
    #[inline(always)]
    fn words(self, words: [u64; 8]) -> Four {
        intrinsics! { four!(i => u64x2(words[2 * i], words[2 * i + 1])) }
    }
    #[inline(always)]
    fn shift_halves(self, bytes: &[u8; 32], shifts: [i32; 2]) -> Four {
        // Of words, not bytes, for which x86 has no instruction.
        intrinsics! {
            four!(i => {
                let bytes = v128_load(bytes.as_ptr().add(16 * (i % 2)).cast());
                let shift = shifts[i / 2];
                if shift < 0 {
                    i16x8_shl(bytes, -shift as u32)
                } else {
                    u16x8_shr(bytes, shift as u32)
                }
            })
        }
    }
    #[inline(always)]
    fn field(self, bytes: Four, shift: u32, mask: u8) -> Four {
        intrinsics! { four!(i => v128_and(u16x8_shr(bytes[i], shift), u8x16_splat(mask))) }
    }
    #[inline(always)]
    fn or(self, a: Four, b: Four) -> Four {
        intrinsics! { four!(v128_or(a, b)) }
    }
    #[inline(always)]
    fn around(self, center: u8, bytes: Four, below: u64) -> Four {
        intrinsics! {
            // Every byte gets the byte that holds its bit, then tests that bit.
            let bit = u64x2_splat(0x8040_2010_0804_0201);
            let first = i64x2(0, 0x0101_0101_0101_0101);
            let center = u8x16_splat(center);
            four!(i => {
                let spread = u8x16_add(first, u8x16_splat(2 * i as u8));
                let bits = v128_and(u8x16_swizzle(u64x2_splat(below), spread), bit);
                let (above, below) = (u8x16_add(center, bytes[i]), u8x16_sub(center, bytes[i]));
                v128_bitselect(below, above, u8x16_eq(bits, bit))
            })
        }
    }
    #[inline(always)]
    fn lookup(self, table: &[i8; 16], bytes: Four) -> Four {
        intrinsics! {
            let table = v128_load(table.as_ptr().cast());
            four!(i => u8x16_swizzle(table, bytes[i]))
        }
    }
    #[inline(always)]
    fn add_bits(self, pair: [Four; 2], bits: [&[u8; 4]; 4], value: u8) -> [Four; 2] {
        intrinsics! {
            // Every byte gets the byte that holds its bit, then tests that bit.
            let first = i64x2(0, 0x0101_0101_0101_0101);
            let spread = [first, i8x16_add(first, i8x16_splat(2))];
            let bit = u64x2_splat(0x8040_2010_0804_0201);
            let mut sums = pair;
            for vector in 0..2 {
                sums[vector] = four!(i => {
                    let bits = u32x4_splat(u32::from_le_bytes(*bits[i]));
                    let bytes = v128_and(u8x16_swizzle(bits, spread[vector]), bit);
                    let add = v128_and(u8x16_eq(bytes, bit), u8x16_splat(value));
                    u8x16_add(pair[vector][i], add)
                });
            }
            sums
        }
    }
    #[inline(always)]
    fn bias_signed(self, bytes: Four) -> Four {
        bytes
    }
    #[inline(always)]
    fn transpose(self, rows: [Four; 16]) -> [Four; 16] {
        transpose_by_squares!(rows, 4 x 4, transpose4)
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Four {
        intrinsics! { [i32x4_splat(value); 4] }
    }
    #[inline(always)]
    fn dot<Q: Quants>(self, sums: Four, quants: Four, activations: Four) -> Four {
        intrinsics! {
            four!(i => {
                let [even, odd] = halves::<Q>(quants[i]);
                let activations = halves::<Signed>(activations[i]);
                let even = i32x4_dot_i16x8(even, activations[0]);
                let odd = i32x4_dot_i16x8(odd, activations[1]);
                i32x4_add(sums[i], i32x4_add(even, odd))
            })
        }
    }
    #[inline(always)]
    fn to_floats(self, ints: Four) -> Four {
        intrinsics! { four!(f32x4_convert_i32x4(ints)) }
    }
    #[inline(always)]
    fn sums_of_fours(self, [a, b, c, d]: [Four; 4]) -> [i32; 16] {
        let mut sums = [0; 16];
        intrinsics! {
            four!(i => {
                let [a, b, c, d] = transpose4([a[i], b[i], c[i], d[i]]);
                let fours = i32x4_add(i32x4_add(a, b), i32x4_add(c, d));
                v128_store(sums.as_mut_ptr().add(4 * i).cast(), fours);
            });
        }
        sums
    }

    #[inline(always)]
    fn dot_start<Q: Quants>(self, start: i32) -> Four {
        self.splat_int(start)
    }
    #[inline(always)]
    fn dot_step<Q: Quants>(self, sums: Four, quants: Four, activations: [i8; 4]) -> Four {
        let activations = self.splat_int(bytemuck::cast(activations));
        self.dot::<Q>(sums, quants, activations)
    }
    #[inline(always)]
    fn dot_end<Q: Quants>(self, sums: Four, _start: i32, scales: Four) -> Four {
        // Without a fused multiply-subtract: the difference alone is exact.
        self.mul(self.sub(sums, self.splat(MAGIC)), scales)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Four {
        intrinsics! { [f32x4_splat(value); 4] }
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> Four {
        intrinsics! { four!(i => v128_load(from.as_ptr().add(4 * i).cast())) }
    }
    #[inline(always)]
    fn store(self, floats: Four, to: &mut [f32; 16]) {
        intrinsics! { four!(i => v128_store(to.as_mut_ptr().add(4 * i).cast(), floats[i])); }
    }
    #[inline(always)]
    fn keep(self, floats: Four, lanes: u16) -> Four {
        intrinsics! {
            let first = i32x4(1, 2, 4, 8);
            four!(i => {
                let bits = i32x4_shl(first, 4 * i as u32);
                let kept = i32x4_eq(v128_and(i32x4_splat(i32::from(lanes)), bits), bits);
                v128_and(floats[i], kept)
            })
        }
    }
    #[inline(always)]
    fn add(self, a: Four, b: Four) -> Four {
        intrinsics! { four!(f32x4_add(a, b)) }
    }
    #[inline(always)]
    fn sub(self, a: Four, b: Four) -> Four {
        intrinsics! { four!(f32x4_sub(a, b)) }
    }
    #[inline(always)]
    fn mul(self, a: Four, b: Four) -> Four {
        intrinsics! { four!(f32x4_mul(a, b)) }
    }
    #[inline(always)]
    fn div(self, a: Four, b: Four) -> Four {
        intrinsics! { four!(f32x4_div(a, b)) }
    }
    #[inline(always)]
    fn mul_add(self, a: Four, b: Four, c: Four) -> Four {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Four, b: Four, c: Four) -> Four {
        self.sub(c, self.mul(a, b))
    }
    #[inline(always)]
    fn max(self, a: Four, b: Four) -> Four {
        // `b < a ? a : b`, one instruction of x86.
        intrinsics! { four!(f32x4_pmax(b, a)) }
    }
    #[inline(always)]
    fn min(self, a: Four, b: Four) -> Four {
        intrinsics! { four!(f32x4_pmin(b, a)) }
    }
    #[inline(always)]
    fn abs(self, a: Four) -> Four {
        intrinsics! { four!(f32x4_abs(a)) }
    }
    #[inline(always)]
    fn scale_exponent(self, a: Four, n: Four) -> Four {
        intrinsics! {
            let exponents = self.add(n, self.splat(MAGIC + 127.0));
            // The bits above the exponent leave the integer.
            let powers = four!(i => i32x4_shl(exponents[i], 23));
            self.mul(a, powers)
        }
    }
    #[inline(always)]
    fn sum(self, a: Four) -> f32 {
        intrinsics! {
            let four = f32x4_add(f32x4_add(a[0], a[2]), f32x4_add(a[1], a[3]));
            let two = f32x4_add(four, i32x4_shuffle::<2, 3, 0, 1>(four, four));
            f32x4_extract_lane::<0>(two) + f32x4_extract_lane::<1>(two)
        }
    }
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [Four; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        intrinsics! {
            let fours = four!(i => {
                let [a, b, c, d] = transpose4([a[i], b[i], c[i], d[i]]);
                f32x4_add(f32x4_add(a, c), f32x4_add(b, d))
            });
            let sum = f32x4_add(f32x4_add(fours[0], fours[2]), f32x4_add(fours[1], fours[3]));
            v128_store(sums.as_mut_ptr().cast(), sum);
        }
        sums
    }
    #[inline(always)]
    fn maximum(self, a: Four) -> f32 {
        let mut values = [0.0; 16];
        self.store(a, &mut values);
        Scalar.maximum(values)
    }
    #[inline(always)]
    fn floats_of_u8(self, bytes: [u8; 16]) -> Four {
        intrinsics! {
            let bytes = v128_load(bytes.as_ptr().cast());
            let [low, high] = [u16x8_extend_low_u8x16(bytes), u16x8_extend_high_u8x16(bytes)];
            self.to_floats([
                u32x4_extend_low_u16x8(low),
                u32x4_extend_high_u16x8(low),
                u32x4_extend_low_u16x8(high),
                u32x4_extend_high_u16x8(high),
            ])
        }
    }
    #[inline(always)]
    fn floats_of_i8(self, bytes: [u8; 16]) -> Four {
        intrinsics! {
            let bytes = v128_load(bytes.as_ptr().cast());
            let [low, high] = [i16x8_extend_low_i8x16(bytes), i16x8_extend_high_i8x16(bytes)];
            self.to_floats([
                i32x4_extend_low_i16x8(low),
                i32x4_extend_high_i16x8(low),
                i32x4_extend_low_i16x8(high),
                i32x4_extend_high_i16x8(high),
            ])
        }
    }
    #[inline(always)]
    fn floats_of_f16(self, bytes: &[u8; 32]) -> Four {
        self.load(&Scalar.floats_of_f16(bytes))
    }
    #[inline(always)]
    fn strided_f16<const STRIDE: usize, const PAIRS: bool>(self, blocks: &[u8]) -> Four {
        self.load(&Scalar.strided_f16::<STRIDE, PAIRS>(blocks))
    }
    #[inline(always)]
    fn splat_f16(self, half: u16) -> Four {
        let [float, ..] = Scalar.splat_f16(half);
        self.splat(float)
    }
    #[inline(always)]
    fn splat_two_f16(self, low: u16, high: u16) -> Four {
        let (low, high) = (self.splat_f16(low)[0], self.splat_f16(high)[0]);
        [low, low, high, high]
    }
    #[inline(always)]
    fn floats_of_bf16(self, bytes: &[u8; 32]) -> Four {
        intrinsics! {
            four!(i => i32x4_shl(i32x4_load_extend_u16x4(bytes.as_ptr().add(8 * i).cast()), 16))
        }
    }
    #[inline(always)]
    fn to_f16(self, floats: Four, to: &mut [u16; 16]) {
        let mut values = [0.0; 16];
        self.store(floats, &mut values);
        Scalar.to_f16(values, to);
    }
    #[inline(always)]
    fn maxima_of_fours(self, [a, b, c, d]: [Four; 4]) -> [f32; 16] {
        let mut maxima = [0.0; 16];
        intrinsics! {
            four!(i => {
                let [a, b, c, d] = transpose4([a[i], b[i], c[i], d[i]]);
                let fours = f32x4_pmax(f32x4_pmax(a, b), f32x4_pmax(c, d));
                v128_store(maxima.as_mut_ptr().add(4 * i).cast(), fours);
            });
        }
        maxima
    }
    #[inline(always)]
    fn to_i8(self, floats: [Four; 4]) -> Four {
        intrinsics! {
            let mut bytes = floats[0];
            for i in 0..4 {
                // As `Scalar::to_i8` rounds.
                let magic = self.add(floats[i], self.splat(MAGIC));
                let [a, b, c, d] =
                    four!(part => i32x4_sub(magic[part], i32x4_splat(MAGIC_BITS)));
                let (low, high) = (i16x8_narrow_i32x4(a, b), i16x8_narrow_i32x4(c, d));
                bytes[i] = i8x16_narrow_i16x8(low, high);
            }
            bytes
        }
    }
    #[inline(always)]
    fn spread(self, scales: Four, lanes: [usize; 4]) -> Four {
        intrinsics! {
            four!(i => {
                let source = scales[lanes[i] / 4];
                f32x4_splat(match lanes[i] % 4 {
                    0 => f32x4_extract_lane::<0>(source),
                    1 => f32x4_extract_lane::<1>(source),
                    2 => f32x4_extract_lane::<2>(source),
                    _ => f32x4_extract_lane::<3>(source),
                })
            })
        }
    }
    #[inline(always)]
    fn bits(self, floats: Four) -> Four {
        floats
    }
    #[inline(always)]
    fn prefetch(self, _address: *const u8) {}
}
