//! The weights of feed-forward networks and of experts.

use super::linear::{BranchOutput, Linear, Stacked, split};
use super::tensors::Tensors;
use crate::Result;
use crate::model::architecture::Gate;
use crate::model::config::Config;
use crate::model::experts::{ExpertShape, SharedExpert};

/// A feed-forward network, gated or not.
#[derive(Debug)]
pub(crate) struct FeedForward {
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: BranchOutput,
    /// A matrix of one row: its output's sigmoid multiplies that of the network.
    pub(crate) sigmoid_gate: Option<Linear>,
}

/// Feed-forward networks of which each token takes a few.
#[derive(Debug)]
pub(crate) struct Experts {
    /// `[experts, embedding_length]`
    pub(crate) router: Linear,
    /// Added to what experts are selected by: one number each.
    pub(crate) selection_bias: Option<Vec<f32>>,
    pub(crate) gate: Stacked,
    pub(crate) up: Stacked,
    pub(crate) down: Stacked,
}

impl FeedForward {
    /// The dense network or the shared expert of a block, if it has any.
    pub(super) fn bind(
        tensors: &mut Tensors<'_>,
        config: &Config,
        index: usize,
        block: &str,
    ) -> Result<Option<FeedForward>> {
        let width = config.sizes.embedding_length;
        let (suffix, gate, hidden) = match config.experts_of(index) {
            None => ("", config.architecture.gate, config.feed_forward_length),
            Some(experts) => ("_shexp", Gate::Separate, experts.shared_feed_forward_length),
        };
        if hidden == 0 {
            return Ok(None);
        }
        let name = |part: &str| format!("{block}.{part}{suffix}");
        let up = name("ffn_up");
        let (gate, up) = match gate {
            Gate::Separate => {
                let gate = tensors.linear(&name("ffn_gate"), hidden, width)?;
                (Some(gate), tensors.linear(&up, hidden, width)?)
            }
            Gate::Fused => {
                let [gate, up] = split(&tensors.linear(&up, 2 * hidden, width)?, [hidden; 2]);
                (Some(gate), up)
            }
            Gate::None => (None, tensors.linear(&up, hidden, width)?),
        };
        let rule = config.architecture.experts;
        let is_gated = rule.is_some_and(|rule| rule.shared == SharedExpert::Gated);
        let sigmoid_gate = (is_gated && !suffix.is_empty())
            .then(|| tensors.linear(&format!("{block}.ffn_gate_inp_shexp"), 1, width));
        Ok(Some(FeedForward {
            gate,
            up,
            down: tensors.branch_output(config, &name("ffn_down"), hidden)?,
            sigmoid_gate: sigmoid_gate.transpose()?,
        }))
    }
}

impl Experts {
    pub(super) fn bind(
        tensors: &mut Tensors<'_>,
        config: &Config,
        shape: &ExpertShape,
        block: &str,
    ) -> Result<Experts> {
        let name = |part: &str| format!("{block}.{part}");
        let (width, hidden) = (config.sizes.embedding_length, shape.feed_forward_length);
        let count = shape.expert_count;
        let fused = name("ffn_gate_up_exps");
        let (gate, up) = if tensors.has(&format!("{fused}.weight")) {
            let both = tensors.stacked(&fused, count, 2 * hidden, width)?;
            (both.narrow(0..hidden), both.narrow(hidden..2 * hidden))
        } else {
            (
                tensors.stacked(&name("ffn_gate_exps"), count, hidden, width)?,
                tensors.stacked(&name("ffn_up_exps"), count, hidden, width)?,
            )
        };
        Ok(Experts {
            router: tensors.linear(&name("ffn_gate_inp"), count, width)?,
            selection_bias: tensors.optional_values(&name("exp_probs_b.bias"), 1, count)?,
            gate,
            up,
            down: tensors.stacked(&name("ffn_down_exps"), count, width, hidden)?,
        })
    }
}
