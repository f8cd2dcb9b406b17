//! What decides, besides the model, which tokens may come.

use std::sync::Arc;

use crate::{Model, Result};

/// Makes guides, one for each generation.
pub(crate) trait MakeGuide: Send + Sync {
    /// A guide at the beginning of a text.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`](crate::Error::Argument) if it was made for another model.
    fn guide(&self, model: &Model) -> Result<Box<dyn Guide>>;
}

pub(super) type GuideMaker = Arc<dyn MakeGuide>;

/// Says at each place of a text which tokens may follow.
pub(crate) trait Guide: Send {
    /// The tokens that may come next: bit `id % 32` of word `id / 32`. What is beyond the words may not.
    ///
    /// # Errors
    ///
    /// Where that cannot be said.
    fn allowed(&mut self) -> Result<&[u32]>;

    /// Goes on behind a token, one of those that were allowed.
    ///
    /// # Errors
    ///
    /// Where it was none of them.
    fn accept(&mut self, token: u32) -> Result<()>;

    /// The next tokens, as far as no others are allowed; perhaps not all of them.
    fn forced(&mut self) -> Vec<u32>;

    /// Whether the text is complete and nothing can follow.
    fn is_complete(&self) -> bool;
}
