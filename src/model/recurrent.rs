//! Blocks that keep a state of fixed size in place of keys and values.

use super::config::MAX_WIDTH;
use super::keys::Keys;
use crate::Result;

/// Longest convolution; published models have 3 and 4.
const MAX_TAPS: usize = 64;
const MAX_STATE: usize = 1024;

/// What the recurrent blocks of a model compute.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RecurrentShape {
    DeltaNet(DeltaShape),
    /// Taps of a short convolution over values of the embedding's length. Key `shortconv.l_cache`.
    ShortConvolution {
        taps: usize,
    },
}

/// The lengths of a gated delta net (Yang et al., "Gated Delta Networks", 2024).
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaShape {
    /// Taps of the convolution. Key `ssm.conv_kernel`.
    pub(crate) taps: usize,
    /// Values of a head. Key `ssm.state_size`.
    pub(crate) head_dim: usize,
    /// Key `ssm.group_count`.
    pub(crate) key_heads: usize,
    /// A multiple of `key_heads`. Key `ssm.time_step_rank`.
    pub(crate) value_heads: usize,
    /// Which key head a value head uses.
    pub(crate) sharing: Sharing,
}

/// Which key head value head `h` of a delta net uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// `h % key_heads`.
    Interleaved,
    /// `h / (value_heads / key_heads)`.
    Grouped,
}

impl DeltaShape {
    pub(super) fn read(keys: &Keys<'_>, sharing: Sharing) -> Result<DeltaShape> {
        const VALUE_HEADS: &str = "ssm.time_step_rank";
        const INNER: &str = "ssm.inner_size";
        let key_heads = keys.size("ssm.group_count", None, 1..=MAX_STATE)?;
        let value_heads = keys.size(VALUE_HEADS, None, 1..=MAX_STATE)?;
        if !value_heads.is_multiple_of(key_heads) {
            let expected = format!("a multiple of ssm.group_count {key_heads}");
            return Err(keys.malformed(VALUE_HEADS, expected, value_heads));
        }
        let head_dim = keys.size("ssm.state_size", None, 1..=MAX_STATE)?;
        let inner = keys.size(INNER, None, 1..=MAX_WIDTH)?;
        if inner != value_heads * head_dim {
            let expected =
                format!("{VALUE_HEADS} times ssm.state_size, {value_heads} * {head_dim}");
            return Err(keys.malformed(INNER, expected, inner));
        }
        Ok(DeltaShape {
            taps: keys.size("ssm.conv_kernel", None, 1..=MAX_TAPS)?,
            head_dim,
            key_heads,
            value_heads,
            sharing,
        })
    }

    /// Values of all key heads of a token, and of all its queries.
    pub(crate) fn key_length(&self) -> usize {
        self.key_heads * self.head_dim
    }

    /// Values of all value heads of a token.
    pub(crate) fn value_length(&self) -> usize {
        self.value_heads * self.head_dim
    }

    /// The key head that a value head uses.
    pub(crate) fn key_head(&self, value_head: usize) -> usize {
        match self.sharing {
            Sharing::Interleaved => value_head % self.key_heads,
            Sharing::Grouped => value_head / (self.value_heads / self.key_heads),
        }
    }
}

impl RecurrentShape {
    pub(super) fn short_convolution(keys: &Keys<'_>) -> Result<RecurrentShape> {
        let taps = keys.size("shortconv.l_cache", None, 1..=MAX_TAPS)?;
        Ok(RecurrentShape::ShortConvolution { taps })
    }

    pub(crate) fn taps(&self) -> usize {
        match self {
            RecurrentShape::DeltaNet(shape) => shape.taps,
            RecurrentShape::ShortConvolution { taps } => *taps,
        }
    }

    /// Values of the first projection of a token.
    pub(crate) fn projected(&self, width: usize) -> usize {
        match self {
            RecurrentShape::DeltaNet(_) => self.channels(width),
            RecurrentShape::ShortConvolution { .. } => 3 * width,
        }
    }

    /// Values per token that go through the convolution. `width` is the embedding's length.
    pub(crate) fn channels(&self, width: usize) -> usize {
        match self {
            RecurrentShape::DeltaNet(shape) => 2 * shape.key_length() + shape.value_length(),
            RecurrentShape::ShortConvolution { .. } => width,
        }
    }
}
