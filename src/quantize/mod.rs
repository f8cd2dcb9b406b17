//! Making a smaller file of a model: its tensors in types of fewer bits.
//!
//! A [`Plan`] says which type each tensor gets, by the rules of llama.cpp for the [`FileType`], and
//! writes the file. Blocks have the same bits as ggml's reference quantisers give, without an
//! importance matrix.
//!
//! ```
//! use gristmill::gguf::Gguf;
//! use gristmill::quantize::{FileType, Plan, QuantizeOptions};
//!
//! # fn main() -> gristmill::Result<()> {
//! # let model = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
//! # let folder = tempfile::tempdir().unwrap();
//! # let smaller = folder.path().join("smaller.gguf");
//! let gguf = Gguf::open(model)?;
//! let options = QuantizeOptions::new().requantize(true);
//! let plan = Plan::new(&gguf, FileType::Q4_0, &options)?;
//! plan.write(&smaller, |_, _| ())?;
//! # gristmill::Model::open(&smaller)?;
//! # Ok(())
//! # }
//! ```

mod file_type;
mod recipe;

use std::path::Path;

use gristmill_kernels::{Format, Level, Quantizer};
use rayon::prelude::*;

use crate::gguf::{GgmlType, Gguf, Header, TensorInfo, Writer};
use crate::pool::MAX_THREADS;
use crate::{Error, Result};

pub use file_type::FileType;

use recipe::Recipe;

/// `general.quantization_version`: the version of the block formats (ggml's `GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// Values that are quantised before they are written. A multiple of [`PIECE`].
const BATCH: usize = 1 << 22;

/// Values that a thread takes at a time: whole blocks of every format.
const PIECE: usize = 1 << 14;

/// Settings of a [`Plan`].
#[derive(Clone, Debug, Default)]
pub struct QuantizeOptions {
    requantize: bool,
    pure: bool,
    threads: Option<usize>,
}

impl QuantizeOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes tensors that are quantised already, although what that lost adds to what is lost now.
    /// Default: they are an error.
    #[must_use]
    pub fn requantize(mut self, allowed: bool) -> Self {
        self.requantize = allowed;
        self
    }

    /// Gives all tensors the same type, also those that usually have more bits. Default: false.
    #[must_use]
    pub fn pure(mut self, pure: bool) -> Self {
        self.pure = pure;
        self
    }

    /// Threads that quantise. Default: the processors that this process may use.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }
}

/// A file that can be written: a model, and the type that each of its tensors will have.
#[derive(Debug)]
pub struct Plan {
    gguf: Gguf,
    file_type: FileType,
    /// One for each tensor of the file.
    conversions: Vec<Conversion>,
    threads: rayon::ThreadPool,
}

/// What happens to a tensor.
#[derive(Clone, Copy, Debug)]
enum Conversion {
    Copy,
    Quantize { from: Format, to: Quantizer },
}

impl Plan {
    /// Chooses the types for a model, which need not be one that this library runs.
    ///
    /// Tensors of one dimension, norms, and a few others that are small or sensitive keep their
    /// type. The output matrix, also where it is the token embedding too, gets Q6_K or Q8_0.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if a tensor is quantised already and that was not allowed, or threads
    /// cannot be started; [`Error::Unsupported`] for a tensor whose type cannot be read.
    pub fn new(gguf: &Gguf, file_type: FileType, options: &QuantizeOptions) -> Result<Plan> {
        let recipe = Recipe::new(gguf, file_type, options.pure);
        let conversions = gguf.tensors().iter().map(|tensor| {
            let wanted = recipe.choose(tensor);
            Conversion::new(gguf, tensor, wanted, options.requantize)
        });
        Ok(Plan {
            gguf: gguf.clone(),
            file_type,
            conversions: conversions.collect::<Result<_>>()?,
            threads: thread_pool(options.threads)?,
        })
    }

    /// Each tensor, and the type that it will have.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&TensorInfo, GgmlType)> {
        let tensors = self.gguf.tensors().iter().zip(&self.conversions);
        tensors.map(|(tensor, conversion)| (tensor, conversion.target(tensor)))
    }

    /// Writes the file. `progress` is told the values that are done and those of the whole model.
    ///
    /// All metadata are taken over; `general.file_type` and `general.quantization_version` are set.
    /// Some tens of megabytes are in memory at a time. See [`Writer`] about a file that is there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be written; [`Error::Malformed`] for a tensor with values
    /// that have no place in its new type, such as NaN.
    pub fn write(&self, path: impl AsRef<Path>, mut progress: impl FnMut(u64, u64)) -> Result<()> {
        let mut header = Header::with_metadata_of(&self.gguf);
        header.set("general.quantization_version", QUANTIZATION_VERSION);
        header.set("general.file_type", self.file_type.number());
        for (tensor, ggml_type) in self.tensors() {
            header.add_tensor(tensor.name(), tensor.shape(), ggml_type)?;
        }
        let mut writer = Writer::create(path, &header)?;
        let values = |tensor: &TensorInfo| (tensor.rows() * tensor.cols()) as u64;
        let total = self.gguf.tensors().iter().map(values).sum();
        let mut done = 0;
        progress(done, total);
        for (tensor, &conversion) in self.gguf.tensors().iter().zip(&self.conversions) {
            self.write_tensor(tensor, conversion, &mut writer, |values| {
                done += values as u64;
                progress(done, total);
            })?;
        }
        writer.finish()
    }

    /// Writes the tensor in batches, and tells after each how many values it had. Blocks follow each
    /// other over the ends of rows, so a batch need not end with a row.
    fn write_tensor(
        &self,
        tensor: &TensorInfo,
        conversion: Conversion,
        writer: &mut Writer,
        mut progress: impl FnMut(usize),
    ) -> Result<()> {
        let ggml_type = tensor.ggml_type();
        let batch_bytes = BATCH / ggml_type.block_elements() * ggml_type.block_bytes();
        let mut blocks = Vec::new();
        let batches = self.gguf.tensor_bytes(tensor).chunks(batch_bytes);
        for (index, batch) in batches.enumerate() {
            match conversion {
                Conversion::Copy => writer.write(batch)?,
                Conversion::Quantize { from, to } => {
                    let quantize = || quantize(from, to, batch, &mut blocks);
                    self.threads.install(quantize).map_err(|piece| {
                        self.no_place(tensor, to, index * BATCH + piece * PIECE)
                    })?;
                    writer.write(&blocks)?;
                }
            }
            progress(batch.len() / ggml_type.block_bytes() * ggml_type.block_elements());
        }
        Ok(())
    }

    /// A value near the one of number `value` cannot be held.
    fn no_place(&self, tensor: &TensorInfo, to: Quantizer, value: usize) -> Error {
        Error::Malformed {
            place: self.gguf.place_of_tensor(tensor.name()),
            expected: format!(
                "values up to {} for {}",
                largest(to.format()),
                to.format().name()
            ),
            found: format!(
                "a larger one, or one that is no number, at or after row {}",
                value / tensor.cols()
            ),
        }
    }
}

impl Conversion {
    fn new(gguf: &Gguf, tensor: &TensorInfo, wanted: GgmlType, requantize: bool) -> Result<Self> {
        let found = tensor.ggml_type();
        if found == wanted {
            return Ok(Self::Copy);
        }
        let format = |ggml_type: GgmlType| Format::from_ggml_type(ggml_type.number());
        let (Some(from), Some(to)) = (format(found), format(wanted).and_then(Format::quantizer))
        else {
            return Err(Error::Unsupported {
                place: gguf.place_of_tensor(tensor.name()),
                what: format!("to make {wanted} of {found}"),
                supported: Format::ALL
                    .iter()
                    .filter(|format| format.quantizer().is_some())
                    .map(|format| format.name())
                    .collect::<Vec<_>>()
                    .join(", "),
            });
        };
        if !from.is_float() && !requantize {
            return Err(Error::Argument {
                name: "requantize",
                expected: format!(
                    "true, as {} is {found} already; a model of F32, F16 or BF16 gives a better one",
                    gguf.place_of_tensor(tensor.name()),
                ),
                found: "false".to_owned(),
            });
        }
        Ok(Self::Quantize { from, to })
    }

    fn target(self, tensor: &TensorInfo) -> GgmlType {
        match self {
            Self::Copy => tensor.ggml_type(),
            Self::Quantize { to, .. } => GgmlType::from_number(to.format().ggml_type())
                .expect("every format of the kernels is a ggml type"),
        }
    }
}

/// Quantises whole blocks; fails with the number of a piece that has a value without a place.
fn quantize(
    from: Format,
    to: Quantizer,
    bytes: &[u8],
    blocks: &mut Vec<u8>,
) -> std::result::Result<(), usize> {
    let bytes_of =
        |format: Format, values: usize| values / format.block_elements() * format.block_bytes();
    let values = bytes.len() / from.block_bytes() * from.block_elements();
    blocks.resize(bytes_of(to.format(), values), 0);
    let limit = largest(to.format());
    let level = Level::detect();
    bytes
        .par_chunks(bytes_of(from, PIECE))
        .zip(blocks.par_chunks_mut(bytes_of(to.format(), PIECE)))
        .enumerate()
        .try_for_each_init(
            || vec![0.0; PIECE],
            |values, (index, (piece, blocks))| {
                let count = piece.len() / from.block_bytes() * from.block_elements();
                let values = &mut values[..count];
                from.dequantize(piece, values);
                // NaN is not within the limit.
                if !values.iter().all(|value| value.abs() <= limit) {
                    return Err(index);
                }
                to.quantize(level, values, blocks);
                Ok(())
            },
        )
}

/// The largest magnitude that a format holds: elsewhere an f16 is the value or its scale.
fn largest(format: Format) -> f32 {
    match format {
        Format::F32 => f32::MAX,
        Format::BF16 => half::bf16::MAX.to_f32(),
        _ => half::f16::MAX.to_f32(),
    }
}

fn thread_pool(threads: Option<usize>) -> Result<rayon::ThreadPool> {
    if let Some(threads) = threads
        && !(1..=MAX_THREADS).contains(&threads)
    {
        return Err(Error::Argument {
            name: "threads",
            expected: format!("a number from 1 to {MAX_THREADS}"),
            found: threads.to_string(),
        });
    }
    rayon::ThreadPoolBuilder::new()
        // 0 is rayon's word for all processors.
        .num_threads(threads.unwrap_or(0))
        .build()
        .map_err(|error| Error::Argument {
            name: "threads",
            expected: "a number of threads that the system can start".to_owned(),
            found: format!("{}: {error}", threads.unwrap_or(0)),
        })
}
