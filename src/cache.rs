//! The KV cache: keys and values of the positions evaluated so far, and the states of recurrent layers.

use std::ops::Range;

pub use gristmill_kernels::ops::CacheType;
use gristmill_kernels::ops::{HeadLayout, Side};
use gristmill_kernels::{Level, Line};

use crate::model::{Block, Config, Mixing, RecurrentShape};
use crate::pool::{Pool, Share, Shared};
use crate::{Error, Result};

/// Whether the system would give so much memory in one piece. Systems that give pages as they are
/// written promise each of many parts, although all together are more than there is.
fn memory_holds(bytes: usize) -> bool {
    let mut memory = Vec::<u8>::new();
    let promised = memory.try_reserve_exact(bytes).is_ok();
    // Otherwise the compiler may leave the allocation out, and say that it succeeded.
    std::hint::black_box(memory);
    promised
}

/// What all layers remember.
#[derive(Debug)]
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    /// How a head's keys lie, and its values.
    pub(crate) keys: HeadLayout,
    pub(crate) values: HeadLayout,
    capacity: usize,
    /// Which of a layer's two states is that of now.
    now: usize,
}

/// What one layer remembers.
#[derive(Debug)]
pub(crate) enum LayerCache {
    /// A row per head.
    Attention {
        keys: Shared<Line>,
        values: Shared<Line>,
    },
    /// Of now, and of before or after the pass that is under way.
    Recurrent([State; 2]),
}

/// The state of a recurrent layer.
#[derive(Debug)]
pub(crate) struct State {
    /// `[taps - 1, channels]`: the last inputs of the convolution.
    pub(crate) inputs: Shared<f32>,
    /// `[heads, …]`: what a delta net has learnt.
    pub(crate) learnt: Shared<f32>,
}

impl KvCache {
    /// Room for `capacity` positions. Pages are taken from the system as they are first written.
    pub(crate) fn new(
        pool: &Pool,
        cache_type: CacheType,
        config: &Config,
        capacity: usize,
    ) -> Result<KvCache> {
        let shape = &config.attention;
        let allocate = || {
            let keys = HeadLayout::new(cache_type, shape.key_dim, capacity)?;
            let values = HeadLayout::new(cache_type, shape.value_dim, capacity)?;
            let lines = keys.lines().checked_add(values.lines())?;
            let heads = shape.head_count_kv;
            let attention = config.blocks.iter().filter(|block| block.has_attention());
            let lines = lines.checked_mul(heads.checked_mul(attention.count())?)?;
            let rows = |layout: HeadLayout| Shared::zeroed(pool, heads, layout.lines());
            let layer = |block: &Block| {
                Some(match block.mixing {
                    Mixing::Attention | Mixing::Latent(_) => LayerCache::Attention {
                        keys: rows(keys)?,
                        values: rows(values)?,
                    },
                    Mixing::Recurrent(shape) => {
                        let width = config.sizes.embedding_length;
                        let state = || State::new(pool, &shape, width);
                        LayerCache::Recurrent([state()?, state()?])
                    }
                })
            };
            if !memory_holds(lines.checked_mul(size_of::<Line>())?) {
                return None;
            }
            Some(KvCache {
                layers: config.blocks.iter().map(layer).collect::<Option<_>>()?,
                keys,
                values,
                capacity,
                now: 0,
            })
        };
        allocate().ok_or_else(|| Error::Argument {
            name: "context_length",
            expected: "a KV cache that fits into memory".to_owned(),
            found: capacity.to_string(),
        })
    }

    /// Keys and values of a layer that has attention.
    pub(crate) fn attention(&self, layer: usize) -> (&Shared<Line>, &Shared<Line>) {
        match &self.layers[layer] {
            LayerCache::Attention { keys, values } => (keys, values),
            LayerCache::Recurrent(_) => unreachable!("a recurrent layer has no keys"),
        }
    }

    /// The state of a recurrent layer, and the one that a pass makes of it.
    pub(crate) fn states(&self, layer: usize) -> [&State; 2] {
        match &self.layers[layer] {
            LayerCache::Recurrent(states) => [&states[self.now], &states[1 - self.now]],
            LayerCache::Attention { .. } => unreachable!("a layer with attention has no state"),
        }
    }

    /// All bytes that the first `positions` take, in order: the same pieces for each cache of a model and
    /// type.
    pub(crate) fn used_mut(&mut self, positions: usize) -> Vec<&mut [u8]> {
        let mut pieces = Vec::new();
        for layer in &mut self.layers {
            match layer {
                LayerCache::Attention { keys, values } => {
                    let sides = [
                        (Side::Keys, self.keys, keys),
                        (Side::Values, self.values, values),
                    ];
                    for (side, layout, rows) in sides {
                        let used = layout.used(side, positions);
                        for head in rows.get_mut().chunks_exact_mut(layout.lines()) {
                            take_ranges(head, &used, &mut pieces);
                        }
                    }
                }
                LayerCache::Recurrent(states) => {
                    let State { inputs, learnt } = &mut states[self.now];
                    pieces.push(bytemuck::cast_slice_mut(inputs.get_mut()));
                    pieces.push(bytemuck::cast_slice_mut(learnt.get_mut()));
                }
            }
        }
        pieces
    }

    /// Makes the states that a pass has made those of now.
    pub(crate) fn advance(&mut self) {
        self.now = 1 - self.now;
    }

    /// Whether positions can be forgotten one by one.
    pub(crate) fn can_go_back(&self) -> bool {
        let is_recurrent = |layer| matches!(layer, &LayerCache::Recurrent(_));
        !self.layers.iter().any(is_recurrent)
    }

    /// Positions that fit.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Stores one side of the share's heads in `rows`, for the tokens at `positions`. `row` puts the
    /// values of a head and a token, counted from 0, into an empty vector.
    pub(crate) fn store(
        &self,
        share: &Share,
        level: Level,
        (side, rows): (Side, &Shared<Line>),
        positions: Range<usize>,
        mut row: impl FnMut(usize, usize, &mut Vec<f32>),
    ) {
        let mut values = Vec::new();
        let layout = match side {
            Side::Keys => self.keys,
            Side::Values => self.values,
        };
        let (range, lines) = rows.rows_mut(share);
        for (head, lines) in range.zip(lines.chunks_exact_mut(layout.lines())) {
            for (token, position) in positions.clone().enumerate() {
                values.clear();
                row(head, token, &mut values);
                layout.store(level, side, lines, position, &values);
            }
        }
    }
}

/// Appends the bytes of some lines: `ranges` are in order.
fn take_ranges<'a>(
    mut lines: &'a mut [Line],
    ranges: &[Range<usize>],
    pieces: &mut Vec<&'a mut [u8]>,
) {
    let mut taken = 0;
    for range in ranges {
        let (before, rest) = lines.split_at_mut(range.end - taken);
        pieces.push(bytemuck::cast_slice_mut(&mut before[range.start - taken..]));
        (lines, taken) = (rest, range.end);
    }
}

impl State {
    fn new(pool: &Pool, shape: &RecurrentShape, width: usize) -> Option<State> {
        let (heads, values) = match shape {
            RecurrentShape::DeltaNet(shape) => (shape.value_heads, shape.head_dim * shape.head_dim),
            RecurrentShape::ShortConvolution { .. } => (0, 0),
        };
        Some(State {
            inputs: Shared::zeroed(pool, shape.taps() - 1, shape.channels(width))?,
            learnt: Shared::zeroed(pool, heads, values)?,
        })
    }
}
