//! Embeddings: a text as one vector.

use super::{LOGITS_CHUNK, Session, chunk};
use crate::model::Model;
use crate::{Error, Result};

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    First,
    /// That of the last token, which alone has seen all others.
    Last,
}

impl Pooling {
    /// By the number of the metadata key `pooling_type`.
    fn from_number(number: u32) -> Option<Pooling> {
        match number {
            1 => Some(Pooling::Mean),
            2 => Some(Pooling::First),
            3 => Some(Pooling::Last),
            _ => None,
        }
    }
}

impl Model {
    /// How the file says that vectors of tokens are pooled; [`Pooling::Last`] where it does not, as every
    /// token sees only those before it.
    #[must_use]
    pub fn pooling(&self) -> Pooling {
        let key = format!("{}.pooling_type", self.architecture());
        let number = self.gguf().optional(&key).ok().flatten();
        number
            .and_then(Pooling::from_number)
            .unwrap_or(Pooling::Last)
    }
}

impl Session {
    /// A vector of length 1 for a text: `[embedding_length]`. Texts of similar meaning have similar vectors
    /// (their product is near 1), if the model was trained for that. The session forgets what it has read,
    /// before and after.
    ///
    /// ```
    /// # fn main() -> gristmill::Result<()> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    /// let model = gristmill::Model::open(path)?;
    /// let tokens = model.tokenizer().encode("Once upon a time", Default::default())?;
    /// let vector = model.session()?.embed(&tokens, model.pooling())?;
    /// let length: f32 = vector.iter().map(|value| value * value).sum();
    /// assert!((length - 1.0).abs() < 1e-4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] for no tokens and for an id beyond the vocabulary, [`Error::ContextFull`] if they
    /// do not fit into the session.
    pub fn embed(&mut self, tokens: &[u32], pooling: Pooling) -> Result<Vec<f32>> {
        if tokens.is_empty() {
            return Err(Error::Argument {
                name: "tokens",
                expected: "at least one".to_owned(),
                found: "none".to_owned(),
            });
        }
        self.clear();
        self.check(tokens)?;
        let width = self.model.config().sizes.embedding_length;
        let most = chunk(LOGITS_CHUNK, self.model.config().widest());
        let mut sum = vec![0.0; width];
        for (index, chunk) in tokens.chunks(most).enumerate() {
            let is_last = index * most + chunk.len() == tokens.len();
            let wanted = match pooling {
                Pooling::Mean => 0..chunk.len(),
                Pooling::First if index == 0 => 0..1,
                Pooling::Last if is_last => chunk.len() - 1..chunk.len(),
                Pooling::First | Pooling::Last => 0..0,
            };
            self.evaluate(chunk, wanted, false, None)?;
            for values in self.logits.chunks_exact(width) {
                sum.iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += value);
            }
        }
        self.clear();
        let squares: f32 = sum.iter().map(|value| value * value).sum();
        let length = squares.sqrt().max(f32::MIN_POSITIVE);
        sum.iter_mut().for_each(|value| *value /= length);
        Ok(sum)
    }
}
