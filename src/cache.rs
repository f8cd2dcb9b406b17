//! The KV cache: keys and values of the positions evaluated so far.

use std::ops::Range;

pub use gristmill_kernels::ops::CacheType;
use gristmill_kernels::ops::{HeadLayout, Side};
use gristmill_kernels::{Level, Line};

use crate::model::AttentionShape;
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

/// Keys and values of all layers.
#[derive(Debug)]
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    /// How a head's keys lie, and its values.
    pub(crate) keys: HeadLayout,
    pub(crate) values: HeadLayout,
    capacity: usize,
}

/// Keys and values of one layer: a row per head.
#[derive(Debug)]
pub(crate) struct LayerCache {
    pub(crate) keys: Shared<Line>,
    pub(crate) values: Shared<Line>,
}

impl KvCache {
    /// Room for `capacity` positions. Pages are taken from the system as they are first written.
    pub(crate) fn new(
        pool: &Pool,
        cache_type: CacheType,
        layers: usize,
        shape: &AttentionShape,
        capacity: usize,
    ) -> Result<KvCache> {
        let allocate = || {
            let keys = HeadLayout::new(cache_type, shape.key_dim, capacity)?;
            let values = HeadLayout::new(cache_type, shape.value_dim, capacity)?;
            let lines = keys.lines().checked_add(values.lines())?;
            let heads = shape.head_count_kv;
            let lines = lines.checked_mul(heads.checked_mul(layers)?)?;
            let rows = |layout: HeadLayout| Shared::zeroed(pool, heads, layout.lines());
            let layer = || {
                Some(LayerCache {
                    keys: rows(keys)?,
                    values: rows(values)?,
                })
            };
            if !memory_holds(lines.checked_mul(size_of::<Line>())?) {
                return None;
            }
            Some(KvCache {
                layers: (0..layers).map(|_| layer()).collect::<Option<_>>()?,
                keys,
                values,
                capacity,
            })
        };
        allocate().ok_or_else(|| Error::Argument {
            name: "context_length",
            expected: "a KV cache that fits into memory".to_owned(),
            found: capacity.to_string(),
        })
    }

    /// Positions that fit.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer]
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
