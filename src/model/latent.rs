//! Multi-head latent attention (DeepSeek-AI, "DeepSeek-V2", 2024): keys and values of all heads are
//! products of one short vector per token, the latent, and of one rotated key that the heads share.

use super::attention::{AttentionShape, MAX_HEAD_DIM};
use super::config::MAX_WIDTH;
use super::keys::Keys;
use crate::Result;

/// The lengths of latent attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatentShape {
    /// Values of a token's compressed queries; 0 if they are not compressed. Key `attention.q_lora_rank`.
    pub(crate) query_rank: usize,
    /// Values of the latent. Key `attention.kv_lora_rank`.
    pub(crate) rank: usize,
    /// Values of a head that do not rotate; those that do come behind.
    pub(crate) plain_dim: usize,
    pub(crate) rope_dim: usize,
    /// Values of a value head.
    pub(crate) value_dim: usize,
    /// Whether latents are compared and summed, and the cache holds those, not keys and values.
    pub(crate) is_absorbed: bool,
}

impl LatentShape {
    /// The lengths, and the attention that queries, keys and values go through.
    pub(super) fn read(
        keys: &Keys<'_>,
        head_count: usize,
    ) -> Result<(LatentShape, AttentionShape)> {
        const KEY_LENGTH: &str = "attention.key_length";
        const KEY_LENGTH_MLA: &str = "attention.key_length_mla";
        let size = |key, most| keys.size(key, None, 1..=most);
        // Files of before 2025 lack these two keys, and have one matrix for keys and values.
        let is_absorbed = keys.optional::<usize>(KEY_LENGTH_MLA)?.is_some();
        let (key_length, value_length) = if is_absorbed {
            (KEY_LENGTH_MLA, "attention.value_length_mla")
        } else {
            (KEY_LENGTH, "attention.value_length")
        };
        let head_dim = size(key_length, MAX_HEAD_DIM)?;
        let value_dim = size(value_length, MAX_HEAD_DIM)?;
        let rope_dim = size("rope.dimension_count", MAX_HEAD_DIM)?;
        if rope_dim >= head_dim {
            let expected = format!("more than rope.dimension_count {rope_dim}");
            return Err(keys.malformed(key_length, expected, head_dim));
        }
        let rank = size("attention.kv_lora_rank", MAX_HEAD_DIM)?;
        let shape = LatentShape {
            query_rank: keys.size("attention.q_lora_rank", Some(0), 0..=MAX_WIDTH)?,
            rank,
            plain_dim: head_dim - rope_dim,
            rope_dim,
            value_dim,
            is_absorbed,
        };
        let attention = AttentionShape {
            head_count,
            head_count_kv: if is_absorbed { 1 } else { head_count },
            key_dim: if is_absorbed {
                rank + rope_dim
            } else {
                head_dim
            },
            value_dim: if is_absorbed { rank } else { value_dim },
            alibi: false,
        };
        Ok((shape, attention))
    }

    /// Values of a query head.
    pub(crate) fn head_dim(&self) -> usize {
        self.plain_dim + self.rope_dim
    }
}
