//! Writing a file, tensor by tensor.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, Result};

use super::fault::quoted;
use super::header::Header;

/// Writes a GGUF file of version 3: a [`Header`], then the bytes of its tensors in order.
///
/// The file is written beside its place, as `NAME.0.partial` or with the next number that is free, and
/// gets its name in [`finish`](Writer::finish): a file that was there stays whole until then, and
/// nobody sees a half of the new one. A writer that is dropped before removes what it wrote.
///
/// ```
/// use gristmill::gguf::{GgmlType, Gguf, Header, Writer};
///
/// # fn main() -> gristmill::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("tiny.gguf");
/// let mut header = Header::new();
/// header.set("general.architecture", "llama");
/// header.add_tensor("output_norm.weight", &[2], GgmlType::F32)?;
/// let mut writer = Writer::create(&path, &header)?;
/// writer.write(&1.5f32.to_le_bytes())?;
/// writer.write(&2.5f32.to_le_bytes())?;
/// writer.finish()?;
///
/// let gguf = Gguf::open(&path)?;
/// assert_eq!(gguf.require::<String>("general.architecture")?, "llama");
/// assert_eq!(gguf.tensors()[0].byte_len(), 8);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Writer {
    target: PathBuf,
    partial: Partial,
    file: File,
    alignment: usize,
    /// Name and bytes of the tensor that is next, and what is left of it, and of those after it.
    left: VecDeque<(Arc<str>, usize)>,
    /// Bytes of the data so far, modulo the alignment.
    position: usize,
}

impl Writer {
    /// Begins a file: writes the header.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] or [`Error::Limit`] for a header that no reader would accept;
    /// [`Error::Io`] if the file cannot be written, or something else than a file has its name.
    pub fn create(path: impl AsRef<Path>, header: &Header) -> Result<Writer> {
        let target = path.as_ref().to_owned();
        header.check()?;
        let bytes = header.to_bytes()?;
        let io = |error| io_error(&target, error);
        if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something else than a regular file has this name",
            )));
        }
        let (partial, mut file) = Partial::create(&target).map_err(io)?;
        file.write_all(&bytes).map_err(io)?;
        Ok(Writer {
            partial,
            file,
            alignment: header.alignment()?,
            left: header.tensor_sizes().collect(),
            position: 0,
            target,
        })
    }

    /// Writes the next bytes of the data: all of a tensor, or a part of it; padding comes by itself.
    /// There is no buffer: write many bytes at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Argument`] for more bytes than are left of the tensor.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((name, left)) = self.left.front_mut() else {
            return Err(wrong_bytes(
                "none, as all tensors are complete",
                bytes.len(),
            ));
        };
        let Some(rest) = left.checked_sub(bytes.len()) else {
            let expected = format!("at most {left}, the rest of tensor {}", quoted(name));
            return Err(wrong_bytes(&expected, bytes.len()));
        };
        *left = rest;
        let io = |error| io_error(&self.target, error);
        self.file.write_all(bytes).map_err(io)?;
        self.position = self.position.wrapping_add(bytes.len()) & self.alignment.wrapping_sub(1);
        if rest == 0 {
            let padding =
                self.alignment.saturating_sub(self.position) & self.alignment.wrapping_sub(1);
            self.file.write_all(&vec![0; padding]).map_err(io)?;
            self.position = 0;
            self.left.pop_front();
        }
        Ok(())
    }

    /// Ends the file and gives it its name, in place of any file that has it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Argument`] if bytes of a tensor are missing.
    pub fn finish(mut self) -> Result<()> {
        if let Some((name, left)) = self.left.front() {
            let expected = format!("{left} more for tensor {}", quoted(name));
            return Err(wrong_bytes(&expected, 0));
        }
        let io = |error| io_error(&self.target, error);
        // Before the name: after a crash there is the old file or all of the new one.
        self.file.sync_all().map_err(io)?;
        fs::rename(&self.partial.0, &self.target).map_err(io)?;
        self.partial.0 = PathBuf::new();
        Ok(())
    }
}

/// The path of a file that is removed when this is dropped; empty for none.
#[derive(Debug)]
struct Partial(PathBuf);

impl Partial {
    /// A new file beside `target`.
    fn create(target: &Path) -> io::Result<(Partial, File)> {
        const TRIES: usize = 100;
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))?;
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 0..TRIES {
            let mut name: OsString = name.to_owned();
            name.push(format!(".{number}.partial"));
            let path = target.with_file_name(name);
            // Never opens what is there, so that two writers cannot share a file.
            match File::create_new(&path) {
                Ok(file) => return Ok((Partial(path), file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // Nobody could be told that it stays.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

fn wrong_bytes(expected: &str, found: usize) -> Error {
    Error::Argument {
        name: "bytes",
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}
