//! Block formats: how GGUF files store the values of a row.
//!
//! A format is one file here and one row in the table below. The file holds the block as it lies in
//! the file, its values (`dequantize`, the specification), and how a vector of its quants is read,
//! which serves the dot product of generation and the panel of prompts alike. Layouts: ggml's
//! `ggml-common.h` and `ggml-quants.c`.

#![expect(non_camel_case_types, reason = "the formats' names in the field")]

use bytemuck::{Pod, Zeroable};
use half::f16;

use crate::simd::{Quants, Simd};

pub(crate) mod float;
mod grid;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod k_scales;
mod mxfp4;
mod nvfp4;
mod order;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod quantize;
mod signs;
mod tq1_0;
mod tq2_0;
mod unpacked;

pub use quantize::Quantizer;

pub(crate) use order::{HALF, Order};
pub(crate) use unpacked::{Unpack, UnpackedUnit, unpack_rows};

/// Values that the kernels take at a time: a K-quant's block, or eight blocks of 32.
pub(crate) const UNIT: usize = 256;

/// A block format and the values of its blocks.
pub(crate) trait BlockFormat {
    /// The block as it lies in the file.
    type Block: Pod;
    /// Values of a block.
    const ELEMENTS: usize;
    /// The specification: `values` has [`BlockFormat::ELEMENTS`] elements.
    fn dequantize(block: &Self::Block, values: &mut [f32]);
}

/// A format of small integers. A value is `scale * (quant - OFFSET)` and the min, with a scale and a
/// min per sub-block of [`QuantFormat::SUB`] values.
pub(crate) trait QuantFormat: BlockFormat {
    /// Blocks of [`UNIT`] values.
    type Unit: Pod;
    type Quants: Quants;
    /// Values that share a scale: 16 or 32.
    const SUB: usize;
    const OFFSET: i32;
    const MINS: Mins;
    const ORDER: Order;
    /// The quants of half `half` (0 or 1) of a unit, in the order [`QuantFormat::ORDER`].
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, half: usize) -> [S::Bytes; 2];
    /// The scales of a unit. Of sub-blocks of 32 there are eight, and the mins follow in lanes 8..16:
    /// where there are none, the scales again.
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats;
    /// The mins of sub-blocks of 16, where there are any.
    fn mins<S: Simd>(simd: S, _unit: &Self::Unit) -> S::Floats {
        simd.splat(0.0)
    }
}

/// A format of small integers that is unpacked before it is multiplied: one that few files have, or
/// whose quants have to be found one by one.
pub(crate) trait PackedFormat: BlockFormat {
    /// Blocks of [`UNIT`] values.
    type Unit: Pod;
    /// What the rows become.
    type Unpacked: QuantFormat<Unit = UnpackedUnit>;
    /// Vector `vector` (0..4) of the quants of a unit, as [`PackedFormat::Unpacked`] has them.
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, vector: usize) -> S::Bytes;
    /// The scales of a unit, see [`QuantFormat::scales`].
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats;
}

/// Whether the values of a sub-block have a min, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mins {
    None,
    Subtracted,
    Added,
}

impl Mins {
    pub(crate) const fn exist(self) -> bool {
        !matches!(self, Mins::None)
    }

    /// What a min is multiplied with before it is added.
    pub(crate) const fn sign(self) -> f32 {
        match self {
            Mins::None => 0.0,
            Mins::Subtracted => -1.0,
            Mins::Added => 1.0,
        }
    }
}

/// What has to be subtracted from each quant as [`Simd::dot_pair`] sees it.
pub(crate) const fn offset<S: Simd, F: QuantFormat>() -> i32 {
    F::OFFSET + if F::Quants::SIGNED { S::SIGNED_BIAS } else { 0 }
}

/// The quants of half a unit as [`Simd::dot_pair`] takes them.
#[inline(always)]
pub(crate) fn stored_quants<S: Simd, F: QuantFormat>(
    simd: S,
    unit: &F::Unit,
    half: usize,
) -> [S::Bytes; 2] {
    let [first, second] = F::quants(simd, unit, half);
    if F::Quants::SIGNED {
        [simd.bias_signed(first), simd.bias_signed(second)]
    } else {
        [first, second]
    }
}

/// Values of which 16 lie next to each other and become a vector of floats.
pub(crate) trait Sixteen {
    /// 16 values.
    type Chunk: Pod;
    fn floats<S: Simd>(simd: S, chunk: &Self::Chunk) -> S::Floats;
}

/// A format of floats.
pub(crate) trait FloatFormat: BlockFormat + Sixteen {}

/// What depends on a format, for [`Format::visit`].
pub(crate) trait FormatVisitor {
    type Output;
    fn quants<F: QuantFormat>(self) -> Self::Output;
    fn packed<F: PackedFormat>(self) -> Self::Output;
    fn floats<F: FloatFormat>(self) -> Self::Output;
}

/// The table of formats: name, `ggml_type` number in the file, module here, kind.
macro_rules! formats {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $module:ident, $kind:ident;)+) => {
        /// A block format that the kernels multiply.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Format {
            $($(#[$doc])* $variant,)+
        }

        impl Format {
            /// Every format, in the order of their numbers.
            pub const ALL: &[Format] = &[$(Format::$variant),+];

            /// The format with this `ggml_type` number in GGUF files, if the kernels have it.
            #[must_use]
            pub fn from_ggml_type(number: u32) -> Option<Format> {
                match number {
                    $($number => Some(Format::$variant),)+
                    _ => None,
                }
            }

            /// The `ggml_type` number in GGUF files.
            #[must_use]
            pub fn ggml_type(self) -> u32 {
                match self {
                    $(Format::$variant => $number,)+
                }
            }

            /// The name, as `Q4_K`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Format::$variant => stringify!($variant),)+
                }
            }

            pub(crate) fn visit<V: FormatVisitor>(self, visitor: V) -> V::Output {
                match self {
                    $(Format::$variant => visitor.$kind::<$module::$variant>(),)+
                }
            }
        }
    };
}

formats! {
    /// 32-bit floats.
    F32 = 0, float, floats;
    /// 16-bit floats (IEEE binary16).
    F16 = 1, float, floats;
    /// 32 values of 4 bits, one f16 scale.
    Q4_0 = 2, q4_0, quants;
    /// 32 values of 4 bits, f16 scale and min.
    Q4_1 = 3, q4_1, quants;
    /// 32 values of 5 bits, one f16 scale.
    Q5_0 = 6, q5_0, quants;
    /// 32 values of 5 bits, f16 scale and min.
    Q5_1 = 7, q5_1, quants;
    /// 32 values of 8 bits, one f16 scale.
    Q8_0 = 8, q8_0, quants;
    /// 256 values of 2 bits, 4-bit scales and mins per 16.
    Q2_K = 10, q2_k, quants;
    /// 256 values of 3 bits, 6-bit scales per 16.
    Q3_K = 11, q3_k, quants;
    /// 256 values of 4 bits, 6-bit scales and mins per 32.
    Q4_K = 12, q4_k, quants;
    /// 256 values of 5 bits, 6-bit scales and mins per 32.
    Q5_K = 13, q5_k, quants;
    /// 256 values of 6 bits, 8-bit scales per 16.
    Q6_K = 14, q6_k, quants;
    /// 256 values, groups of eight from a grid of 256, 4-bit scales per 32.
    IQ2_XXS = 16, iq2_xxs, packed;
    /// 256 values, groups of eight from a grid of 512, 4-bit scales per 16.
    IQ2_XS = 17, iq2_xs, packed;
    /// 256 values, groups of four from a grid of 256, 4-bit scales per 32.
    IQ3_XXS = 18, iq3_xxs, packed;
    /// 256 values, groups of eight from a grid of 2048, 3-bit scales and a shift per 32.
    IQ1_S = 19, iq1_s, packed;
    /// 32 numbers of 4 bits of the entries of a table, one f16 scale.
    IQ4_NL = 20, iq4_nl, quants;
    /// 256 values, groups of four from a grid of 512, 4-bit scales per 32.
    IQ3_S = 21, iq3_s, packed;
    /// 256 values, groups of eight from a grid of 1024, 4-bit scales per 16.
    IQ2_S = 22, iq2_s, packed;
    /// 256 numbers of 4 bits of the entries of a table, 6-bit scales per 32.
    IQ4_XS = 23, iq4_xs, quants;
    /// 256 values, groups of eight from a grid of 2048, 3-bit scales per 16 and shifts per 8.
    IQ1_M = 29, iq1_m, packed;
    /// The upper half of 32-bit floats.
    BF16 = 30, float, floats;
    /// 256 values of -1, 0 or 1, five to a byte, one f16 scale.
    TQ1_0 = 34, tq1_0, packed;
    /// 256 values of -1, 0 or 1, two bits each, one f16 scale.
    TQ2_0 = 35, tq2_0, packed;
    /// 32 floats of 4 bits (E2M1), one power of two as their scale (E8M0).
    MXFP4 = 39, mxfp4, quants;
    /// 64 floats of 4 bits (E2M1), a float of 8 bits (UE4M3) per 16 as their scale.
    NVFP4 = 40, nvfp4, packed;
    /// 128 values of one bit, the sign, one f16 scale.
    Q1_0 = 41, q1_0, packed;
    /// 64 values of 2 bits, one f16 scale.
    Q2_0 = 42, q2_0, packed;
}

impl Format {
    /// Values of a block: 1, 32, 64, 128 or 256.
    #[must_use]
    pub fn block_elements(self) -> usize {
        self.visit(BlockShape).0
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.visit(BlockShape).1
    }

    /// Bytes of a row of `cols` values, if they are whole blocks and the size is representable.
    #[must_use]
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let (elements, bytes) = self.visit(BlockShape);
        cols.is_multiple_of(elements)
            .then(|| (cols / elements).checked_mul(bytes))
            .flatten()
    }

    /// Whether the values are floats, multiplied as such; otherwise activations are quantised too.
    #[must_use]
    pub fn is_float(self) -> bool {
        self.block_elements() == 1
    }

    /// Whether rows are unpacked before they are multiplied.
    pub(crate) fn is_packed(self) -> bool {
        self.visit(IsPacked)
    }

    /// The values of whole blocks.
    ///
    /// # Panics
    /// If `bytes` are not the blocks of `values.len()` values.
    pub fn dequantize(self, bytes: &[u8], values: &mut [f32]) {
        assert_eq!(
            self.row_bytes(values.len()),
            Some(bytes.len()),
            "{} blocks",
            self.name()
        );
        self.visit(Dequantize { bytes, values });
    }
}

/// Elements and bytes of a block.
struct BlockShape;

impl BlockShape {
    fn of<F: BlockFormat>() -> (usize, usize) {
        (F::ELEMENTS, size_of::<F::Block>())
    }
}

impl FormatVisitor for BlockShape {
    type Output = (usize, usize);
    fn quants<F: QuantFormat>(self) -> Self::Output {
        Self::of::<F>()
    }
    fn packed<F: PackedFormat>(self) -> Self::Output {
        Self::of::<F>()
    }
    fn floats<F: FloatFormat>(self) -> Self::Output {
        Self::of::<F>()
    }
}

struct IsPacked;

impl FormatVisitor for IsPacked {
    type Output = bool;
    fn quants<F: QuantFormat>(self) -> bool {
        false
    }
    fn packed<F: PackedFormat>(self) -> bool {
        true
    }
    fn floats<F: FloatFormat>(self) -> bool {
        false
    }
}

struct Dequantize<'a> {
    bytes: &'a [u8],
    values: &'a mut [f32],
}

impl Dequantize<'_> {
    fn run<F: BlockFormat>(self) {
        let blocks = self.bytes.chunks_exact(size_of::<F::Block>());
        for (block, values) in blocks.zip(self.values.chunks_exact_mut(F::ELEMENTS)) {
            F::dequantize(&bytemuck::pod_read_unaligned(block), values);
        }
    }
}

impl FormatVisitor for Dequantize<'_> {
    type Output = ();
    fn quants<F: QuantFormat>(self) {
        self.run::<F>();
    }
    fn packed<F: PackedFormat>(self) {
        self.run::<F>();
    }
    fn floats<F: FloatFormat>(self) {
        self.run::<F>();
    }
}

/// A little-endian f16 at any address.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Half([u8; 2]);

impl Half {
    #[inline(always)]
    fn bits(self) -> u16 {
        u16::from_le_bytes(self.0)
    }

    fn to_f32(self) -> f32 {
        f16::from_bits(self.bits()).to_f32()
    }
}

/// Nibble `i` of a block of 32: the low nibbles are values 0..16, the high ones 16..32.
fn nibble(quants: &[u8; 16], i: usize) -> u8 {
    if i < 16 {
        quants[i] & 15
    } else {
        quants[i - 16] >> 4
    }
}

/// The nibbles of four blocks of 32, low ones first: the order [`Order::LowHalves`].
#[inline(always)]
fn nibbles_of_four<S: Simd>(simd: S, quants: [&[u8; 16]; 4]) -> [S::Bytes; 2] {
    nibbles(simd, simd.join_four(quants))
}

/// The low nibbles and the high ones.
#[inline(always)]
fn nibbles<S: Simd>(simd: S, bytes: S::Bytes) -> [S::Bytes; 2] {
    [simd.field(bytes, 0, 15), simd.field(bytes, 4, 15)]
}

/// Each nibble in a byte of its own.
#[inline(always)]
fn spread_nibbles(nibbles: u32) -> u64 {
    let wide = u64::from(nibbles);
    let wide = (wide | wide << 16) & 0x0000_ffff_0000_ffff;
    let wide = (wide | wide << 8) & 0x00ff_00ff_00ff_00ff;
    (wide | wide << 4) & 0x0f0f_0f0f_0f0f_0f0f
}

/// Scales of which each is twice a small number plus one, times `factor`, a power of two. The numbers
/// are bytes in little-endian order.
#[inline(always)]
fn odd_scales<S: Simd>(simd: S, numbers: [u64; 2], scale: Half, factor: f32) -> S::Floats {
    let mut odd = numbers;
    for numbers in &mut odd {
        *numbers = (2 * *numbers + 0x0101_0101_0101_0101).to_le();
    }
    let scale = simd.mul(simd.splat_f16(scale.bits()), simd.splat(factor));
    simd.mul(simd.floats_of_u8(bytemuck::cast(odd)), scale)
}

/// [`odd_scales`] of sixteen nibbles, the low one of each byte first.
#[inline(always)]
fn nibble_scales<S: Simd>(simd: S, nibbles: &[u8; 8], scale: Half, factor: f32) -> S::Floats {
    let nibbles = |first| spread_nibbles(u32::from_le_bytes(*part(nibbles, first)));
    odd_scales(simd, [nibbles(0), nibbles(4)], scale, factor)
}

/// `N` f16 as the scales of eight sub-blocks, each for as many, and the same again.
#[inline(always)]
fn repeated<S: Simd, const N: usize>(simd: S, scales: [Half; N]) -> S::Floats {
    let mut halves = [[0; 2]; 16];
    for (lane, half) in halves.iter_mut().enumerate() {
        *half = scales[lane % 8 * N / 8].0;
    }
    simd.floats_of_f16(&bytemuck::cast(halves))
}

/// Elements `start..start + N`, which are there by the layout of the block.
#[inline(always)]
fn part<T, const N: usize>(array: &[T], start: usize) -> &[T; N] {
    array[start..].first_chunk().expect("inside the block")
}

#[cfg(test)]
mod tests;
