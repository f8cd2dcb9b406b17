//! A file's tensors by their names, shapes checked.

use std::collections::HashSet;

use super::Norm;
use super::linear::{BranchOutput, Linear, Stacked};
use crate::gguf::{Gguf, TensorInfo};
use crate::model::config::Config;
use crate::tensor::{WeightMatrix, read_values};
use crate::{Error, Result};

/// The file's tensors, and which of them are in use.
pub(super) struct Tensors<'a> {
    gguf: &'a Gguf,
    used: HashSet<&'a str>,
}

impl<'a> Tensors<'a> {
    pub(super) fn new(gguf: &'a Gguf) -> Self {
        Self {
            gguf,
            used: HashSet::new(),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// The tensor of this name, which must fit if it is there.
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
            return Err(self.malformed(name, shape(), format!("shape {:?}", tensor.shape())));
        }
        Ok(Some(tensor))
    }

    pub(super) fn malformed(&self, name: &str, expected: String, found: String) -> Error {
        Error::Malformed {
            place: self.gguf.place_of_tensor(name),
            expected,
            found,
        }
    }

    fn missing(&self, name: &str, expected: String) -> Error {
        self.malformed(name, expected, "no such tensor".to_owned())
    }

    /// A matrix `[rows, cols]`, with any number of rows where `rows` is `None`.
    pub(super) fn optional_matrix(
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

    /// The matrices `name.weight` of all experts or heads and, where the file has them, their biases `name.bias`.
    pub(super) fn stacked(
        &mut self,
        name: &str,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Stacked> {
        let (weight, shape) = (format!("{name}.weight"), [cols, rows, count]);
        let fits = |tensor: &TensorInfo| {
            let sizes = tensor.shape().iter().map(|&size| size as usize);
            sizes.chain(std::iter::repeat(1)).take(3).eq(shape) && tensor.shape().len() <= 3
        };
        let expected = || format!("shape {shape:?}");
        let tensor = self.find(&weight, fits, expected)?;
        let tensor = tensor.ok_or_else(|| self.missing(&weight, expected()))?;
        let linear = Linear {
            matrix: WeightMatrix::bind(self.gguf, tensor)?,
            scale: 1.0,
            bias: self.optional_values(&format!("{name}.bias"), count, rows)?,
        };
        let scales = self.scales(name, count)?;
        Ok(Stacked::new(linear, scales.unwrap_or_default(), rows))
    }

    pub(super) fn matrix(
        &mut self,
        name: &str,
        rows: Option<usize>,
        cols: usize,
    ) -> Result<WeightMatrix> {
        let found = self.optional_matrix(name, rows, cols)?;
        found.ok_or_else(|| self.missing(name, matrix_shape(rows, cols)))
    }

    /// The values of a small tensor `[rows, cols]`.
    pub(super) fn optional_values(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Option<Vec<f32>>> {
        let fits = |tensor: &TensorInfo| tensor.rows() == rows && tensor.cols() == cols;
        let tensor = self.find(name, fits, || values_shape(rows, cols))?;
        tensor
            .map(|tensor| read_values(self.gguf, tensor))
            .transpose()
    }

    pub(super) fn values(&mut self, name: &str, rows: usize, cols: usize) -> Result<Vec<f32>> {
        let found = self.optional_values(name, rows, cols)?;
        found.ok_or_else(|| self.missing(name, values_shape(rows, cols)))
    }

    /// The matrix `name.weight` and, where the file has one, the bias `name.bias`.
    pub(super) fn linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        Ok(Linear {
            matrix: self.matrix(&format!("{name}.weight"), Some(rows), cols)?,
            scale: self.scales(name, 1)?.map_or(1.0, |scales| scales[0]),
            bias: self.optional_values(&format!("{name}.bias"), 1, rows)?,
        })
    }

    /// What the products of matrices are multiplied by, where the file says so. Those of inputs, which it
    /// may have too, are for quantising them in another way than ours.
    pub(super) fn scales(&mut self, name: &str, count: usize) -> Result<Option<Vec<f32>>> {
        self.optional_values(&format!("{name}.input_scale"), 1, count)?;
        self.optional_values(&format!("{name}.scale"), 1, count)
    }

    /// The last projection of a branch.
    pub(super) fn branch_output(
        &mut self,
        config: &Config,
        name: &str,
        cols: usize,
    ) -> Result<BranchOutput> {
        let linear = self.linear(name, config.sizes.embedding_length, cols)?;
        Ok(linear.into_branch_output(config.scaling.branch))
    }

    /// The norm `name.weight` and, where the file has one, the bias `name.bias`.
    pub(super) fn norm(&mut self, name: &str, length: usize) -> Result<Norm> {
        Ok(Norm {
            weight: self.values(&format!("{name}.weight"), 1, length)?,
            bias: self.optional_values(&format!("{name}.bias"), 1, length)?,
        })
    }

    pub(super) fn optional_norm(&mut self, name: &str, length: usize) -> Result<Option<Norm>> {
        let is_there = self.has(&format!("{name}.weight"));
        is_there.then(|| self.norm(name, length)).transpose()
    }

    /// What is added to the embeddings of a text's tokens: all are of the first type. (The second one is
    /// that of another text, which BERT was trained to compare with the first.)
    pub(super) fn type_embedding(&mut self, width: usize) -> Result<Option<Vec<f32>>> {
        let types = self.optional_matrix("token_types.weight", None, width)?;
        Ok(types.map(|types| {
            let mut values = vec![0.0; width];
            types.view().dequantize_row(0, &mut values);
            values
        }))
    }

    /// The dense layers behind the pooling: from vectors of `width` values to others, and back.
    pub(super) fn dense(&mut self, width: usize) -> Result<Vec<Linear>> {
        let Some(second) = self.optional_matrix("dense_2.weight", None, width)? else {
            return Ok(Vec::new());
        };
        let hidden = second.rows();
        Ok(vec![
            self.linear("dense_2", hidden, width)?,
            self.linear("dense_3", width, hidden)?,
        ])
    }

    /// A tensor that nobody asked for means that the model computes something we do not know.
    pub(super) fn refuse_unused(&self, architecture: &str) -> Result<()> {
        let mut tensors = self.gguf.tensors().iter();
        match tensors.find(|tensor| !self.used.contains(tensor.name())) {
            None => Ok(()),
            Some(tensor) => Err(Error::Unsupported {
                place: self.gguf.place_of_tensor(tensor.name()),
                what: "this tensor".to_owned(),
                supported: format!("the tensors of a model of architecture {architecture}"),
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

fn values_shape(rows: usize, cols: usize) -> String {
    if rows == 1 {
        format!("shape [{cols}]")
    } else {
        matrix_shape(Some(rows), cols)
    }
}
