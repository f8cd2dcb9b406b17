//! Reading and writing GGUF files.
//!
//! GGUF is the file format of the ggml library and its relatives; this follows its specification
//! (`docs/gguf.md` in the ggml repository). Numbers are little-endian; a string is its length in
//! bytes as `u64`, then the bytes. A file consists of
//!
//! 1. a header: the magic `GGUF`, the version as `u32` (2 and 3 are read here; they differ only in
//!    that 3 allows big-endian files, which are not read), the number of tensors and the number of
//!    metadata entries as `u64`;
//! 2. the metadata, each a key (string), a type (`u32`) and a [`Value`]; an array is its elements'
//!    type (`u32`), their count (`u64`) and the elements;
//! 3. the tensor directory, each a name (string), the number of dimensions (`u32`), the dimensions
//!    (`u64`, contiguous one first), a [`GgmlType`] (`u32`) and an offset (`u64`) into
//! 4. the data, which begin at the next multiple of the alignment (the key `general.alignment`,
//!    else 32), as does each tensor in it.
//!
//! [`Gguf::open`] parses all of that once. What it gives out is right by construction: types are
//! known, shapes are not empty and do not overflow, every tensor's bytes lie in the file. A
//! [`Writer`] makes a file from a [`Header`] and the tensors' bytes.
//!
//! ```
//! # fn main() -> gristmill::Result<()> {
//! let mut file = b"GGUF\x03\0\0\0".to_vec(); // version 3
//! file.extend(0u64.to_le_bytes()); // no tensors
//! file.extend(1u64.to_le_bytes()); // one key:
//! file.extend(20u64.to_le_bytes());
//! file.extend(b"general.architecture");
//! file.extend(8u32.to_le_bytes()); // a string
//! file.extend(5u64.to_le_bytes());
//! file.extend(b"llama");
//!
//! let gguf = gristmill::gguf::Gguf::from_bytes(file)?;
//! assert_eq!(gguf.require::<String>("general.architecture")?, "llama");
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
    )
)]

mod array;
mod fault;
mod from_value;
mod ggml_type;
mod header;
mod limits;
mod part;
mod reader;
mod split;
mod table;
mod tensor_info;
mod value;
mod writer;

use std::path::Path;
use std::sync::Arc;

use crate::source::Source;
use crate::{Error, Result};

pub use crate::source::Bytes;
pub use array::{Array, Number, Numbers, Strings, Values};
pub use from_value::FromValue;
pub use ggml_type::GgmlType;
pub use header::Header;
pub use tensor_info::TensorInfo;
pub use value::{Text, Value, ValueType};
pub use writer::Writer;

use part::{Metadata, Part};
use table::Table;

/// A GGUF file, or all files of a split set, opened and checked.
///
/// Cheap to clone; clones share the map.
#[derive(Clone, Debug)]
pub struct Gguf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// File names, in the order of the parts; never empty.
    names: Vec<String>,
    version: u32,
    alignment: usize,
    metadata: Metadata,
    tensors: Table<TensorInfo>,
}

impl Gguf {
    /// Maps a file into memory and parses it. If it is a part of a split set (named
    /// `…-00001-of-00003.gguf` and so on), all parts are opened, whichever was named.
    ///
    /// Keep the file unchanged while it is in use: the map shows changes at once. A file that
    /// another program rewrites gives wrong numbers; reading a part that another program cut off
    /// ends this process (SIGBUS). Where that can happen, read the file into memory and use
    /// [`from_bytes`](Gguf::from_bytes).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be read or mapped; [`Error::Malformed`],
    /// [`Error::Unsupported`] or [`Error::Limit`] if it is not a sound GGUF file that this
    /// version knows. The error names the file, and the key or tensor at fault.
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf> {
        Gguf::join(split::open_all(path.as_ref())?)
    }

    /// Parses a whole file that is in memory.
    ///
    /// # Errors
    ///
    /// As [`open`](Gguf::open), and [`Error::Unsupported`] for one part of a split set.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Gguf> {
        let source = Source::from_memory(bytes.into());
        let part = Part::parse("<memory>".to_owned(), &source, 0)?;
        split::check_single(&part)?;
        Gguf::join(vec![part])
    }

    fn join(mut parts: Vec<Part>) -> Result<Gguf> {
        let tensors = split::join_tensors(&mut parts)?;
        let names = parts.iter().map(|part| part.name.clone()).collect();
        let Some(first) = parts.into_iter().next() else {
            return Err(Error::Malformed {
                place: "split set".to_owned(),
                expected: "a file".to_owned(),
                found: "none".to_owned(),
            });
        };
        let Part {
            version,
            alignment,
            metadata,
            ..
        } = first;
        Ok(Gguf(Arc::new(Inner {
            names,
            version,
            alignment,
            metadata,
            tensors,
        })))
    }

    /// The file's name, for messages; that of the first part of a split set, and `<memory>` for
    /// bytes in memory.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.names.first().map_or("", String::as_str)
    }

    /// The files' names: one, or one for each part of a split set.
    #[must_use]
    pub fn part_names(&self) -> &[String] {
        &self.0.names
    }

    /// The version of the format: 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.0.version
    }

    /// The alignment of the tensors' data within the file, in bytes.
    #[must_use]
    pub fn alignment(&self) -> usize {
        self.0.alignment
    }

    /// All keys and values, in the file's order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0
            .metadata
            .items()
            .iter()
            .map(|(key, value)| (&**key, value))
    }

    /// The value of a key, if there is one.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.0.metadata.find(key).map(|(_, value)| value)
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if the key is missing, of another type, or its value does not fit.
    pub fn require<T: FromValue>(&self, key: &str) -> Result<T> {
        self.optional(key)?.ok_or_else(|| Error::Malformed {
            place: self.place_of_key(key),
            expected: T::EXPECTED.to_owned(),
            found: "no such key".to_owned(),
        })
    }

    /// The value of a key, or `None` if the key is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if the key is there but of another type, or its value does not fit.
    pub fn optional<T: FromValue>(&self, key: &str) -> Result<Option<T>> {
        part::optional(&self.0.metadata, self.name(), key)
    }

    /// All tensors, in the file's order; the parts of a split set one after the other.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        self.0.tensors.items()
    }

    /// The tensor of this name, if there is one.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.0.tensors.find(name)
    }

    /// A tensor's bytes, [`TensorInfo::byte_len`] of them.
    #[must_use]
    pub fn tensor_bytes<'a>(&'a self, tensor: &'a TensorInfo) -> &'a [u8] {
        tensor.data()
    }

    /// A tensor's bytes as a view that keeps the file mapped; nothing is copied.
    #[must_use]
    pub fn tensor_view(&self, tensor: &TensorInfo) -> Bytes {
        tensor.data().clone()
    }

    /// Names the file and a key, for an error about the key's value.
    #[must_use]
    pub fn place_of_key(&self, key: &str) -> String {
        part::place_of_key(self.name(), key)
    }

    /// Names the file and a tensor, for an error about the tensor; in a split set, the file that
    /// holds it.
    #[must_use]
    pub fn place_of_tensor(&self, name: &str) -> String {
        let part = self
            .tensor(name)
            .and_then(|tensor| self.0.names.get(tensor.part()));
        part::place_of_tensor(part.map_or(self.name(), String::as_str), name)
    }
}
