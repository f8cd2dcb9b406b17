//! What can go wrong, grouped by what the caller can do about it.

use std::path::PathBuf;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed.
///
/// A `place` names the file and, inside it, the metadata key or the tensor: `model.gguf: tensor
/// ``blk.0.attn_q.weight`` `.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file: check the path and the permissions.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is damaged or lies about itself: fetch it again.
    #[error("{place}: expected {expected}, found {found}")]
    Malformed {
        /// The file, and the key or tensor in it.
        place: String,
        /// What a sound file has there.
        expected: String,
        /// What this file has there.
        found: String,
    },
    /// The file is sound but needs something that this build does not have.
    #[error("{place}: {what} is not supported; supported: {supported}")]
    Unsupported {
        /// The file, and the key or tensor in it.
        place: String,
        /// What the file needs.
        what: String,
        /// What could be used instead.
        supported: String,
    },
    /// A size is beyond what this library accepts, so that a hostile file cannot exhaust memory.
    #[error("{place}: {found} exceeds the limit of {limit}")]
    Limit {
        /// The file, and the key or tensor in it.
        place: String,
        /// The largest value accepted.
        limit: u64,
        /// The value found.
        found: u64,
    },
    /// The caller passed a value that does not fit: correct the call.
    #[error("option {name}: expected {expected}, found {found}")]
    Argument {
        /// The option or parameter.
        name: &'static str,
        /// Which values are accepted.
        expected: String,
        /// The value passed.
        found: String,
    },
    /// The chat template refuses these messages: change them.
    #[error("{place}: the template refuses the conversation: {message}")]
    Conversation {
        /// The file and the key of the template, and the line.
        place: String,
        /// What the template said.
        message: String,
    },
    /// The chat template fails: choose another one, or write what it can read.
    #[error("{place}: {message}")]
    Template {
        /// The file and the key of the template, and the line.
        place: String,
        /// What went wrong there.
        message: String,
    },
    /// The grammar that a text is to follow cannot be compiled, or has become too complex: change it.
    #[error("{kind}: {message}")]
    Constraint {
        /// What the grammar is written in.
        kind: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The text is no value of the type that was asked for: allow more tokens, or ask for less.
    #[error("the answer: expected {expected}, found {found}")]
    Incomplete {
        /// The type, and what is missing or wrong.
        expected: String,
        /// The end of the text, and why it ended there.
        found: String,
    },
    /// The tokens do not fit into the session's context: clear the session or open a larger one.
    #[error("context is full: {needed} positions needed, the session has {capacity}")]
    ContextFull {
        /// Positions of the session's KV cache.
        capacity: usize,
        /// Positions that the call would have needed.
        needed: usize,
    },
    /// The work was cancelled before it was done; the session is as it was before the call.
    #[error("cancelled")]
    Cancelled,
}
