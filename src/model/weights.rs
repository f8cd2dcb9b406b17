//! A model's tensors by their names, shapes checked against the configuration.

use std::collections::HashSet;

use super::config::Config;
use super::rope::Rope;
use crate::gguf::{Gguf, TensorInfo};
use crate::tensor::{WeightMatrix, read_vector};
use crate::{Error, Result};

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    /// `[vocab, embedding_length]`
    pub(crate) token_embedding: WeightMatrix,
    pub(crate) layers: Vec<Layer>,
    /// `[embedding_length]`
    pub(crate) output_norm: Vec<f32>,
    /// `[vocab, embedding_length]`; the token embedding where the file has no other.
    pub(crate) output: WeightMatrix,
    pub(crate) rope: Rope,
}

/// The weights of one transformer block.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) attention_output: Linear,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// A matrix `[outputs, inputs]` and, where the file has one, a bias `[outputs]`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: WeightMatrix,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Weights {
    pub(crate) fn bind(gguf: &Gguf, config: &Config) -> Result<Weights> {
        let mut tensors = Tensors {
            gguf,
            used: HashSet::new(),
        };
        let width = config.embedding_length;
        let token_embedding = tensors.matrix("token_embd.weight", None, width)?;
        let vocab = Some(token_embedding.rows());
        let output = tensors
            .optional_matrix("output.weight", vocab, width)?
            .unwrap_or_else(|| token_embedding.clone());
        let layers = (0..config.block_count)
            .map(|block| Layer::bind(&mut tensors, config, &format!("blk.{block}")))
            .collect::<Result<_>>()?;
        let weights = Weights {
            token_embedding,
            layers,
            output_norm: tensors.vector("output_norm.weight", width)?,
            output,
            rope: Rope::new(
                config.rope_dimension_count,
                config.rope_freq_base,
                config.rope_scaling,
                &tensors.rope_factors(config)?,
            ),
        };
        tensors.refuse_unused(config)?;
        Ok(weights)
    }
}

impl Layer {
    fn bind(tensors: &mut Tensors<'_>, config: &Config, block: &str) -> Result<Layer> {
        let name = |part: &str| format!("{block}.{part}");
        let (width, hidden) = (config.embedding_length, config.feed_forward_length);
        let [query, key, value] = tensors.projections(config, block)?;
        Ok(Layer {
            attention_norm: tensors.vector(&name("attn_norm.weight"), width)?,
            query,
            key,
            value,
            attention_output: tensors.linear(&name("attn_output"), width, config.query_length())?,
            feed_forward_norm: tensors.vector(&name("ffn_norm.weight"), width)?,
            gate: tensors.linear(&name("ffn_gate"), hidden, width)?,
            up: tensors.linear(&name("ffn_up"), hidden, width)?,
            down: tensors.linear(&name("ffn_down"), width, hidden)?,
        })
    }
}

/// The file's tensors, and which of them are in use.
struct Tensors<'a> {
    gguf: &'a Gguf,
    used: HashSet<&'a str>,
}

impl<'a> Tensors<'a> {
    /// The tensor of this name, whose shape must be one of `shapes` if it is there.
    fn find(
        &mut self,
        name: &str,
        fits: impl Fn(&TensorInfo) -> bool,
        shape: impl Fn() -> String,
    ) -> Result<Option<&'a TensorInfo>> {
        let Some(tensor) = self.gguf.tensor(name) else {
            return Ok(None);
        };
        self.used.insert(tensor.name());
        if !fits(tensor) {
            return Err(Error::Malformed {
                place: self.gguf.place_of_tensor(name),
                expected: shape(),
                found: format!("shape {:?}", tensor.shape()),
            });
        }
        Ok(Some(tensor))
    }

    fn missing(&self, name: &str, expected: String) -> Error {
        let place = self.gguf.place_of_tensor(name);
        Error::Malformed {
            place,
            expected,
            found: "no such tensor".to_owned(),
        }
    }

    /// A matrix `[rows, cols]`, with any number of rows where `rows` is `None`.
    fn optional_matrix(
        &mut self,
        name: &str,
        rows: Option<usize>,
        cols: usize,
    ) -> Result<Option<WeightMatrix>> {
        let fits = |tensor: &TensorInfo| {
            tensor.shape().len() <= 2
                && tensor.cols() == cols
                && rows.is_none_or(|rows| tensor.rows() == rows)
        };
        let tensor = self.find(name, fits, || matrix_shape(rows, cols))?;
        tensor
            .map(|tensor| WeightMatrix::bind(self.gguf, tensor))
            .transpose()
    }

    fn matrix(&mut self, name: &str, rows: Option<usize>, cols: usize) -> Result<WeightMatrix> {
        let found = self.optional_matrix(name, rows, cols)?;
        found.ok_or_else(|| self.missing(name, matrix_shape(rows, cols)))
    }

    fn optional_vector(&mut self, name: &str, length: usize) -> Result<Option<Vec<f32>>> {
        let fits = |tensor: &TensorInfo| tensor.rows() == 1 && tensor.cols() == length;
        let tensor = self.find(name, fits, || format!("shape [{length}]"))?;
        tensor
            .map(|tensor| read_vector(self.gguf, tensor))
            .transpose()
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>> {
        let found = self.optional_vector(name, length)?;
        found.ok_or_else(|| self.missing(name, format!("shape [{length}]")))
    }

    fn linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        Ok(Linear {
            matrix: self.matrix(&format!("{name}.weight"), Some(rows), cols)?,
            bias: self.optional_vector(&format!("{name}.bias"), rows)?,
        })
    }

    /// Query, key and value projection: one tensor, or three.
    fn projections(&mut self, config: &Config, block: &str) -> Result<[Linear; 3]> {
        let width = config.embedding_length;
        let (query, key) = (config.query_length(), config.key_length());
        let fused = format!("{block}.attn_qkv");
        if self.gguf.tensor(&format!("{fused}.weight")).is_some() {
            let Linear { matrix, bias } = self.linear(&fused, query + 2 * key, width)?;
            let parts = [0..query, query..query + key, query + key..query + 2 * key];
            return Ok(parts.map(|rows| Linear {
                matrix: matrix.narrow(rows.clone()),
                bias: bias.as_ref().map(|bias| bias[rows].to_vec()),
            }));
        }
        Ok([
            self.linear(&format!("{block}.attn_q"), query, width)?,
            self.linear(&format!("{block}.attn_k"), key, width)?,
            self.linear(&format!("{block}.attn_v"), key, width)?,
        ])
    }

    /// What divides RoPE's frequencies; empty where the file has nothing.
    fn rope_factors(&mut self, config: &Config) -> Result<Vec<f32>> {
        const NAME: &str = "rope_freqs.weight";
        let pairs = config.rope_dimension_count / 2;
        let factors = self.optional_vector(NAME, pairs)?.unwrap_or_default();
        match factors
            .iter()
            .find(|factor| !(factor.is_finite() && **factor > 0.0))
        {
            None => Ok(factors),
            Some(factor) => Err(Error::Malformed {
                place: self.gguf.place_of_tensor(NAME),
                expected: "finite factors above 0".to_owned(),
                found: factor.to_string(),
            }),
        }
    }

    /// A tensor that nobody asked for means that the model computes something we do not know.
    fn refuse_unused(&self, config: &Config) -> Result<()> {
        match self
            .gguf
            .tensors()
            .iter()
            .find(|tensor| !self.used.contains(tensor.name()))
        {
            None => Ok(()),
            Some(tensor) => Err(Error::Unsupported {
                place: self.gguf.place_of_tensor(tensor.name()),
                what: "this tensor".to_owned(),
                supported: format!("the tensors of a dense {} model", config.architecture.name),
            }),
        }
    }
}

fn matrix_shape(rows: Option<usize>, cols: usize) -> String {
    match rows {
        Some(rows) => format!("shape [{cols}, {rows}]"),
        None => format!("shape [{cols}, vocabulary]"),
    }
}
