//! The few vector operations that the kernels are written in, once per instruction set.
//!
//! A vector is 64 bytes wide on every instruction set: 64 quants, 16 integers or 16 floats. Where
//! registers are narrower, a vector is an array of them. So there is one panel layout, one block
//! walk and one order of summation for all levels, and a kernel is written once.
//!
//! The operations are those that the kernels use, not more. An implementation is `#[inline(always)]`
//! throughout: the instructions become legal, and the calls vanish, inside [`Simd::run`], the one
//! function of each instruction set that carries its `#[target_feature]`.

use bytemuck::{Pod, Zeroable};

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
#[macro_use]
mod isa;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub use avx2::{Avx2, AvxVnni};
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub use neon::{Dotprod, Neon};
pub use scalar::Scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use simd128::Simd128;

/// Bits of 1.5 * 2^23. An `i32` sum that starts here is, read as an `f32`, 1.5 * 2^23 + sum, as
/// long as the sum stays within +-2^22: no conversion instruction is needed.
pub(crate) const MAGIC_BITS: i32 = 0x4B40_0000;
/// 1.5 * 2^23, the value of [`MAGIC_BITS`].
pub(crate) const MAGIC: f32 = 12_582_912.0;

/// Work that is compiled anew for each instruction set.
pub(crate) trait Kernel {
    type Output;
    /// The body; implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// What is known of a format's quants: it decides which multiplication an instruction set uses.
pub(crate) trait Quants {
    /// Stored as `i8`; otherwise as `u8`.
    const SIGNED: bool;
    /// The largest stored value, if unsigned; at most 127.
    const MAX: u8;
}

macro_rules! quants {
    ($($(#[$doc:meta])* $name:ident: $signed:literal, $max:literal;)+) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;

            impl Quants for $name {
                const SIGNED: bool = $signed;
                const MAX: u8 = $max;
            }
        )+
    };
}

quants! {
    /// Unsigned quants of at most four bits.
    Nibbles: false, 15;
    /// Unsigned quants of five bits.
    FiveBits: false, 31;
    /// Unsigned quants of six bits.
    SixBits: false, 63;
    /// Unsigned quants of seven bits.
    SevenBits: false, 127;
    /// Signed quants of eight bits.
    Signed: true, 0;
}

/// The product of one panel with the tokens of one group, compiled for each number of tokens.
pub(crate) trait Tile {
    /// `VECTORS` is [`Simd::TILE_VECTORS`].
    fn run<S: Simd, const TOKENS: usize, const VECTORS: usize>(self, simd: S);
}

/// A tile of known shape as a kernel of its own: it gets all registers.
struct Shaped<T, const TOKENS: usize, const VECTORS: usize>(T);

impl<T: Tile, const TOKENS: usize, const VECTORS: usize> Kernel for Shaped<T, TOKENS, VECTORS> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.0.run::<S, TOKENS, VECTORS>(simd);
    }
}

/// Implements the tile shape of an instruction set: vectors of rows, and how many tokens at most.
macro_rules! tile_shape {
    ($vectors:literal x $most:literal: $($tokens:literal)+) => {
        const TILE_TOKENS: usize = $most;
        const TILE_VECTORS: usize = $vectors;
        fn tile<T: $crate::simd::Tile>(self, tokens: usize, tile: T) {
            match tokens {
                $($tokens => self.run($crate::simd::Shaped::<T, $tokens, $vectors>(tile)),)+
                _ => unreachable!("a group has 1 to {} tokens, not {tokens}", $most),
            }
        }
    };
}
use tile_shape;

/// A vector in memory, in one cache line: a load that straddles two takes twice as long.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub(crate) [u8; 64]);

impl Line {
    pub(crate) fn from_floats(value: impl FnMut(usize) -> f32) -> Self {
        bytemuck::cast::<[f32; 16], _>(std::array::from_fn(value))
    }

    #[inline(always)]
    pub(crate) fn floats(&self) -> &[f32; 16] {
        bytemuck::cast_ref(self)
    }

    #[inline(always)]
    pub(crate) fn floats_mut(&mut self) -> &mut [f32; 16] {
        bytemuck::cast_mut(self)
    }
}

impl Default for Line {
    /// Zeros.
    fn default() -> Self {
        Self::zeroed()
    }
}

/// An instruction set. The value is a token: whoever has one may use the instructions.
///
/// Activations are in -127..=127 throughout: some instruction sets rely on it.
pub(crate) trait Simd: Copy {
    /// 64 bytes, signed or unsigned.
    type Bytes: Copy;
    /// 16 `i32`, or 32 `i16` inside a sub-block of [`Simd::dot_step`].
    type Ints: Copy;
    /// 16 `f32`.
    type Floats: Copy;

    /// What [`Simd::bias_signed`] adds to a signed quant: 128 where the multiplication takes an
    /// unsigned operand, 0 where it takes a signed one.
    const SIGNED_BIAS: i32;
    /// Whether [`Simd::dot_steps`] leaves something out of the products of signed quants, which does not
    /// depend on the activations, so that it is found once for all tokens of a panel.
    const LEAVES_OUT: bool = false;
    /// Most tokens that are multiplied with rows as they lie in the file; more go through a panel.
    const DOT_TOKENS: usize;
    /// Most tokens of a tile.
    const TILE_TOKENS: usize;
    /// Vectors of 16 rows in a panel.
    const TILE_VECTORS: usize;

    /// Runs `tile` compiled for `tokens`, 1 to [`Simd::TILE_TOKENS`].
    fn tile<T: Tile>(self, tokens: usize, tile: T);
    /// Enters the instruction set.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    // Bytes.

    fn load_bytes(self, from: &[u8; 64]) -> Self::Bytes;
    fn store_bytes(self, bytes: Self::Bytes, to: &mut [u8; 64]);
    /// `low`, then `high`.
    fn join(self, low: &[u8; 32], high: &[u8; 32]) -> Self::Bytes;
    /// The four arrays one after the other.
    fn join_four(self, parts: [&[u8; 16]; 4]) -> Self::Bytes;
    /// Eight times eight bytes, each eight in the order of a little-endian number.
    #[inline(always)]
    fn words(self, words: [u64; 8]) -> Self::Bytes {
        self.load_bytes(&bytemuck::cast(words))
    }
    /// The same of words that were looked up and changed one by one, and shall be.
    #[inline(always)]
    fn single_words(self, words: [u64; 8]) -> Self::Bytes {
        self.words(words)
    }
    /// `bytes` twice, shifted to the right by the one count and by the other: to the left where a count
    /// is negative. Bits that leave their byte come out anywhere.
    fn shift_halves(self, bytes: &[u8; 32], shifts: [i32; 2]) -> Self::Bytes;
    /// `(bytes >> shift) & mask` in each byte.
    fn field(self, bytes: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes;
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// `center + byte`, or `center - byte` for byte `i` where bit `i` of `below` is set.
    fn around(self, center: u8, bytes: Self::Bytes, below: u64) -> Self::Bytes;
    /// The entries of `table` that the bytes number, all below 16.
    fn lookup(self, table: &[i8; 16], bytes: Self::Bytes) -> Self::Bytes;
    /// Adds `value` to byte `i` of quarter `q` of the first vector where bit `i` of `bits[q]` is set, and
    /// of the second vector where bit `16 + i` is.
    fn add_bits(self, pair: [Self::Bytes; 2], bits: [&[u8; 4]; 4], value: u8) -> [Self::Bytes; 2];
    /// Signed quants as [`Simd::dot`] takes them, see [`Simd::SIGNED_BIAS`].
    fn bias_signed(self, bytes: Self::Bytes) -> Self::Bytes;
    /// The 16 rows of 16 dwords as 16 columns.
    fn transpose(self, rows: [Self::Bytes; 16]) -> [Self::Bytes; 16];

    // Integers.

    fn splat_int(self, value: i32) -> Self::Ints;
    /// Adds to lane `i` the products of bytes `4i..4i + 4` of `quants` and `activations` (signed).
    fn dot<Q: Quants>(
        self,
        sums: Self::Ints,
        quants: Self::Bytes,
        activations: Self::Bytes,
    ) -> Self::Ints;
    /// The products of both pairs of vectors, summed as by [`Simd::dot`].
    #[inline(always)]
    fn dot_pair<Q: Quants>(
        self,
        quants: [Self::Bytes; 2],
        activations: [Self::Bytes; 2],
    ) -> Self::Ints {
        let sums = self.dot::<Q>(self.splat_int(0), quants[0], activations[0]);
        self.dot::<Q>(sums, quants[1], activations[1])
    }
    fn to_floats(self, ints: Self::Ints) -> Self::Floats;
    /// Lane `4 * i + vector`: the sum of the lanes `4 * i..4 * i + 4` of that vector.
    fn sums_of_fours(self, vectors: [Self::Ints; 4]) -> [i32; 16];

    // The sums of one sub-block in a tile: `dot_start`, `SUB / 4` times `dot_step`, `dot_end`.

    /// `start` is [`MAGIC_BITS`] plus a correction.
    fn dot_start<Q: Quants>(self, start: i32) -> Self::Ints;
    /// As [`Simd::dot`], with the same four activations against every lane.
    fn dot_step<Q: Quants>(
        self,
        sums: Self::Ints,
        quants: Self::Bytes,
        activations: [i8; 4],
    ) -> Self::Ints;
    /// How many steps a tile takes at a time: 1, 2 or 4.
    #[inline(always)]
    fn steps_at_once<Q: Quants>() -> usize {
        1
    }
    /// `N` times [`Simd::dot_step`].
    #[inline(always)]
    fn dot_steps<Q: Quants, const N: usize>(
        self,
        sums: Self::Ints,
        quants: [Self::Bytes; N],
        activations: [[i8; 4]; N],
    ) -> Self::Ints {
        let mut sums = sums;
        for i in 0..N {
            sums = self.dot_step::<Q>(sums, quants[i], activations[i]);
        }
        sums
    }
    /// Adds what [`Simd::dot_steps`] leaves out of each sum of four products, see
    /// [`Simd::LEAVES_OUT`].
    #[inline(always)]
    fn left_out(self, sums: Self::Ints, _quants: Self::Bytes) -> Self::Ints {
        sums
    }
    /// `(start + sums - MAGIC_BITS) * scales`; `start` as in [`Simd::dot_start`].
    fn dot_end<Q: Quants>(self, sums: Self::Ints, start: i32, scales: Self::Floats)
    -> Self::Floats;

    // Floats.

    fn splat(self, value: f32) -> Self::Floats;
    fn load(self, from: &[f32; 16]) -> Self::Floats;
    fn store(self, floats: Self::Floats, to: &mut [f32; 16]);
    /// The lanes whose bit is set; the others become zero.
    fn keep(self, floats: Self::Floats, lanes: u16) -> Self::Floats;
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `c - a * b`.
    fn neg_mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn abs(self, a: Self::Floats) -> Self::Floats;
    /// `a * 2^n` for whole `n` in -126..=127.
    fn scale_exponent(self, a: Self::Floats, n: Self::Floats) -> Self::Floats;
    fn sum(self, a: Self::Floats) -> f32;
    /// The sums of four vectors, together cheaper than one by one.
    fn sums(self, vectors: [Self::Floats; 4]) -> [f32; 4];
    fn maximum(self, a: Self::Floats) -> f32;
    /// 16 unsigned bytes as floats.
    fn floats_of_u8(self, bytes: [u8; 16]) -> Self::Floats;
    /// 16 signed bytes as floats.
    fn floats_of_i8(self, bytes: [u8; 16]) -> Self::Floats;
    /// 16 little-endian f16.
    fn floats_of_f16(self, bytes: &[u8; 32]) -> Self::Floats;
    /// Lanes 0..8: the little-endian f16 at the beginning of each of eight blocks of `STRIDE` bytes;
    /// lanes 8..16 the same again or, with `PAIRS`, the f16 behind it.
    fn strided_f16<const STRIDE: usize, const PAIRS: bool>(self, blocks: &[u8]) -> Self::Floats;
    /// One f16 in every lane.
    fn splat_f16(self, half: u16) -> Self::Floats;
    /// One f16 in lanes 0..8, another one in lanes 8..16.
    fn splat_two_f16(self, low: u16, high: u16) -> Self::Floats;
    /// 16 little-endian bf16.
    fn floats_of_bf16(self, bytes: &[u8; 32]) -> Self::Floats;
    /// 16 f16, rounded to nearest even.
    fn to_f16(self, floats: Self::Floats, to: &mut [u16; 16]);
    /// Lane `4 * i + vector`: the largest of the lanes `4 * i..4 * i + 4` of that vector.
    fn maxima_of_fours(self, vectors: [Self::Floats; 4]) -> [f32; 16];
    /// 64 signed bytes, rounded to the nearest integer; values in -127..=127.
    fn to_i8(self, floats: [Self::Floats; 4]) -> Self::Bytes;
    /// Lane `i` becomes lane `lanes[i / 4]`: scales over the lanes of a dot. The four are all below 8
    /// or none is.
    fn spread(self, scales: Self::Floats, lanes: [usize; 4]) -> Self::Floats;
    /// The bits of floats, for [`Simd::transpose`].
    fn bits(self, floats: Self::Floats) -> Self::Bytes;

    /// Asks for the cache line at `address`, which may be anything.
    fn prefetch(self, address: *const u8);
    /// Asks for the cache lines of `count` bytes from `first` on.
    #[inline(always)]
    fn prefetch_lines(self, first: *const u8, count: usize) {
        for line in 0..count.div_ceil(size_of::<Line>()) {
            self.prefetch(first.wrapping_add(line * size_of::<Line>()));
        }
    }

    /// e^a, relative error below 2e-7 on -87..=88; clamped outside.
    #[inline(always)]
    fn exp(self, a: Self::Floats) -> Self::Floats {
        // Cody-Waite: a = n ln 2 + r, |r| <= ln 2 / 2; then a polynomial (coefficients of Cephes expf).
        let a = self.min(self.max(a, self.splat(-87.3)), self.splat(88.3));
        let magic = self.splat(MAGIC);
        let n = self.sub(
            self.mul_add(a, self.splat(std::f32::consts::LOG2_E), magic),
            magic,
        );
        let r = self.neg_mul_add(n, self.splat(0.693_359_4), a);
        let r = self.neg_mul_add(n, self.splat(-2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for coefficient in [
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            5e-1,
        ] {
            p = self.mul_add(p, r, self.splat(coefficient));
        }
        let p = self.add(self.mul_add(p, self.mul(r, r), r), self.splat(1.0));
        self.scale_exponent(p, n)
    }
}
