//! The KV cache: keys and values of the positions evaluated so far.

use std::ops::Range;

use gristmill_kernels::ops::to_f16;
use gristmill_kernels::{Format, Level, Matrix};

use crate::pool::{Pool, Share, Shared};
use crate::{Error, Result};

/// How the KV cache stores a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheType {
    /// 32-bit floats: exact, twice the memory.
    F32,
    /// 16-bit floats.
    #[default]
    F16,
}

impl CacheType {
    fn value_bytes(self) -> usize {
        match self {
            CacheType::F32 => size_of::<f32>(),
            CacheType::F16 => size_of::<u16>(),
        }
    }
}

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
    capacity: usize,
}

/// Keys and values of one layer.
#[derive(Debug)]
pub(crate) struct LayerCache {
    pub(crate) keys: HeadRows,
    pub(crate) values: HeadRows,
}

/// `[head_count_kv, capacity, head_dim]`: the rows of a head lie together, as attention reads them.
#[derive(Debug)]
pub(crate) struct HeadRows {
    store: Store,
    head_dim: usize,
}

#[derive(Debug)]
enum Store {
    F32(Shared<f32>),
    F16(Shared<u16>),
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
        let rows = || HeadRows::new(pool, cache_type, heads, capacity, head_dim);
        let layer = || {
            Some(LayerCache {
                keys: rows()?,
                values: rows()?,
            })
        };
        let values = heads
            .checked_mul(head_dim)
            .and_then(|row| row.checked_mul(2 * layers)?.checked_mul(capacity));
        let bytes = values.and_then(|values| values.checked_mul(cache_type.value_bytes()));
        let allocated = bytes
            .filter(|&bytes| memory_holds(bytes))
            .and_then(|_| (0..layers).map(|_| layer()).collect());
        let layers = allocated.ok_or_else(|| Error::Argument {
            name: "context_length",
            expected: "a KV cache that fits into memory".to_owned(),
            found: capacity.to_string(),
        })?;
        Ok(KvCache { layers, capacity })
    }

    /// Positions that fit.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer]
    }
}

impl HeadRows {
    /// `None` where memory does not suffice.
    fn new(
        pool: &Pool,
        cache_type: CacheType,
        heads: usize,
        capacity: usize,
        head_dim: usize,
    ) -> Option<Self> {
        let cols = capacity.checked_mul(head_dim)?;
        let store = match cache_type {
            CacheType::F32 => Store::F32(Shared::zeroed(pool, heads, cols)?),
            CacheType::F16 => Store::F16(Shared::zeroed(pool, heads, cols)?),
        };
        Some(Self { store, head_dim })
    }

    /// Stores the share's heads of the tokens at `positions`. `row` puts the values of a head and a
    /// token, counted from 0, into an empty vector.
    pub(crate) fn store(
        &self,
        share: &Share,
        level: Level,
        positions: Range<usize>,
        row: impl FnMut(usize, usize, &mut Vec<f32>),
    ) {
        match &self.store {
            Store::F32(rows) => {
                self.each(share, rows, positions, row, |from, to| {
                    to.copy_from_slice(from)
                });
            }
            Store::F16(rows) => {
                self.each(share, rows, positions, row, |from, to| {
                    to_f16(level, from, to)
                });
            }
        }
    }

    fn each<T>(
        &self,
        share: &Share,
        rows: &Shared<T>,
        positions: Range<usize>,
        mut row: impl FnMut(usize, usize, &mut Vec<f32>),
        convert: impl Fn(&[f32], &mut [T]),
    ) {
        let head_dim = self.head_dim;
        let mut values = Vec::with_capacity(head_dim);
        let (range, cache) = rows.rows_mut(share);
        for (head, cache) in range.zip(cache.chunks_exact_mut(rows.cols())) {
            let cache = &mut cache[positions.start * head_dim..positions.end * head_dim];
            for (token, to) in cache.chunks_exact_mut(head_dim).enumerate() {
                values.clear();
                row(head, token, &mut values);
                convert(&values, to);
            }
        }
    }

    /// The first `positions` rows of a head, `[positions, head_dim]`.
    pub(crate) fn head<'a>(
        &'a self,
        share: &'a Share,
        head: usize,
        positions: usize,
    ) -> Matrix<'a> {
        let (format, bytes): (_, &[u8]) = match &self.store {
            Store::F32(rows) => (Format::F32, bytemuck::cast_slice(rows.row(share, head))),
            Store::F16(rows) => (Format::F16, bytemuck::cast_slice(rows.row(share, head))),
        };
        let row_bytes = format
            .row_bytes(self.head_dim)
            .expect("floats have no blocks");
        Matrix::new(
            format,
            positions,
            self.head_dim,
            &bytes[..positions * row_bytes],
        )
        .expect("cut to size")
    }
}
