//! Embeddings: a text as one vector.

use super::{LOGITS_CHUNK, Session, SessionOptions, chunk};
use crate::model::Model;
use crate::tokenizer::EncodeOptions;
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
    /// Whether a token sees those behind it, too. An encoder turns a text into a vector by
    /// [`Session::embed`], and generates none.
    #[must_use]
    pub fn is_encoder(&self) -> bool {
        !self.config().is_causal
    }

    /// How the file says that vectors of tokens are pooled. Where it does not, [`Pooling::Mean`] of an
    /// encoder, and [`Pooling::Last`] of others, whose tokens see only those before them.
    #[must_use]
    pub fn pooling(&self) -> Pooling {
        let key = format!("{}.pooling_type", self.architecture());
        let number = self.gguf().optional(&key).ok().flatten();
        number
            .and_then(Pooling::from_number)
            .unwrap_or(if self.is_encoder() {
                Pooling::Mean
            } else {
                Pooling::Last
            })
    }

    /// A vector of length 1 for a text, `[embedding_length]`, pooled as the file says: see
    /// [`Session::embed`]. Special tokens are added where the model expects them.
    ///
    /// ```
    /// # fn main() -> gristmill::Result<()> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    /// let model = gristmill::Model::open(path)?;
    /// let [a, b] = [model.embed("Once upon a time")?, model.embed("Once upon a day")?];
    /// let similarity: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    /// assert!(similarity <= 1.0001);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Session::embed`] and [`Tokenizer::encode`](crate::tokenizer::Tokenizer::encode).
    pub fn embed(&self, text: &str) -> Result<Vec<f32>> {
        let tokens = self.tokenizer().encode(text, EncodeOptions::default())?;
        let positions = tokens.len().clamp(1, self.weights().most_positions());
        let options = SessionOptions::new().context_length(positions);
        self.session_with(&options)?.embed(&tokens, self.pooling())
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
        self.check_tokens(tokens)?;
        let width = self.model.config().sizes.embedding_length;
        let most = self.embedding_chunk(tokens.len())?;
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
        if pooling == Pooling::Mean {
            let count = tokens.len() as f32;
            sum.iter_mut().for_each(|value| *value /= count);
        }
        let mut sum = self.model.weights().through_dense(self.model.level(), sum);
        let squares: f32 = sum.iter().map(|value| value * value).sum();
        let length = squares.sqrt().max(f32::MIN_POSITIVE);
        sum.iter_mut().for_each(|value| *value /= length);
        Ok(sum)
    }

    /// How many of so many tokens go together. An encoder reads all at once.
    fn embedding_chunk(&self, tokens: usize) -> Result<usize> {
        let widest = self.model.config().widest();
        if !self.model.is_encoder() {
            return Ok(chunk(LOGITS_CHUNK, widest));
        }
        match chunk(tokens, widest) {
            most if most < tokens => Err(Error::ContextFull {
                capacity: most,
                needed: tokens,
            }),
            most => Ok(most),
        }
    }
}
