//! SIMD kernels of gristmill: GGUF block formats, matrix products with quantised weights, and the
//! small operations of a transformer.
//!
//! The crate knows no file, no thread and no model. Its two products are
//!
//! * one token: a dot product per row, straight from the file's layout (`dot`), limited by memory;
//! * many tokens: a panel of rows is unpacked once into small integers and multiplied with all the
//!   tokens (`gemm`), limited by the multipliers.
//!
//! [`matmul`] picks between them. Both are written once over the operations of `simd`, which each
//! instruction set implements in one file; a block format is one file in `format`.
//!
//! ```
//! use gristmill_kernels::{ColumnsMut, Format, InputGroup, Level, Matrix, Scratch, Store, matmul};
//!
//! let weights: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|w| w.to_le_bytes()).collect();
//! let weights = Matrix::new(Format::F32, 2, 2, &weights).expect("4 values of 4 bytes");
//! let level = Level::detect();
//! let mut inputs = InputGroup::new();
//! inputs.fill(level, &[10.0, 1.0], 2);
//! let mut out = [0.0; 2];
//! matmul(level, weights, &[inputs], &mut Scratch::new(), Store::Replace, ColumnsMut::new(&mut out, 2));
//! assert_eq!(out, [12.0, 34.0]);
//! ```

#[cfg(target_endian = "big")]
compile_error!("the kernels take blocks and vectors apart as little-endian bytes");

mod columns;
mod dot;
mod format;
mod gemm;
mod inputs;
mod level;
mod matrix;
pub mod ops;
mod product;
mod simd;
#[cfg(test)]
mod testing;

pub use columns::{ColumnsMut, Store};
pub use format::{Format, Quantizer};
pub use gemm::Scratch;
pub use inputs::{InputGroup, groups, most_alike};
pub use level::{Level, UnknownLevel};
pub use matrix::Matrix;
pub use product::matmul;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use simd::Simd128;
#[cfg(target_arch = "x86_64")]
pub use simd::{Avx2, Avx512, AvxVnni};
#[cfg(target_arch = "aarch64")]
pub use simd::{Dotprod, Neon};
pub use simd::{Line, Scalar};
