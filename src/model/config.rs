//! A model's metadata as plain numbers, checked once.

use std::ops::Range;

use super::architecture::{Architecture, NormKind, Positions};
use super::experts::ExpertShape;
use super::keys::Keys;
use super::rope::RopeShape;
use super::scales::Scaling;
use crate::Result;
use crate::gguf::Gguf;

/// Largest accepted sizes. Published models stay far below; beyond, a product of two of them could
/// exhaust memory before a tensor's shape is compared with them.
pub(super) const MAX_LAYERS: usize = 4096;
const MAX_HEADS: usize = 4096;
const MAX_HEAD_DIM: usize = 4096;
pub(super) const MAX_WIDTH: usize = 1 << 20;
const MAX_CONTEXT: usize = 1 << 30;

/// The shape of a model. Names are those of the GGUF keys.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) architecture: &'static Architecture,
    /// Positions that the model was trained for.
    pub(crate) context_length: usize,
    pub(crate) embedding_length: usize,
    pub(crate) feed_forward_length: usize,
    pub(crate) experts: Option<ExpertShape>,
    pub(crate) attention: AttentionShape,
    pub(crate) norm_epsilon: f32,
    pub(crate) scaling: Scaling,
    /// How queries and keys rotate: in most blocks, and in those with a window if there they rotate
    /// otherwise.
    pub(crate) ropes: Vec<RopeShape>,
    /// One for each block.
    pub(crate) blocks: Vec<Block>,
}

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

/// What differs from block to block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Positions that a token sees, its own the last one; `usize::MAX` for all.
    pub(crate) window: usize,
    /// Which of [`Config::ropes`] turns queries and keys, if any.
    pub(crate) rope: Option<usize>,
}

impl Block {
    /// What the token at `position` sees of `positions`.
    pub(crate) fn visible(&self, position: usize, positions: &Range<usize>) -> Range<usize> {
        let end = positions.end.min(position + 1);
        let first = (position + 1).saturating_sub(self.window);
        positions.start.max(first).min(end)..end
    }
}

impl Config {
    pub(crate) fn read(gguf: &Gguf) -> Result<Config> {
        let architecture = Architecture::of(gguf)?;
        let keys = Keys::new(gguf, architecture.name);
        let embedding_length = keys.size("embedding_length", None, 1..=MAX_WIDTH)?;
        let block_count = keys.size("block_count", None, 1..=MAX_LAYERS)?;
        let context_length = keys.size("context_length", None, 1..=MAX_CONTEXT)?;
        let attention = AttentionShape::read(&keys, architecture, embedding_length, block_count)?;
        let (window, has_window) = windows(&keys, architecture, block_count)?;
        let mut ropes = ropes(&keys, architecture, &attention, block_count, context_length)?;
        if !has_window.contains(&true) {
            ropes.truncate(1);
        }
        let feed_forward_length = feed_forward_length(&keys, architecture, block_count)?;
        Ok(Config {
            architecture,
            context_length,
            embedding_length,
            feed_forward_length,
            experts: ExpertShape::read(&keys, architecture, feed_forward_length)?,
            attention,
            norm_epsilon: keys.positive(
                match architecture.norm {
                    NormKind::Rms => "attention.layer_norm_rms_epsilon",
                    NormKind::Layer => "attention.layer_norm_epsilon",
                },
                None,
            )?,
            scaling: Scaling::read(
                &keys,
                architecture,
                &attention,
                embedding_length,
                block_count,
            )?,
            blocks: blocks(architecture, &ropes, window, &has_window),
            ropes,
        })
    }

    /// Values of a token between the projections of the widest dense network or shared expert.
    pub(crate) fn widest_feed_forward(&self) -> usize {
        let shared = self
            .experts
            .map(|experts| experts.shared_feed_forward_length);
        self.feed_forward_length.max(shared.unwrap_or(0))
    }

    /// The experts of a block, if it has any.
    pub(crate) fn experts_of(&self, block: usize) -> Option<&ExpertShape> {
        let experts = self.experts.as_ref();
        experts.filter(|experts| block >= experts.leading_dense_block_count)
    }

    /// Values of a token in the widest buffer of a pass.
    pub(crate) fn widest(&self) -> usize {
        let routed = |experts: &ExpertShape| {
            let values = experts.expert_used_count * experts.feed_forward_length;
            values.max(experts.expert_count)
        };
        self.embedding_length
            .max(self.widest_feed_forward())
            .max(self.experts.as_ref().map_or(0, routed))
            .max(self.attention.query_length())
            .max(self.attention.attended_length())
    }
}

impl AttentionShape {
    fn read(
        keys: &Keys<'_>,
        architecture: &Architecture,
        embedding_length: usize,
        block_count: usize,
    ) -> Result<Self> {
        const HEADS: &str = "attention.head_count";
        const KEY_HEADS: &str = "attention.head_count_kv";
        let head_count = keys.size_of_all(HEADS, None, 1..=MAX_HEADS, block_count)?;
        let head_count_kv =
            keys.size_of_all(KEY_HEADS, Some(head_count), 1..=head_count, block_count)?;
        if !head_count.is_multiple_of(head_count_kv) {
            let expected = format!("a divisor of {HEADS} {head_count}");
            return Err(keys.malformed(KEY_HEADS, expected, head_count_kv));
        }
        let dim = |key| {
            let default = embedding_length / head_count;
            keys.size(key, Some(default), 1..=MAX_HEAD_DIM)
        };
        Ok(Self {
            head_count,
            head_count_kv,
            key_dim: dim("attention.key_length")?,
            value_dim: dim("attention.value_length")?,
            alibi: architecture.positions == Positions::Baichuan
                && block_count == BAICHUAN_13B_BLOCKS,
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

/// See [`Positions::Baichuan`].
const BAICHUAN_7B_BLOCKS: usize = 32;
const BAICHUAN_13B_BLOCKS: usize = 40;

fn feed_forward_length(
    keys: &Keys<'_>,
    architecture: &Architecture,
    block_count: usize,
) -> Result<usize> {
    const KEY: &str = "feed_forward_length";
    let length = keys.size_of_all(KEY, None, 1..=MAX_WIDTH, block_count)?;
    let multiple = architecture.feed_forward_multiple;
    if !length.is_multiple_of(multiple) {
        return Err(keys.malformed(KEY, format!("a multiple of {multiple}"), length));
    }
    Ok(length / multiple)
}

fn ropes(
    keys: &Keys<'_>,
    architecture: &Architecture,
    attention: &AttentionShape,
    block_count: usize,
    context_length: usize,
) -> Result<Vec<RopeShape>> {
    let is_used = match architecture.positions {
        Positions::Rope(_) | Positions::RopeExceptFourth(_) => true,
        Positions::Learned => false,
        Positions::Baichuan => block_count == BAICHUAN_7B_BLOCKS,
    };
    // Some of Granite's models have no positions, which this key says.
    if !is_used || keys.optional("rope.scaling.finetuned")? == Some(false) {
        return Ok(Vec::new());
    }
    let rope = RopeShape::read(keys, architecture, attention.key_dim, context_length)?;
    let Some(rule) = architecture.window else {
        return Ok(vec![rope]);
    };
    let base = rule.freq_base.unwrap_or(rope.freq_base);
    let base = keys.positive("rope.freq_base_swa", Some(base))?;
    let mut ropes = vec![rope, rope.in_window(base, rule.scaled)];
    ropes.dedup();
    Ok(ropes)
}

fn blocks(
    architecture: &Architecture,
    ropes: &[RopeShape],
    window: usize,
    has_window: &[bool],
) -> Vec<Block> {
    let block = |(index, &has_window): (usize, &bool)| {
        let has_rope = match architecture.positions {
            Positions::RopeExceptFourth(_) => index % 4 != 3,
            _ => !ropes.is_empty(),
        };
        let rope = if has_window {
            ropes.len().saturating_sub(1)
        } else {
            0
        };
        Block {
            window: if has_window { window } else { usize::MAX },
            rope: has_rope.then_some(rope),
        }
    };
    has_window.iter().enumerate().map(block).collect()
}

/// The length of windows, and which blocks have one.
fn windows(
    keys: &Keys<'_>,
    architecture: &Architecture,
    block_count: usize,
) -> Result<(usize, Vec<bool>)> {
    const KEY: &str = "attention.sliding_window";
    const PATTERN: &str = "attention.sliding_window_pattern";
    let none = (usize::MAX, vec![false; block_count]);
    let Some(rule) = architecture.window else {
        return Ok(none);
    };
    // 0 stands for no window.
    let window = keys.size(KEY, Some(rule.default.unwrap_or(0)), 0..=MAX_CONTEXT)?;
    if window == 0 {
        return Ok(none);
    }
    if keys.is_list(PATTERN) {
        return Ok((window, keys.per_block(PATTERN, block_count)?));
    }
    let pattern = keys.size(PATTERN, Some(rule.pattern), 1..=MAX_LAYERS)?;
    let has_window = (0..block_count).map(|index| index % pattern + 1 < pattern);
    Ok((window, has_window.collect()))
}
