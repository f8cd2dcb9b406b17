//! The feed-forward network of a block.

use std::ops::Range;

use gristmill_kernels::ops::{activate, gate_mul};

use super::{Place, Running, Span, ThreadSpace};
use crate::model::weights::{FeedForward, Norm};
use crate::pool::{Share, Worker};

impl Running<'_> {
    /// The projections into the network. Without a gate `up` alone is written.
    pub(super) fn expand(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        span: &Span,
        norm: Option<&Norm>,
        weights: &FeedForward,
    ) {
        let space = self.space;
        let normed = self.normed(span, norm);
        self.products(worker, thread, span, normed, |share, inputs, scratch| {
            let gate = weights.gate.as_ref().map(|gate| (gate, &space.gate));
            for (linear, out) in gate.into_iter().chain([(&weights.up, &space.up)]) {
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
        let (level, activation) = (self.pass.level, self.pass.config.architecture.activation);
        let activated = |share: &Share, tokens: Range<usize>, rows: &mut Vec<f32>| {
            let up = space.up.read(share);
            let cols = space.up.cols();
            let up = &up[tokens.start * cols..tokens.end * cols];
            if weights.gate.is_some() {
                let gate = space.gate.read(share);
                rows.extend_from_slice(&gate[tokens.start * cols..tokens.end * cols]);
                gate_mul(level, activation, rows, up);
            } else {
                rows.extend_from_slice(up);
                activate(level, activation, rows);
            }
            self.scale_branch(rows);
        };
        self.products(worker, thread, span, activated, |share, inputs, scratch| {
            self.look_for_cancel(share);
            self.linear(share, inputs, scratch, &weights.down, out);
        });
    }
}
