//! Multi-head latent attention.
//!
//! ```text
//! norm, quantise; latent, query (compressed or not)       by matrix row
//! norm, quantise; query                                   by matrix row
//!                     absorbed                            with keys and values
//! queries of latents  by head                             norm, quantise; keys, values    by matrix row
//! store latents                                           store keys and values           by key head
//! attend
//! values of latents   by head
//! residual += output projection
//! ```

use std::ops::Range;

use gristmill_kernels::ops::Side;
use gristmill_kernels::{ColumnsMut, Store, groups};

use super::tiles::Attended;
use super::workspace::ThreadSpace;
use super::{Mix, Place, Running, multiply};
use crate::model::blocks::{Block, Mixing};
use crate::model::latent::LatentShape;
use crate::model::weights::{Expand, LatentAttention, LinearView};
use crate::pool::{Pool, Share, Shared, Worker};

/// The buffers of latent attention.
#[derive(Debug)]
pub(super) struct LatentSpace {
    /// `[tokens, query_rank]`
    compressed_query: Shared<f32>,
    /// `[tokens, heads * (plain_dim + rope_dim)]`
    query: Shared<f32>,
    /// `[tokens, rank + rope_dim]`: the latent, and the key that rotates.
    compressed: Shared<f32>,
    /// `[tokens, heads * (plain_dim + value_dim)]`
    keys_and_values: Shared<f32>,
    /// `[heads, tokens * (rank + rope_dim)]`: queries that compare with latents.
    absorbed: Shared<f32>,
    /// `[heads, tokens * value_dim]`
    values: Shared<f32>,
}

impl LatentSpace {
    pub(super) fn new(pool: &Pool) -> Self {
        let floats = || Shared::new(pool);
        Self {
            compressed_query: floats(),
            query: floats(),
            compressed: floats(),
            keys_and_values: floats(),
            absorbed: floats(),
            values: floats(),
        }
    }

    pub(super) fn reshape(&mut self, block: &Block, heads: usize, tokens: usize) {
        let Mixing::Latent(shape) = &block.mixing else {
            return;
        };
        let zero = || 0.0;
        let compressed = shape.rank + shape.rope_dim;
        self.compressed_query
            .reshape(tokens, shape.query_rank, zero);
        self.query.reshape(tokens, heads * shape.head_dim(), zero);
        self.compressed.reshape(tokens, compressed, zero);
        if shape.is_absorbed {
            self.absorbed.reshape(heads, tokens * compressed, zero);
            self.values.reshape(heads, tokens * shape.value_dim, zero);
        } else {
            let both = heads * (shape.plain_dim + shape.value_dim);
            self.keys_and_values.reshape(tokens, both, zero);
        }
    }
}

impl Running<'_> {
    /// Keys of all tokens, and attention of those of the span.
    pub(super) fn latent_attention(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        mix: Mix<'_>,
        weights: &LatentAttention,
    ) {
        let shape = &weights.shape;
        let space = &self.space.latent;
        let of_all = [(&weights.compress, &space.compressed)];
        let of_span = match &weights.compress_query {
            Some((compress, _)) => [(compress, &space.compressed_query)],
            None => [(&weights.query, &space.query)],
        };
        self.project(worker, thread, mix, &of_all, &of_span);
        if let Some((_, norm)) = &weights.compress_query {
            let rank = shape.query_rank;
            let normed = |share: &Share, tokens: Range<usize>, rows: &mut Vec<f32>| {
                let compressed = space.compressed_query.read(share);
                let compressed = &compressed[tokens.start * rank..tokens.end * rank];
                rows.resize(compressed.len(), 0.0);
                self.norm(norm, compressed, rows);
            };
            self.products(
                worker,
                thread,
                mix.span,
                normed,
                |share, inputs, scratch| {
                    let out = Place::replace(&space.query);
                    self.linear(share, inputs, scratch, &weights.query, out);
                },
            );
        }
        match &weights.expand {
            Expand::KeysAndValues(expand) => {
                let normed = |share: &Share, tokens: Range<usize>, rows: &mut Vec<f32>| {
                    let compressed = space.compressed.rows(share);
                    tokens
                        .for_each(|token| self.append_latent(weights, compressed.row(token), rows));
                };
                self.products(
                    worker,
                    thread,
                    &self.all,
                    normed,
                    |share, inputs, scratch| {
                        let out = Place::replace(&space.keys_and_values);
                        self.linear(share, inputs, scratch, expand, out);
                    },
                );
                worker.phase(|share| self.store_expanded(share, mix, shape));
            }
            Expand::Absorbed { query, .. } => worker.phase(|share| {
                self.store_latents(share, mix, shape, weights);
                self.absorb(share, thread, mix, shape, |head| query.at(head));
            }),
        }
        if mix.span.tokens.is_empty() {
            return;
        }
        worker.phase(|share| {
            let (query, absorbed) = (space.query.rows(share), space.absorbed.rows(share));
            let angles = self.space.angles.rows(share);
            self.attend(share, thread, mix, |token, heads, rows| {
                match weights.expand {
                    Expand::KeysAndValues(_) => {
                        let (query, dim) = (query.row(token), shape.head_dim());
                        let angles = angles.row(mix.span.tokens.start + token);
                        for head in query[heads.start * dim..heads.end * dim].chunks_exact(dim) {
                            let (plain, rotated) = head.split_at(shape.plain_dim);
                            rows.extend_from_slice(plain);
                            self.append_rotated(mix.block, angles, rotated, rows);
                        }
                    }
                    Expand::Absorbed { .. } => {
                        let dim = shape.rank + shape.rope_dim;
                        for head in heads {
                            rows.extend_from_slice(&absorbed.row(head)[token * dim..][..dim]);
                        }
                    }
                }
            });
        });
        let is_absorbed = match &weights.expand {
            Expand::Absorbed { value, .. } => {
                worker.phase(|share| {
                    self.expand_values(share, thread, mix, shape, |head| value.at(head));
                });
                true
            }
            Expand::KeysAndValues(_) => false,
        };
        let gathered = |share: &Share, tokens: Range<usize>, rows: &mut Vec<f32>| {
            if is_absorbed {
                let dim = shape.value_dim;
                let values = space.values.read(share);
                for token in tokens {
                    for head in values.chunks_exact(space.values.cols()) {
                        rows.extend_from_slice(&head[token * dim..][..dim]);
                    }
                }
            } else {
                self.gather(share, mix.span, tokens, &[], rows);
            }
        };
        let out = (&weights.output, mix.out);
        self.project_out(worker, thread, mix.span, gathered, out);
    }

    /// Appends the normed latent of a token.
    fn append_latent(&self, weights: &LatentAttention, compressed: &[f32], rows: &mut Vec<f32>) {
        let start = rows.len();
        let rank = weights.norm.weight.len();
        rows.resize(start + rank, 0.0);
        self.norm(&weights.norm, &compressed[..rank], &mut rows[start..]);
    }

    /// Appends values, rotated by the angles of their token.
    fn append_rotated(&self, block: &Block, angles: &[f32], values: &[f32], rows: &mut Vec<f32>) {
        let start = rows.len();
        rows.extend_from_slice(values);
        self.rotate(block, angles, values.len(), &mut rows[start..]);
    }

    /// Stores latents and the keys that rotate: keys of the one head, whose values are the latents.
    fn store_latents(
        &self,
        share: &Share,
        mix: Mix<'_>,
        shape: &LatentShape,
        weights: &LatentAttention,
    ) {
        let compressed = self.space.latent.compressed.rows(share);
        let angles = self.space.angles.rows(share);
        self.store_heads(share, mix.index, Side::Keys, |_, token, row| {
            let compressed = compressed.row(token);
            self.append_latent(weights, compressed, row);
            let rotated = &compressed[shape.rank..];
            self.append_rotated(mix.block, angles.row(token), rotated, row);
        });
        self.store_heads(share, mix.index, Side::Values, |_, token, row| {
            self.append_latent(weights, compressed.row(token), row);
        });
    }

    /// Stores the share's key heads, which end with the one key that rotates, and value heads.
    fn store_expanded(&self, share: &Share, mix: Mix<'_>, shape: &LatentShape) {
        let space = &self.space.latent;
        let both = shape.plain_dim + shape.value_dim;
        let (compressed, angles) = (space.compressed.rows(share), self.space.angles.rows(share));
        let keys_and_values = space.keys_and_values.rows(share);
        let head_of = |head: usize, token: usize| {
            let row = keys_and_values.row(token);
            row[head * both..][..both].split_at(shape.plain_dim)
        };
        self.store_heads(share, mix.index, Side::Keys, |head, token, row| {
            row.extend_from_slice(head_of(head, token).0);
            let rotated = &compressed.row(token)[shape.rank..];
            self.append_rotated(mix.block, angles.row(token), rotated, row);
        });
        self.store_heads(share, mix.index, Side::Values, |head, token, row| {
            row.extend_from_slice(head_of(head, token).1);
        });
    }

    /// Queries of the share's heads, as they compare with latents and with the keys that rotate.
    fn absorb<'w>(
        &self,
        share: &Share,
        thread: &mut ThreadSpace,
        mix: Mix<'_>,
        shape: &LatentShape,
        matrix: impl Fn(usize) -> LinearView<'w>,
    ) {
        let space = &self.space.latent;
        let (dim, head_dim) = (shape.rank + shape.rope_dim, shape.head_dim());
        let tokens = mix.span.tokens.len();
        if tokens == 0 {
            return;
        }
        let (queries, angles) = (space.query.rows(share), self.space.angles.rows(share));
        let (heads, absorbed) = space.absorbed.rows_mut(share);
        let cols = space.absorbed.cols();
        for (head, out) in heads.zip(absorbed.chunks_exact_mut(cols)) {
            let out = &mut out[..tokens * dim];
            let query = |token: usize| &queries.row(token)[head * head_dim..][..head_dim];
            let plain = |token: usize, rows: &mut Vec<f32>| {
                rows.extend_from_slice(&query(token)[..shape.plain_dim]);
            };
            self.multiply_head(thread, matrix(head), tokens, plain, (&mut *out, dim));
            for (token, out) in out.chunks_exact_mut(dim).enumerate() {
                let rotated = &mut out[shape.rank..];
                rotated.copy_from_slice(&query(token)[shape.plain_dim..]);
                let angles = angles.row(mix.span.tokens.start + token);
                self.rotate(mix.block, angles, shape.rope_dim, rotated);
            }
        }
    }

    /// Values of the share's heads, from what attention has summed of latents.
    fn expand_values<'w>(
        &self,
        share: &Share,
        thread: &mut ThreadSpace,
        mix: Mix<'_>,
        shape: &LatentShape,
        matrix: impl Fn(usize) -> LinearView<'w>,
    ) {
        let space = &self.space.latent;
        let tokens = mix.span.tokens.len();
        let group = Attended::new(&self.pass.config.attention).group;
        let attended = self.space.attended[mix.span.attended].rows(share);
        let (heads, values) = space.values.rows_mut(share);
        for (head, out) in heads.zip(values.chunks_exact_mut(space.values.cols())) {
            let latent = |token: usize, rows: &mut Vec<f32>| {
                let one = head % group..head % group + 1;
                self.gather_heads(attended, mix.span, token, (head / group, one), &[], rows);
            };
            let out = &mut out[..tokens * shape.value_dim];
            self.multiply_head(thread, matrix(head), tokens, latent, (out, shape.value_dim));
        }
    }

    /// The product of a head's matrix with a vector of each token, which `row` appends; it takes the first
    /// columns of `out`, which has rows of `cols`.
    fn multiply_head(
        &self,
        thread: &mut ThreadSpace,
        linear: LinearView<'_>,
        tokens: usize,
        row: impl Fn(usize, &mut Vec<f32>),
        (out, cols): (&mut [f32], usize),
    ) {
        let level = self.pass.level;
        let ThreadSpace {
            input,
            rows,
            products,
            ..
        } = thread;
        for group in groups(level, tokens) {
            rows.clear();
            group.clone().for_each(|token| row(token, rows));
            input.fill(level, rows, linear.matrix.cols());
            let out = ColumnsMut::new(&mut out[group.start * cols..group.end * cols], cols);
            let out = out.narrow(0..linear.matrix.rows());
            let inputs = std::slice::from_ref(&*input);
            multiply(level, linear, inputs, products, Store::Replace, out);
        }
    }
}
