//! A model's metadata as plain numbers, checked once.

use super::architecture::Architecture;
use super::keys::Keys;
use super::rope::RopeScaling;
use crate::Result;
use crate::gguf::Gguf;

/// Largest accepted sizes. Published models stay far below; beyond, a product of two of them could
/// exhaust memory before a tensor's shape is compared with them.
const MAX_LAYERS: usize = 4096;
const MAX_HEADS: usize = 4096;
const MAX_HEAD_DIM: usize = 4096;
const MAX_WIDTH: usize = 1 << 20;
const MAX_CONTEXT: usize = 1 << 30;

/// The shape of a model. Names are those of the GGUF keys.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) architecture: &'static Architecture,
    /// Positions that the model was trained for.
    pub(crate) context_length: usize,
    pub(crate) embedding_length: usize,
    pub(crate) block_count: usize,
    pub(crate) feed_forward_length: usize,
    pub(crate) head_count: usize,
    /// Divides `head_count`.
    pub(crate) head_count_kv: usize,
    /// Values of a query, key or value head.
    pub(crate) head_dim: usize,
    pub(crate) norm_epsilon: f32,
    /// Values of a head that rotate: even, at most `head_dim`.
    pub(crate) rope_dimension_count: usize,
    pub(crate) rope_freq_base: f32,
    pub(crate) rope_scaling: RopeScaling,
}

impl Config {
    pub(crate) fn read(gguf: &Gguf) -> Result<Config> {
        let architecture = Architecture::of(gguf)?;
        let keys = Keys::new(gguf, architecture.name);
        refuse_experts(&keys)?;
        let embedding_length = keys.size("embedding_length", None, 1..=MAX_WIDTH)?;
        let (head_count, head_count_kv) = heads(&keys)?;
        let head_dim = head_dim(&keys, embedding_length / head_count)?;
        let context_length = keys.size("context_length", None, 1..=MAX_CONTEXT)?;
        Ok(Config {
            architecture,
            context_length,
            embedding_length,
            block_count: keys.size("block_count", None, 1..=MAX_LAYERS)?,
            feed_forward_length: keys.size("feed_forward_length", None, 1..=MAX_WIDTH)?,
            head_count,
            head_count_kv,
            head_dim,
            norm_epsilon: keys.positive("attention.layer_norm_rms_epsilon", None)?,
            rope_dimension_count: rope_dimension_count(&keys, head_dim)?,
            rope_freq_base: keys.positive("rope.freq_base", Some(10_000.0))?,
            rope_scaling: RopeScaling::read(&keys, context_length)?,
        })
    }

    /// Values of all query heads of a token.
    pub(crate) fn query_length(&self) -> usize {
        self.head_count * self.head_dim
    }

    /// Values of a token in the widest buffer of a pass.
    pub(crate) fn widest(&self) -> usize {
        self.embedding_length
            .max(self.feed_forward_length)
            .max(self.query_length())
    }

    /// Values of all key heads, or all value heads, of a token.
    pub(crate) fn key_length(&self) -> usize {
        self.head_count_kv * self.head_dim
    }
}

/// Query heads, and key heads, which divide them.
fn heads(keys: &Keys<'_>) -> Result<(usize, usize)> {
    const KEY_HEADS: &str = "attention.head_count_kv";
    let heads = keys.size("attention.head_count", None, 1..=MAX_HEADS)?;
    let key_heads = keys.size(KEY_HEADS, Some(heads), 1..=heads)?;
    if !heads.is_multiple_of(key_heads) {
        let expected = format!("a divisor of attention.head_count {heads}");
        return Err(keys.malformed(KEY_HEADS, expected, key_heads));
    }
    Ok((heads, key_heads))
}

fn head_dim(keys: &Keys<'_>, default: usize) -> Result<usize> {
    const VALUE_LENGTH: &str = "attention.value_length";
    let head_dim = keys.size("attention.key_length", Some(default), 1..=MAX_HEAD_DIM)?;
    let value_length = keys.size(VALUE_LENGTH, Some(default), 1..=MAX_HEAD_DIM)?;
    if value_length != head_dim {
        let what = format!("{value_length} beside attention.key_length {head_dim}");
        return Err(keys.unsupported(VALUE_LENGTH, what, "equal lengths"));
    }
    Ok(head_dim)
}

fn rope_dimension_count(keys: &Keys<'_>, head_dim: usize) -> Result<usize> {
    const KEY: &str = "rope.dimension_count";
    let count = keys.size(KEY, Some(head_dim), 2..=head_dim)?;
    if !count.is_multiple_of(2) {
        return Err(keys.malformed(KEY, "an even number".to_owned(), count));
    }
    Ok(count)
}

fn refuse_experts(keys: &Keys<'_>) -> Result<()> {
    const KEY: &str = "expert_count";
    match keys.optional::<usize>(KEY)? {
        None | Some(0) => Ok(()),
        Some(count) => {
            let what = format!("a mixture of {count} experts");
            Err(keys.unsupported(KEY, what, "dense models"))
        }
    }
}
