//! What a file that is to be written says before its data.

use std::collections::HashSet;
use std::sync::Arc;

use crate::{Error, Result};

use super::Gguf;
use super::fault::{At, Fault, quoted};
use super::ggml_type::GgmlType;
use super::limits::{MAX_KEY_BYTES, MAX_METADATA_ENTRIES, MAX_TENSOR_NAME_BYTES, MAX_TENSORS};
use super::part::{ALIGNMENT_KEY, checked_alignment};
use super::split;
use super::tensor_info::Shape;
use super::value::Value;

/// The metadata and the tensor directory of a file that a [`Writer`](super::Writer) makes.
#[derive(Clone, Debug, Default)]
pub struct Header {
    metadata: Vec<(Arc<str>, Value)>,
    tensors: Vec<Tensor>,
}

#[derive(Clone, Debug)]
struct Tensor {
    name: Arc<str>,
    shape: Shape,
    ggml_type: GgmlType,
    byte_len: usize,
}

impl Header {
    /// No metadata, no tensors.
    #[must_use]
    pub fn new() -> Header {
        Header::default()
    }

    /// The metadata of a file without those of a split set, as what is written is whole; no tensors.
    #[must_use]
    pub fn with_metadata_of(gguf: &Gguf) -> Header {
        let metadata = gguf.metadata();
        let kept = metadata.filter(|(key, _)| !split::KEYS.contains(key));
        Header {
            metadata: kept
                .map(|(key, value)| (key.into(), value.clone()))
                .collect(),
            tensors: Vec::new(),
        }
    }

    /// Sets a key, in its place if it is there, else after all others. The key `general.alignment`
    /// sets the alignment of the data.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.metadata.iter_mut().find(|(found, _)| **found == *key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.into(), value)),
        }
    }

    /// Adds a tensor, whose data follow those of the tensors before. `shape` is in GGUF order: the
    /// contiguous dimension, a row's length, first.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for a shape that no file can have, such as rows that are no whole blocks.
    pub fn add_tensor(&mut self, name: &str, shape: &[u64], ggml_type: GgmlType) -> Result<()> {
        let place = || place_of_tensor(name);
        let shape = Shape::new(shape).at(place)?;
        let byte_len = shape.byte_len(ggml_type).at(place)?;
        self.tensors.push(Tensor {
            name: name.into(),
            shape,
            ggml_type,
            byte_len,
        });
        Ok(())
    }

    /// Name and bytes of each tensor.
    pub(super) fn tensor_sizes(&self) -> impl Iterator<Item = (Arc<str>, usize)> {
        self.tensors
            .iter()
            .map(|tensor| (tensor.name.clone(), tensor.byte_len))
    }

    /// The alignment of the data, in bytes.
    pub(super) fn alignment(&self) -> Result<usize> {
        let value = self
            .metadata
            .iter()
            .find(|(key, _)| **key == *ALIGNMENT_KEY);
        checked_alignment(value.map(|(_, value)| value)).at(|| place_of_key(ALIGNMENT_KEY))
    }

    /// Fails for what the reader would refuse.
    pub(super) fn check(&self) -> Result<()> {
        let keys = self.metadata.iter().map(|(key, _)| key);
        check_names(keys, MAX_METADATA_ENTRIES, MAX_KEY_BYTES, place_of_key)?;
        let names = self.tensors.iter().map(|tensor| &tensor.name);
        check_names(names, MAX_TENSORS, MAX_TENSOR_NAME_BYTES, place_of_tensor)
    }

    /// The bytes of the header, and zeros up to where the data begin.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let alignment = self.alignment()?;
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            extend_string(&mut bytes, key.as_bytes());
            bytes.extend(value.value_type().number().to_le_bytes());
            extend_value(&mut bytes, value);
        }
        let mut offset = Some(0u64);
        for tensor in &self.tensors {
            let start = offset.ok_or_else(|| Error::Malformed {
                place: place_of_tensor(&tensor.name),
                expected: "an offset below 2^64".to_owned(),
                found: "a larger one".to_owned(),
            })?;
            tensor.extend(&mut bytes, start);
            let end = start.checked_add(tensor.byte_len as u64);
            offset = end.and_then(|end| end.checked_next_multiple_of(alignment as u64));
        }
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        Ok(bytes)
    }
}

impl Tensor {
    /// The directory entry.
    fn extend(&self, bytes: &mut Vec<u8>, offset: u64) {
        extend_string(bytes, self.name.as_bytes());
        let dimensions = self.shape.dimensions();
        bytes.extend((dimensions.len() as u32).to_le_bytes());
        bytes.extend(dimensions.iter().flat_map(|size| size.to_le_bytes()));
        bytes.extend(self.ggml_type.number().to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
}

pub(super) fn place_of_tensor(name: &str) -> String {
    format!("new file: tensor {}", quoted(name))
}

fn place_of_key(key: &str) -> String {
    format!("new file: key {}", quoted(key))
}

/// At most `most` names, each once, not empty and of at most `longest` bytes.
fn check_names<'a>(
    names: impl ExactSizeIterator<Item = &'a Arc<str>>,
    most: u64,
    longest: u64,
    place: impl Fn(&str) -> String,
) -> Result<()> {
    Fault::check_limit(names.len() as u64, most).at(|| "new file: number of names".to_owned())?;
    let mut seen = HashSet::new();
    for name in names {
        Fault::check_limit(name.len() as u64, longest).at(|| place(name))?;
        if name.is_empty() || !seen.insert(name) {
            let found = if name.is_empty() {
                "an empty one"
            } else {
                "a second one"
            };
            return Err(Fault::malformed("unique names", found)).at(|| place(name));
        }
    }
    Ok(())
}

fn extend_string(bytes: &mut Vec<u8>, string: &[u8]) {
    bytes.extend((string.len() as u64).to_le_bytes());
    bytes.extend(string);
}

/// The value without its type.
fn extend_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => bytes.push(*v),
        Value::I8(v) => bytes.extend(v.to_le_bytes()),
        Value::U16(v) => bytes.extend(v.to_le_bytes()),
        Value::I16(v) => bytes.extend(v.to_le_bytes()),
        Value::U32(v) => bytes.extend(v.to_le_bytes()),
        Value::I32(v) => bytes.extend(v.to_le_bytes()),
        Value::F32(v) => bytes.extend(v.to_le_bytes()),
        Value::Bool(v) => bytes.push(u8::from(*v)),
        Value::String(text) => extend_string(bytes, text.as_bytes()),
        Value::Array(array) => {
            bytes.extend(array.element_type().number().to_le_bytes());
            bytes.extend((array.len() as u64).to_le_bytes());
            bytes.extend(array.as_bytes());
        }
        Value::U64(v) => bytes.extend(v.to_le_bytes()),
        Value::I64(v) => bytes.extend(v.to_le_bytes()),
        Value::F64(v) => bytes.extend(v.to_le_bytes()),
    }
}
