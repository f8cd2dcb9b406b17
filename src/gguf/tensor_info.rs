//! What a file says about a tensor.

use std::sync::Arc;

use crate::source::Bytes;

use super::fault::{Fault, Parsed};
use super::ggml_type::GgmlType;
use super::limits::MAX_DIMENSIONS;
use super::reader::Reader;

/// A tensor of the file: name, shape, storage format, and where its bytes are.
///
/// All of it was checked when the file was opened: no dimension is zero, rows are whole blocks,
/// the bytes lie inside the file and begin at a multiple of the file's alignment.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    name: Arc<str>,
    shape: Shape,
    ggml_type: GgmlType,
    data: Bytes,
    /// Which file of a split set holds it.
    part: usize,
}

impl TensorInfo {
    /// The name, such as `blk.0.attn_q.weight`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dimensions in GGUF order: the contiguous one, a row's length, first; 1 to 4 of them.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        self.shape.dimensions()
    }

    /// The storage format.
    #[must_use]
    pub fn ggml_type(&self) -> GgmlType {
        self.ggml_type
    }

    /// Elements of a row: the first dimension.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.shape.cols
    }

    /// Number of rows: the product of all dimensions but the first.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// Bytes of the whole tensor.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.data.len()
    }

    /// Index of the file that holds the tensor: 0 unless the file is a split set.
    #[must_use]
    pub fn part(&self) -> usize {
        self.part
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }

    pub(super) fn data(&self) -> &Bytes {
        &self.data
    }
}

/// Checked dimensions: none is zero, and the number of elements fits `usize`.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    sizes: [u64; MAX_DIMENSIONS as usize],
    count: usize,
    cols: usize,
    rows: usize,
}

impl Shape {
    pub(super) fn dimensions(&self) -> &[u64] {
        self.sizes.get(..self.count).unwrap_or_default()
    }

    fn read(reader: &mut Reader<'_>) -> Parsed<Shape> {
        let count = reader.u32()?;
        if count == 0 || count > MAX_DIMENSIONS {
            let expected = format!("1 to {MAX_DIMENSIONS} dimensions");
            return Err(Fault::malformed(expected, count.to_string()));
        }
        let mut sizes = [1; MAX_DIMENSIONS as usize];
        for size in sizes.iter_mut().take(count as usize) {
            *size = reader.u64()?;
        }
        Shape::checked(sizes, count as usize)
    }

    /// The shape of these dimensions, the contiguous one first.
    pub(super) fn new(dimensions: &[u64]) -> Parsed<Shape> {
        let mut sizes = [1; MAX_DIMENSIONS as usize];
        match sizes.get_mut(..dimensions.len()) {
            Some(slots) if !dimensions.is_empty() => slots.copy_from_slice(dimensions),
            _ => {
                let expected = format!("1 to {MAX_DIMENSIONS} dimensions");
                return Err(Fault::malformed(expected, dimensions.len().to_string()));
            }
        }
        Shape::checked(sizes, dimensions.len())
    }

    /// `count` sizes, and ones behind them.
    fn checked(sizes: [u64; MAX_DIMENSIONS as usize], count: usize) -> Parsed<Shape> {
        let [first, others @ ..] = sizes;
        if sizes.contains(&0) {
            return Err(Fault::malformed(
                "no dimension of size 0",
                format!("shape {sizes:?}"),
            ));
        }
        let product = |sizes: &[u64]| {
            sizes.iter().try_fold(1usize, |n, &size| {
                n.checked_mul(usize::try_from(size).ok()?)
            })
        };
        match (product(&[first]), product(&others), product(&sizes)) {
            (Some(cols), Some(rows), Some(_)) => Ok(Shape {
                sizes,
                count,
                cols,
                rows,
            }),
            _ => Err(Fault::malformed(
                "a number of elements that memory can hold",
                format!("shape {sizes:?}"),
            )),
        }
    }

    /// Bytes of a tensor of this shape and type, whose rows must be whole blocks.
    pub(super) fn byte_len(&self, ggml_type: GgmlType) -> Parsed<usize> {
        let block = ggml_type.block_elements();
        if !self.cols.is_multiple_of(block) {
            return Err(Fault::malformed(
                format!("rows of a multiple of {block} elements, as {ggml_type} has blocks of"),
                format!("rows of {}", self.cols),
            ));
        }
        let blocks = self
            .cols
            .checked_div(block)
            .and_then(|n| n.checked_mul(self.rows));
        blocks
            .and_then(|n| n.checked_mul(ggml_type.block_bytes()))
            .ok_or_else(|| {
                let found = format!("shape {:?} of {ggml_type}", self.dimensions());
                Fault::malformed("a tensor that fits into memory", found)
            })
    }
}

/// A directory entry, right by itself; where its bytes are is not checked yet.
#[derive(Debug)]
pub(super) struct Entry {
    shape: Shape,
    ggml_type: GgmlType,
    byte_len: usize,
    /// From the start of the file's data, in bytes.
    offset: usize,
}

/// Where the data of a file are.
#[derive(Debug)]
pub(super) struct DataLayout<'a> {
    /// The whole file.
    pub(super) file: &'a Bytes,
    /// Where the data begin, in bytes; offsets count from here.
    pub(super) data_start: usize,
    pub(super) alignment: usize,
    /// Index of the file in a split set.
    pub(super) part: usize,
}

impl Entry {
    /// Reads what follows the name.
    pub(super) fn read(reader: &mut Reader<'_>) -> Parsed<Entry> {
        let shape = Shape::read(reader)?;
        let ggml_type = GgmlType::known(reader.u32()?)?;
        let byte_len = shape.byte_len(ggml_type)?;
        let offset = reader.length()?;
        Ok(Entry {
            shape,
            ggml_type,
            byte_len,
            offset,
        })
    }

    /// Finds the tensor's bytes in the file.
    pub(super) fn locate(self, name: Arc<str>, layout: &DataLayout<'_>) -> Parsed<TensorInfo> {
        let &DataLayout {
            file,
            data_start,
            alignment,
            part,
        } = layout;
        let Entry {
            shape,
            ggml_type,
            byte_len,
            offset,
        } = self;
        if !offset.is_multiple_of(alignment) {
            return Err(Fault::malformed(
                format!("an offset that is a multiple of the alignment {alignment}"),
                offset.to_string(),
            ));
        }
        let start = data_start.checked_add(offset);
        let range = start.and_then(|start| Some(start..start.checked_add(byte_len)?));
        let data = range.and_then(|range| file.slice(range)).ok_or_else(|| {
            Fault::malformed(
                format!("{byte_len} bytes of data at offset {offset} of the data"),
                format!(
                    "{} bytes of data in the file, which may have been cut short",
                    file.len().saturating_sub(data_start)
                ),
            )
        })?;
        Ok(TensorInfo {
            name,
            shape,
            ggml_type,
            data,
            part,
        })
    }
}
