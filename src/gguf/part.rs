//! Parsing one file: header, metadata, tensor directory.

use std::path::Path;
use std::sync::Arc;

use crate::source::{Bytes, Source};
use crate::{Error, Result};

use super::fault::{At, Fault, Parsed, quoted};
use super::from_value::FromValue;
use super::limits::{
    DEFAULT_ALIGNMENT, MAX_ALIGNMENT, MAX_KEY_BYTES, MAX_METADATA_ENTRIES, MAX_TENSOR_NAME_BYTES,
    MAX_TENSORS, MIN_ALIGNMENT,
};
use super::reader::Reader;
use super::table::Table;
use super::tensor_info::{DataLayout, Entry, TensorInfo};
use super::value::{Value, ValueType};

/// One file, parsed and checked.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) alignment: usize,
    pub(super) metadata: Metadata,
    pub(super) tensors: Table<TensorInfo>,
}

/// Keys and values.
pub(super) type Metadata = Table<(Arc<str>, Value)>;

impl Part {
    /// Maps and parses a file; `index` is its place in a split set.
    pub(super) fn open(path: &Path, index: usize) -> Result<Part> {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let (source, file) = Source::map(path)?;
        let part = Part::parse(name, &source, index)?;
        source.check_length(&file, path)?;
        Ok(part)
    }

    pub(super) fn parse(name: String, source: &Source, index: usize) -> Result<Part> {
        let file = source.whole();
        let mut reader = Reader::new(&file);
        let header = Header::read(&mut reader).at(|| format!("{name}: header"))?;
        let metadata = read_metadata(&mut reader, &file, header.metadata, &name)?;
        let alignment = alignment(&metadata, &name)?;
        let entries = read_entries(&mut reader, header.tensors, &name)?;
        let data_start = reader
            .position()
            .checked_next_multiple_of(alignment)
            .ok_or_else(|| Fault::malformed("a start of the data", "one beyond memory"))
            .at(|| format!("{name}: tensor data"))?;
        let data = DataLayout {
            file: &file,
            data_start,
            alignment,
            part: index,
        };
        let tensors = locate(entries, &data, &name)?;
        Ok(Part {
            name,
            version: header.version,
            alignment,
            metadata,
            tensors,
        })
    }

    pub(super) fn optional<T: FromValue>(&self, key: &str) -> Result<Option<T>> {
        optional(&self.metadata, &self.name, key)
    }
}

/// Where a key is, for errors.
pub(super) fn place_of_key(file: &str, key: &str) -> String {
    format!("{file}: key {}", quoted(key))
}

/// Where a tensor is, for errors.
pub(super) fn place_of_tensor(file: &str, tensor: &str) -> String {
    format!("{file}: tensor {}", quoted(tensor))
}

/// The value of a key as a Rust type, if the key is there.
pub(super) fn optional<T: FromValue>(
    metadata: &Metadata,
    file: &str,
    key: &str,
) -> Result<Option<T>> {
    let Some((_, value)) = metadata.find(key) else {
        return Ok(None);
    };
    match T::from_value(value) {
        Some(found) => Ok(Some(found)),
        None => Err(Error::Malformed {
            place: place_of_key(file, key),
            expected: T::EXPECTED.to_owned(),
            found: value.describe(),
        }),
    }
}

struct Header {
    version: u32,
    tensors: u64,
    metadata: u64,
}

impl Header {
    fn read(reader: &mut Reader<'_>) -> Parsed<Header> {
        let version = read_version(reader)?;
        let tensors = reader.u64()?;
        let metadata = reader.u64()?;
        Ok(Header {
            version,
            tensors,
            metadata,
        })
    }
}

fn read_version(reader: &mut Reader<'_>) -> Parsed<u32> {
    const SUPPORTED: &str = "little-endian GGUF of version 2 or 3";
    let magic = reader.take_array::<4>()?;
    if magic != *b"GGUF" {
        return Err(Fault::malformed(
            "a GGUF file (magic GGUF)",
            describe_magic(magic),
        ));
    }
    match reader.u32()? {
        version @ 2..=3 => Ok(version),
        0 => Err(Fault::malformed("version 2 or 3", "0")),
        // A big-endian file keeps the magic but has the bytes of every number swapped.
        swapped if swapped & 0xffff == 0 => Err(Fault::unsupported(
            format!("big-endian GGUF (version {})", swapped.swap_bytes()),
            SUPPORTED,
        )),
        version => Err(Fault::unsupported(
            format!("GGUF version {version}"),
            SUPPORTED,
        )),
    }
}

/// What a file that is no GGUF file begins with, in words where it is a common mistake.
fn describe_magic(magic: [u8; 4]) -> String {
    let known = match &magic {
        b"FUGG" => "a byte-swapped GGUF file",
        b"ggml" | b"lmgg" | b"ggmf" | b"fmgg" | b"ggjt" | b"tjgg" | b"ggla" | b"algg" => {
            "a model in a format from before GGUF, to be converted anew"
        }
        b"vers" => "perhaps a Git LFS pointer in place of the model",
        b"<!DO" | b"<!do" | b"<htm" | b"<HTM" => "a web page in place of the model",
        b"PK\x03\x04" => "a ZIP archive, perhaps a PyTorch checkpoint",
        _ => return format!("magic \"{}\"", magic.escape_ascii()),
    };
    format!("\"{}\", {known}", magic.escape_ascii())
}

fn read_metadata(
    reader: &mut Reader<'_>,
    file: &Bytes,
    count: u64,
    name: &str,
) -> Result<Metadata> {
    Fault::check_limit(count, MAX_METADATA_ENTRIES)
        .at(|| format!("{name}: number of metadata entries"))?;
    let mut metadata = Table::new();
    for index in 0..count {
        let key = read_name(reader, MAX_KEY_BYTES)
            .at(|| format!("{name}: key of metadata entry {index} of {count}"))?;
        let place: Arc<str> = place_of_key(name, &key).into();
        let value = ValueType::read(reader)
            .and_then(|value_type| Value::read(reader, value_type, file, &place))
            .at(|| place.to_string())?;
        metadata
            .insert(key.clone(), (key, value))
            .map_err(|_| Fault::malformed("unique keys", "a second value for this key"))
            .at(|| place.to_string())?;
    }
    Ok(metadata)
}

/// A key's or tensor's name: not empty, and UTF-8 with U+FFFD for what is not.
fn read_name(reader: &mut Reader<'_>, limit: u64) -> Parsed<Arc<str>> {
    let name = reader.short_string(limit)?;
    if name.is_empty() {
        return Err(Fault::malformed("a name", "an empty string"));
    }
    Ok(String::from_utf8_lossy(name).into())
}

/// The key of the alignment of tensors.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// `general.alignment`, which must be of type `u32`, as the specification says.
fn alignment(metadata: &Metadata, name: &str) -> Result<usize> {
    let value = metadata.find(ALIGNMENT_KEY).map(|(_, value)| value);
    checked_alignment(value).at(|| place_of_key(name, ALIGNMENT_KEY))
}

/// The alignment that a value of [`ALIGNMENT_KEY`] says.
pub(super) fn checked_alignment(value: Option<&Value>) -> Parsed<usize> {
    match value {
        None => Ok(DEFAULT_ALIGNMENT as usize),
        Some(Value::U32(alignment))
            if alignment.is_power_of_two()
                && (MIN_ALIGNMENT..=MAX_ALIGNMENT).contains(alignment) =>
        {
            Ok(*alignment as usize)
        }
        Some(value) => Err(Fault::malformed(
            format!("a power of two from {MIN_ALIGNMENT} to {MAX_ALIGNMENT} of type u32"),
            value.describe(),
        )),
    }
}

fn read_entries(reader: &mut Reader<'_>, count: u64, name: &str) -> Result<Vec<(Arc<str>, Entry)>> {
    Fault::check_limit(count, MAX_TENSORS).at(|| format!("{name}: number of tensors"))?;
    // Not collected with a capacity of `count`: the file may hold fewer.
    let mut entries = Vec::new();
    for index in 0..count {
        let tensor = read_name(reader, MAX_TENSOR_NAME_BYTES)
            .at(|| format!("{name}: name of tensor {index} of {count}"))?;
        let entry = Entry::read(reader).at(|| place_of_tensor(name, &tensor))?;
        entries.push((tensor, entry));
    }
    Ok(entries)
}

/// Finds the tensors' bytes.
fn locate(
    entries: Vec<(Arc<str>, Entry)>,
    data: &DataLayout<'_>,
    name: &str,
) -> Result<Table<TensorInfo>> {
    let mut tensors = Table::new();
    for (tensor_name, entry) in entries {
        let place = || place_of_tensor(name, &tensor_name);
        let tensor = entry.locate(tensor_name.clone(), data).at(place)?;
        add_tensor(&mut tensors, tensor).at(place)?;
    }
    check_overlap(tensors.items(), name)?;
    Ok(tensors)
}

/// Adds a tensor, whose name must not have been there.
pub(super) fn add_tensor(tensors: &mut Table<TensorInfo>, tensor: TensorInfo) -> Parsed<()> {
    tensors
        .insert(tensor.shared_name(), tensor)
        .map_err(|_| Fault::malformed("unique names", "a second tensor of this name"))
}

/// No two tensors may share bytes: no writer does that, so an offset is wrong.
fn check_overlap(tensors: &[TensorInfo], name: &str) -> Result<()> {
    let mut in_order: Vec<&TensorInfo> = tensors.iter().collect();
    in_order.sort_by_key(|tensor| tensor.data().file_range().start);
    for (first, second) in in_order.iter().zip(in_order.iter().skip(1)) {
        if first.data().file_range().end > second.data().file_range().start {
            let found = format!("bytes of tensor {}", quoted(first.name()));
            return Err(Fault::malformed("bytes of its own", found))
                .at(|| place_of_tensor(name, second.name()));
        }
    }
    Ok(())
}
