//! The weights of latent attention.

use super::Norm;
use super::linear::{BranchOutput, Linear, Stacked};
use super::tensors::Tensors;
use crate::Result;
use crate::model::config::Config;
use crate::model::latent::LatentShape;

/// Multi-head latent attention.
#[derive(Debug)]
pub(crate) struct LatentAttention {
    pub(crate) shape: LatentShape,
    /// What queries are compressed by before, if they are: a matrix and a norm.
    pub(crate) compress_query: Option<(Linear, Norm)>,
    pub(crate) query: Linear,
    /// The latent, and behind it the key that rotates.
    pub(crate) compress: Linear,
    pub(crate) norm: Norm,
    pub(crate) expand: Expand,
    pub(crate) output: BranchOutput,
}

/// From latents to keys and values.
#[derive(Debug)]
pub(crate) enum Expand {
    /// Keys and values of all heads are made: of each head its key, then its value.
    KeysAndValues(Linear),
    /// Queries are made that compare with latents, `[heads, rank, plain_dim]`, and what is summed of
    /// latents becomes the values', `[heads, value_dim, rank]`.
    Absorbed { query: Stacked, value: Stacked },
}

impl LatentAttention {
    pub(super) fn bind(
        tensors: &mut Tensors<'_>,
        config: &Config,
        shape: &LatentShape,
        block: &str,
    ) -> Result<LatentAttention> {
        let name = |part: &str| format!("{block}.{part}");
        let width = config.sizes.embedding_length;
        let heads = config.attention.head_count;
        let (plain, value) = (shape.plain_dim, shape.value_dim);
        let query_length = heads * shape.head_dim();
        // Models without compression have the key all the same, with any value.
        let is_direct = tensors.has(&name("attn_q.weight")) || shape.query_rank == 0;
        let (compress_query, query) = if is_direct {
            (None, tensors.linear(&name("attn_q"), query_length, width)?)
        } else {
            let rank = shape.query_rank;
            let compress = tensors.linear(&name("attn_q_a"), rank, width)?;
            let norm = tensors.norm(&name("attn_q_a_norm"), rank)?;
            let query = tensors.linear(&name("attn_q_b"), query_length, rank)?;
            (Some((compress, norm)), query)
        };
        let compressed = shape.rank + shape.rope_dim;
        let expand = if shape.is_absorbed {
            Expand::Absorbed {
                query: tensors.stacked(&name("attn_k_b"), heads, shape.rank, plain)?,
                value: tensors.stacked(&name("attn_v_b"), heads, value, shape.rank)?,
            }
        } else {
            let rows = heads * (plain + value);
            Expand::KeysAndValues(tensors.linear(&name("attn_kv_b"), rows, shape.rank)?)
        };
        Ok(LatentAttention {
            shape: *shape,
            compress_query,
            query,
            compress: tensors.linear(&name("attn_kv_a_mqa"), compressed, width)?,
            norm: tensors.norm(&name("attn_kv_a_norm"), shape.rank)?,
            expand,
            output: tensors.branch_output(config, &name("attn_output"), heads * value)?,
        })
    }
}
