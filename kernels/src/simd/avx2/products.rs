//! How products of bytes are summed: all that AVX2 and AVX-VNNI differ in.

use std::arch::x86_64::*;

use super::super::Quants;
use super::super::isa::Token;

isa_token! {
    /// Proof of AVX2, FMA and F16C (Haswell, Zen and later).
    Avx2: "avx2", "fma", "f16c"
}

#[cfg(not(evex))]
isa_token! {
    /// Proof of AVX2, FMA and F16C with the dot products of small integers on 256 bits (Alder Lake,
    /// Zen 5 and later).
    AvxVnni: "avxvnni", "avx2", "fma", "f16c"
}
// The same instruction as AVX-512 encodes it: `--cfg evex` tests this level on a CPU that has no other
// encoding, and which takes the 512-bit level otherwise.
#[cfg(evex)]
isa_token! {
    /// Proof of AVX-512 VNNI and VL, for the 256-bit dot products of these.
    AvxVnni: "avx512vnni", "avx512vl", "avx2", "fma", "f16c"
}

/// Sums of products in one register. Quants are what [`Products::bias_signed`] made of them.
pub(super) trait Products: Token {
    /// See [`super::Simd::SIGNED_BIAS`].
    const SIGNED_BIAS: i32;
    /// See [`super::Simd::LEAVES_OUT`].
    const LEAVES_OUT: bool;

    /// See [`super::Simd::bias_signed`].
    fn bias_signed(self, bytes: __m256i) -> __m256i;

    /// Adds to each dword the products of its four bytes.
    fn add_products<Q: Quants>(
        self,
        sums: __m256i,
        quants: __m256i,
        activations: __m256i,
    ) -> __m256i;

    /// The products of two registers, summed.
    #[inline(always)]
    fn two_products<Q: Quants>(self, quants: [__m256i; 2], activations: [__m256i; 2]) -> __m256i {
        let zero = intrinsics! { _mm256_setzero_si256() };
        let sums = self.add_products::<Q>(zero, quants[0], activations[0]);
        self.add_products::<Q>(sums, quants[1], activations[1])
    }

    // The sums of a sub-block in a tile, see `Simd::dot_start` and behind.

    /// Steps to be added at a time: 1, 2 or 4.
    #[inline(always)]
    fn steps_at_once<Q: Quants>() -> usize {
        1
    }
    /// What the sums start with.
    #[inline(always)]
    fn first_sum<Q: Quants>(start: i32) -> i32 {
        start
    }
    #[inline(always)]
    fn add_steps<Q: Quants, const N: usize>(
        self,
        sums: __m256i,
        quants: [__m256i; N],
        activations: [__m256i; N],
    ) -> __m256i {
        let mut sums = sums;
        for i in 0..N {
            sums = self.add_products::<Q>(sums, quants[i], activations[i]);
        }
        sums
    }
    /// See [`super::Simd::left_out`].
    #[inline(always)]
    fn left_out(self, sums: __m256i, _quants: __m256i) -> __m256i {
        sums
    }
    /// The sums in `i32`, `start` among them.
    #[inline(always)]
    fn last_sums<Q: Quants>(self, sums: __m256i, _start: i32) -> __m256i {
        sums
    }
}

impl Products for AvxVnni {
    const SIGNED_BIAS: i32 = 128;
    const LEAVES_OUT: bool = false;

    #[inline(always)]
    fn bias_signed(self, bytes: __m256i) -> __m256i {
        intrinsics! { _mm256_xor_si256(bytes, _mm256_set1_epi8(-128)) }
    }
    #[inline(always)]
    fn add_products<Q: Quants>(
        self,
        sums: __m256i,
        quants: __m256i,
        activations: __m256i,
    ) -> __m256i {
        #[cfg(not(evex))]
        use _mm256_dpbusd_avx_epi32 as dpbusd;
        #[cfg(evex)]
        use _mm256_dpbusd_epi32 as dpbusd;
        intrinsics! { dpbusd(sums, quants, activations) }
    }
}

impl Avx2 {
    /// Products of two neighbouring bytes, summed, in each word.
    #[inline(always)]
    fn pairs<Q: Quants>(self, quants: __m256i, activations: __m256i) -> __m256i {
        intrinsics! {
            // |pair sums| <= 2 * 128 * 127 = 32512: no saturation.
            if Q::SIGNED {
                let signed = _mm256_sign_epi8(activations, quants);
                _mm256_maddubs_epi16(_mm256_abs_epi8(quants), signed)
            } else {
                _mm256_maddubs_epi16(quants, activations)
            }
        }
    }

    /// [`Avx2::pairs`] in a tile. The activation `a` of a negative quant is `!a` here, which is `-a - 1`:
    /// an exclusive or goes to more ports than a change of sign. So the product is short of the quant's
    /// magnitude. On Zen 4 Q8_0 with 256 tokens is multiplied at 70 GOP/s instead of 60.
    #[inline(always)]
    fn tile_pairs<Q: Quants>(self, quants: __m256i, activations: __m256i) -> __m256i {
        if !Q::SIGNED {
            return self.pairs::<Q>(quants, activations);
        }
        intrinsics! {
            let negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), quants);
            // Pair sums >= 2 * 128 * -128 = -32768: no saturation.
            let flipped = _mm256_xor_si256(activations, negative);
            _mm256_maddubs_epi16(_mm256_abs_epi8(quants), flipped)
        }
    }

    /// The two pairs of each dword, summed.
    #[inline(always)]
    fn widen(self, pairs: __m256i) -> __m256i {
        intrinsics! { _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)) }
    }

    /// Whether the sums of `count` pairs fit into `i16`.
    const fn pairs_fit_i16<Q: Quants>(count: i32) -> bool {
        !Q::SIGNED && count * 2 * (Q::MAX as i32) * 127 <= i16::MAX as i32
    }

    /// Whether all pairs of a sub-block of 32 fit, so that the sums of a tile are `i16` until its end.
    const fn sums_fit_i16<Q: Quants>() -> bool {
        Self::pairs_fit_i16::<Q>(8)
    }
}

impl Products for Avx2 {
    const SIGNED_BIAS: i32 = 0;
    const LEAVES_OUT: bool = true;

    #[inline(always)]
    fn bias_signed(self, bytes: __m256i) -> __m256i {
        bytes
    }
    #[inline(always)]
    fn add_products<Q: Quants>(
        self,
        sums: __m256i,
        quants: __m256i,
        activations: __m256i,
    ) -> __m256i {
        let products = self.widen(self.pairs::<Q>(quants, activations));
        intrinsics! { _mm256_add_epi32(sums, products) }
    }
    #[inline(always)]
    fn two_products<Q: Quants>(self, quants: [__m256i; 2], activations: [__m256i; 2]) -> __m256i {
        let first = self.pairs::<Q>(quants[0], activations[0]);
        let second = self.pairs::<Q>(quants[1], activations[1]);
        intrinsics! {
            if Self::pairs_fit_i16::<Q>(2) {
                self.widen(_mm256_add_epi16(first, second))
            } else {
                _mm256_add_epi32(self.widen(first), self.widen(second))
            }
        }
    }

    #[inline(always)]
    fn steps_at_once<Q: Quants>() -> usize {
        if Self::sums_fit_i16::<Q>() {
            1
        } else if Self::pairs_fit_i16::<Q>(4) {
            4
        } else if Self::pairs_fit_i16::<Q>(2) {
            2
        } else {
            1
        }
    }
    #[inline(always)]
    fn first_sum<Q: Quants>(start: i32) -> i32 {
        if Self::sums_fit_i16::<Q>() { 0 } else { start }
    }
    #[inline(always)]
    fn add_steps<Q: Quants, const N: usize>(
        self,
        sums: __m256i,
        quants: [__m256i; N],
        activations: [__m256i; N],
    ) -> __m256i {
        let mut pairs = self.tile_pairs::<Q>(quants[0], activations[0]);
        intrinsics! {
            for i in 1..N {
                pairs = _mm256_add_epi16(pairs, self.tile_pairs::<Q>(quants[i], activations[i]));
            }
            pin(if Self::sums_fit_i16::<Q>() {
                _mm256_add_epi16(sums, pairs)
            } else {
                _mm256_add_epi32(sums, self.widen(pairs))
            })
        }
    }
    #[inline(always)]
    fn left_out(self, sums: __m256i, quants: __m256i) -> __m256i {
        intrinsics! {
            let negative = _mm256_min_epi8(quants, _mm256_setzero_si256());
            let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), negative);
            _mm256_sub_epi32(sums, self.widen(pairs))
        }
    }
    #[inline(always)]
    fn last_sums<Q: Quants>(self, sums: __m256i, start: i32) -> __m256i {
        if Self::sums_fit_i16::<Q>() {
            intrinsics! { _mm256_add_epi32(self.widen(sums), _mm256_set1_epi32(start)) }
        } else {
            sums
        }
    }
}

/// Keeps LLVM from moving all products of a tile before all of its sums, which would spill: the sums
/// are ordinary IR to it. Costs no instruction. Not `pure`, so that the pins keep their order among
/// each other too: Q4_0 with 252 tokens 269 GOP/s instead of 233, Q8_0 143 instead of 130 (Sapphire
/// Rapids).
#[inline]
#[target_feature(enable = "avx")]
fn pin(mut register: __m256i) -> __m256i {
    // SAFETY: an empty template that reads and writes nothing but its operand.
    unsafe {
        std::arch::asm!("/* {0} */", inout(ymm_reg) register, options(nomem, nostack, preserves_flags));
    }
    register
}
