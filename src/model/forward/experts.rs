//! A mixture of experts: only those that a token is routed to are evaluated, straight from the file.
//!
//! ```text
//! route                     experts and weights          by token
//! gather, quantise          inputs of the experts        by group of tokens of an expert
//! gate, up                  [slots, hidden]              by matrix row, expert by expert
//! activate, quantise        inputs of the experts        by group
//! residual += down          tokens of the slots          by matrix row, expert by expert
//! ```
//!
//! A *slot* is a token at one of its experts. Slots are sorted by expert, so that an expert's weights
//! are read once for all its tokens.

use std::ops::Range;

use gristmill_kernels::ops::{add_to, gate_mul};
use gristmill_kernels::{ColumnsMut, Level, Store, groups, matmul};

use super::workspace::ThreadSpace;
use super::{Place, Running, Span, multiply, scale_by};
use crate::model::experts::{ExpertShape, Route};
use crate::model::weights::{Experts, Norm};
use crate::pool::{Share, Worker};

/// The slots of a pass, sorted by expert.
#[derive(Debug, Default)]
pub(super) struct Plan {
    slots: Vec<Slot>,
    experts: Vec<Chosen>,
    /// The slots of each group of inputs.
    groups: Vec<Range<usize>>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    token: usize,
    expert: usize,
    weight: f32,
}

/// An expert in use.
#[derive(Clone, Debug)]
struct Chosen {
    expert: usize,
    slots: Range<usize>,
    groups: Range<usize>,
}

impl Plan {
    /// Sorts the routes of tokens, `[tokens, used]`.
    fn make(&mut self, level: Level, routes: &[Route], used: usize) {
        let mut order: Vec<usize> = (0..routes.len()).collect();
        order.sort_by_key(|&slot| routes[slot].expert);
        self.slots.clear();
        self.experts.clear();
        self.groups.clear();
        for slots in order.chunk_by(|&a, &b| routes[a].expert == routes[b].expert) {
            let (first, first_group) = (self.slots.len(), self.groups.len());
            let groups = groups(level, slots.len());
            self.groups
                .extend(groups.map(|range| first + range.start..first + range.end));
            self.slots.extend(slots.iter().map(|&slot| Slot {
                token: slot / used,
                expert: routes[slot].expert,
                weight: routes[slot].weight,
            }));
            self.experts.push(Chosen {
                expert: routes[slots[0]].expert,
                slots: first..self.slots.len(),
                groups: first_group..self.groups.len(),
            });
        }
    }
}

impl Running<'_> {
    /// Adds what its experts give for each token of `span`. The router's outputs are there already.
    pub(super) fn experts(
        &self,
        worker: &mut Worker<'_>,
        thread: &mut ThreadSpace,
        span: &Span,
        norm: Option<&Norm>,
        experts: (&ExpertShape, &Experts),
        out: Place<'_>,
    ) {
        if span.tokens.is_empty() {
            return;
        }
        let (space, level) = (self.space, self.pass.level);
        let (used, weights) = (experts.0.expert_used_count, experts.1);
        worker.phase(|share| self.route(share, span, experts, &mut thread.rows));
        let mut is_planned = false;
        let mut plan = |share: &Share, thread: &mut ThreadSpace| {
            if !is_planned {
                let routes = &space.routes.read(share)[..span.tokens.len() * used];
                thread.plan.make(level, routes, used);
                is_planned = true;
            }
        };
        let normed = self.normed(span, norm);
        worker.phase(|share| {
            plan(share, thread);
            self.fill_groups(share, thread, |_, Slot { token, .. }, rows| {
                normed(share, token..token + 1, rows);
            });
        });
        worker.phase(|share| {
            plan(share, thread);
            let inputs = space.inputs.read(share);
            for (stacked, buffer) in [&weights.gate, &weights.up].into_iter().zip(&space.routed) {
                let (range, mut out) = buffer.columns_mut(share);
                for chosen in &thread.plan.experts {
                    let linear = stacked.at(chosen.expert).narrow(range.clone());
                    let inputs = &inputs[chosen.groups.clone()];
                    let out = out.reborrow().narrow_rows(chosen.slots.clone());
                    let scratch = &mut thread.products;
                    multiply(level, linear, inputs, scratch, Store::Replace, out);
                }
            }
        });
        worker.phase(|share| {
            plan(share, thread);
            let [gate, up] = space.routed.each_ref().map(|buffer| buffer.rows(share));
            self.fill_groups(share, thread, |slot, Slot { expert, weight, .. }, rows| {
                let first = rows.len();
                rows.extend_from_slice(gate.row(slot));
                let activation = self.pass.config.architecture.activation;
                let up = up.row(slot);
                gate_mul(level, activation, &mut rows[first..], up);
                let scale = weights.down.at(expert).scale * self.pass.config.scaling.branch;
                scale_by(weight * scale, &mut rows[first..]);
            });
        });
        worker.phase(|share| {
            plan(share, thread);
            self.look_for_cancel(share);
            self.add_experts(share, thread, weights, out);
        });
    }

    /// The experts of the share's tokens.
    fn route(
        &self,
        share: &Share,
        span: &Span,
        (shape, weights): (&ExpertShape, &Experts),
        scores: &mut Vec<f32>,
    ) {
        let space = self.space;
        let bias = weights.selection_bias.as_deref();
        let router = space.router.rows(share);
        let (range, routes) = space.routes.first_rows_mut(share, span.tokens.len());
        for (token, routes) in range.zip(routes.chunks_exact_mut(shape.expert_used_count)) {
            let logits = router.row(token);
            shape.route(self.pass.level, logits, bias, scores, routes);
        }
    }

    /// Fills the share's groups of inputs. `row` appends the values of a slot.
    fn fill_groups(
        &self,
        share: &Share,
        thread: &mut ThreadSpace,
        row: impl Fn(usize, Slot, &mut Vec<f32>),
    ) {
        let ThreadSpace { plan, rows, .. } = thread;
        let inputs = &self.space.inputs;
        let (range, inputs) = inputs.first_rows_mut(share, plan.groups.len());
        for (slots, group) in plan.groups[range].iter().zip(inputs) {
            rows.clear();
            for slot in slots.clone() {
                row(slot, plan.slots[slot], rows);
            }
            group.fill(self.pass.level, rows, rows.len() / slots.len());
        }
    }

    /// The share's part of the projections out of the experts.
    fn add_experts(
        &self,
        share: &Share,
        thread: &mut ThreadSpace,
        weights: &Experts,
        place: Place<'_>,
    ) {
        let level = self.pass.level;
        let ThreadSpace {
            plan,
            products,
            outputs,
            ..
        } = thread;
        let inputs = self.space.inputs.read(share);
        let (range, mut out) = place.buffer.columns_mut(share);
        if place.store == Store::Replace {
            (0..out.rows()).for_each(|row| out.row(row).fill(0.0));
        }
        if range.is_empty() {
            return;
        }
        for chosen in &plan.experts {
            let linear = weights.down.at(chosen.expert).narrow(range.clone());
            outputs.resize(chosen.slots.len() * range.len(), 0.0);
            let inputs = &inputs[chosen.groups.clone()];
            let to = ColumnsMut::new(outputs, range.len());
            matmul(level, linear.matrix, inputs, products, Store::Replace, to);
            let slots = &plan.slots[chosen.slots.clone()];
            for (slot, values) in slots.iter().zip(outputs.chunks_exact(range.len())) {
                let to = out.row(place.first + slot.token);
                add_to(level, to, values);
                let weight = slot.weight * self.pass.config.scaling.branch;
                for (to, bias) in to.iter_mut().zip(linear.bias.unwrap_or_default()) {
                    *to += weight * bias;
                }
            }
        }
    }
}
