//! Mixtures of experts: which experts a token goes to.

use gristmill_kernels::Level;
use gristmill_kernels::ops::softmax;

use super::config::{MAX_LAYERS, MAX_WIDTH};
use super::keys::Keys;
use super::sigmoid;
use crate::Result;

/// Published models have up to 512 experts.
const MAX_EXPERTS: usize = 4096;

/// What the weights of experts are divided by at least: their sum in f16 must not be denormal.
const LEAST_SUM: f32 = 1.0 / 16384.0;

/// How an architecture uses experts, where its keys do not say otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpertRule {
    pub(crate) gating: Gating,
    /// Whether the weights of a token's experts are divided by their sum.
    pub(crate) normalize: bool,
    /// Whether `expert_gating_func` and `expert_weights_norm` count.
    pub(crate) has_keys: bool,
    /// Whether an expert's width is `expert_feed_forward_length`, not `feed_forward_length`.
    pub(crate) own_length: bool,
    pub(crate) shared: SharedExpert,
}

/// An expert that every token goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedExpert {
    None,
    /// As wide as `expert_shared_count` experts.
    Count,
    /// As wide as `expert_shared_feed_forward_length` says.
    Length,
    /// As `Length`, times the sigmoid of a product of its own.
    Gated,
}

/// How the router's outputs become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gating {
    Softmax,
    Sigmoid,
    /// Softmax over the selected ones.
    SoftmaxOfSelected,
}

/// The experts of a model. Names are those of the GGUF keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpertShape {
    pub(crate) expert_count: usize,
    pub(crate) expert_used_count: usize,
    /// Values between an expert's projections.
    pub(crate) feed_forward_length: usize,
    /// The same of the shared expert; 0 without one.
    pub(crate) shared_feed_forward_length: usize,
    /// Blocks before this one have no experts.
    pub(crate) leading_dense_block_count: usize,
    gating: Gating,
    normalize: bool,
    weights_scale: f32,
    /// Groups that experts are divided into, and how many of them a token's may come from.
    groups: Option<[usize; 2]>,
}

/// One of the experts of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Route {
    pub(crate) expert: usize,
    pub(crate) weight: f32,
}

impl ExpertShape {
    /// `None` where the file has no experts. `feed_forward_length` is that of the model.
    pub(super) fn read(keys: &Keys<'_>, feed_forward_length: usize) -> Result<Option<ExpertShape>> {
        const COUNT: &str = "expert_count";
        const USED: &str = "expert_used_count";
        const LENGTH: &str = "expert_feed_forward_length";
        let expert_count = keys.size(COUNT, Some(0), 0..=MAX_EXPERTS)?;
        if expert_count == 0 {
            return Ok(None);
        }
        let Some(rule) = keys.architecture.experts else {
            let what = format!("a mixture of {expert_count} experts");
            let supported = format!("dense models of architecture {}", keys.architecture.name);
            return Err(keys.unsupported(COUNT, what, &supported));
        };
        let expert_used_count = keys.size(USED, None, 1..=expert_count)?;
        let length = if rule.own_length {
            let default = feed_forward_length / expert_used_count;
            keys.size(LENGTH, Some(default), 1..=MAX_WIDTH)?
        } else {
            feed_forward_length
        };
        let shared_length = || keys.size("expert_shared_feed_forward_length", None, 1..=MAX_WIDTH);
        let (gating, normalize) = gating(keys, rule)?;
        Ok(Some(ExpertShape {
            expert_count,
            expert_used_count,
            feed_forward_length: length,
            shared_feed_forward_length: match rule.shared {
                SharedExpert::None => 0,
                SharedExpert::Count => {
                    length * keys.size("expert_shared_count", None, 0..=MAX_WIDTH / length)?
                }
                SharedExpert::Length | SharedExpert::Gated => shared_length()?,
            },
            leading_dense_block_count: keys.size(
                "leading_dense_block_count",
                Some(0),
                0..=MAX_LAYERS,
            )?,
            gating,
            normalize,
            weights_scale: match keys.optional("expert_weights_scale")? {
                // As in llama.cpp, 0 is no scaling.
                None | Some(0.0) => 1.0,
                Some(_) => keys.positive("expert_weights_scale", None)?,
            },
            groups: groups(keys, expert_count)?,
        }))
    }

    /// The experts of a token, best first. `logits` are what the router gives for each expert, and
    /// `bias` is added to what they are selected by. `scores` is working memory.
    pub(crate) fn route(
        &self,
        level: Level,
        logits: &[f32],
        bias: Option<&[f32]>,
        scores: &mut Vec<f32>,
        routes: &mut [Route],
    ) {
        scores.clear();
        scores.extend_from_slice(logits);
        match self.gating {
            Gating::Softmax => softmax(level, scores),
            Gating::Sigmoid => scores.iter_mut().for_each(|value| *value = sigmoid(*value)),
            Gating::SoftmaxOfSelected => {}
        }
        scores.extend_from_within(..);
        let (weights, scores) = scores.split_at_mut(logits.len());
        for (score, bias) in scores.iter_mut().zip(bias.unwrap_or_default()) {
            *score += bias;
        }
        if let Some([count, used]) = self.groups {
            leave_groups(scores, count, used);
        }
        for route in routes.iter_mut() {
            let expert = largest(scores);
            scores[expert] = f32::NAN;
            *route = Route {
                expert,
                weight: weights[expert],
            };
        }
        if self.gating == Gating::SoftmaxOfSelected {
            let largest = routes[0].weight;
            for route in routes.iter_mut() {
                route.weight = (route.weight - largest).exp();
            }
        }
        let mut scale = self.weights_scale;
        if self.normalize || self.gating == Gating::SoftmaxOfSelected {
            let sum: f32 = routes.iter().map(|route| route.weight).sum();
            scale /= sum.max(LEAST_SUM);
        }
        routes.iter_mut().for_each(|route| route.weight *= scale);
    }
}

fn gating(keys: &Keys<'_>, rule: ExpertRule) -> Result<(Gating, bool)> {
    const GATING: &str = "expert_gating_func";
    if !rule.has_keys {
        return Ok((rule.gating, rule.normalize));
    }
    let gating = match keys.optional::<u32>(GATING)? {
        // 0 stands for none in old files.
        None | Some(0) => rule.gating,
        Some(1) => Gating::Softmax,
        Some(2) => Gating::Sigmoid,
        Some(3) => Gating::SoftmaxOfSelected,
        Some(other) => {
            let known = "1 (softmax), 2 (sigmoid), 3 (softmax of the selected)";
            return Err(keys.unsupported(GATING, other.to_string(), known));
        }
    };
    let normalize = keys.optional("expert_weights_norm")?;
    Ok((gating, normalize.unwrap_or(rule.normalize)))
}

fn groups(keys: &Keys<'_>, expert_count: usize) -> Result<Option<[usize; 2]>> {
    const COUNT: &str = "expert_group_count";
    let count = keys.size(COUNT, Some(0), 0..=expert_count)?;
    if count <= 1 {
        return Ok(None);
    }
    if !expert_count.is_multiple_of(count) {
        let expected = format!("a divisor of expert_count {expert_count}");
        return Err(keys.malformed(COUNT, expected, count));
    }
    let used = keys.size("expert_group_used_count", None, 1..=count - 1)?;
    Ok(Some([count, used]))
}

/// Leaves only the experts of the best groups: those where the sum of the two largest scores is largest.
fn leave_groups(scores: &mut [f32], count: usize, used: usize) {
    let length = scores.len() / count;
    let mut best: Vec<f32> = scores
        .chunks_exact(length)
        .map(|group| {
            let two = group.iter().fold([f32::NEG_INFINITY; 2], |[a, b], &x| {
                [a.max(x), b.max(x.min(a))]
            });
            two.iter().filter(|score| score.is_finite()).sum()
        })
        .collect();
    let mut is_left = vec![false; count];
    for _ in 0..used {
        let group = largest(&best);
        best[group] = f32::NAN;
        is_left[group] = true;
    }
    for (group, is_left) in scores.chunks_exact_mut(length).zip(is_left) {
        if !is_left {
            group.fill(f32::NAN);
        }
    }
}

/// The place of the first of the largest values that are numbers; 0 where none is.
fn largest(values: &[f32]) -> usize {
    let mut place = 0;
    for (i, &value) in values.iter().enumerate() {
        if value > values[place] || (values[place].is_nan() && !value.is_nan()) {
            place = i;
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(gating: Gating, normalize: bool, groups: Option<[usize; 2]>) -> ExpertShape {
        ExpertShape {
            expert_count: 4,
            expert_used_count: 2,
            feed_forward_length: 1,
            shared_feed_forward_length: 0,
            leading_dense_block_count: 0,
            gating,
            normalize,
            weights_scale: 1.0,
            groups,
        }
    }

    /// Experts and weights that the router's outputs ln 1, ln 4, ln 2 and ln 3 lead to.
    fn routed(shape: ExpertShape, bias: Option<&[f32]>) -> [(usize, f32); 2] {
        let logits = [1.0_f32, 4.0, 2.0, 3.0].map(f32::ln);
        let mut routes = [Route::default(); 2];
        let mut scores = vec![9.0];
        shape.route(Level::detect(), &logits, bias, &mut scores, &mut routes);
        routes.map(|route| (route.expert, (route.weight * 1e4).round() / 1e4))
    }

    #[test]
    fn experts_are_those_with_the_largest_scores() {
        let softmax = shape(Gating::Softmax, false, None);
        assert_eq!(routed(softmax, None), [(1, 0.4), (3, 0.3)]);
        let normalized = shape(Gating::Softmax, true, None);
        assert_eq!(routed(normalized, None), [(1, 0.5714), (3, 0.4286)]);
        let selected = shape(Gating::SoftmaxOfSelected, false, None);
        assert_eq!(routed(selected, None), [(1, 0.5714), (3, 0.4286)]);
        let sigmoid = shape(Gating::Sigmoid, false, None);
        assert_eq!(routed(sigmoid, None), [(1, 0.8), (3, 0.75)]);
    }

    #[test]
    fn a_bias_selects_and_does_not_weigh() {
        let softmax = shape(Gating::Softmax, false, None);
        let routes = routed(softmax, Some(&[1.0, 0.0, 0.0, 0.0]));
        assert_eq!(routes, [(0, 0.1), (1, 0.4)]);
    }

    #[test]
    fn experts_come_from_the_best_groups() {
        // 0.1 + 0.4 against 0.2 + 0.3, and a little more.
        let grouped = shape(Gating::Softmax, false, Some([2, 1]));
        let bias = [0.0, 0.0, 0.001, 0.0];
        assert_eq!(routed(grouped, Some(&bias)), [(3, 0.3), (2, 0.2)]);
    }

    #[test]
    fn no_number_leads_astray() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for gating in [Gating::Softmax, Gating::Sigmoid, Gating::SoftmaxOfSelected] {
                for groups in [None, Some([2, 1])] {
                    let mut routes = [Route::default(); 2];
                    let shape = shape(gating, true, groups);
                    let scores = &mut Vec::new();
                    shape.route(Level::detect(), &[value; 4], None, scores, &mut routes);
                    assert!(routes.iter().all(|route| route.expert < 4));
                }
            }
        }
    }
}
