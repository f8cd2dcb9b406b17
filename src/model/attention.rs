//! The shape of grouped-query attention.

use super::architecture::{Mixers, Positions};
use super::blocks::BAICHUAN_13B_BLOCKS;
use super::config::Sizes;
use super::keys::Keys;
use crate::Result;

const MAX_HEADS: usize = 4096;
pub(super) const MAX_HEAD_DIM: usize = 4096;

/// Heads of attention, and their lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub(crate) head_count: usize,
    /// Divides `head_count`.
    pub(crate) head_count_kv: usize,
    /// Values of a query or key head.
    pub(crate) key_dim: usize,
    /// Values of a value head, and of what attention gives for a query head.
    pub(crate) value_dim: usize,
    /// Whether scores have linear biases in place of RoPE.
    pub(crate) alibi: bool,
}

impl AttentionShape {
    pub(super) fn read(keys: &Keys<'_>, sizes: &Sizes, head_count: usize) -> Result<Self> {
        let head_count_kv = key_heads(keys, sizes, head_count)?;
        let dim = |key| {
            let default = sizes.embedding_length / head_count;
            keys.size(key, Some(default), 1..=MAX_HEAD_DIM)
        };
        Ok(Self {
            head_count,
            head_count_kv,
            key_dim: dim("attention.key_length")?,
            value_dim: dim("attention.value_length")?,
            alibi: keys.architecture.positions == Positions::Baichuan
                && sizes.block_count == BAICHUAN_13B_BLOCKS,
        })
    }

    /// Query heads that share a key head.
    pub(crate) fn group(&self) -> usize {
        self.head_count / self.head_count_kv
    }

    /// Values of all query heads of a token.
    pub(crate) fn query_length(&self) -> usize {
        self.head_count * self.key_dim
    }

    /// Values of all key heads of a token.
    pub(crate) fn key_length(&self) -> usize {
        self.head_count_kv * self.key_dim
    }

    /// Values of all value heads of a token.
    pub(crate) fn value_length(&self) -> usize {
        self.head_count_kv * self.value_dim
    }

    /// Values of what attention gives for a token.
    pub(crate) fn attended_length(&self) -> usize {
        self.head_count * self.value_dim
    }

    /// What a position away costs a query head: with `n` the largest power of two that is at most
    /// `head_count`, `2^(-8 (h + 1) / n)`, and between these for the heads from `n` on (Press et al.,
    /// "Train Short, Test Long", 2021).
    pub(crate) fn alibi_slope(&self, head: usize) -> f32 {
        let n = 1 << self.head_count.ilog2();
        let exponent = if head < n {
            8.0 * (head + 1) as f64 / n as f64
        } else {
            4.0 * (2 * (head - n) + 1) as f64 / n as f64
        };
        (-exponent).exp2() as f32
    }
}

pub(super) fn head_count(keys: &Keys<'_>, sizes: &Sizes) -> Result<usize> {
    keys.size_of_all(
        "attention.head_count",
        None,
        1..=MAX_HEADS,
        sizes.block_count,
    )
}

/// Key heads of the blocks that have any.
fn key_heads(keys: &Keys<'_>, sizes: &Sizes, head_count: usize) -> Result<usize> {
    const KEY: &str = "attention.head_count_kv";
    let least = match keys.architecture.mixers {
        Mixers::ShortConvolution => 0,
        _ => 1,
    };
    let counts = keys.sizes(KEY, Some(head_count), least..=head_count, sizes.block_count)?;
    let mut counts: Vec<_> = counts.into_iter().filter(|count| *count > 0).collect();
    counts.dedup();
    match counts[..] {
        [] => Ok(head_count),
        [count] if head_count.is_multiple_of(count) => Ok(count),
        [count] => {
            let expected = format!("a divisor of attention.head_count {head_count}");
            Err(keys.malformed(KEY, expected, count))
        }
        _ => Err(keys.differs(KEY)),
    }
}
