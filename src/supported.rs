//! What this version runs, by the names that files use.

use gristmill_kernels::Format;

use crate::model::Architecture;
use crate::tokenizer;

/// Values of the metadata key `general.architecture`.
///
/// ```
/// assert!(gristmill::supported::architectures().any(|name| name == "qwen3moe"));
/// ```
pub fn architectures() -> impl Iterator<Item = &'static str> {
    Architecture::names()
}

/// Types of tensors that models are evaluated with.
///
/// ```
/// assert!(gristmill::supported::tensor_types().any(|name| name == "Q4_K"));
/// ```
pub fn tensor_types() -> impl Iterator<Item = &'static str> {
    Format::ALL.iter().map(|format| format.name())
}

/// Values of the metadata key `tokenizer.ggml.model`.
pub fn tokenizers() -> impl Iterator<Item = &'static str> {
    tokenizer::KINDS.iter().copied()
}

/// Values of the metadata key `tokenizer.ggml.pre`, which say how BPE cuts text into words.
pub fn pre_tokenizers() -> impl Iterator<Item = &'static str> {
    tokenizer::pre_tokenizers()
}
