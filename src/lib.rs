//! Runs quantised language models from GGUF files on a CPU, in pure Rust.

mod error;
pub mod gguf;
mod sample;
mod source;
pub mod tokenizer;

pub use error::{Error, Result};
pub use sample::{Sampler, SamplingOptions};
