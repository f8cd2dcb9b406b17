//! The inputs of products: the activations of a few tokens, as floats and as small integers.

use std::ops::Range;

use crate::format::{HALF, Order, UNIT};
use crate::level::Level;
use crate::simd::{Kernel, Line, Nibbles, Simd};

/// Values that share an activation scale.
pub(crate) const BLOCK: usize = 32;

/// The largest magnitude of a block is taken to be at least this: with smaller ones the products with
/// the weights' scales would be denormal, which costs twentyfold in every product.
const LEAST: f32 = 1e-25;

/// The inputs of up to a tile's number of tokens, quantised once for all matrices that take them.
///
/// Of each 32 values of a token the largest magnitude becomes 127. Token and block are interleaved
/// as the tile reads them: block by block, in each block token by token. With one token that is the
/// natural order, which the dot product reads.
#[derive(Clone, Debug, Default)]
pub struct InputGroup {
    tokens: usize,
    cols: usize,
    /// `[tokens, padded]`, zeros behind `cols`.
    values: Vec<f32>,
    /// `[padded / 32, tokens]` blocks of 32 quants, in fours.
    quants: Vec<[[i8; 4]; 8]>,
    /// `[padded / 32, tokens]`.
    scales: Vec<f32>,
    /// `[padded / 16, tokens]`: sums of 16 quants.
    sums16: Vec<i32>,
    /// `[padded / 32, tokens]`: sums of 32 quants.
    sums32: Vec<i32>,
    /// Of one token only.
    units: Vec<UnitInput>,
}

/// A unit of a single token, as the dot product reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnitInput {
    /// The quants in each order of [`Order`].
    quants: [[[Line; 2]; 2]; Order::ALL.len()],
    /// Of the eight blocks: scales, then scale times the sum of the quants.
    pub(crate) factors32: Line,
    /// Of the sixteen half blocks: scales.
    pub(crate) scales16: Line,
    /// Scale times the sum of the quants.
    pub(crate) sums16: Line,
}

/// How `tokens` tokens are best cut into groups. A few are multiplied one by one with each row; of more,
/// as few groups as the level's tile allows, of near-equal size.
pub fn groups(level: Level, tokens: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let most = level.run(MostTokens);
    let count = if tokens <= most.dot {
        tokens
    } else {
        tokens.div_ceil(most.tile)
    };
    (0..count).map(move |i| i * tokens / count..(i + 1) * tokens / count)
}

/// So many tokens give each, to the last bit, what it gives alone: they are multiplied one by one with
/// each row. The sums of more are in another order.
#[must_use]
pub fn most_alike(level: Level) -> usize {
    level.run(MostTokens).dot
}

/// How many tokens a level takes at most, see [`Simd::DOT_TOKENS`] and [`Simd::TILE_TOKENS`].
pub(crate) struct MostTokens;

/// What [`MostTokens`] gives.
pub(crate) struct Most {
    pub(crate) dot: usize,
    tile: usize,
}

impl Kernel for MostTokens {
    type Output = Most;
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) -> Most {
        Most {
            dot: S::DOT_TOKENS,
            tile: S::TILE_TOKENS,
        }
    }
}

impl InputGroup {
    /// An empty group; [`InputGroup::fill`] allocates what it needs and keeps it.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tokens: 0,
            cols: 0,
            values: Vec::new(),
            quants: Vec::new(),
            scales: Vec::new(),
            sums16: Vec::new(),
            sums32: Vec::new(),
            units: Vec::new(),
        }
    }

    /// Takes the inputs `rows`, row-major `[tokens, cols]`.
    ///
    /// # Panics
    /// If `rows` are not whole rows, or more than a group of this level holds (see [`groups`]).
    pub fn fill(&mut self, level: Level, rows: &[f32], cols: usize) {
        assert!(
            cols > 0 && rows.len().is_multiple_of(cols),
            "{} values in rows of {cols}",
            rows.len()
        );
        let tokens = rows.len() / cols;
        assert!(
            tokens <= level.run(MostTokens).tile,
            "{tokens} tokens in one group of level {level}"
        );
        let padded = cols.next_multiple_of(UNIT);
        self.tokens = tokens;
        self.cols = cols;
        self.values.resize(tokens * padded, 0.0);
        self.quants.resize(tokens * padded / BLOCK, [[0; 4]; 8]);
        self.scales.resize(tokens * padded / BLOCK, 0.0);
        self.sums16.resize(tokens * padded / 16, 0);
        self.sums32.resize(tokens * padded / BLOCK, 0);
        level.run(Quantize { group: self, rows });
        if tokens == 1 {
            self.fill_units();
        }
    }

    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Values of a token.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Values of a token with the zeros behind them, a multiple of [`UNIT`].
    pub(crate) fn padded_cols(&self) -> usize {
        self.cols.next_multiple_of(UNIT)
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn quants(&self) -> &[[[i8; 4]; 8]] {
        &self.quants
    }

    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// What the dot product reads; one token only.
    pub(crate) fn units(&self) -> &[UnitInput] {
        &self.units
    }

    /// `[padded / sub, tokens]`: sums of `sub` (16 or 32) quants.
    pub(crate) fn sums_of(&self, sub: usize) -> &[i32] {
        if sub == BLOCK {
            &self.sums32
        } else {
            &self.sums16
        }
    }
}

impl UnitInput {
    /// # Panics
    /// If the slices are not those of a unit.
    fn new(quants: &[[[i8; 4]; 8]], scales: &[f32], sums: &[i32]) -> Self {
        let halves: &[[[i8; 16]; HALF / 16]] = bytemuck::cast_slice(quants);
        let scale = |sixteen: usize| scales[sixteen / 2];
        let scaled_sum = |sixteen: usize| scale(sixteen) * sums[sixteen] as f32;
        let both = |block: usize| (sums[2 * block] + sums[2 * block + 1]) as f32;
        Self {
            quants: Order::ALL.map(|order| {
                let ordered = |half: usize| order.sixteens().map(|sixteen| halves[half][sixteen]);
                bytemuck::cast([ordered(0), ordered(1)])
            }),
            factors32: Line::from_floats(|i| scales[i % 8] * if i < 8 { 1.0 } else { both(i - 8) }),
            scales16: Line::from_floats(scale),
            sums16: Line::from_floats(scaled_sum),
        }
    }

    /// The quants of half `half` (0 or 1) in `order`.
    pub(crate) fn quants(&self, order: Order, half: usize) -> &[Line; 2] {
        &self.quants[order as usize][half]
    }
}

struct Quantize<'a> {
    group: &'a mut InputGroup,
    /// `[tokens, cols]`
    rows: &'a [f32],
}

/// A unit of values as vectors.
type UnitValues = [[f32; 16]; UNIT / 16];

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { group, rows } = self;
        for (token, row) in rows.chunks_exact(group.cols).enumerate() {
            let (units, rest) = row.as_chunks::<UNIT>();
            for (unit, values) in units.iter().enumerate() {
                group.quantize(simd, token, unit, bytemuck::cast_ref(values));
            }
            if !rest.is_empty() {
                let mut values = [0.0; UNIT];
                values[..rest.len()].copy_from_slice(rest);
                group.quantize(simd, token, units.len(), &bytemuck::cast(values));
            }
        }
    }
}

impl InputGroup {
    fn fill_units(&mut self) {
        self.units.clear();
        let scales = self.scales.as_chunks::<{ UNIT / BLOCK }>().0;
        let sums = self.sums16.as_chunks::<{ UNIT / 16 }>().0;
        let quants = self.quants.as_chunks::<{ UNIT / BLOCK }>().0;
        let parts = quants.iter().zip(scales).zip(sums);
        self.units
            .extend(parts.map(|((quants, scales), sums)| UnitInput::new(quants, scales, sums)));
    }

    /// Takes a unit of a token. Reductions across lanes are shared by four vectors: one at a time
    /// they would cost more than everything else.
    #[inline(always)]
    fn quantize<S: Simd>(&mut self, simd: S, token: usize, unit: usize, values: &UnitValues) {
        let at = (token * self.padded_cols() / UNIT + unit) * UNIT;
        let kept: &mut UnitValues = bytemuck::cast_mut(
            self.values[at..]
                .first_chunk_mut::<UNIT>()
                .expect("room for the unit"),
        );
        for (kept, values) in kept.iter_mut().zip(values) {
            simd.store(simd.load(values), kept);
        }
        let largest = largest_of_blocks(simd, values);
        let inverses = largest.map(|largest| 127.0 / largest);
        let scales = largest.map(|largest| largest / 127.0);
        let tokens = self.tokens;
        let first = unit * (UNIT / BLOCK) * tokens + token;
        let mut sums = [simd.splat_int(0); 4];
        for chunk in 0..4 {
            let mut floats = [simd.splat(0.0); 4];
            for i in 0..4 {
                let inverse = simd.splat(inverses[2 * chunk + i / 2]);
                floats[i] = simd.mul(simd.load(&values[4 * chunk + i]), inverse);
            }
            let quants = simd.to_i8(floats);
            let ones = simd.load_bytes(&[1; 64]);
            sums[chunk] = simd.dot::<Nibbles>(sums[chunk], ones, quants);
            let mut blocks = [0; 64];
            simd.store_bytes(quants, &mut blocks);
            let blocks: [[[i8; 4]; 8]; 2] = bytemuck::cast(blocks);
            self.quants[first + 2 * chunk * tokens] = blocks[0];
            self.quants[first + (2 * chunk + 1) * tokens] = blocks[1];
        }
        let sums = simd.sums_of_fours(sums);
        for (block, scale) in scales.into_iter().enumerate() {
            // Sub-block `4 * chunk + i` is lane `4 * i + chunk`.
            let lane = 8 * (block % 2) + block / 2;
            let (low, high) = (sums[lane], sums[lane + 4]);
            let at = first + block * tokens;
            self.scales[at] = scale;
            self.sums32[at] = low + high;
            self.sums16[2 * at - token] = low;
            self.sums16[2 * at - token + tokens] = high;
        }
    }
}

/// The largest magnitude of each block, at least [`LEAST`].
#[inline(always)]
fn largest_of_blocks<S: Simd>(simd: S, values: &UnitValues) -> [f32; UNIT / BLOCK] {
    let mut largest = [LEAST; UNIT / BLOCK];
    for (half, largest) in largest.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let mut blocks = [simd.splat(0.0); 4];
        for (i, block) in blocks.iter_mut().enumerate() {
            let [low, high] = [8 * half + 2 * i, 8 * half + 2 * i + 1];
            let (low, high) = (simd.load(&values[low]), simd.load(&values[high]));
            *block = simd.max(simd.abs(low), simd.abs(high));
        }
        for parts in simd.maxima_of_fours(blocks).as_chunks::<4>().0 {
            for (largest, &part) in largest.iter_mut().zip(parts) {
                // Not `f32::max`, which takes several instructions to treat NaN as IEEE 754 says.
                *largest = if part > *largest { part } else { *largest };
            }
        }
    }
    largest
}
