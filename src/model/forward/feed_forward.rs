//! The feed-forward network of a block.

use std::ops::Range;

use gristmill_kernels::ops::{activate, gate_mul};

use super::workspace::ThreadSpace;
use super::{Place, Running, Span};
use crate::model::sigmoid;
use crate::model::weights::{FeedForward, Layer, Norm};
use crate::pool::{Share, Worker};

impl Running<'_> {
    /// The projections into a dense network or shared expert, and the router of the others. Without a gate
    /// `up` alone is written.
    pub(super) fn expand(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        span: &Span,
        norm: Option<&Norm>,
        layer: &Layer,
    ) {
        let space = self.space;
        let dense = layer.feed_forward.as_ref();
        let gate = dense.and_then(|dense| dense.gate.as_ref());
        let sigmoid_gate = dense.and_then(|dense| dense.sigmoid_gate.as_ref());
        let products = [
            (gate, &space.gate),
            (dense.map(|dense| &dense.up), &space.up),
            (sigmoid_gate, &space.sigmoid_gate),
            (
                layer.experts.as_ref().map(|experts| &experts.router),
                &space.router,
            ),
        ];
        let normed = self.normed(span, norm);
        self.products(worker, thread, span, normed, |share, inputs, scratch| {
            let products = products.iter();
            for (linear, out) in products.filter_map(|(linear, out)| Some(((*linear)?, *out))) {
                self.linear(share, inputs, scratch, linear, Place::replace(out));
            }
        });
    }

    /// The activation, and the projection out of the network.
    pub(super) fn contract(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        span: &Span,
        weights: &FeedForward,
        out: Place<'_>,
    ) {
        let space = self.space;
        let hidden = weights.up.matrix.rows();
        let (level, activation) = (self.pass.level, self.pass.config.architecture.activation);
        let activated = |share: &Share, tokens: Range<usize>, rows: &mut Vec<f32>| {
            let (up, gate) = (space.up.rows(share), space.gate.rows(share));
            let sigmoid_gate = space.sigmoid_gate.rows(share);
            for token in tokens {
                let first = rows.len();
                let up = &up.row(token)[..hidden];
                if weights.gate.is_some() {
                    rows.extend_from_slice(&gate.row(token)[..hidden]);
                    gate_mul(level, activation, &mut rows[first..], up);
                } else {
                    rows.extend_from_slice(up);
                    activate(level, activation, &mut rows[first..]);
                }
                if weights.sigmoid_gate.is_some() {
                    let gate = sigmoid_gate.row(token)[0];
                    let factor = sigmoid(gate);
                    rows[first..].iter_mut().for_each(|value| *value *= factor);
                }
            }
        };
        self.project_out(worker, thread, span, activated, (&weights.down, out));
    }
}
