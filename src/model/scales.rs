//! Factors and bounds of what a model computes.

use super::architecture::{Scales, SoftCaps};
use super::config::Sizes;
use super::keys::Keys;
use crate::Result;

/// Factors of embeddings, branches, scores and logits, and the bounds of the last two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scaling {
    pub(crate) embedding: f32,
    /// Of the outputs of attention and of the feed-forward network.
    pub(crate) branch: f32,
    pub(crate) score: f32,
    pub(crate) logit: f32,
    /// See [`soft_cap`](gristmill_kernels::ops::soft_cap).
    pub(crate) score_cap: Option<f32>,
    pub(crate) logit_cap: Option<f32>,
    pub(crate) temperature: Option<Temperature>,
}

/// Queries at position `p` are multiplied by `1 + scale * ln(1 + floor(p / original_context_length))`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Temperature {
    scale: f32,
    original_context_length: usize,
}

impl Temperature {
    /// The factor at a position.
    fn at(&self, position: usize) -> f32 {
        let times = (position / self.original_context_length) as f32;
        1.0 + self.scale * times.ln_1p()
    }
}

impl Scaling {
    pub(super) fn read(
        keys: &Keys<'_>,
        sizes: &Sizes,
        head_count: usize,
        head_dim: usize,
    ) -> Result<Scaling> {
        let architecture = keys.architecture;
        let block_count = sizes.block_count;
        let width = sizes.embedding_length as f32;
        let head_dim = match architecture.wide_scale_blocks {
            Some(blocks) if blocks == block_count => width / head_count as f32,
            _ => head_dim as f32,
        };
        let key = |name, default| keys.positive(name, default);
        let logit_divisor = |default| Ok::<_, crate::Error>(1.0 / key("logit_scale", default)?);
        let score = 1.0 / head_dim.sqrt();
        let [embedding, branch, score, logit] = match architecture.scales {
            Scales::None => [1.0, 1.0, score, 1.0],
            Scales::Gemma => [width.sqrt(), 1.0, score, 1.0],
            Scales::Granite => [
                key("embedding_scale", Some(1.0))?,
                key("residual_scale", Some(1.0))?,
                key("attention.scale", Some(score))?,
                logit_divisor(None)?,
            ],
            Scales::MiniCpm => [
                key("embedding_scale", Some(12.0))?,
                key("residual_scale", Some(1.4 / (block_count as f32).sqrt()))?,
                key("attention.scale", Some(score))?,
                logit_divisor(Some(256.0 / width))?,
            ],
            Scales::CommandR => [1.0, 1.0, score, key("logit_scale", None)?],
        };
        let (score_cap, logit_cap) = soft_caps(keys, architecture.soft_caps)?;
        Ok(Scaling {
            embedding,
            branch,
            score,
            logit,
            score_cap,
            logit_cap,
            temperature: temperature(keys)?,
        })
    }
}

impl Scaling {
    /// What queries at a position are multiplied by.
    pub(crate) fn score_at(&self, position: usize) -> f32 {
        let temperature = self.temperature.as_ref();
        self.score * temperature.map_or(1.0, |temperature| temperature.at(position))
    }
}

fn soft_caps(keys: &Keys<'_>, caps: SoftCaps) -> Result<(Option<f32>, Option<f32>)> {
    const LOGITS: &str = "final_logit_softcapping";
    Ok(match caps {
        SoftCaps::None => (None, None),
        SoftCaps::Logits => (None, keys.optional_positive(LOGITS)?),
        SoftCaps::Both { scores, logits } => (
            Some(keys.positive("attn_logit_softcapping", Some(scores))?),
            Some(keys.positive(LOGITS, Some(logits))?),
        ),
    })
}

fn temperature(keys: &Keys<'_>) -> Result<Option<Temperature>> {
    let Some(scale) = keys.optional_positive("attention.temperature_scale")? else {
        return Ok(None);
    };
    Ok(Some(Temperature {
        scale,
        original_context_length: keys.size(
            "rope.scaling.original_context_length",
            None,
            1..=usize::MAX,
        )?,
    }))
}
