//! Where the bytes of a model come from: a memory map of a file, or memory of the caller.
//!
//! This module holds the only `unsafe` of file reading: making the map. What follows from it for
//! a caller is said at [`Gguf::open`](crate::gguf::Gguf::open).
#![allow(
    unsafe_code,
    reason = "a map shows what others do to the file, which no type can exclude"
)]

use std::fs::{self, File};
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

use crate::{Error, Result};

/// The bytes of one file, shared by everything that looks into them.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<Origin>);

#[derive(Debug)]
enum Origin {
    Map(Mmap),
    Memory(Arc<[u8]>),
}

impl Source {
    /// Maps the file at `path` for reading and returns it with the file, which
    /// [`check_length`](Source::check_length) wants and nothing else needs.
    pub(crate) fn map(path: &Path) -> Result<(Source, File)> {
        let io = |source| io_error(path, source);
        // Asked before opening: opening a pipe would wait for a writer, perhaps for ever.
        if !fs::metadata(path).map_err(io)?.is_file() {
            return Err(io(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file, which a memory map needs",
            )));
        }
        let file = File::open(path).map_err(io)?;
        let length = usize::try_from(file.metadata().map_err(io)?.len())
            .map_err(|_| io(io::Error::from(io::ErrorKind::FileTooLarge)))?;
        if length == 0 {
            return Ok((Source::from_memory(Arc::default()), file));
        }
        // SAFETY: the map is private to this crate, read-only, and given out as `&[u8]` for no
        // longer than it lives. What cannot be proved is that nobody changes the file meanwhile:
        // another process may truncate it (reading past its new end then kills this process with
        // SIGBUS) or rewrite it (bytes then differ between two reads, which Rust's model of `&[u8]`
        // does not foresee). No lock prevents that on the systems supported, so `Gguf::open` tells
        // the caller to keep the file unchanged. To make the damage small, every reader of these
        // bytes checks what it reads each time: lengths are never read twice without a check, all
        // slices are bounds-checked against the map's fixed length, and any bit pattern is a valid
        // `u8`. `check_length` finds a file that was cut while it was being opened.
        let map = unsafe { MmapOptions::new().len(length).map(&file) }.map_err(io)?;
        // What has to come from disk then comes into pages of 2 MB, if the file system can do that:
        // they are read up to a fifth faster (docs/performance.md). A system that refuses loses
        // nothing.
        #[cfg(target_os = "linux")]
        let _refused = map.advise(memmap2::Advice::HugePage);
        Ok((Source(Arc::new(Origin::Map(map))), file))
    }

    /// Bytes that are in memory already.
    pub(crate) fn from_memory(bytes: Arc<[u8]>) -> Source {
        Source(Arc::new(Origin::Memory(bytes)))
    }

    /// Fails when `file` has another length now than when it was mapped.
    pub(crate) fn check_length(&self, file: &File, path: &Path) -> Result<()> {
        let found = file.metadata().map_err(|e| io_error(path, e))?.len();
        let expected = self.as_slice().len();
        if usize::try_from(found) == Ok(expected) {
            return Ok(());
        }
        Err(Error::Malformed {
            place: path.display().to_string(),
            expected: format!("a file that keeps its {expected} bytes while it is opened"),
            found: format!("{found} bytes"),
        })
    }

    /// All bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match &*self.0 {
            Origin::Map(map) => map,
            Origin::Memory(bytes) => bytes,
        }
    }

    /// A view of all bytes.
    pub(crate) fn whole(&self) -> Bytes {
        Bytes {
            source: self.clone(),
            range: 0..self.as_slice().len(),
        }
    }

    /// A view of a part of the bytes, or `None` if the range is not inside them.
    fn view(&self, range: Range<usize>) -> Option<Bytes> {
        self.as_slice().get(range.clone())?;
        Some(Bytes {
            source: self.clone(),
            range,
        })
    }
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_path_buf(),
        source,
    }
}

/// A part of a model's bytes that keeps the map behind it alive.
///
/// Cloning copies no bytes. It derefs to `[u8]`.
#[derive(Clone)]
pub struct Bytes {
    source: Source,
    /// Inside the source's bytes, as [`Source::view`] checked; their length never changes.
    range: Range<usize>,
}

impl Bytes {
    /// A view of a copy of `bytes`.
    pub(crate) fn from_memory(bytes: &[u8]) -> Bytes {
        Source::from_memory(bytes.into()).whole()
    }

    /// A view of a part of this view, or `None` if the range is not inside it.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (end <= self.range.end).then(|| self.source.view(start..end))?
    }

    /// Where in the file the view begins and ends, in bytes.
    #[must_use]
    pub fn file_range(&self) -> Range<usize> {
        self.range.clone()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.source.as_slice()[self.range.clone()]
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Bytes {
    /// The range only: the bytes may be gigabytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({}..{})", self.range.start, self.range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_outlives_its_source_and_ends_inside_it() {
        let source = Source::from_memory(Arc::from(*b"abcdef"));
        let view = source.view(2..5).unwrap();
        assert!(source.view(2..7).is_none());
        drop(source);
        assert_eq!(&*view, b"cde");
        assert_eq!(&*view.slice(1..3).unwrap(), b"de");
        assert!(view.slice(1..4).is_none());
    }

    #[test]
    fn a_file_cut_after_mapping_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"12345678").unwrap();
        let (source, handle) = Source::map(file.path()).unwrap();
        assert_eq!(source.as_slice(), b"12345678");
        source.check_length(&handle, file.path()).unwrap();
        file.as_file().set_len(3).unwrap();
        let error = source
            .check_length(&handle, file.path())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("8 bytes") && error.contains("found 3 bytes"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Source::map(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
        assert!(Source::map(&folder.path().join("absent.gguf")).is_err());
    }

    #[test]
    fn an_empty_file_is_no_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Source::map(file.path()).unwrap().0.as_slice().is_empty());
    }
}
