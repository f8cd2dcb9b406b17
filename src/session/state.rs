//! Sessions as files, and copies of sessions.
//!
//! ```text
//! magic               16 bytes, the last one the version
//! identity            u64: of the model
//! cache type          u64: its place in CacheType::ALL
//! capacity, position  u64
//! unevaluated token   u64: the id plus 1, or 0 for none
//! logits              u64: how many
//! tokens              u32 for each position
//! logits              f32 values
//! cache               what the positions take, layer by layer
//! checksum            u64: of everything before
//! ```
//!
//! Numbers are little-endian, as the processors are that the kernels are for.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::{Session, SessionOptions, Speculator};
use crate::cache::CacheType;
use crate::model::Model;
use crate::new_file::{NewFile, io_error};
use crate::{Error, Result};

const MAGIC: &[u8; 16] = b"gristmill state\x02";

impl Model {
    /// A session that [`Session::save`] has written: it goes on where that was.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Malformed`] if it is damaged, of another
    /// version, or of another model; [`Error::Argument`] if memory does not hold its context.
    pub fn load_session(&self, path: impl AsRef<Path>) -> Result<Session> {
        Session::load(self.clone(), path.as_ref())
    }

    /// A number that other models do not have: of names, shapes and types of all tensors, and of the first
    /// and the last bytes of each.
    fn identity(&self) -> u64 {
        const BYTES: usize = 64;
        let mut checksum = Checksum::new();
        for tensor in self.gguf().tensors() {
            checksum.add(tensor.name().as_bytes());
            checksum.add(&tensor.ggml_type().number().to_le_bytes());
            for size in tensor.shape() {
                checksum.add(&size.to_le_bytes());
            }
            let bytes = self.gguf().tensor_bytes(tensor);
            let length = bytes.len().min(BYTES);
            checksum.add(&bytes[..length]);
            checksum.add(&bytes[bytes.len() - length..]);
        }
        checksum.0
    }
}

impl Session {
    /// A copy that goes on by itself: it has read what this one has. The copy takes the memory of the
    /// positions that are in use.
    ///
    /// ```
    /// # fn main() -> gristmill::Result<()> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    /// let model = gristmill::Model::open(path)?;
    /// let mut session = model.session()?;
    /// session.feed(&[1, 2, 3])?;
    /// let mut other = session.fork()?;
    /// other.feed(&[4])?;
    /// assert_eq!((session.position(), other.position()), (3, 4));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if memory does not hold another cache.
    pub fn fork(&mut self) -> Result<Session> {
        let options = SessionOptions::new()
            .context_length(self.context_length())
            .cache_type(self.cache_type);
        let mut copy = Session::new(self.model.clone(), &options)?;
        let position = self.position();
        let pieces = self.cache.used_mut(position);
        for (from, to) in pieces.into_iter().zip(copy.cache.used_mut(position)) {
            to.copy_from_slice(from);
        }
        copy.tokens.clone_from(&self.tokens);
        copy.logits.clone_from(&self.logits);
        copy.unevaluated = self.unevaluated;
        copy.speculator = self.speculator.as_mut().map(Speculator::fork).transpose()?;
        Ok(copy)
    }

    /// Writes what the session has read to a file, from which [`Model::load_session`] goes on without
    /// evaluating it again. It takes the memory of the positions in use.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written. A file that was there stays whole then.
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let mut file = Output {
            file: NewFile::create(path.as_ref())?,
            checksum: Checksum::new(),
        };
        let types = CacheType::ALL.iter();
        let place = types.take_while(|&&known| known != self.cache_type).count();
        file.write(MAGIC)?;
        for number in [
            self.model.identity(),
            place as u64,
            self.context_length() as u64,
            self.position() as u64,
            self.unevaluated.map_or(0, |token| u64::from(token) + 1),
            self.logits.len() as u64,
        ] {
            file.write(&number.to_le_bytes())?;
        }
        file.write(bytemuck::cast_slice(&self.tokens))?;
        file.write(bytemuck::cast_slice(&self.logits))?;
        for piece in self.cache.used_mut(self.tokens.len()) {
            file.write(piece)?;
        }
        let checksum = file.checksum.0;
        file.write(&checksum.to_le_bytes())?;
        file.file.finish()
    }

    /// See [`Model::load_session`].
    pub(crate) fn load(model: Model, path: &Path) -> Result<Session> {
        let opened = File::open(path).map_err(|error| io_error(path, error))?;
        let mut file = Input {
            path,
            file: BufReader::new(opened),
            checksum: Checksum::new(),
        };
        let mut magic = [0; MAGIC.len()];
        file.read(&mut magic)?;
        if &magic != MAGIC {
            let found = String::from_utf8_lossy(&magic).escape_debug().to_string();
            return Err(file.malformed("a session of version 2", found));
        }
        let identity = file.number()?;
        if identity != model.identity() {
            let expected = format!("a session of this model, {:016x}", model.identity());
            return Err(file.malformed(&expected, format!("one of {identity:016x}")));
        }
        let types = CacheType::ALL;
        let place = file.at_most("a cache type", types.len() as u64 - 1)?;
        let capacity = file.at_most("positions", usize::MAX as u64)?;
        let position = file.at_most("positions in use", capacity as u64)?;
        let vocab = model.vocab_size();
        let unevaluated = file.at_most("a token", vocab as u64)?;
        let logits = file.at_most("logits", vocab as u64)?;
        let options = SessionOptions::new()
            .context_length(capacity)
            .cache_type(types[place]);
        let mut session = Session::new(model, &options)?;
        session.tokens = vec![0; position];
        session.unevaluated = unevaluated.checked_sub(1).map(|token| token as u32);
        session.logits = vec![0.0; logits];
        file.read(bytemuck::cast_slice_mut(&mut session.tokens))?;
        file.read(bytemuck::cast_slice_mut(&mut session.logits))?;
        for piece in session.cache.used_mut(position) {
            file.read(piece)?;
        }
        let expected = file.checksum.0;
        let found = file.number()?;
        if found != expected {
            let expected = format!("checksum {expected:016x}");
            return Err(file.malformed(&expected, format!("{found:016x}")));
        }
        if let Some(token) = session
            .tokens
            .iter()
            .find(|&&token| token as usize >= vocab)
        {
            let expected = format!("tokens, ids below {vocab}");
            return Err(file.malformed(&expected, token.to_string()));
        }
        let mut rest = [0; 1];
        match file.file.read(&mut rest) {
            Ok(0) => Ok(session),
            Ok(_) => Err(file.malformed("the end of the file", "more bytes".to_owned())),
            Err(error) => Err(io_error(path, error)),
        }
    }
}

struct Output {
    file: NewFile,
    checksum: Checksum,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.add(bytes);
        self.file.write(bytes)
    }
}

struct Input<'a> {
    path: &'a Path,
    file: BufReader<File>,
    checksum: Checksum,
}

impl Input<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self.file.read_exact(bytes) {
            Ok(()) => {
                self.checksum.add(bytes);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let expected = format!("{} bytes more", bytes.len());
                Err(self.malformed(&expected, "the end of the file".to_owned()))
            }
            Err(error) => Err(io_error(self.path, error)),
        }
    }

    fn number(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn at_most(&mut self, what: &str, most: u64) -> Result<usize> {
        let number = self.number()?;
        match usize::try_from(number) {
            Ok(small) if number <= most => Ok(small),
            _ => {
                let expected = format!("{what}, a number up to {most}");
                Err(self.malformed(&expected, number.to_string()))
            }
        }
    }

    fn malformed(&self, expected: &str, found: String) -> Error {
        Error::Malformed {
            place: self.path.display().to_string(),
            expected: expected.to_owned(),
            found,
        }
    }
}

/// FNV-1a over words of 8 bytes, the last one of a piece filled up with zeros. It finds damage, not malice.
#[derive(Clone, Copy)]
struct Checksum(u64);

impl Checksum {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        let mut word = |word: u64| self.0 = (self.0 ^ word).wrapping_mul(0x100_0000_01b3);
        let (words, rest) = bytes.as_chunks::<8>();
        words
            .iter()
            .for_each(|bytes| word(u64::from_le_bytes(*bytes)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        word(u64::from_le_bytes(last));
    }
}
