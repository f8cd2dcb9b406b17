//! The weights of recurrent blocks.

use super::linear::{BranchOutput, Linear};
use super::tensors::Tensors;
use crate::Result;
use crate::model::config::Config;
use crate::model::recurrent::DeltaShape;

/// A gated delta net.
#[derive(Debug)]
pub(crate) struct DeltaNet {
    pub(crate) shape: DeltaShape,
    /// Queries, keys and values.
    pub(crate) input: Linear,
    /// What the output is gated by.
    pub(crate) gate: Linear,
    pub(crate) rates: Rates,
    /// `[taps, channels]`
    pub(crate) taps: Vec<f32>,
    /// Added to the rate of decay, and what it is multiplied by: one number per value head.
    pub(crate) decay_bias: Vec<f32>,
    pub(crate) decay: Vec<f32>,
    /// Of a value head.
    pub(crate) norm: Vec<f32>,
    pub(crate) output: BranchOutput,
}

/// How fast the state learns, and decays: of each value head.
#[derive(Debug)]
pub(crate) enum Rates {
    Separate {
        learning: Linear,
        decay: Linear,
    },
    /// For each key head the learning rates of its value heads, then their rates of decay.
    Fused(Linear),
}

/// A gated short convolution (Liquid AI, LFM2).
#[derive(Debug)]
pub(crate) struct ShortConvolution {
    /// What the convolution's input is multiplied by, its output, and the input itself.
    pub(crate) input: Linear,
    /// `[taps, channels]`
    pub(crate) taps: Vec<f32>,
    pub(crate) output: BranchOutput,
}

impl DeltaNet {
    pub(super) fn bind(
        tensors: &mut Tensors<'_>,
        config: &Config,
        shape: &DeltaShape,
        block: &str,
    ) -> Result<DeltaNet> {
        let name = |part: &str| format!("{block}.{part}");
        let width = config.sizes.embedding_length;
        let heads = shape.value_heads;
        let channels = 2 * shape.key_length() + shape.value_length();
        let fused = name("ssm_ba");
        let rates = if tensors.has(&format!("{fused}.weight")) {
            Rates::Fused(tensors.linear(&fused, 2 * heads, width)?)
        } else {
            Rates::Separate {
                learning: tensors.linear(&name("ssm_beta"), heads, width)?,
                decay: tensors.linear(&name("ssm_alpha"), heads, width)?,
            }
        };
        Ok(DeltaNet {
            shape: *shape,
            input: tensors.linear(&name("attn_qkv"), channels, width)?,
            gate: tensors.linear(&name("attn_gate"), shape.value_length(), width)?,
            rates,
            taps: taps(tensors, &name("ssm_conv1d.weight"), channels, shape.taps)?,
            decay_bias: tensors.values(&name("ssm_dt.bias"), 1, heads)?,
            decay: tensors.values(&name("ssm_a"), 1, heads)?,
            norm: tensors.values(&name("ssm_norm.weight"), 1, shape.head_dim)?,
            output: tensors.branch_output(config, &name("ssm_out"), shape.value_length())?,
        })
    }
}

impl ShortConvolution {
    pub(super) fn bind(
        tensors: &mut Tensors<'_>,
        config: &Config,
        taps: usize,
        block: &str,
    ) -> Result<ShortConvolution> {
        let name = |part: &str| format!("{block}.shortconv.{part}");
        let width = config.sizes.embedding_length;
        Ok(ShortConvolution {
            input: tensors.linear(&name("in_proj"), 3 * width, width)?,
            taps: self::taps(tensors, &name("conv.weight"), width, taps)?,
            output: tensors.branch_output(config, &name("out_proj"), width)?,
        })
    }
}

/// The taps of a convolution, `[taps, channels]`; the file has them the other way round.
fn taps(tensors: &mut Tensors<'_>, name: &str, channels: usize, taps: usize) -> Result<Vec<f32>> {
    let values = tensors.values(name, channels, taps)?;
    let tap = |tap: usize| values[tap..].iter().step_by(taps);
    Ok((0..taps).flat_map(tap).copied().collect())
}
