//! Blocks that keep a state in place of keys and values: gated delta nets and short convolutions.

use std::ops::Range;

use gristmill_kernels::ops::{
    Activation, DeltaStep, activate, add_product, delta_step, gate_mul, rms_norm,
};

use super::workspace::ThreadSpace;
use super::{Mix, Running, Sequence};
use crate::model::blocks::{Block, Mixing};
use crate::model::recurrent::RecurrentShape;
use crate::model::sigmoid;
use crate::model::weights::{DeltaNet, Linear, Rates, ShortConvolution};
use crate::pool::{Pool, Share, Shared, Worker};

/// The buffers of recurrent blocks.
#[derive(Debug)]
pub(super) struct RecurrentSpace {
    /// `[tokens, …]`: the first projection.
    projected: Shared<f32>,
    /// `[tokens, value heads * head_dim]`
    gate: Shared<f32>,
    /// `[tokens, 2 * value heads]`, `[tokens, value heads]`: see [`Rates`].
    rates: [Shared<f32>; 2],
    /// `[tokens, channels]`: what leaves the convolution.
    convolved: Shared<f32>,
    /// `[value heads, tokens * head_dim]`
    heads: Shared<f32>,
}

impl RecurrentSpace {
    pub(super) fn new(pool: &Pool) -> Self {
        let floats = || Shared::new(pool);
        Self {
            projected: floats(),
            gate: floats(),
            rates: [floats(), floats()],
            convolved: floats(),
            heads: floats(),
        }
    }

    pub(super) fn reshape(&mut self, block: &Block, width: usize, tokens: usize) {
        let Mixing::Recurrent(shape) = &block.mixing else {
            return;
        };
        let zero = || 0.0;
        self.projected.reshape(tokens, shape.projected(width), zero);
        self.convolved.reshape(tokens, shape.channels(width), zero);
        if let RecurrentShape::DeltaNet(shape) = shape {
            let [both, one] = &mut self.rates;
            both.reshape(tokens, 2 * shape.value_heads, zero);
            one.reshape(tokens, shape.value_heads, zero);
            self.gate.reshape(tokens, shape.value_length(), zero);
            self.heads
                .reshape(shape.value_heads, tokens * shape.head_dim, zero);
        }
    }
}

impl Running<'_> {
    pub(super) fn short_convolution(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        mix: Mix<'_>,
        weights: &ShortConvolution,
    ) {
        let space = &self.space.recurrent;
        let level = self.pass.level;
        self.project(
            worker,
            thread,
            mix,
            &[(&weights.input, &space.projected)],
            &[],
        );
        let width = self.pass.config.sizes.embedding_length;
        worker.phase(|share| {
            // Of each token what the convolution's input is multiplied by, its output, and the input.
            let projected = space.projected.rows(share);
            let input = |token: usize, out: &mut [f32]| {
                let projected = projected.row(token);
                out.fill(0.0);
                add_product(level, out, &projected[..width], &projected[2 * width..]);
            };
            self.convolve(
                share,
                thread,
                mix.index,
                &weights.taps,
                input,
                |token, out| {
                    let factors = &projected.row(token)[width..2 * width];
                    out.iter_mut()
                        .zip(factors)
                        .for_each(|(out, factor)| *out *= factor);
                },
            );
        });
        let convolved = |share: &Share, tokens: Range<usize>, rows: &mut Vec<f32>| {
            let (convolved, first) = (space.convolved.rows(share), mix.span.tokens.start);
            for token in tokens {
                rows.extend_from_slice(convolved.row(first + token));
            }
        };
        let out = (&weights.output, mix.out);
        self.project_out(worker, thread, mix.span, convolved, out);
    }

    pub(super) fn delta_net(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        mix: Mix<'_>,
        weights: &DeltaNet,
    ) {
        let shape = &weights.shape;
        let space = &self.space.recurrent;
        let level = self.pass.level;
        let [both, one] = &space.rates;
        let (first, second): (_, Option<(&Linear, _)>) = match &weights.rates {
            Rates::Fused(rates) => ((rates, both), None),
            Rates::Separate { learning, decay } => ((learning, both), Some((decay, one))),
        };
        let mut products = vec![
            (&weights.input, &space.projected),
            (&weights.gate, &space.gate),
            first,
        ];
        products.extend(second);
        self.project(worker, thread, mix, &products, &[]);
        worker.phase(|share| {
            let projected = space.projected.rows(share);
            let input = |token: usize, out: &mut [f32]| {
                out.copy_from_slice(projected.row(token));
            };
            self.convolve(share, thread, mix.index, &weights.taps, input, |_, out| {
                activate(level, Activation::Silu, out);
            });
        });
        worker.phase(|share| self.learn(share, mix.index, weights));
        let gated = |share: &Share, tokens: Range<usize>, rows: &mut Vec<f32>| {
            let dim = shape.head_dim;
            let heads = space.heads.read(share).chunks_exact(space.heads.cols());
            let gates = space.gate.rows(share);
            let mut normed = vec![0.0; dim];
            for token in tokens.map(|token| mix.span.tokens.start + token) {
                let start = rows.len();
                rows.extend_from_slice(gates.row(token));
                for (gate, head) in rows[start..].chunks_exact_mut(dim).zip(heads.clone()) {
                    let values = &head[token * dim..][..dim];
                    let epsilon = self.pass.config.norm_epsilon;
                    rms_norm(level, values, &weights.norm, epsilon, &mut normed);
                    gate_mul(level, Activation::Silu, gate, &normed);
                }
            }
        };
        let out = (&weights.output, mix.out);
        self.project_out(worker, thread, mix.span, gated, out);
    }

    /// The convolution of the share's tokens along the sequence, channel by channel, and the inputs that the
    /// next pass will need. `input` writes a token's inputs; `finish` does something to its outputs.
    fn convolve(
        &self,
        share: &Share,
        thread: &mut ThreadSpace,
        layer: usize,
        taps: &[f32],
        input: impl Fn(usize, &mut [f32]),
        finish: impl Fn(usize, &mut [f32]),
    ) {
        let convolved = &self.space.recurrent.convolved;
        let channels = convolved.cols();
        let past = taps.len() / channels - 1;
        // Inputs are counted from the oldest that is kept.
        let find = |sequence: &Sequence<'_>, place: usize, out: &mut [f32]| match place
            .checked_sub(past)
        {
            Some(token) => input(sequence.tokens.start + token, out),
            None if sequence.position == 0 => out.fill(0.0),
            None => {
                let [before, _] = sequence.cache.states(layer);
                out.copy_from_slice(before.inputs.row(share, place));
            }
        };
        let values = &mut thread.rows;
        values.clear();
        values.resize(channels, 0.0);
        let (tokens, out) = convolved.rows_mut(share);
        for (token, out) in tokens.zip(out.chunks_exact_mut(channels)) {
            let (sequence, _) = self.pass.sequence(token);
            let place = token - sequence.tokens.start;
            out.fill(0.0);
            for (tap, taps) in taps.chunks_exact(channels).enumerate() {
                find(sequence, place + tap, values);
                add_product(self.pass.level, out, taps, values);
            }
            finish(token, out);
        }
        for sequence in self.pass.sequences {
            let [_, after] = sequence.cache.states(layer);
            let (places, out) = after.inputs.rows_mut(share);
            for (place, out) in places.zip(out.chunks_exact_mut(channels)) {
                find(sequence, sequence.tokens.len() + place, out);
            }
        }
    }

    /// What the share's heads learn of all tokens, and what they answer.
    fn learn(&self, share: &Share, layer: usize, weights: &DeltaNet) {
        let shape = &weights.shape;
        let space = &self.space.recurrent;
        let dim = shape.head_dim;
        let (_, outputs) = space.heads.rows_mut(share);
        for sequence in self.pass.sequences {
            let [before, after] = sequence.cache.states(layer);
            let (heads, states) = after.learnt.rows_mut(share);
            let states = states.chunks_exact_mut(dim * dim);
            let outputs = outputs.chunks_exact_mut(space.heads.cols());
            for ((head, state), outputs) in heads.zip(states).zip(outputs) {
                if sequence.position == 0 {
                    state.fill(0.0);
                } else {
                    state.copy_from_slice(before.learnt.row(share, head));
                }
                let tokens = sequence.tokens.clone();
                let outputs = &mut outputs[tokens.start * dim..tokens.end * dim];
                self.learn_head(share, weights, head, tokens, state, outputs);
            }
        }
    }

    /// The same of one head and the tokens of a sequence.
    fn learn_head(
        &self,
        share: &Share,
        weights: &DeltaNet,
        head: usize,
        tokens: Range<usize>,
        state: &mut [f32],
        outputs: &mut [f32],
    ) {
        let space = &self.space.recurrent;
        let shape = &weights.shape;
        let dim = shape.head_dim;
        let convolved = space.convolved.rows(share);
        let rates = space.rates.each_ref().map(|rates| rates.rows(share));
        let (mut query, mut key) = (vec![0.0; dim], vec![0.0; dim]);
        let key_head = shape.key_head(head);
        for (token, out) in tokens.zip(outputs.chunks_exact_mut(dim)) {
            let row = convolved.row(token);
            let (queries, rest) = row.split_at(shape.key_length());
            let (keys, values) = rest.split_at(shape.key_length());
            self.unit(&queries[key_head * dim..][..dim], &mut query);
            self.unit(&keys[key_head * dim..][..dim], &mut key);
            let scale = 1.0 / (dim as f32).sqrt();
            query.iter_mut().for_each(|value| *value *= scale);
            let [rate, decay] = self::rates(weights, head, rates.map(|rates| rates.row(token)));
            let step = DeltaStep {
                query: &query,
                key: &key,
                value: &values[head * dim..][..dim],
                decay,
                rate,
            };
            delta_step(self.pass.level, step, state, out);
        }
    }

    /// A vector divided by its length.
    fn unit(&self, values: &[f32], out: &mut [f32]) {
        let squares: f32 = values.iter().map(|value| value * value).sum();
        let scale = 1.0 / (squares + self.pass.config.norm_epsilon).sqrt();
        out.iter_mut()
            .zip(values)
            .for_each(|(out, value)| *out = value * scale);
    }
}

/// How much a value head learns of a token, and what remains of its state before. `both` and `one` are the
/// token's rows of the buffers of rates.
fn rates(weights: &DeltaNet, head: usize, [both, one]: [&[f32]; 2]) -> [f32; 2] {
    let shape = &weights.shape;
    let [rate, decay] = match weights.rates {
        Rates::Separate { .. } => [both[head], one[head]],
        Rates::Fused(_) => {
            let shared = shape.value_heads / shape.key_heads;
            let place = head / shared * 2 * shared + head % shared;
            [both[place], both[place + shared]]
        }
    };
    // softplus; beyond 20 it is the identity in f32
    let x = decay + weights.decay_bias[head];
    let grown = if x > 20.0 { x } else { x.exp().ln_1p() };
    [sigmoid(rate), (grown * weights.decay[head]).exp()]
}
