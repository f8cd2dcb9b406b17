//! A model's metadata as plain numbers, checked once.

use super::architecture::{Architecture, Mixers, NormKind};
use super::attention::{self, AttentionShape};
use super::blocks::Block;
use super::experts::ExpertShape;
use super::keys::Keys;
use super::latent::LatentShape;
use super::rope::RopeShape;
use super::scales::Scaling;
use crate::Result;
use crate::gguf::Gguf;

/// Largest accepted sizes. Published models stay far below; beyond, a product of two of them could
/// exhaust memory before a tensor's shape is compared with them.
pub(super) const MAX_LAYERS: usize = 4096;
pub(super) const MAX_WIDTH: usize = 1 << 20;
pub(super) const MAX_CONTEXT: usize = 1 << 30;

/// The shape of a model. Names are those of the GGUF keys.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) architecture: &'static Architecture,
    pub(crate) sizes: Sizes,
    /// See [`Architecture::is_causal`].
    pub(crate) is_causal: bool,
    pub(crate) feed_forward_length: usize,
    pub(crate) experts: Option<ExpertShape>,
    pub(crate) attention: AttentionShape,
    pub(crate) norm_epsilon: f32,
    pub(crate) scaling: Scaling,
    /// How queries and keys rotate; which one where, each block says.
    pub(crate) ropes: Vec<RopeShape>,
    pub(crate) blocks: Vec<Block>,
}

/// What every model has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Positions that the model was trained for.
    pub(crate) context_length: usize,
    pub(crate) embedding_length: usize,
    pub(crate) block_count: usize,
}

impl Config {
    pub(crate) fn read(gguf: &Gguf) -> Result<Config> {
        let architecture = Architecture::of(gguf)?;
        let keys = &Keys::new(gguf, architecture);
        let sizes = Sizes {
            embedding_length: keys.size("embedding_length", None, 1..=MAX_WIDTH)?,
            block_count: keys.size("block_count", None, 1..=MAX_LAYERS)?,
            context_length: keys.size("context_length", None, 1..=MAX_CONTEXT)?,
        };
        let head_count = attention::head_count(keys, &sizes)?;
        let (latent, attention) = if architecture.mixers == Mixers::Latent {
            let (latent, attention) = LatentShape::read(keys, head_count)?;
            (Some(latent), attention)
        } else {
            (None, AttentionShape::read(keys, &sizes, head_count)?)
        };
        // Queries and keys may be compared in another space than that of heads.
        let head_dim = latent.map_or(attention.key_dim, |latent| latent.head_dim());
        let is_causal = is_causal(keys)?;
        let (blocks, ropes) = Block::read(keys, &sizes, latent, head_dim, is_causal)?;
        let mut scaling = Scaling::read(keys, &sizes, head_count, head_dim)?;
        scaling.score *= ropes.first().map_or(1.0, |rope| rope.score_factor);
        let feed_forward_length = feed_forward_length(keys, sizes.block_count)?;
        let epsilon = match architecture.norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        };
        Ok(Config {
            architecture,
            sizes,
            is_causal,
            feed_forward_length,
            experts: ExpertShape::read(keys, feed_forward_length)?,
            attention,
            norm_epsilon: keys.positive(epsilon, None)?,
            scaling,
            ropes,
            blocks,
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
        self.sizes
            .embedding_length
            .max(self.widest_feed_forward())
            .max(self.experts.as_ref().map_or(0, routed))
            .max(self.attention.query_length())
            .max(self.attention.attended_length())
            .max(
                self.blocks
                    .iter()
                    .map(|block| block.widest(&self.sizes))
                    .max()
                    .unwrap_or(0),
            )
    }
}

fn is_causal(keys: &Keys<'_>) -> Result<bool> {
    const KEY: &str = "attention.causal";
    let Architecture {
        name,
        is_causal,
        mixers,
        ..
    } = *keys.architecture;
    match keys.optional(KEY)?.unwrap_or(is_causal) {
        true if !is_causal => {
            let what = "an encoder with a causal mask".to_owned();
            Err(keys.unsupported(KEY, what, &format!("{name} without one")))
        }
        false if mixers != Mixers::Attention => {
            let what = format!("{name} without a causal mask");
            Err(keys.unsupported(KEY, what, "encoders that have attention in every block"))
        }
        is_causal => Ok(is_causal),
    }
}

fn feed_forward_length(keys: &Keys<'_>, block_count: usize) -> Result<usize> {
    const KEY: &str = "feed_forward_length";
    let length = keys.size_of_all(KEY, None, 1..=MAX_WIDTH, block_count)?;
    let multiple = keys.architecture.feed_forward_multiple;
    if !length.is_multiple_of(multiple) {
        return Err(keys.malformed(KEY, format!("a multiple of {multiple}"), length));
    }
    Ok(length / multiple)
}
