//! Writing a file, tensor by tensor.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crate::new_file::NewFile;
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
    file: NewFile,
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
        header.check()?;
        let bytes = header.to_bytes()?;
        let mut file = NewFile::create(path.as_ref())?;
        file.write(&bytes)?;
        Ok(Writer {
            file,
            alignment: header.alignment()?,
            left: header.tensor_sizes().collect(),
            position: 0,
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
        self.file.write(bytes)?;
        self.position = self.position.wrapping_add(bytes.len()) & self.alignment.wrapping_sub(1);
        if rest == 0 {
            let padding =
                self.alignment.saturating_sub(self.position) & self.alignment.wrapping_sub(1);
            self.file.write(&vec![0; padding])?;
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
    pub fn finish(self) -> Result<()> {
        if let Some((name, left)) = self.left.front() {
            let expected = format!("{left} more for tensor {}", quoted(name));
            return Err(wrong_bytes(&expected, 0));
        }
        self.file.finish()
    }
}

fn wrong_bytes(expected: &str, found: usize) -> Error {
    Error::Argument {
        name: "bytes",
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}
