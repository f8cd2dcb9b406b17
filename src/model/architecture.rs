//! The table of architectures: what distinguishes one from another, as data.
//!
//! Everything that all share (grouped-query attention, optional biases, fused or split projections,
//! tied embeddings, RoPE scaling) is found from the file's metadata and tensors.

use gristmill_kernels::ops::Pairing;

use crate::gguf::Gguf;
use crate::{Error, Result};

/// What an architecture computes differently from the others.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// `general.architecture`, and the prefix of the metadata keys.
    pub(crate) name: &'static str,
    /// Which values of a head RoPE rotates together.
    pub(crate) pairing: Pairing,
}

/// Every architecture that runs. Source: the models as llama.cpp evaluates them.
const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "llama",
        pairing: Pairing::Adjacent,
    },
    Architecture {
        name: "qwen2",
        pairing: Pairing::Halves,
    },
];

impl Architecture {
    /// The architecture of a file.
    pub(crate) fn of(gguf: &Gguf) -> Result<&'static Architecture> {
        const KEY: &str = "general.architecture";
        let name: String = gguf.require(KEY)?;
        let found = ARCHITECTURES
            .iter()
            .find(|architecture| architecture.name == name);
        found.ok_or_else(|| Error::Unsupported {
            place: gguf.place_of_key(KEY),
            what: format!("architecture {name:?}"),
            supported: Self::names().collect::<Vec<_>>().join(", "),
        })
    }

    /// The names of all that run.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        ARCHITECTURES.iter().map(|architecture| architecture.name)
    }
}
