//! A model's tensors by their names, shapes checked against the configuration.

mod attention;
mod feed_forward;
mod latent;
mod linear;
mod recurrent;
mod tensors;

pub(crate) use self::attention::{Attention, HeadNorm};
pub(crate) use self::feed_forward::{Experts, FeedForward};
pub(crate) use self::latent::{Expand, LatentAttention};
pub(crate) use self::linear::{BranchOutput, Linear, LinearView};
pub(crate) use self::recurrent::{DeltaNet, Rates, ShortConvolution};
use self::tensors::Tensors;
use super::architecture::{Layout, Positions};
use super::blocks::Mixing;
use super::config::Config;
use super::recurrent::RecurrentShape;
use super::rope::{Rope, RopeShape};
use crate::gguf::Gguf;
use crate::tensor::WeightMatrix;
use crate::{Error, Result};

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    /// `[vocab, embedding_length]`
    pub(crate) token_embedding: WeightMatrix,
    /// `[positions, embedding_length]`: what is added to the embeddings, in place of RoPE.
    pub(crate) position_embedding: Option<WeightMatrix>,
    /// `[embedding_length]`: what is added to each embedding, as all tokens are of one type.
    pub(crate) type_embedding: Option<Vec<f32>>,
    pub(crate) embedding_norm: Option<Norm>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Option<Norm>,
    /// `[vocab, embedding_length]`; the token embedding where the file has no other.
    pub(crate) output: Linear,
    /// What an encoder's pooled vector goes through, one behind the other.
    pub(crate) dense: Vec<Linear>,
    ropes: Ropes,
}

/// The weight of a norm and, where the file has one, what is added behind it.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
}

/// A norm behind the mixer or the feed-forward network.
#[derive(Debug)]
pub(crate) enum OutputNorm {
    /// Of what it gives, before this is added to the residual stream.
    Branch(Norm),
    /// Of the residual stream, after it was added.
    Sum(Norm),
}

/// The weights of one transformer block. Where there is no norm, there is nothing to do.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) mixer_norm: Option<Norm>,
    pub(crate) mixer: Mixer,
    pub(crate) mixer_output_norm: Option<OutputNorm>,
    pub(crate) feed_forward_norm: Option<Norm>,
    /// The dense network of a block, or the shared expert beside the others.
    pub(crate) feed_forward: Option<FeedForward>,
    pub(crate) experts: Option<Experts>,
    pub(crate) feed_forward_output_norm: Option<OutputNorm>,
    /// Whether the feed-forward network reads what the mixer reads.
    pub(crate) is_parallel: bool,
}

/// What mixes a block's tokens.
#[derive(Debug)]
pub(crate) enum Mixer {
    Attention(Attention),
    Latent(LatentAttention),
    DeltaNet(DeltaNet),
    ShortConvolution(ShortConvolution),
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
        let architecture = config.architecture;
        let (width, context_length) = (config.sizes.embedding_length, config.sizes.context_length);
        let token_embedding = tensors.matrix("token_embd.weight", None, width)?;
        let vocab = token_embedding.rows();
        let output = tensors.optional_matrix("output.weight", Some(vocab), width)?;
        let output_norm = architecture.output_norm.map(|name| {
            let mut norm = tensors.norm(name, width)?;
            norm.scale(config.scaling.logit);
            Ok::<_, Error>(norm)
        });
        let output_norm = output_norm.transpose()?;
        let has_first_norm = architecture.layout == Layout::AfterSum;
        let embedding_norm = has_first_norm.then(|| tensors.norm("token_embd_norm", width));
        let (type_embedding, dense) = if config.is_causal {
            (None, Vec::new())
        } else {
            (tensors.type_embedding(width)?, tensors.dense(width)?)
        };
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
                scale: tensors.scales("output", 1)?.map_or(1.0, |scales| scales[0]),
                bias: tensors.optional_values("output.bias", 1, vocab)?,
            },
            type_embedding,
            embedding_norm: embedding_norm.transpose()?,
            dense,
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
        let (architecture, width) = (config.architecture, config.sizes.embedding_length);
        let layout = architecture.layout;
        let feed_forward_norm = name(architecture.feed_forward_norm);
        let is_parallel = match layout {
            Layout::Parallel => true,
            Layout::ParallelWithoutNorm => !tensors.has(&format!("{feed_forward_norm}.weight")),
            Layout::Sequential | Layout::Sandwich | Layout::After | Layout::AfterSum => false,
        };
        let norm = |tensors: &mut Tensors<'_>, is_there: bool, name: &str| {
            is_there.then(|| tensors.norm(name, width)).transpose()
        };
        let has_norms = !matches!(layout, Layout::After | Layout::AfterSum);
        let first = norm(tensors, has_norms, &name("attn_norm"))?;
        let (mixer_norm, feed_forward_norm) = if is_parallel {
            let own = tensors.optional_norm(&name("attn_norm_2"), width)?;
            (own.or_else(|| first.clone()), first)
        } else {
            let second = norm(tensors, has_norms, &feed_forward_norm)?;
            (first, second)
        };
        let output_norm = |tensors: &mut Tensors<'_>, branch: &str, sum: &str| {
            Ok::<_, Error>(match layout {
                Layout::Sandwich | Layout::After => {
                    Some(OutputNorm::Branch(tensors.norm(&name(branch), width)?))
                }
                Layout::AfterSum => Some(OutputNorm::Sum(tensors.norm(&name(sum), width)?)),
                Layout::Sequential | Layout::Parallel | Layout::ParallelWithoutNorm => None,
            })
        };
        Ok(Layer {
            mixer_norm,
            mixer: Mixer::bind(tensors, config, index, block)?,
            mixer_output_norm: output_norm(tensors, "post_attention_norm", "attn_output_norm")?,
            feed_forward_norm,
            feed_forward: FeedForward::bind(tensors, config, index, block)?,
            experts: config
                .experts_of(index)
                .map(|shape| Experts::bind(tensors, config, shape, block))
                .transpose()?,
            feed_forward_output_norm: output_norm(tensors, "post_ffw_norm", "layer_output_norm")?,
            is_parallel,
        })
    }
}

impl Mixer {
    fn bind(
        tensors: &mut Tensors<'_>,
        config: &Config,
        index: usize,
        block: &str,
    ) -> Result<Mixer> {
        Ok(match &config.blocks[index].mixing {
            Mixing::Attention => Mixer::Attention(Attention::bind(tensors, config, block)?),
            Mixing::Latent(shape) => {
                Mixer::Latent(LatentAttention::bind(tensors, config, shape, block)?)
            }
            Mixing::Recurrent(RecurrentShape::DeltaNet(shape)) => {
                Mixer::DeltaNet(DeltaNet::bind(tensors, config, shape, block)?)
            }
            Mixing::Recurrent(RecurrentShape::ShortConvolution { taps }) => {
                Mixer::ShortConvolution(ShortConvolution::bind(tensors, config, *taps, block)?)
            }
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
