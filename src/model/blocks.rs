//! What differs from block to block: mixers, windows, rotation.

use std::ops::Range;

use super::architecture::{Mixers, Positions};
use super::config::{MAX_CONTEXT, MAX_LAYERS, Sizes};
use super::keys::Keys;
use super::latent::LatentShape;
use super::recurrent::{DeltaShape, RecurrentShape};
use super::rope::RopeShape;
use crate::Result;

/// See [`Positions::Baichuan`].
const BAICHUAN_7B_BLOCKS: usize = 32;
pub(super) const BAICHUAN_13B_BLOCKS: usize = 40;

/// What one block is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) mixing: Mixing,
    /// Positions that a token sees up to its own, that one too; `usize::MAX` for all.
    pub(crate) window: usize,
    /// Positions that it sees behind its own: none but in encoders; `usize::MAX` for all.
    pub(crate) ahead: usize,
    /// Which of the model's ropes turns queries and keys, if any.
    pub(crate) rope: Option<usize>,
}

/// What mixes the tokens of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mixing {
    Attention,
    Latent(LatentShape),
    Recurrent(RecurrentShape),
}

impl Block {
    /// All blocks, and how queries and keys rotate in them: in most, and in those with a window if there
    /// they rotate otherwise.
    pub(super) fn read(
        keys: &Keys<'_>,
        sizes: &Sizes,
        latent: Option<LatentShape>,
        rope_head_dim: usize,
        is_causal: bool,
    ) -> Result<(Vec<Block>, Vec<RopeShape>)> {
        let (window, has_window) = windows(keys, sizes.block_count)?;
        let mut ropes = ropes(keys, sizes, rope_head_dim)?;
        if !has_window.contains(&true) {
            ropes.truncate(1);
        }
        let recurrent = recurrent(keys, sizes.block_count)?;
        let is_symmetric = keys
            .architecture
            .window
            .is_some_and(|rule| rule.is_symmetric);
        let [before, ahead] = match (is_causal, is_symmetric) {
            (true, _) => [window, 0],
            (false, false) => [window, usize::MAX],
            (false, true) => [window / 2 + 1, window / 2],
        };
        let block = |(index, &has_window): (usize, &bool)| {
            let has_rope = match keys.architecture.positions {
                Positions::RopeExceptFourth(_) => index % 4 != 3,
                _ => !ropes.is_empty(),
            };
            let in_window = ropes.len().saturating_sub(1);
            Block {
                mixing: match (recurrent[index], latent) {
                    (Some(shape), _) => Mixing::Recurrent(shape),
                    (None, Some(shape)) => Mixing::Latent(shape),
                    (None, None) => Mixing::Attention,
                },
                window: if has_window { before } else { usize::MAX },
                ahead: match is_causal {
                    false if !has_window => usize::MAX,
                    _ => ahead,
                },
                rope: has_rope.then_some(if has_window { in_window } else { 0 }),
            }
        };
        let blocks = has_window.iter().enumerate().map(block).collect();
        Ok((blocks, ropes))
    }

    /// What the token at `position` sees of `positions`, where those below `known` have tokens.
    pub(crate) fn visible(
        &self,
        position: usize,
        positions: &Range<usize>,
        known: usize,
    ) -> Range<usize> {
        let end = (position + 1).saturating_add(self.ahead);
        let end = positions.end.min(end).min(known);
        let first = (position + 1).saturating_sub(self.window);
        positions.start.max(first).min(end)..end
    }

    /// Values of a token in the widest buffer that is the mixer's own.
    pub(super) fn widest(&self, sizes: &Sizes) -> usize {
        match &self.mixing {
            Mixing::Attention => 0,
            Mixing::Latent(shape) => shape.query_rank,
            Mixing::Recurrent(shape) => shape.projected(sizes.embedding_length),
        }
    }

    /// Whether the block keeps keys and values in the cache.
    pub(crate) fn has_attention(&self) -> bool {
        !matches!(self.mixing, Mixing::Recurrent(_))
    }
}

/// What each block without attention computes.
fn recurrent(keys: &Keys<'_>, block_count: usize) -> Result<Vec<Option<RecurrentShape>>> {
    let (shape, is_recurrent) = match keys.architecture.mixers {
        Mixers::Attention | Mixers::Latent => return Ok(vec![None; block_count]),
        Mixers::DeltaNet(sharing) => {
            let shape = RecurrentShape::DeltaNet(DeltaShape::read(keys, sharing)?);
            (shape, delta_nets(keys, block_count)?)
        }
        Mixers::ShortConvolution => {
            let key_heads =
                keys.sizes("attention.head_count_kv", None, 0..=usize::MAX, block_count)?;
            let has_none = key_heads.iter().map(|heads| *heads == 0).collect();
            (RecurrentShape::short_convolution(keys)?, has_none)
        }
    };
    let shapes = is_recurrent.iter().map(|yes| yes.then_some(shape));
    Ok(shapes.collect())
}

/// Which blocks are delta nets: all but the last of every few, or as a list says.
fn delta_nets(keys: &Keys<'_>, block_count: usize) -> Result<Vec<bool>> {
    const LIST: &str = "attention.recurrent_layers";
    if keys.is_list(LIST) {
        return keys.per_block(LIST, block_count);
    }
    let interval = keys.size("full_attention_interval", Some(4), 1..=MAX_LAYERS)?;
    let is_recurrent = (0..block_count).map(|index| !(index + 1).is_multiple_of(interval));
    Ok(is_recurrent.collect())
}

fn ropes(keys: &Keys<'_>, sizes: &Sizes, head_dim: usize) -> Result<Vec<RopeShape>> {
    let architecture = keys.architecture;
    let is_used = match architecture.positions {
        Positions::Rope(_) | Positions::RopeExceptFourth(_) => true,
        Positions::Learned => false,
        Positions::Baichuan => sizes.block_count == BAICHUAN_7B_BLOCKS,
    };
    // Some of Granite's models have no positions, which this key says.
    if !is_used || keys.optional("rope.scaling.finetuned")? == Some(false) {
        return Ok(Vec::new());
    }
    let rope = RopeShape::read(keys, head_dim, sizes.context_length)?;
    let Some(rule) = architecture.window else {
        return Ok(vec![rope]);
    };
    let base = rule.freq_base.unwrap_or(rope.freq_base);
    let base = keys.positive("rope.freq_base_swa", Some(base))?;
    let mut ropes = vec![rope, rope.in_window(base, rule.scaled)];
    ropes.dedup();
    Ok(ropes)
}

/// The length of windows, and which blocks have one.
fn windows(keys: &Keys<'_>, block_count: usize) -> Result<(usize, Vec<bool>)> {
    const KEY: &str = "attention.sliding_window";
    const PATTERN: &str = "attention.sliding_window_pattern";
    let none = (usize::MAX, vec![false; block_count]);
    let Some(rule) = keys.architecture.window else {
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
