//! AVX-512 with VNNI: a vector is one register.

use std::arch::x86_64::*;

use super::isa::Token;
use super::x86::X86;
use super::{Kernel, MAGIC, Quants, Simd, tile_shape};

isa_token! {
    /// Proof of AVX-512 F, BW, DQ, VL and VNNI (Ice Lake, Zen 4 and later).
    Avx512: "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx2", "fma", "f16c"
}

impl X86 for Avx512 {}

impl Simd for Avx512 {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;
    const SIGNED_BIAS: i32 = 128;
    // On Zen 4, from the caches, Q4_K: 8 and 16 tokens at 145 GOP/s; in panels 9 at 120, 16 at 174. Other
    // formats and whole models cross later: Qwen2.5-Coder-0.5B reads 16 tokens as fast by either way.
    const DOT_TOKENS: usize = 16;
    // 14 sums in floats, 14 in integers, 2 of weights: all 32 registers. 762 of 982 GOP/s on Sapphire
    // Rapids; 6 x 2 reaches 744, 14 x 1 715, 4 x 3 703.
    tile_shape!(2 x 7: 1 2 3 4 5 6 7);

    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.enter(kernel)
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> __m512i {
        intrinsics! { _mm512_loadu_si512(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_bytes(self, bytes: __m512i, to: &mut [u8; 64]) {
        intrinsics! { _mm512_storeu_si512(to.as_mut_ptr().cast(), bytes) }
    }
    #[inline(always)]
    fn join(self, low: &[u8; 32], high: &[u8; 32]) -> __m512i {
        intrinsics! {
            let low = _mm256_loadu_si256(low.as_ptr().cast());
            let high = _mm256_loadu_si256(high.as_ptr().cast());
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }
    #[inline(always)]
    fn join_four(self, [a, b, c, d]: [&[u8; 16]; 4]) -> __m512i {
        intrinsics! {
            let a = _mm256_castsi128_si256(_mm_loadu_si128(a.as_ptr().cast()));
            let ab = _mm256_inserti128_si256::<1>(a, _mm_loadu_si128(b.as_ptr().cast()));
            let c = _mm256_castsi128_si256(_mm_loadu_si128(c.as_ptr().cast()));
            let cd = _mm256_inserti128_si256::<1>(c, _mm_loadu_si128(d.as_ptr().cast()));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(ab), cd)
        }
    }
    #[inline(always)]
    fn words(self, words: [u64; 8]) -> __m512i {
        // From registers: a load across eight stores would have to wait for them.
        let [a, b, c, d, e, f, g, h]: [i64; 8] = bytemuck::cast(words);
        intrinsics! { _mm512_setr_epi64(a, b, c, d, e, f, g, h) }
    }
    #[inline(always)]
    fn single_words(self, words: [u64; 8]) -> __m512i {
        self.words(self.keep_apart(words))
    }
    #[inline(always)]
    fn shift_halves(self, bytes: &[u8; 32], shifts: [i32; 2]) -> __m512i {
        intrinsics! {
            let twice = _mm512_broadcast_i64x4(_mm256_loadu_si256(bytes.as_ptr().cast()));
            // A rotation by a negative count goes the other way.
            let counts = _mm512_mask_set1_epi32(_mm512_set1_epi32(shifts[0]), 0xff00, shifts[1]);
            _mm512_rorv_epi32(twice, counts)
        }
    }
    #[inline(always)]
    fn field(self, bytes: __m512i, shift: u32, mask: u8) -> __m512i {
        intrinsics! {
            let shifted = _mm512_srl_epi16(bytes, _mm_cvtsi32_si128(shift as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask as i8))
        }
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics! { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn around(self, center: u8, bytes: __m512i, below: u64) -> __m512i {
        intrinsics! {
            let center = _mm512_set1_epi8(center as i8);
            _mm512_mask_sub_epi8(_mm512_add_epi8(center, bytes), below, center, bytes)
        }
    }
    #[inline(always)]
    fn lookup(self, table: &[i8; 16], bytes: __m512i) -> __m512i {
        intrinsics! {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, bytes)
        }
    }
    #[inline(always)]
    fn add_bits(self, [low, high]: [__m512i; 2], bits: [&[u8; 4]; 4], value: u8) -> [__m512i; 2] {
        // The masks are put together by the integer units, which have nothing else to do.
        let mask = |first: usize| {
            let part = |i: usize| u64::from(bits[i][first]) | u64::from(bits[i][first + 1]) << 8;
            part(0) | part(1) << 16 | part(2) << 32 | part(3) << 48
        };
        intrinsics! {
            let value = _mm512_set1_epi8(value as i8);
            [
                _mm512_mask_add_epi8(low, mask(0), low, value),
                _mm512_mask_add_epi8(high, mask(2), high, value),
            ]
        }
    }
    #[inline(always)]
    fn bias_signed(self, bytes: __m512i) -> __m512i {
        intrinsics! { _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)) }
    }
    #[inline(always)]
    fn transpose(self, rows: [__m512i; 16]) -> [__m512i; 16] {
        intrinsics! {
            // 4 x 4 dwords inside each 128-bit lane, then the lanes themselves.
            let mut quads = [_mm512_setzero_si512(); 16];
            for i in 0..4 {
                let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
                let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
                let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
                quads[4 * i] = _mm512_unpacklo_epi64(ab_low, cd_low);
                quads[4 * i + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
                quads[4 * i + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
                quads[4 * i + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
            }
            let mut columns = [_mm512_setzero_si512(); 16];
            for i in 0..4 {
                let [a, b, c, d] = [quads[i], quads[4 + i], quads[8 + i], quads[12 + i]];
                let (ab_even, ab_odd) =
                    (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
                let (cd_even, cd_odd) =
                    (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
                columns[i] = _mm512_shuffle_i32x4::<0x88>(ab_even, cd_even);
                columns[4 + i] = _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd);
                columns[8 + i] = _mm512_shuffle_i32x4::<0xdd>(ab_even, cd_even);
                columns[12 + i] = _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd);
            }
            columns
        }
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m512i {
        intrinsics! { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    fn dot<Q: Quants>(self, sums: __m512i, quants: __m512i, activations: __m512i) -> __m512i {
        intrinsics! { _mm512_dpbusd_epi32(sums, quants, activations) }
    }
    #[inline(always)]
    fn to_floats(self, ints: __m512i) -> __m512 {
        intrinsics! { _mm512_cvtepi32_ps(ints) }
    }
    #[inline(always)]
    fn sums_of_fours(self, [a, b, c, d]: [__m512i; 4]) -> [i32; 16] {
        let mut sums = [0; 16];
        intrinsics! {
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            let fours =
                _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
            _mm512_storeu_si512(sums.as_mut_ptr().cast(), fours);
        }
        sums
    }

    #[inline(always)]
    fn dot_start<Q: Quants>(self, start: i32) -> __m512i {
        self.splat_int(start)
    }
    #[inline(always)]
    fn dot_step<Q: Quants>(self, sums: __m512i, quants: __m512i, activations: [i8; 4]) -> __m512i {
        let activations = self.splat_int(bytemuck::cast(activations));
        self.dot::<Q>(sums, quants, activations)
    }
    #[inline(always)]
    fn dot_end<Q: Quants>(self, sums: __m512i, _start: i32, scales: __m512) -> __m512 {
        intrinsics! {
            let offset = _mm512_mul_ps(scales, _mm512_set1_ps(MAGIC));
            _mm512_fmsub_ps(_mm512_castsi512_ps(sums), scales, offset)
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        intrinsics! { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> __m512 {
        intrinsics! { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, floats: __m512, to: &mut [f32; 16]) {
        intrinsics! { _mm512_storeu_ps(to.as_mut_ptr(), floats) }
    }
    #[inline(always)]
    fn keep(self, floats: __m512, lanes: u16) -> __m512 {
        intrinsics! { _mm512_maskz_mov_ps(lanes, floats) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        intrinsics! { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        intrinsics! { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        intrinsics! { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        intrinsics! { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        intrinsics! { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        intrinsics! { _mm512_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        intrinsics! { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        intrinsics! { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        intrinsics! { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn scale_exponent(self, a: __m512, n: __m512) -> __m512 {
        intrinsics! { _mm512_scalef_ps(a, n) }
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        intrinsics! {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        intrinsics! {
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let low = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            let high = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
            let all = _mm512_add_ps(low, high);
            let two = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps::<1>(all));
            let one = _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps::<1>(two));
            _mm_storeu_ps(sums.as_mut_ptr(), one);
        }
        sums
    }
    #[inline(always)]
    fn maximum(self, a: __m512) -> f32 {
        intrinsics! { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    fn floats_of_u8(self, bytes: [u8; 16]) -> __m512 {
        intrinsics! {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())))
        }
    }
    #[inline(always)]
    fn floats_of_i8(self, bytes: [u8; 16]) -> __m512 {
        intrinsics! {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())))
        }
    }
    #[inline(always)]
    fn floats_of_f16(self, bytes: &[u8; 32]) -> __m512 {
        intrinsics! { _mm512_cvtph_ps(_mm256_loadu_si256(bytes.as_ptr().cast())) }
    }
    #[inline(always)]
    fn strided_f16<const STRIDE: usize, const PAIRS: bool>(self, blocks: &[u8]) -> __m512 {
        // Not by permutations of whole vectors: their loads straddle cache lines, which costs more than
        // eight insertions. On Zen 4 Q8_0 then reads 24 GB/s instead of 40 from its caches.
        intrinsics! {
            let [low, high] = self.gather_f16::<STRIDE, PAIRS>(blocks);
            _mm512_cvtph_ps(_mm256_set_m128i(high, low))
        }
    }
    #[inline(always)]
    fn splat_f16(self, half: u16) -> __m512 {
        intrinsics! { _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(half)))) }
    }
    #[inline(always)]
    fn splat_two_f16(self, low: u16, high: u16) -> __m512 {
        intrinsics! {
            let halves = _mm_cvtsi32_si128(i32::from(low) | i32::from(high) << 16);
            let floats = _mm512_castps128_ps512(_mm_cvtph_ps(halves));
            let lanes = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
            _mm512_permutexvar_ps(lanes, floats)
        }
    }
    #[inline(always)]
    fn floats_of_bf16(self, bytes: &[u8; 32]) -> __m512 {
        intrinsics! {
            let halves = _mm256_loadu_si256(bytes.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }
    #[inline(always)]
    fn to_f16(self, floats: __m512, to: &mut [u16; 16]) {
        intrinsics! {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(floats);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), halves);
        }
    }
    #[inline(always)]
    fn maxima_of_fours(self, [a, b, c, d]: [__m512; 4]) -> [f32; 16] {
        let mut maxima = [0.0; 16];
        intrinsics! {
            let ab = _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_max_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let low = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            let high = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
            _mm512_storeu_ps(maxima.as_mut_ptr(), _mm512_max_ps(low, high));
        }
        maxima
    }
    #[inline(always)]
    fn to_i8(self, [a, b, c, d]: [__m512; 4]) -> __m512i {
        intrinsics! {
            let ab = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
            let cd = _mm512_packs_epi32(_mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d));
            // Packing works inside lanes of 128 bits: dword 4 * lane + vector.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_permutexvar_epi32(order, _mm512_packs_epi16(ab, cd))
        }
    }
    #[inline(always)]
    fn spread(self, scales: __m512, lanes: [usize; 4]) -> __m512 {
        intrinsics! {
            let [a, b, c, d] = lanes.map(|lane| lane as i32);
            let lanes = _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d);
            _mm512_permutexvar_ps(lanes, scales)
        }
    }
    #[inline(always)]
    fn bits(self, floats: __m512) -> __m512i {
        intrinsics! { _mm512_castps_si512(floats) }
    }
    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}
