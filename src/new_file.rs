//! Files that appear when they are complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file that is written beside its place, as `NAME.0.partial` or with the next number that is free, and
/// gets its name in [`finish`](NewFile::finish). One that is dropped before is removed.
#[derive(Debug)]
pub(crate) struct NewFile {
    target: PathBuf,
    partial: Partial,
    file: File,
}

impl NewFile {
    /// Begins a file.
    pub(crate) fn create(path: &Path) -> Result<NewFile> {
        let io = |error| io_error(path, error);
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something else than a regular file has this name",
            )));
        }
        let (partial, file) = Partial::create(path).map_err(io)?;
        Ok(NewFile {
            target: path.to_owned(),
            partial,
            file,
        })
    }

    /// Writes the next bytes. There is no buffer.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| io_error(&self.target, error))
    }

    /// Gives the file its name, in place of any file that has it.
    pub(crate) fn finish(mut self) -> Result<()> {
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

pub(crate) fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}
