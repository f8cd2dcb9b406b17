//! The forward pass: one for all architectures.
//!
//! All threads walk through it together, phase by phase (see [`crate::pool`]). Each phase is cut into
//! shares of the tokens or of a matrix's rows:
//!
//! ```text
//! embed                                  rows of the residual stream      by token
//! for each layer
//!     norm, quantise                     inputs                           by group of tokens
//!     query, key, value                                                   by matrix row
//!     rotate keys, store                 the cache                        by key head
//!     rotate queries, attend             attended                         by key head, tile of tokens, part
//!     gather, quantise                   inputs                           by group of tokens
//!     residual += output projection                                       by matrix row
//!     norm, quantise                     inputs                           by group of tokens
//!     silu(gate) * up                                                     by matrix row
//!     quantise                           inputs                           by group of tokens
//!     residual += down projection                                         by matrix row
//! norm, quantise, logits                                                  of the tokens asked for
//! ```
//!
//! One token has but one group of inputs. Then each thread makes it for itself, in the phase of the
//! product, instead of waiting for the one that would: a third of the phases is spared.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use gristmill_kernels::ops::{
    Attention, AttentionScratch, Side, add_to, attend, rms_norm, rotate, silu_mul,
};
use gristmill_kernels::{InputGroup, Level, Scratch, Store, groups, matmul};

use super::config::Config;
use super::tiles::{Attended, Tiles};
use super::weights::{Layer, Linear, Weights};
use crate::cache::{KvCache, LayerCache};
use crate::cancel::CancelToken;
use crate::pool::{Pool, Share, Shared, Worker};

/// The buffers of a pass, kept from pass to pass. Matrices are `[tokens, …]`.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// `[tokens, embedding_length]`: the residual stream.
    residual: Shared<f32>,
    /// `[tokens, 2 * pairs]`: cosines and sines of RoPE.
    angles: Shared<f32>,
    /// The inputs of the next products, one row per group.
    inputs: Shared<InputGroup>,
    query: Shared<f32>,
    key: Shared<f32>,
    value: Shared<f32>,
    /// One row per item of [`Tiles`]: of all tokens, and of those whose logits are wanted.
    attended: [Shared<f32>; 2],
    gate: Shared<f32>,
    up: Shared<f32>,
    /// `[tokens asked for, vocab]`
    pub(crate) logits: Shared<f32>,
    /// One per thread, which holds it during a pass.
    threads: Vec<Mutex<ThreadSpace>>,
}

/// What each thread needs for itself.
#[derive(Debug, Default)]
struct ThreadSpace {
    /// The inputs, if there is but one group.
    input: InputGroup,
    products: Scratch,
    attention: AttentionScratch,
    rows: Vec<f32>,
    visible: Vec<Range<usize>>,
}

impl Workspace {
    pub(crate) fn new(pool: &Pool) -> Self {
        let floats = || Shared::new(pool);
        Self {
            residual: floats(),
            angles: floats(),
            inputs: Shared::new(pool),
            query: floats(),
            key: floats(),
            value: floats(),
            attended: [floats(), floats()],
            gate: floats(),
            up: floats(),
            logits: floats(),
            threads: (0..pool.threads()).map(|_| Mutex::default()).collect(),
        }
    }
}

/// One evaluation of some tokens at consecutive positions.
pub(crate) struct Pass<'a> {
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a Weights,
    pub(crate) level: Level,
    pub(crate) cache: &'a KvCache,
    /// Ids below the vocabulary's size; not empty.
    pub(crate) tokens: &'a [u32],
    /// Of the first token; all fit into the cache.
    pub(crate) position: usize,
    /// The tokens whose logits are wanted.
    pub(crate) output: Range<usize>,
    pub(crate) cancel: Option<&'a CancelToken>,
}

impl Pass<'_> {
    /// Evaluates the tokens; `false` if the pass was cancelled.
    pub(crate) fn run(&self, pool: &Pool, space: &mut Workspace) -> bool {
        let Config {
            embedding_length,
            feed_forward_length,
            ..
        } = *self.config;
        let tokens = self.tokens.len();
        let all = Span::new(self, 0, 0..tokens);
        let output = Span::new(self, 1, self.output.clone());
        let most_groups = all.groups.len().max(output.groups.len());
        let zero = || 0.0;
        space.residual.reshape(tokens, embedding_length, zero);
        space
            .angles
            .reshape(tokens, 2 * self.weights.rope.pairs(), zero);
        space.inputs.reshape(most_groups, 1, InputGroup::new);
        space
            .query
            .reshape(tokens, self.config.query_length(), zero);
        space.key.reshape(tokens, self.config.key_length(), zero);
        space.value.reshape(tokens, self.config.key_length(), zero);
        let place = Attended::new(self.config).place();
        for Span {
            tiles, attended, ..
        } in [&all, &output]
        {
            space.attended[*attended].reshape(tiles.items(), tiles.tile_tokens * place, zero);
        }
        space.gate.reshape(tokens, feed_forward_length, zero);
        space.up.reshape(tokens, feed_forward_length, zero);
        space
            .logits
            .reshape(self.output.len(), self.weights.output.rows(), zero);
        let running = Running {
            pass: self,
            space,
            all,
            output,
            stop: AtomicBool::new(false),
        };
        pool.run(|worker| running.walk(worker));
        !running.stop.into_inner()
    }
}

/// Consecutive tokens of a pass, which go through a layer together.
#[derive(Debug)]
struct Span {
    tokens: Range<usize>,
    /// Counted from the first token, as is everything below and in the buffers but the residual stream
    /// and the angles.
    groups: Vec<Range<usize>>,
    tiles: Tiles,
    /// Which buffer of [`Workspace::attended`] has its items.
    attended: usize,
}

impl Span {
    fn new(pass: &Pass<'_>, attended: usize, tokens: Range<usize>) -> Self {
        Self {
            groups: groups(pass.level, tokens.len()).collect(),
            tiles: Tiles::new(pass.config, tokens.len(), pass.position + tokens.end),
            attended,
            tokens,
        }
    }
}

/// A pass with its buffers in shape.
struct Running<'a> {
    pass: &'a Pass<'a>,
    space: &'a Workspace,
    /// All tokens.
    all: Span,
    /// Those whose logits are wanted: of the last layer only their outputs are.
    output: Span,
    /// Written by the first share in phases before those in which all look at it.
    stop: AtomicBool,
}

impl Running<'_> {
    fn walk(&self, mut worker: Worker<'_>) {
        let thread = self.space.threads[worker.thread()].lock();
        let thread = &mut *thread.unwrap_or_else(PoisonError::into_inner);
        worker.phase(|share| self.embed(share));
        let layers = &self.pass.weights.layers;
        for (index, layer) in layers.iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let span = if index + 1 == layers.len() {
                &self.output
            } else {
                &self.all
            };
            let cache = self.pass.cache.layer(index);
            self.attention(&mut worker, thread, span, layer, cache);
            self.feed_forward(&mut worker, thread, span, layer);
        }
        if !self.stop.load(Ordering::Relaxed) {
            self.logits(&mut worker, thread);
        }
    }

    /// Looks for a cancellation; all threads see the answer after this phase.
    fn look_for_cancel(&self, share: &Share) {
        let cancelled = || self.pass.cancel.is_some_and(CancelToken::is_cancelled);
        if share.is_first() && cancelled() {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Token embeddings and RoPE's angles.
    fn embed(&self, share: &Share) {
        self.look_for_cancel(share);
        let Pass {
            weights,
            tokens,
            position,
            ..
        } = *self.pass;
        let matrix = weights.token_embedding.view();
        let (range, residual) = self.space.residual.rows_mut(share);
        let (_, angles) = self.space.angles.rows_mut(share);
        let residual = residual.chunks_exact_mut(self.space.residual.cols());
        let angles = angles.chunks_exact_mut(self.space.angles.cols());
        for ((index, row), angles) in range.zip(residual).zip(angles) {
            matrix.dequantize_row(tokens[index] as usize, row);
            weights.rope.angles(position + index, angles);
        }
    }

    /// Keys and values of all tokens, and attention of those of `span`.
    fn attention(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        span: &Span,
        layer: &Layer,
        cache: &LayerCache,
    ) {
        let space = self.space;
        let query = (&layer.query, &space.query);
        let both = [(&layer.key, &space.key), (&layer.value, &space.value)];
        let together = span.tokens == self.all.tokens;
        let all = &self.all;
        let normed = self.normed(all, &layer.attention_norm);
        self.products(worker, thread, all, normed, |share, inputs, scratch| {
            for (linear, out) in together.then_some(query).into_iter().chain(both) {
                self.linear(share, inputs, scratch, linear, Store::Replace, (out, 0));
            }
        });
        if !together {
            let normed = self.normed(span, &layer.attention_norm);
            self.products(worker, thread, span, normed, |share, inputs, scratch| {
                let (linear, out) = query;
                self.linear(share, inputs, scratch, linear, Store::Replace, (out, 0));
            });
        }
        worker.phase(|share| self.store(share, cache));
        if span.tokens.is_empty() {
            return;
        }
        worker.phase(|share| self.attend(share, thread, span, cache));
        let gathered = |share: &Share, tokens, rows: &mut _| self.gather(share, span, tokens, rows);
        let out = (&space.residual, span.tokens.start);
        self.products(worker, thread, span, gathered, |share, inputs, scratch| {
            let output = &layer.attention_output;
            self.linear(share, inputs, scratch, output, Store::Add, out);
        });
    }

    fn feed_forward(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        span: &Span,
        layer: &Layer,
    ) {
        let space = self.space;
        let normed = self.normed(span, &layer.feed_forward_norm);
        self.products(worker, thread, span, normed, |share, inputs, scratch| {
            for (linear, out) in [(&layer.gate, &space.gate), (&layer.up, &space.up)] {
                self.linear(share, inputs, scratch, linear, Store::Replace, (out, 0));
            }
        });
        let gated = |share: &Share, tokens: Range<usize>, rows: &mut Vec<f32>| {
            let (gate, up) = (space.gate.read(share), space.up.read(share));
            let cols = space.gate.cols();
            let values = tokens.start * cols..tokens.end * cols;
            rows.extend_from_slice(&gate[values.clone()]);
            silu_mul(self.pass.level, rows, &up[values]);
        };
        let out = (&space.residual, span.tokens.start);
        self.products(worker, thread, span, gated, |share, inputs, scratch| {
            self.look_for_cancel(share);
            self.linear(share, inputs, scratch, &layer.down, Store::Add, out);
        });
    }

    fn logits(&self, worker: &mut Worker<'_>, thread: &mut ThreadSpace) {
        let Pass { weights, level, .. } = *self.pass;
        let span = &self.output;
        let normed = self.normed(span, &weights.output_norm);
        self.products(worker, thread, span, normed, |share, inputs, scratch| {
            let (range, out) = self.space.logits.columns_mut(share);
            let rows = weights.output.view().narrow(range);
            matmul(level, rows, inputs, scratch, Store::Replace, out);
        });
    }

    /// Phases that end with `work` on the inputs of a span's groups. `rows` puts the values of the tokens
    /// of a group into an empty vector.
    fn products(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        Span { groups, .. }: &Span,
        rows: impl Fn(&Share, Range<usize>, &mut Vec<f32>),
        work: impl Fn(&Share, &[InputGroup], &mut Scratch),
    ) {
        let ThreadSpace {
            input,
            products,
            rows: values,
            ..
        } = thread;
        let mut fill = |share: &Share, tokens: &Range<usize>, group: &mut InputGroup| {
            values.clear();
            rows(share, tokens.clone(), values);
            group.fill(self.pass.level, values, values.len() / tokens.len());
        };
        if let [tokens] = &groups[..] {
            let mut is_filled = false;
            worker.phase(|share| {
                if !is_filled {
                    fill(share, tokens, input);
                    is_filled = true;
                }
                work(share, std::slice::from_ref(input), products);
            });
            return;
        }
        if groups.is_empty() {
            return;
        }
        worker.phase(|share| {
            let (range, inputs) = self.space.inputs.rows_mut(share);
            let groups = groups.iter().skip(range.start);
            groups
                .zip(inputs)
                .for_each(|(tokens, group)| fill(share, tokens, group));
        });
        worker.phase(|share| {
            let inputs = &self.space.inputs.read(share)[..groups.len()];
            work(share, inputs, products);
        });
    }

    /// Rows of the residual stream, normed, for [`products`](Self::products).
    fn normed(&self, span: &Span, weight: &[f32]) -> impl Fn(&Share, Range<usize>, &mut Vec<f32>) {
        let Pass { level, config, .. } = *self.pass;
        let (cols, first) = (weight.len(), span.tokens.start);
        move |share, tokens, rows| {
            let residual = self.space.residual.read(share);
            let residual = &residual[(first + tokens.start) * cols..(first + tokens.end) * cols];
            rows.resize(residual.len(), 0.0);
            rms_norm(level, residual, weight, config.norm_epsilon, rows);
        }
    }

    /// What attention left in its items, token by token.
    fn gather(&self, share: &Share, span: &Span, tokens: Range<usize>, rows: &mut Vec<f32>) {
        let attended = &self.space.attended[span.attended];
        let items = attended.read(share).chunks_exact(attended.cols());
        let shape = Attended::new(self.pass.config);
        for token in tokens {
            for head in 0..span.tiles.heads {
                let (parts, place) = span.tiles.find(head, token);
                let places = items.clone().skip(parts.start).take(parts.len());
                shape.merge(places.map(|item| shape.split(item, place)), rows);
            }
        }
    }

    /// The share's columns of `out = inputs . matrix + bias`, or of `out += …`, from row `first` on.
    fn linear(
        &self,
        share: &Share,
        inputs: &[InputGroup],
        scratch: &mut Scratch,
        linear: &Linear,
        mut store: Store,
        (out, first): (&Shared<f32>, usize),
    ) {
        let level = self.pass.level;
        let tokens: usize = inputs.iter().map(InputGroup::tokens).sum();
        let (range, out) = out.columns_mut(share);
        let mut out = out.narrow_rows(first..first + tokens);
        if let Some(bias) = &linear.bias {
            let bias = &bias[range.clone()];
            for row in 0..out.rows() {
                match store {
                    Store::Replace => out.row(row).copy_from_slice(bias),
                    Store::Add => add_to(level, out.row(row), bias),
                }
            }
            store = Store::Add;
        }
        let rows = linear.matrix.view().narrow(range);
        matmul(level, rows, inputs, scratch, store, out);
    }

    /// Stores the share's key heads, rotated, and value heads in the cache.
    fn store(&self, share: &Share, layer: &LayerCache) {
        let Pass {
            level,
            config,
            position,
            cache,
            ..
        } = *self.pass;
        let positions = position..position + self.pass.tokens.len();
        let (key, value) = (self.space.key.read(share), self.space.value.read(share));
        let angles = self.space.angles.read(share);
        let head_dim = config.head_dim;
        let start = |head: usize, token: usize| token * config.key_length() + head * head_dim;
        let keys = (Side::Keys, &layer.keys);
        cache.store(share, level, keys, positions.clone(), |head, token, row| {
            row.extend_from_slice(&key[start(head, token)..][..head_dim]);
            self.rotate(angles, token, row);
        });
        let values = (Side::Values, &layer.values);
        cache.store(share, level, values, positions, |head, token, row| {
            row.extend_from_slice(&value[start(head, token)..][..head_dim]);
        });
    }

    /// Rotates the heads of a token.
    fn rotate(&self, angles: &[f32], token: usize, heads: &mut [f32]) {
        let Pass { level, config, .. } = *self.pass;
        let pairs = self.pass.weights.rope.pairs();
        let (cos, sin) = angles[token * 2 * pairs..][..2 * pairs].split_at(pairs);
        let pairing = config.architecture.pairing;
        rotate(level, pairing, cos, sin, config.head_dim, heads);
    }

    /// A share of the attention items.
    fn attend(&self, share: &Share, thread: &mut ThreadSpace, span: &Span, layer: &LayerCache) {
        let Pass {
            level,
            config,
            position,
            cache,
            ..
        } = *self.pass;
        let query = self.space.query.read(share);
        let angles = self.space.angles.read(share);
        let attended = &self.space.attended[span.attended];
        let cols = attended.cols();
        let (range, attended) = attended.rows_mut(share);
        let shape = Attended::new(config);
        let scale = 1.0 / (config.head_dim as f32).sqrt();
        for (item, out) in range.zip(attended.chunks_exact_mut(cols)) {
            let (head, tokens, part) = span.tiles.item(item);
            let part = span.tiles.positions(part);
            thread.rows.clear();
            thread.visible.clear();
            for token in tokens.clone() {
                let start = token * config.query_length() + head * shape.outputs();
                let queries = query[start..start + shape.outputs()].iter();
                let first = thread.rows.len();
                thread.rows.extend(queries.map(|value| value * scale));
                let token = span.tokens.start + token;
                self.rotate(angles, token, &mut thread.rows[first..]);
                let visible = part.start..part.end.min(position + token + 1);
                thread
                    .visible
                    .extend(std::iter::repeat_n(visible, shape.group));
            }
            let attention = Attention {
                queries: &thread.rows,
                visible: &thread.visible,
                layout: cache.layout(),
                keys: layer.keys.row(share, head),
                values: layer.values.row(share, head),
            };
            let (outputs, softmax) = shape.split_mut(out);
            let outputs = &mut outputs[..thread.rows.len()];
            attend(level, attention, &mut thread.attention, outputs);
            let found = thread.attention.softmax();
            softmax[..found.len()].copy_from_slice(found);
        }
    }
}
