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

mod attention;
mod experts;
mod feed_forward;
mod latent;
mod recurrent;
mod tiles;
mod workspace;

use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use gristmill_kernels::ops::{add_to, layer_norm, rms_norm, soft_cap};
use gristmill_kernels::{ColumnsMut, InputGroup, Level, Scratch, Store, groups, matmul};

use self::tiles::AllTiles;
use self::workspace::ThreadSpace;
pub(crate) use self::workspace::Workspace;
use super::architecture::NormKind;
use super::blocks::Block;
use super::config::Config;
use super::rope::Rope;
use super::weights::{BranchOutput, Layer, Linear, LinearView, Mixer, Norm, OutputNorm, Weights};
use crate::cache::KvCache;
use crate::cancel::CancelToken;
use crate::pool::{Pool, Share, Shared, Worker};

/// One evaluation of some tokens of a session, or of several sessions.
pub(crate) struct Pass<'a> {
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a Weights,
    pub(crate) level: Level,
    /// Ids below the vocabulary's size; not empty.
    pub(crate) tokens: &'a [u32],
    /// Whose the tokens are, in order.
    pub(crate) sequences: &'a [Sequence<'a>],
    /// The tokens whose logits are wanted, or whose values before the output matrix.
    pub(crate) output: Range<usize>,
    /// Whether the logits are, and not those values.
    pub(crate) gives_logits: bool,
    pub(crate) cancel: Option<&'a CancelToken>,
}

/// Tokens at consecutive positions of a session.
pub(crate) struct Sequence<'a> {
    pub(crate) cache: &'a KvCache,
    /// Those of the session, see [`Weights::ropes`].
    pub(crate) ropes: &'a [Rope],
    /// Of the pass.
    pub(crate) tokens: Range<usize>,
    /// Of the first token; all fit into the cache.
    pub(crate) position: usize,
}

impl Pass<'_> {
    /// The sequence of a token, and its position there.
    fn sequence(&self, token: usize) -> (&Sequence<'_>, usize) {
        let before = |sequence: &Sequence<'_>| sequence.tokens.end <= token;
        let sequence = &self.sequences[self.sequences.partition_point(before)];
        (sequence, sequence.position + token - sequence.tokens.start)
    }

    /// Evaluates the tokens; `false` if the pass was cancelled.
    pub(crate) fn run(&self, pool: &Pool, space: &mut Workspace) -> bool {
        let tokens = self.tokens.len();
        let all = Span::new(self, 0, 0..tokens);
        let output = Span::new(self, 1, self.output.clone());
        let groups = all.groups.len().max(output.groups.len());
        space.reshape(self.config, tokens, groups);
        for span in [&all, &output] {
            space.reshape_attended(span.attended, self.config, &span.tiles);
        }
        let cols = if self.gives_logits {
            self.weights.output.matrix.rows()
        } else {
            self.config.sizes.embedding_length
        };
        space.logits.reshape(self.output.len(), cols, || 0.0);
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
    tiles: AllTiles,
    /// Which buffer of [`Workspace::attended`] has its items.
    attended: usize,
}

impl Span {
    fn new(pass: &Pass<'_>, attended: usize, tokens: Range<usize>) -> Self {
        Self {
            groups: groups(pass.level, tokens.len()).collect(),
            tiles: AllTiles::new(&pass.config.attention, pass.sequences, &tokens),
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
            self.layer(&mut worker, thread, span, index, layer);
        }
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        if self.pass.gives_logits {
            self.logits(&mut worker, thread);
        } else {
            worker.phase(|share| self.hidden(share));
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
        let pass = self.pass;
        let matrix = pass.weights.token_embedding.view();
        let positions = pass.weights.position_embedding.as_ref();
        let scale = pass.config.scaling.embedding;
        let width = self.space.residual.cols();
        let (range, residual) = self.space.residual.rows_mut(share);
        for (index, row) in range.zip(residual.chunks_exact_mut(width)) {
            matrix.dequantize_row(pass.tokens[index] as usize, row);
            if scale != 1.0 {
                row.iter_mut().for_each(|value| *value *= scale);
            }
            if let Some(positions) = positions {
                let mut added = vec![0.0; width];
                let (_, position) = pass.sequence(index);
                positions.view().dequantize_row(position, &mut added);
                add_to(pass.level, row, &added);
            }
            if let Some(added) = &pass.weights.type_embedding {
                add_to(pass.level, row, added);
            }
            if let Some(norm) = &pass.weights.embedding_norm {
                self.norm_in_place(norm, row);
            }
        }
        let (range, mut angles) = self.space.angles.rows_mut(share);
        for index in range {
            let (sequence, position) = pass.sequence(index);
            for rope in sequence.ropes {
                let (table, rest) = angles.split_at_mut(2 * rope.pairs());
                rope.angles(position, table);
                angles = rest;
            }
        }
    }

    fn layer(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        span: &Span,
        index: usize,
        layer: &Layer,
    ) {
        let norm = layer.feed_forward_norm.as_ref();
        if layer.is_parallel {
            self.expand(worker, thread, span, norm, layer);
        }
        let output_norm = layer.mixer_output_norm.as_ref();
        let mix = Mix {
            index,
            block: &self.pass.config.blocks[index],
            norm: layer.mixer_norm.as_ref(),
            span,
            out: self.branch(span, output_norm),
        };
        self.mix(worker, thread, mix, &layer.mixer);
        self.add_branch(worker, span, output_norm);
        if !layer.is_parallel {
            self.expand(worker, thread, span, norm, layer);
        }
        let output_norm = layer.feed_forward_output_norm.as_ref();
        let mut out = self.branch(span, output_norm);
        // First, as they read the residual stream.
        let experts = self.pass.config.experts_of(index);
        if let Some(experts) = experts.zip(layer.experts.as_ref()) {
            self.experts(worker, thread, span, norm, experts, out);
            out.store = Store::Add;
        }
        if let Some(feed_forward) = &layer.feed_forward {
            self.contract(worker, thread, span, feed_forward, out);
        }
        self.add_branch(worker, span, output_norm);
    }

    fn mix(&self, worker: &mut Worker<'_>, thread: &mut ThreadSpace, mix: Mix<'_>, mixer: &Mixer) {
        match mixer {
            Mixer::Attention(weights) => self.attention(worker, thread, mix, weights),
            Mixer::Latent(weights) => self.latent_attention(worker, thread, mix, weights),
            Mixer::DeltaNet(weights) => self.delta_net(worker, thread, mix, weights),
            Mixer::ShortConvolution(weights) => {
                self.short_convolution(worker, thread, mix, weights);
            }
        }
    }

    /// Where the outputs of the mixer or of the feed-forward network go: to the residual stream, unless a
    /// norm comes before.
    fn branch(&self, span: &Span, output_norm: Option<&OutputNorm>) -> Place<'_> {
        match output_norm {
            None | Some(OutputNorm::Sum(_)) => Place {
                buffer: &self.space.residual,
                first: span.tokens.start,
                store: Store::Add,
            },
            Some(OutputNorm::Branch(_)) => Place::replace(&self.space.branch),
        }
    }

    /// Adds what waits for its norm to the residual stream, or norms that.
    fn add_branch(&self, worker: &mut Worker<'_>, span: &Span, output_norm: Option<&OutputNorm>) {
        let Some(output_norm) = output_norm else {
            return;
        };
        worker.phase(|share| {
            let branch = self.space.branch.read(share);
            let cols = self.space.residual.cols();
            let (range, residual) = self.space.residual.rows_mut(share);
            let mut normed = vec![0.0; cols];
            for (token, residual) in range.zip(residual.chunks_exact_mut(cols)) {
                if !span.tokens.contains(&token) {
                    continue;
                }
                match output_norm {
                    OutputNorm::Branch(norm) => {
                        let row = &branch[(token - span.tokens.start) * cols..][..cols];
                        self.norm(norm, row, &mut normed);
                        add_to(self.pass.level, residual, &normed);
                    }
                    OutputNorm::Sum(norm) => self.norm_in_place(norm, residual),
                }
            }
        });
    }

    fn logits(&self, worker: &mut Worker<'_>, thread: &mut ThreadSpace) {
        let Pass { weights, level, .. } = *self.pass;
        let span = &self.output;
        let out = Place::replace(&self.space.logits);
        let normed = self.normed(span, weights.output_norm.as_ref());
        self.products(worker, thread, span, normed, |share, inputs, scratch| {
            self.linear(share, inputs, scratch, &weights.output, out);
        });
        if let Some(cap) = self.pass.config.scaling.logit_cap {
            worker.phase(|share| {
                let (_, mut logits) = self.space.logits.columns_mut(share);
                for row in 0..logits.rows() {
                    soft_cap(level, cap, logits.row(row));
                }
            });
        }
    }

    /// What the output matrix would multiply.
    fn hidden(&self, share: &Share) {
        let normed = self.normed(&self.output, self.pass.weights.output_norm.as_ref());
        let mut values = Vec::new();
        let (tokens, out) = self.space.logits.rows_mut(share);
        normed(share, tokens, &mut values);
        out.copy_from_slice(&values);
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
            let (range, inputs) = self.space.inputs.first_rows_mut(share, groups.len());
            groups[range]
                .iter()
                .zip(inputs)
                .for_each(|(tokens, group)| fill(share, tokens, group));
        });
        worker.phase(|share| {
            let inputs = &self.space.inputs.read(share)[..groups.len()];
            work(share, inputs, products);
        });
    }

    /// The last product of a branch. `rows` puts its inputs into an empty vector.
    fn project_out(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        span: &Span,
        rows: impl Fn(&Share, Range<usize>, &mut Vec<f32>),
        (output, out): (&BranchOutput, Place<'_>),
    ) {
        let scaled = |share: &Share, tokens: Range<usize>, to: &mut Vec<f32>| {
            rows(share, tokens, to);
            scale_by(output.input_scale, to);
        };
        self.products(worker, thread, span, scaled, |share, inputs, scratch| {
            self.look_for_cancel(share);
            self.linear(share, inputs, scratch, &output.linear, out);
        });
    }

    /// Appends rows of the residual stream, normed, for [`products`](Self::products).
    fn normed(
        &self,
        span: &Span,
        norm: Option<&Norm>,
    ) -> impl Fn(&Share, Range<usize>, &mut Vec<f32>) {
        let (cols, first) = (self.space.residual.cols(), span.tokens.start);
        move |share, tokens, rows| {
            let residual = self.space.residual.read(share);
            let residual = &residual[(first + tokens.start) * cols..(first + tokens.end) * cols];
            let start = rows.len();
            rows.extend_from_slice(residual);
            if let Some(norm) = norm {
                self.norm(norm, residual, &mut rows[start..]);
            }
        }
    }

    /// Norms one row.
    fn norm_in_place(&self, norm: &Norm, row: &mut [f32]) {
        let values = row.to_vec();
        self.norm(norm, &values, row);
    }

    /// Norms rows.
    fn norm(&self, norm: &Norm, rows: &[f32], out: &mut [f32]) {
        let Pass { level, config, .. } = *self.pass;
        let epsilon = config.norm_epsilon;
        match config.architecture.norm {
            NormKind::Rms => rms_norm(level, rows, &norm.weight, epsilon, out),
            NormKind::Layer => layer_norm(level, rows, &norm.weight, epsilon, out),
        }
        if let Some(bias) = &norm.bias {
            for row in out.chunks_exact_mut(bias.len()) {
                add_to(level, row, bias);
            }
        }
    }

    /// The share's columns of `inputs . matrix + bias`.
    fn linear(
        &self,
        share: &Share,
        inputs: &[InputGroup],
        scratch: &mut Scratch,
        linear: &Linear,
        place: Place<'_>,
    ) {
        let level = self.pass.level;
        let Place {
            buffer,
            first,
            store,
        } = place;
        let tokens: usize = inputs.iter().map(InputGroup::tokens).sum();
        let (range, out) = buffer.first_columns_mut(share, linear.matrix.rows());
        let out = out.narrow_rows(first..first + tokens);
        multiply(
            level,
            linear.view().narrow(range),
            inputs,
            scratch,
            store,
            out,
        );
    }
}

impl Weights {
    /// What an encoder's dense layers make of a pooled vector.
    pub(crate) fn through_dense(&self, level: Level, mut vector: Vec<f32>) -> Vec<f32> {
        for linear in &self.dense {
            let mut input = InputGroup::new();
            input.fill(level, &vector, vector.len());
            vector = vec![0.0; linear.matrix.rows()];
            let cols = vector.len();
            multiply(
                level,
                linear.view(),
                &[input],
                &mut Scratch::default(),
                Store::Replace,
                ColumnsMut::new(&mut vector, cols),
            );
        }
        vector
    }
}

/// What a mixer gets.
#[derive(Clone, Copy)]
struct Mix<'a> {
    /// Of the layer.
    index: usize,
    block: &'a Block,
    norm: Option<&'a Norm>,
    /// The tokens whose outputs are wanted. Keys, values and states are those of all.
    span: &'a Span,
    out: Place<'a>,
}

/// `out = scale * inputs . matrix + bias`, or `out += …` without a scale.
fn multiply(
    level: Level,
    LinearView {
        matrix,
        scale,
        bias,
    }: LinearView<'_>,
    inputs: &[InputGroup],
    scratch: &mut Scratch,
    mut store: Store,
    mut out: ColumnsMut<'_>,
) {
    if scale != 1.0 {
        assert_eq!(store, Store::Replace, "a product that is scaled");
        matmul(level, matrix, inputs, scratch, store, out.reborrow());
        for row in 0..out.rows() {
            scale_by(scale, out.row(row));
            if let Some(bias) = bias {
                add_to(level, out.row(row), bias);
            }
        }
        return;
    }
    if let Some(bias) = bias {
        for row in 0..out.rows() {
            match store {
                Store::Replace => out.row(row).copy_from_slice(bias),
                Store::Add => add_to(level, out.row(row), bias),
            }
        }
        store = Store::Add;
    }
    matmul(level, matrix, inputs, scratch, store, out);
}

/// `values *= factor`
fn scale_by(factor: f32, values: &mut [f32]) {
    if factor != 1.0 {
        values.iter_mut().for_each(|value| *value *= factor);
    }
}

/// Where a product goes: rows of a buffer from `first` on.
#[derive(Clone, Copy)]
struct Place<'a> {
    buffer: &'a Shared<f32>,
    first: usize,
    store: Store,
}

impl<'a> Place<'a> {
    /// The first rows of a buffer, whatever they hold.
    fn replace(buffer: &'a Shared<f32>) -> Self {
        Self {
            buffer,
            first: 0,
            store: Store::Replace,
        }
    }
}
