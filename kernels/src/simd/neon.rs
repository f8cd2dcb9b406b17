//! NEON, and NEON with dot products: a vector is four registers.

use std::arch::aarch64::*;
use std::arch::asm;

use super::isa::Token;
use super::{Kernel, MAGIC, Quants, Simd, tile_shape};

isa_token! {
    /// Proof of NEON, which every 64-bit ARM has.
    Neon: "neon"
}
isa_token! {
    /// Proof of NEON with the dot products of small integers (Cortex-A55 and A75, Neoverse N1, Apple
    /// A11 and later).
    Dotprod: "neon", "dotprod"
}

/// All that the two differ in.
trait Products: Token {
    /// Adds to lane `i` the products of bytes `4i..4i + 4`.
    fn add_products(self, sums: int32x4_t, quants: int8x16_t, activations: int8x16_t) -> int32x4_t;
}

impl Products for Neon {
    #[inline(always)]
    fn add_products(self, sums: int32x4_t, quants: int8x16_t, activations: int8x16_t) -> int32x4_t {
        intrinsics! {
            let low = vmull_s8(vget_low_s8(quants), vget_low_s8(activations));
            let high = vmull_high_s8(quants, activations);
            // |pair sums| <= 2 * 128 * 127 = 32512: no overflow.
            vpadalq_s16(sums, vpaddq_s16(low, high))
        }
    }
}

impl Products for Dotprod {
    #[inline(always)]
    fn add_products(self, sums: int32x4_t, quants: int8x16_t, activations: int8x16_t) -> int32x4_t {
        // The intrinsic is not stable yet.
        #[inline]
        #[target_feature(enable = "neon,dotprod")]
        fn sdot(mut sums: int32x4_t, quants: int8x16_t, activations: int8x16_t) -> int32x4_t {
            // SAFETY: an instruction of the enabled features on its three operands.
            unsafe {
                asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sums, in(vreg) quants,
                    in(vreg) activations, options(pure, nomem, nostack, preserves_flags));
            }
            sums
        }
        // SAFETY: `self` proves the features.
        unsafe { sdot(sums, quants, activations) }
    }
}

/// Four registers of bytes.
type Bytes = [uint8x16_t; 4];
/// Four registers of integers.
type Ints = [int32x4_t; 4];
/// Four registers of floats.
type Floats = [float32x4_t; 4];

/// Four f16 as floats. The intrinsic is not stable yet; every 64-bit ARM has the instruction.
#[inline(always)]
fn floats_of_halves(halves: uint16x4_t) -> float32x4_t {
    let floats;
    // SAFETY: a baseline instruction on its operands.
    unsafe {
        asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) floats, in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags));
    }
    floats
}

/// Four floats as f16, rounded to nearest even.
#[inline(always)]
fn halves_of_floats(floats: float32x4_t) -> uint16x4_t {
    let halves;
    // SAFETY: a baseline instruction on its operands.
    unsafe {
        asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) halves, in(vreg) floats,
            options(pure, nomem, nostack, preserves_flags));
    }
    halves
}

impl<P: Products> Simd for P {
    type Bytes = Bytes;
    type Ints = Ints;
    type Floats = Floats;
    const SIGNED_BIAS: i32 = 0;
    // Not measured: no such machine was at hand.
    const DOT_TOKENS: usize = 4;
    // 12 sums in floats, 12 in integers, 4 of weights, 3 of activations: 31 of 32 registers.
    tile_shape!(1 x 3: 1 2 3);

    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.enter(kernel)
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> Bytes {
        intrinsics! { four!(i => vld1q_u8(from.as_ptr().add(16 * i))) }
    }
    #[inline(always)]
    fn store_bytes(self, bytes: Bytes, to: &mut [u8; 64]) {
        intrinsics! { four!(i => vst1q_u8(to.as_mut_ptr().add(16 * i), bytes[i])); }
    }
    #[inline(always)]
    fn join(self, low: &[u8; 32], high: &[u8; 32]) -> Bytes {
        intrinsics! { four!(i => vld1q_u8([low, high][i / 2].as_ptr().add(16 * (i % 2)))) }
    }
    #[inline(always)]
    fn join_four(self, parts: [&[u8; 16]; 4]) -> Bytes {
        intrinsics! { four!(i => vld1q_u8(parts[i].as_ptr())) }
    }
    #[inline(always)]
    fn words(self, words: [u64; 8]) -> Bytes {
        intrinsics! {
            four!(i => vcombine_u8(vcreate_u8(words[2 * i]), vcreate_u8(words[2 * i + 1])))
        }
    }
    #[inline(always)]
    fn shift_halves(self, bytes: &[u8; 32], shifts: [i32; 2]) -> Bytes {
        intrinsics! {
            // A shift to the left by a negative count goes to the right.
            let counts = [vdupq_n_s8(-shifts[0] as i8), vdupq_n_s8(-shifts[1] as i8)];
            let bytes = [vld1q_u8(bytes.as_ptr()), vld1q_u8(bytes.as_ptr().add(16))];
            four!(i => vshlq_u8(bytes[i % 2], counts[i / 2]))
        }
    }
    #[inline(always)]
    fn field(self, bytes: Bytes, shift: u32, mask: u8) -> Bytes {
        intrinsics! {
            let count = vdupq_n_s8(-(shift as i8));
            four!(i => vandq_u8(vshlq_u8(bytes[i], count), vdupq_n_u8(mask)))
        }
    }
    #[inline(always)]
    fn or(self, a: Bytes, b: Bytes) -> Bytes {
        intrinsics! { four!(vorrq_u8(a, b)) }
    }
    #[inline(always)]
    fn around(self, center: u8, bytes: Bytes, below: u64) -> Bytes {
        intrinsics! {
            // Every byte gets the byte that holds its bit, then tests that bit.
            let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            let below = below.to_le_bytes();
            let center = vdupq_n_u8(center);
            four!(i => {
                let bits = vcombine_u8(vdup_n_u8(below[2 * i]), vdup_n_u8(below[2 * i + 1]));
                let (above, below) = (vaddq_u8(center, bytes[i]), vsubq_u8(center, bytes[i]));
                vbslq_u8(vtstq_u8(bits, bit), below, above)
            })
        }
    }
    #[inline(always)]
    fn lookup(self, table: &[i8; 16], bytes: Bytes) -> Bytes {
        intrinsics! {
            let table = vreinterpretq_u8_s8(vld1q_s8(table.as_ptr()));
            four!(i => vqtbl1q_u8(table, bytes[i]))
        }
    }
    #[inline(always)]
    fn add_bits(self, pair: [Bytes; 2], bits: [&[u8; 4]; 4], value: u8) -> [Bytes; 2] {
        intrinsics! {
            // Every byte gets the byte that holds its bit, then tests that bit.
            let first = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
            let spread = [first, vaddq_u8(first, vdupq_n_u8(2))];
            let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            let bits = four!(i => vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes(*bits[i]))));
            let mut sums = pair;
            for vector in 0..2 {
                sums[vector] = four!(i => {
                    let set = vtstq_u8(vqtbl1q_u8(bits[i], spread[vector]), bit);
                    vaddq_u8(pair[vector][i], vandq_u8(set, vdupq_n_u8(value)))
                });
            }
            sums
        }
    }
    #[inline(always)]
    fn bias_signed(self, bytes: Bytes) -> Bytes {
        bytes
    }
    #[inline(always)]
    fn transpose(self, rows: [Bytes; 16]) -> [Bytes; 16] {
        transpose_by_squares!(rows, 4 x 4, transpose4)
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Ints {
        intrinsics! { [vdupq_n_s32(value); 4] }
    }
    #[inline(always)]
    fn dot<Q: Quants>(self, sums: Ints, quants: Bytes, activations: Bytes) -> Ints {
        // Unsigned quants are below 128, so they are signed ones too.
        intrinsics! {
            four!(i => {
                let quants = vreinterpretq_s8_u8(quants[i]);
                self.add_products(sums[i], quants, vreinterpretq_s8_u8(activations[i]))
            })
        }
    }
    #[inline(always)]
    fn to_floats(self, ints: Ints) -> Floats {
        intrinsics! { four!(vcvtq_f32_s32(ints)) }
    }
    #[inline(always)]
    fn sums_of_fours(self, [a, b, c, d]: [Ints; 4]) -> [i32; 16] {
        let mut sums = [0; 16];
        intrinsics! {
            four!(i => {
                let fours = vpaddq_s32(vpaddq_s32(a[i], b[i]), vpaddq_s32(c[i], d[i]));
                vst1q_s32(sums.as_mut_ptr().add(4 * i), fours);
            });
        }
        sums
    }

    #[inline(always)]
    fn dot_start<Q: Quants>(self, start: i32) -> Ints {
        self.splat_int(start)
    }
    #[inline(always)]
    fn dot_step<Q: Quants>(self, sums: Ints, quants: Bytes, activations: [i8; 4]) -> Ints {
        let activations = intrinsics! {
            vreinterpretq_u8_s32(vdupq_n_s32(bytemuck::cast(activations)))
        };
        self.dot::<Q>(sums, quants, [activations; 4])
    }
    #[inline(always)]
    fn dot_end<Q: Quants>(self, sums: Ints, _start: i32, scales: Floats) -> Floats {
        intrinsics! {
            four!(i => {
                let offset = vmulq_n_f32(scales[i], -MAGIC);
                vfmaq_f32(offset, vreinterpretq_f32_s32(sums[i]), scales[i])
            })
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Floats {
        intrinsics! { [vdupq_n_f32(value); 4] }
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> Floats {
        intrinsics! { four!(i => vld1q_f32(from.as_ptr().add(4 * i))) }
    }
    #[inline(always)]
    fn store(self, floats: Floats, to: &mut [f32; 16]) {
        intrinsics! { four!(i => vst1q_f32(to.as_mut_ptr().add(4 * i), floats[i])); }
    }
    #[inline(always)]
    fn keep(self, floats: Floats, lanes: u16) -> Floats {
        intrinsics! {
            let lanes = vdupq_n_u32(u32::from(lanes));
            let first = vld1q_u32([1, 2, 4, 8].as_ptr());
            four!(i => {
                let kept = vtstq_u32(lanes, vshlq_u32(first, vdupq_n_s32(4 * i as i32)));
                vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(floats[i]), kept))
            })
        }
    }
    #[inline(always)]
    fn add(self, a: Floats, b: Floats) -> Floats {
        intrinsics! { four!(vaddq_f32(a, b)) }
    }
    #[inline(always)]
    fn sub(self, a: Floats, b: Floats) -> Floats {
        intrinsics! { four!(vsubq_f32(a, b)) }
    }
    #[inline(always)]
    fn mul(self, a: Floats, b: Floats) -> Floats {
        intrinsics! { four!(vmulq_f32(a, b)) }
    }
    #[inline(always)]
    fn div(self, a: Floats, b: Floats) -> Floats {
        intrinsics! { four!(vdivq_f32(a, b)) }
    }
    #[inline(always)]
    fn mul_add(self, a: Floats, b: Floats, c: Floats) -> Floats {
        intrinsics! { four!(vfmaq_f32(c, a, b)) }
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Floats, b: Floats, c: Floats) -> Floats {
        intrinsics! { four!(vfmsq_f32(c, a, b)) }
    }
    #[inline(always)]
    fn max(self, a: Floats, b: Floats) -> Floats {
        // Not `fmax`, which gives NaN where the first is NaN: the other levels give the second.
        intrinsics! { four!(i => vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i])) }
    }
    #[inline(always)]
    fn min(self, a: Floats, b: Floats) -> Floats {
        intrinsics! { four!(i => vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i])) }
    }
    #[inline(always)]
    fn abs(self, a: Floats) -> Floats {
        intrinsics! { four!(vabsq_f32(a)) }
    }
    #[inline(always)]
    fn scale_exponent(self, a: Floats, n: Floats) -> Floats {
        intrinsics! {
            four!(i => {
                let exponent = vaddq_s32(vcvtq_s32_f32(n[i]), vdupq_n_s32(127));
                vmulq_f32(a[i], vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
            })
        }
    }
    #[inline(always)]
    fn sum(self, a: Floats) -> f32 {
        intrinsics! {
            let four = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            vaddv_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
    }
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [Floats; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        intrinsics! {
            let fours = four!(i => {
                let columns = transpose4(self.bits([a[i], b[i], c[i], d[i]]));
                let [a, b, c, d] = four!(vreinterpretq_f32_u8(columns));
                vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d))
            });
            let sum = vaddq_f32(vaddq_f32(fours[0], fours[2]), vaddq_f32(fours[1], fours[3]));
            vst1q_f32(sums.as_mut_ptr(), sum);
        }
        sums
    }
    #[inline(always)]
    fn maximum(self, a: Floats) -> f32 {
        intrinsics! { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a[0], a[1]), vmaxq_f32(a[2], a[3]))) }
    }
    #[inline(always)]
    fn floats_of_u8(self, bytes: [u8; 16]) -> Floats {
        intrinsics! {
            let bytes = vld1q_u8(bytes.as_ptr());
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
            let words = [vget_low_u16(low), vget_high_u16(low), vget_low_u16(high), vget_high_u16(high)];
            four!(i => vcvtq_f32_u32(vmovl_u16(words[i])))
        }
    }
    #[inline(always)]
    fn floats_of_i8(self, bytes: [u8; 16]) -> Floats {
        intrinsics! {
            let bytes = vreinterpretq_s8_u8(vld1q_u8(bytes.as_ptr()));
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            let words = [vget_low_s16(low), vget_high_s16(low), vget_low_s16(high), vget_high_s16(high)];
            four!(i => vcvtq_f32_s32(vmovl_s16(words[i])))
        }
    }
    #[inline(always)]
    fn floats_of_f16(self, bytes: &[u8; 32]) -> Floats {
        intrinsics! {
            four!(i => floats_of_halves(vreinterpret_u16_u8(vld1_u8(bytes.as_ptr().add(8 * i)))))
        }
    }
    #[inline(always)]
    fn strided_f16<const STRIDE: usize, const PAIRS: bool>(self, blocks: &[u8]) -> Floats {
        let (blocks, _) = blocks.as_chunks::<STRIDE>();
        let mut fours = [0_u64; 4];
        for block in 0..8 {
            let mut add = |four: usize, behind: usize| {
                let half = blocks[block][behind..].first_chunk().expect("an f16");
                fours[four] |= u64::from(u16::from_le_bytes(*half)) << (16 * (block % 4));
            };
            add(block / 4, 0);
            add(2 + block / 4, if PAIRS { 2 } else { 0 });
        }
        intrinsics! { four!(i => floats_of_halves(vcreate_u16(fours[i]))) }
    }
    #[inline(always)]
    fn splat_f16(self, half: u16) -> Floats {
        intrinsics! { [floats_of_halves(vdup_n_u16(half)); 4] }
    }
    #[inline(always)]
    fn splat_two_f16(self, low: u16, high: u16) -> Floats {
        let (low, high) = (self.splat_f16(low)[0], self.splat_f16(high)[0]);
        [low, low, high, high]
    }
    #[inline(always)]
    fn floats_of_bf16(self, bytes: &[u8; 32]) -> Floats {
        intrinsics! {
            four!(i => {
                let halves = vreinterpret_u16_u8(vld1_u8(bytes.as_ptr().add(8 * i)));
                vreinterpretq_f32_u32(vshll_n_u16::<16>(halves))
            })
        }
    }
    #[inline(always)]
    fn to_f16(self, floats: Floats, to: &mut [u16; 16]) {
        intrinsics! {
            four!(i => vst1_u16(to.as_mut_ptr().add(4 * i), halves_of_floats(floats[i])));
        }
    }
    #[inline(always)]
    fn maxima_of_fours(self, [a, b, c, d]: [Floats; 4]) -> [f32; 16] {
        let mut maxima = [0.0; 16];
        intrinsics! {
            four!(i => {
                let fours = vpmaxq_f32(vpmaxq_f32(a[i], b[i]), vpmaxq_f32(c[i], d[i]));
                vst1q_f32(maxima.as_mut_ptr().add(4 * i), fours);
            });
        }
        maxima
    }
    #[inline(always)]
    fn to_i8(self, floats: [Floats; 4]) -> Bytes {
        intrinsics! {
            four!(i => {
                let [a, b, c, d] = four!(part => vqmovn_s32(vcvtnq_s32_f32(floats[i][part])));
                let (low, high) = (vcombine_s16(a, b), vcombine_s16(c, d));
                vreinterpretq_u8_s8(vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)))
            })
        }
    }
    #[inline(always)]
    fn spread(self, scales: Floats, lanes: [usize; 4]) -> Floats {
        intrinsics! {
            four!(i => {
                let source = scales[lanes[i] / 4];
                match lanes[i] % 4 {
                    0 => vdupq_laneq_f32::<0>(source),
                    1 => vdupq_laneq_f32::<1>(source),
                    2 => vdupq_laneq_f32::<2>(source),
                    _ => vdupq_laneq_f32::<3>(source),
                }
            })
        }
    }
    #[inline(always)]
    fn bits(self, floats: Floats) -> Bytes {
        intrinsics! { four!(vreinterpretq_u8_f32(floats)) }
    }
    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe {
            asm!("prfm pldl1keep, [{0}]", in(reg) address,
                options(readonly, nostack, preserves_flags));
        }
    }
}

/// 4 rows of 4 dwords as 4 columns.
#[inline(always)]
fn transpose4(rows: Bytes) -> Bytes {
    intrinsics! {
        let [a, b, c, d] = four!(vreinterpretq_u32_u8(rows));
        let pairs = [vtrn1q_u32(a, b), vtrn2q_u32(a, b), vtrn1q_u32(c, d), vtrn2q_u32(c, d)];
        let [a, b, c, d] = four!(vreinterpretq_u64_u32(pairs));
        let columns = [vtrn1q_u64(a, c), vtrn1q_u64(b, d), vtrn2q_u64(a, c), vtrn2q_u64(b, d)];
        four!(vreinterpretq_u8_u64(columns))
    }
}
