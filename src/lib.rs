//! Runs quantised language models from GGUF files on a CPU, in pure Rust.

mod error;

pub use error::{Error, Result};
