//! The weights of attention.

use super::linear::{BranchOutput, Linear, split};
use super::tensors::Tensors;
use crate::Result;
use crate::model::architecture::QueryKeyNorm;
use crate::model::config::Config;

/// Grouped-query attention.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) query_norm: HeadNorm,
    pub(crate) key_norm: HeadNorm,
    /// Whether each query head has values behind it that its output is gated by.
    pub(crate) is_gated: bool,
    /// A logit per query head; or nothing.
    pub(crate) sinks: Vec<f32>,
    pub(crate) output: BranchOutput,
}

/// A norm of queries or keys; the length of the weight follows from the kind.
#[derive(Debug)]
pub(crate) struct HeadNorm {
    pub(crate) kind: QueryKeyNorm,
    pub(crate) weight: Vec<f32>,
}

impl Attention {
    pub(super) fn bind(
        tensors: &mut Tensors<'_>,
        config: &Config,
        block: &str,
    ) -> Result<Attention> {
        let name = |part: &str| format!("{block}.{part}");
        let shape = &config.attention;
        let [query, key, value] = projections(tensors, config, block)?;
        let head_norm = |tensors: &mut Tensors<'_>, part: &str, heads: usize| {
            HeadNorm::bind(tensors, config, &name(part), heads)
        };
        let sinks = config
            .architecture
            .sinks
            .then(|| tensors.values(&name("attn_sinks.weight"), 1, shape.head_count));
        Ok(Attention {
            query,
            key,
            value,
            query_norm: head_norm(tensors, "attn_q_norm.weight", shape.head_count)?,
            is_gated: config.architecture.gates_attention(),
            key_norm: head_norm(tensors, "attn_k_norm.weight", shape.head_count_kv)?,
            sinks: sinks.transpose()?.unwrap_or_default(),
            output: tensors.branch_output(config, &name("attn_output"), shape.attended_length())?,
        })
    }
}

/// Query, key and value projection: one tensor, or three.
fn projections(tensors: &mut Tensors<'_>, config: &Config, block: &str) -> Result<[Linear; 3]> {
    let width = config.sizes.embedding_length;
    let shape = &config.attention;
    let gates = if config.architecture.gates_attention() {
        shape.attended_length()
    } else {
        0
    };
    let rows = [
        shape.query_length() + gates,
        shape.key_length(),
        shape.value_length(),
    ];
    let fused = format!("{block}.attn_qkv");
    if tensors.has(&format!("{fused}.weight")) {
        let fused = tensors.linear(&fused, rows.iter().sum(), width)?;
        return Ok(split(&fused, rows));
    }
    let [query, key, value] = rows;
    Ok([
        tensors.linear(&format!("{block}.attn_q"), query, width)?,
        tensors.linear(&format!("{block}.attn_k"), key, width)?,
        tensors.linear(&format!("{block}.attn_v"), value, width)?,
    ])
}

impl HeadNorm {
    pub(super) fn bind(
        tensors: &mut Tensors<'_>,
        config: &Config,
        name: &str,
        heads: usize,
    ) -> Result<Self> {
        let dim = config.attention.key_dim;
        let mut kind = config.architecture.query_key_norm;
        let weight = match kind {
            QueryKeyNorm::None => Vec::new(),
            QueryKeyNorm::Head | QueryKeyNorm::RotatedHead => tensors.values(name, 1, dim)?,
            QueryKeyNorm::Row => tensors.values(name, 1, heads * dim)?,
            QueryKeyNorm::OwnHead => match tensors.optional_values(name, heads, dim)? {
                Some(weight) => weight,
                None => {
                    kind = QueryKeyNorm::None;
                    Vec::new()
                }
            },
        };
        Ok(HeadNorm { kind, weight })
    }
}
