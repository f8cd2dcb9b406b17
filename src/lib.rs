//! Runs quantised language models from GGUF files on a CPU, in pure Rust.
//!
//! Three types do most of it:
//!
//! * [`Model`]: a GGUF file, mapped into memory and ready to be evaluated. Clones are cheap and share
//!   everything; threads may use them at the same time.
//! * [`Session`]: what a model has read so far (its KV cache), and what it expects next (the logits).
//!   Any number of sessions can share a model.
//! * [`Tokenizer`](tokenizer::Tokenizer): text to token ids and back, as the file describes it.
//!
//! [`Session::generate`] puts them together: an iterator over pieces of text, which stops when it is
//! dropped. [`Model::generate`] gives the whole text at once.
//!
//! ```no_run
//! use gristmill::{GenerateOptions, Model, SamplingOptions};
//!
//! # fn main() -> gristmill::Result<()> {
//! let model = Model::builder().threads(4).open("model.gguf")?;
//! let sampling = SamplingOptions { temperature: 0.8, ..SamplingOptions::default() };
//! let options = GenerateOptions::new().max_tokens(64).sampling(sampling);
//! let mut session = model.session()?;
//! for piece in session.generate("Once upon a time", &options)? {
//!     print!("{}", piece?.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Below that, token ids go in and logits come out:
//!
//! ```no_run
//! # fn main() -> gristmill::Result<()> {
//! # let model = gristmill::Model::open("model.gguf")?;
//! let tokens = model.tokenizer().encode("Once upon a time", Default::default())?;
//! let mut session = model.session()?;
//! session.feed(&tokens)?;
//! let mut sampler = gristmill::SamplerChain::new(&Default::default())?;
//! if let Some(most_probable) = sampler.sample(session.logits()) {
//!     session.feed(&[most_probable])?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Conversations with a model that was trained for them are in the module [`chat`]: [`Model::chat`] and
//! [`Chat::send`](chat::Chat::send).
//!
//! # Models
//!
//! The module [`supported`] names what runs: architectures, types of tensors, tokenizers. What a file needs
//! and this version has not is an [`Error::Unsupported`], never a guess. The module [`gguf`] reads and writes any GGUF file, also
//! of models that do not run; [`quantize`] makes smaller ones.
//!
//! # Instruction sets
//!
//! Kernels are chosen when a model is opened, by what the processor and the operating system offer; no
//! compiler flag is needed. [`ModelBuilder::level`] or the environment variable `GRISTMILL_LEVEL`
//! lowers the choice. Results do not depend on the number of threads, to the last bit; those of two
//! levels differ by rounding.
//!
//! # Trust
//!
//! Files, prompts and options may come from strangers: whatever they say ends in a result or an
//! [`Error`]. The exception is a file that changes while it is mapped, see
//! [`Gguf::open`](gguf::Gguf::open). `SECURITY.md` in the repository says exactly what is guaranteed.
//!
//! # Features
//!
//! * `constrain`: texts that follow a JSON schema, a Rust type, a regex or a grammar, in the module `constrain`.
//!   Not in the default, as it takes some 20 crates more.
#![deny(unsafe_code)]

mod cache;
mod cancel;
pub mod chat;
#[cfg(feature = "constrain")]
pub mod constrain;
mod cpus;
mod error;
mod generate;
pub mod gguf;
mod model;
mod new_file;
mod pool;
pub mod quantize;
mod sample;
mod session;
mod source;
pub mod supported;
mod template;
mod tensor;
pub mod tokenizer;

pub use cache::CacheType;
pub use cancel::CancelToken;
pub use error::{Error, Result};
pub use generate::{Completion, FinishReason, GenerateOptions, Generation, Piece, Timings};
pub use gristmill_kernels::Level;
pub use model::{Model, ModelBuilder};
pub use sample::{
    Candidate, Candidates, Logprob, MirostatVersion, Sampler, SamplerChain, SamplingOptions,
    TokenLogprobs,
};
pub use session::{Batch, FeedControl, Pooling, Session, SessionOptions, Speculation};

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
