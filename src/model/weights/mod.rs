//! A model's tensors by their names, shapes checked against the configuration.

mod tensors;

use std::ops::Range;

use gristmill_kernels::Matrix;

use self::tensors::Tensors;
use super::architecture::{Gate, Layout, Positions, QueryKeyNorm};
use super::config::Config;
use super::experts::{ExpertShape, SharedExpert};
use super::rope::{Rope, RopeShape};
use crate::Result;
use crate::gguf::Gguf;
use crate::tensor::WeightMatrix;

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    /// `[vocab, embedding_length]`
    pub(crate) token_embedding: WeightMatrix,
    /// `[positions, embedding_length]`: what is added to the embeddings, in place of RoPE.
    pub(crate) position_embedding: Option<WeightMatrix>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Norm,
    /// `[vocab, embedding_length]`; the token embedding where the file has no other.
    pub(crate) output: Linear,
    ropes: Ropes,
}

/// A matrix `[outputs, inputs]` and, where the file has one, a bias `[outputs]`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: WeightMatrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The weight of a norm and, where the file has one, what is added behind it.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The weights of one transformer block. Where there is no norm, there is nothing to do.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Option<Norm>,
    pub(crate) attention: Attention,
    pub(crate) attention_output_norm: Option<Norm>,
    pub(crate) feed_forward_norm: Option<Norm>,
    /// The dense network of a block, or the shared expert beside the others.
    pub(crate) feed_forward: Option<FeedForward>,
    pub(crate) experts: Option<Experts>,
    pub(crate) feed_forward_output_norm: Option<Norm>,
    /// Whether the feed-forward network reads what attention reads.
    pub(crate) is_parallel: bool,
}

/// Grouped-query attention.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) query_norm: HeadNorm,
    pub(crate) key_norm: HeadNorm,
    /// A logit per query head; or nothing.
    pub(crate) sinks: Vec<f32>,
    pub(crate) output: Linear,
}

/// A norm of queries or keys; the length of the weight follows from the kind.
#[derive(Debug)]
pub(crate) struct HeadNorm {
    pub(crate) kind: QueryKeyNorm,
    pub(crate) weight: Vec<f32>,
}

/// A feed-forward network, gated or not.
#[derive(Debug)]
pub(crate) struct FeedForward {
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
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

/// The matrices of all experts, `[experts, outputs, inputs]`, and their biases `[experts, outputs]`.
#[derive(Debug)]
pub(crate) struct Stacked {
    linear: Linear,
    /// Rows from one expert to the next, and which of them are its outputs.
    stride: usize,
    rows: Range<usize>,
}

/// A [`Linear`], or a part of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearView<'a> {
    pub(crate) matrix: Matrix<'a>,
    pub(crate) bias: Option<&'a [f32]>,
}

impl Linear {
    fn scale_bias(mut self, factor: f32) -> Self {
        let bias = self.bias.iter_mut().flatten();
        bias.for_each(|value| *value *= factor);
        self
    }

    pub(crate) fn view(&self) -> LinearView<'_> {
        LinearView {
            matrix: self.matrix.view(),
            bias: self.bias.as_deref(),
        }
    }
}

impl Stacked {
    /// The matrix of one expert.
    pub(crate) fn expert(&self, expert: usize) -> LinearView<'_> {
        let start = expert * self.stride;
        let rows = start + self.rows.start..start + self.rows.end;
        self.linear.view().narrow(rows)
    }

    /// The outputs `rows` of every expert.
    fn narrow(&self, rows: Range<usize>) -> Stacked {
        Stacked {
            linear: self.linear.clone(),
            stride: self.stride,
            rows,
        }
    }
}

impl<'a> LinearView<'a> {
    /// Only the outputs `range`.
    pub(crate) fn narrow(&self, range: Range<usize>) -> Self {
        Self {
            matrix: self.matrix.narrow(range.clone()),
            bias: self.bias.map(|bias| &bias[range]),
        }
    }
}

/// The angles of RoPE, as the context of a session chooses them.
#[derive(Debug)]
struct Ropes {
    /// In the order of [`Config::ropes`].
    short: Vec<Rope>,
    /// For contexts of more positions than this.
    long: Option<(usize, Vec<Rope>)>,
}

impl Weights {
    pub(crate) fn bind(gguf: &Gguf, config: &Config) -> Result<Weights> {
        let mut tensors = Tensors::new(gguf);
        let tensors = &mut tensors;
        let Config {
            architecture,
            embedding_length: width,
            context_length,
            ..
        } = *config;
        let token_embedding = tensors.matrix("token_embd.weight", None, width)?;
        let vocab = token_embedding.rows();
        let output = tensors.optional_matrix("output.weight", Some(vocab), width)?;
        let mut output_norm = tensors.norm(architecture.output_norm, width)?;
        output_norm.scale(config.scaling.logit);
        let position_embedding = (architecture.positions == Positions::Learned)
            .then(|| tensors.matrix("position_embd.weight", Some(context_length), width))
            .transpose()?;
        let layers = (0..config.blocks.len())
            .map(|block| Layer::bind(tensors, config, block))
            .collect::<Result<_>>()?;
        let weights = Weights {
            layers,
            output_norm,
            output: Linear {
                matrix: output.unwrap_or_else(|| token_embedding.clone()),
                bias: tensors.optional_values("output.bias", 1, vocab)?,
            },
            token_embedding,
            position_embedding,
            ropes: Ropes::bind(tensors, &config.ropes)?,
        };
        tensors.refuse_unused(architecture.name)?;
        Ok(weights)
    }

    /// The angles of RoPE in a session of `context_length` positions, in the order of [`Config::ropes`].
    pub(crate) fn ropes(&self, context_length: usize) -> &[Rope] {
        match &self.ropes.long {
            Some((original, long)) if context_length > *original => long,
            _ => &self.ropes.short,
        }
    }

    /// Most positions that a session can have.
    pub(crate) fn most_positions(&self) -> usize {
        let positions = self.position_embedding.as_ref();
        positions.map_or(usize::MAX, WeightMatrix::rows)
    }
}

impl Norm {
    fn scale(&mut self, factor: f32) {
        let bias = self.bias.iter_mut().flatten();
        self.weight
            .iter_mut()
            .chain(bias)
            .for_each(|value| *value *= factor);
    }
}

impl Layer {
    fn bind(tensors: &mut Tensors<'_>, config: &Config, index: usize) -> Result<Layer> {
        let block = &format!("blk.{index}");
        let name = |part: &str| format!("{block}.{part}");
        let Config {
            architecture,
            embedding_length: width,
            ..
        } = *config;
        let layout = architecture.layout;
        let feed_forward_norm = name(architecture.feed_forward_norm);
        let is_parallel = match layout {
            Layout::Parallel => true,
            Layout::ParallelWithoutNorm => !tensors.has(&format!("{feed_forward_norm}.weight")),
            Layout::Sequential | Layout::Sandwich | Layout::After => false,
        };
        let norm = |tensors: &mut Tensors<'_>, is_there: bool, name: &str| {
            is_there.then(|| tensors.norm(name, width)).transpose()
        };
        let first = norm(tensors, layout != Layout::After, &name("attn_norm"))?;
        let (attention_norm, feed_forward_norm) = if is_parallel {
            let own = tensors.optional_norm(&name("attn_norm_2"), width)?;
            (own.or_else(|| first.clone()), first)
        } else {
            let second = norm(tensors, layout != Layout::After, &feed_forward_norm)?;
            (first, second)
        };
        let has_output_norms = matches!(layout, Layout::Sandwich | Layout::After);
        Ok(Layer {
            attention_norm,
            attention: Attention::bind(tensors, config, block)?,
            attention_output_norm: norm(tensors, has_output_norms, &name("post_attention_norm"))?,
            feed_forward_norm,
            feed_forward: FeedForward::bind(tensors, config, index, block)?,
            experts: config
                .experts_of(index)
                .map(|shape| Experts::bind(tensors, config, shape, block))
                .transpose()?,
            feed_forward_output_norm: norm(tensors, has_output_norms, &name("post_ffw_norm"))?,
            is_parallel,
        })
    }
}

impl Attention {
    fn bind(tensors: &mut Tensors<'_>, config: &Config, block: &str) -> Result<Attention> {
        let name = |part: &str| format!("{block}.{part}");
        let shape = &config.attention;
        let [query, key, value] = projections(tensors, config, block)?;
        let head_norm = |tensors: &mut Tensors<'_>, part: &str, heads: usize| {
            HeadNorm::bind(tensors, config, &name(part), heads)
        };
        let sinks = config
            .architecture
            .sinks
            .then(|| tensors.values(&name("attn_sinks.weight"), 1, shape.head_count));
        Ok(Attention {
            query,
            key,
            value,
            query_norm: head_norm(tensors, "attn_q_norm.weight", shape.head_count)?,
            key_norm: head_norm(tensors, "attn_k_norm.weight", shape.head_count_kv)?,
            sinks: sinks.transpose()?.unwrap_or_default(),
            output: branch_output(
                tensors,
                config,
                &name("attn_output"),
                shape.attended_length(),
            )?,
        })
    }
}

/// Query, key and value projection: one tensor, or three.
fn projections(tensors: &mut Tensors<'_>, config: &Config, block: &str) -> Result<[Linear; 3]> {
    let width = config.embedding_length;
    let shape = &config.attention;
    let rows = [
        shape.query_length(),
        shape.key_length(),
        shape.value_length(),
    ];
    let fused = format!("{block}.attn_qkv");
    if tensors.has(&format!("{fused}.weight")) {
        let fused = tensors.linear(&fused, rows.iter().sum(), width)?;
        return Ok(split(&fused, rows));
    }
    let [query, key, value] = rows;
    Ok([
        tensors.linear(&format!("{block}.attn_q"), query, width)?,
        tensors.linear(&format!("{block}.attn_k"), key, width)?,
        tensors.linear(&format!("{block}.attn_v"), value, width)?,
    ])
}

/// The parts of a fused projection with so many rows each.
fn split<const PARTS: usize>(fused: &Linear, rows: [usize; PARTS]) -> [Linear; PARTS] {
    let mut end = 0;
    rows.map(|rows| {
        let range = end..end + rows;
        end = range.end;
        Linear {
            matrix: fused.matrix.narrow(range.clone()),
            bias: fused.bias.as_ref().map(|bias| bias[range].to_vec()),
        }
    })
}

/// The last projection of a branch. Its inputs are multiplied by the branch's scale, so its bias is too.
fn branch_output(
    tensors: &mut Tensors<'_>,
    config: &Config,
    name: &str,
    cols: usize,
) -> Result<Linear> {
    let linear = tensors.linear(name, config.embedding_length, cols)?;
    Ok(linear.scale_bias(config.scaling.branch))
}

impl HeadNorm {
    fn bind(tensors: &mut Tensors<'_>, config: &Config, name: &str, heads: usize) -> Result<Self> {
        let dim = config.attention.key_dim;
        let mut kind = config.architecture.query_key_norm;
        let weight = match kind {
            QueryKeyNorm::None => Vec::new(),
            QueryKeyNorm::Head | QueryKeyNorm::RotatedHead => tensors.values(name, 1, dim)?,
            QueryKeyNorm::Row => tensors.values(name, 1, heads * dim)?,
            QueryKeyNorm::OwnHead => match tensors.optional_values(name, heads, dim)? {
                Some(weight) => weight,
                None => {
                    kind = QueryKeyNorm::None;
                    Vec::new()
                }
            },
        };
        Ok(HeadNorm { kind, weight })
    }
}

impl FeedForward {
    /// The dense network or the shared expert of a block, if it has any.
    fn bind(
        tensors: &mut Tensors<'_>,
        config: &Config,
        index: usize,
        block: &str,
    ) -> Result<Option<FeedForward>> {
        let width = config.embedding_length;
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
            down: branch_output(tensors, config, &name("ffn_down"), hidden)?,
            sigmoid_gate: sigmoid_gate.transpose()?,
        }))
    }
}

impl Experts {
    fn bind(
        tensors: &mut Tensors<'_>,
        config: &Config,
        shape: &ExpertShape,
        block: &str,
    ) -> Result<Experts> {
        let name = |part: &str| format!("{block}.{part}");
        let (width, hidden) = (config.embedding_length, shape.feed_forward_length);
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
        let mut down = tensors.stacked(&name("ffn_down_exps"), count, width, hidden)?;
        down.linear = down.linear.scale_bias(config.scaling.branch);
        Ok(Experts {
            router: tensors.linear(&name("ffn_gate_inp"), count, width)?,
            selection_bias: tensors.optional_values(&name("exp_probs_b.bias"), 1, count)?,
            gate,
            up,
            down,
        })
    }
}

impl Ropes {
    fn bind(tensors: &mut Tensors<'_>, shapes: &[RopeShape]) -> Result<Ropes> {
        let Some(shape) = shapes.first() else {
            return Ok(Ropes {
                short: Vec::new(),
                long: None,
            });
        };
        let mut factors = |name: &str| factors(tensors, name, shape.pairs());
        let ropes = |factors: Option<&[f32]>| {
            let factors = factors.unwrap_or_default();
            shapes
                .iter()
                .map(|shape| Rope::new(shape, factors))
                .collect()
        };
        let fixed = factors("rope_freqs.weight")?;
        let short = factors("rope_factors_short.weight")?;
        let long = factors("rope_factors_long.weight")?;
        let original = shape.original_context_length.filter(|_| fixed.is_none());
        let short = short.filter(|_| original.is_some());
        Ok(Ropes {
            long: original.zip(long.map(|long| ropes(Some(&long)))),
            short: ropes(fixed.or(short).as_deref()),
        })
    }
}

/// What divides RoPE's frequencies, one factor per pair.
fn factors(tensors: &mut Tensors<'_>, name: &str, pairs: usize) -> Result<Option<Vec<f32>>> {
    let factors = tensors.optional_values(name, 1, pairs)?;
    let is_wrong = |factor: &&f32| !(factor.is_finite() && **factor > 0.0);
    match factors.iter().flatten().find(is_wrong) {
        None => Ok(factors),
        Some(factor) => {
            let expected = "finite factors above 0".to_owned();
            Err(tensors.malformed(name, expected, factor.to_string()))
        }
    }
}
