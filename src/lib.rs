//! Runs quantised language models from GGUF files on a CPU, in pure Rust.

mod cache;
mod cancel;
mod error;
mod generate;
pub mod gguf;
mod model;
mod pool;
mod sample;
mod session;
mod source;
mod tensor;
pub mod tokenizer;

pub use cache::CacheType;
pub use cancel::CancelToken;
pub use error::{Error, Result};
pub use generate::{Completion, FinishReason, GenerateOptions, Generation, Piece, Timings};
pub use gristmill_kernels::Level;
pub use model::{Model, ModelBuilder};
pub use sample::{Sampler, SamplingOptions};
pub use session::{FeedControl, Session, SessionOptions};
