//! The KV cache: keys and values of the positions evaluated so far.

use std::ops::Range;

pub use gristmill_kernels::ops::CacheType;
use gristmill_kernels::ops::{HeadLayout, Side};
use gristmill_kernels::{Level, Line};

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
    layout: HeadLayout,
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
        heads: usize,
        capacity: usize,
        head_dim: usize,
    ) -> Result<KvCache> {
        let layout = HeadLayout::new(cache_type, head_dim, capacity);
        let allocated = layout.and_then(|layout| {
            let lines = heads.checked_mul(layout.lines())?.checked_mul(2 * layers)?;
            let bytes = lines.checked_mul(size_of::<Line>())?;
            let rows = || Shared::zeroed(pool, heads, layout.lines());
            let layer = || {
                Some(LayerCache {
                    keys: rows()?,
                    values: rows()?,
                })
            };
            if !memory_holds(bytes) {
                return None;
            }
            let layers = (0..layers).map(|_| layer()).collect::<Option<_>>()?;
            Some(KvCache {
                layers,
                layout,
                capacity,
            })
        });
        allocated.ok_or_else(|| Error::Argument {
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

    /// How a head's keys and values lie.
    pub(crate) fn layout(&self) -> HeadLayout {
        self.layout
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
        let (range, lines) = rows.rows_mut(share);
        for (head, lines) in range.zip(lines.chunks_exact_mut(self.layout.lines())) {
            for (token, position) in positions.clone().enumerate() {
                values.clear();
                row(head, token, &mut values);
                self.layout.store(level, side, lines, position, &values);
            }
        }
    }
}
