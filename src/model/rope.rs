//! The angles of rotary position embedding, with the scalings for long contexts.
//!
//! Pair `i` of `n / 2` turns by `position * base^(-2i / n)`, changed by the model's scaling:
//! linear interpolation (Chen et al., 2023) divides every angle; YaRN (Peng et al., 2023) divides
//! those of slow pairs and scales the magnitude; Llama 3.1 divides each by a factor of its own, which
//! the file holds as the tensor `rope_freqs.weight`. LongRoPE (Ding et al., 2024) has two sets of such
//! factors, `rope_factors_short.weight` and `rope_factors_long.weight`: as in llama.cpp the length of a
//! session's context chooses, so that all its positions turn alike.

use std::f64::consts::PI;

use super::architecture::YarnRule;
use super::keys::Keys;
use crate::Result;

/// How queries and keys of some blocks rotate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RopeShape {
    /// Values of a head that rotate: even.
    pub(crate) dimension_count: usize,
    pub(crate) freq_base: f32,
    scaling: RopeScaling,
    /// Of the rotated values.
    magnitude: f64,
    /// What else scores are multiplied by.
    pub(crate) score_factor: f32,
    /// Whether `rope_factors_long` and `_short` divide the frequencies, and from how many positions of a
    /// session on those for long contexts.
    pub(crate) original_context_length: Option<usize>,
}

/// How the angles differ from those of the plain formula.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RopeScaling {
    None,
    /// Angles are divided by `factor`.
    Linear {
        factor: f64,
    },
    /// Angles of slow pairs are divided by `factor`.
    Yarn {
        factor: f64,
        ramp: YarnRamp,
    },
}

impl RopeShape {
    /// Of heads with `head_dim` values.
    pub(super) fn read(
        keys: &Keys<'_>,
        head_dim: usize,
        context_length: usize,
    ) -> Result<RopeShape> {
        let architecture = keys.architecture;
        const TYPE: &str = "rope.scaling.type";
        const ORIGINAL: &str = "rope.scaling.original_context_length";
        let dimension_count = dimension_count(keys, head_dim)?;
        let freq_base = freq_base(keys, dimension_count)?;
        let original = || keys.size(ORIGINAL, Some(context_length), 1..=usize::MAX);
        let kind = keys.optional::<String>(TYPE)?;
        let kind = kind.as_deref();
        let attention_factor = keys.positive("rope.scaling.attn_factor", Some(1.0))?;
        let (scaling, [magnitude, score_factor]) = match (kind, read_factor(keys)?) {
            (Some("none" | "longrope"), _) | (Some("linear" | "yarn") | None, None) => {
                (RopeScaling::None, [1.0; 2])
            }
            (Some("linear") | None, Some(factor)) => (RopeScaling::Linear { factor }, [1.0; 2]),
            (Some("yarn"), Some(factor)) => {
                let yarn = YarnKeys::read(keys, architecture.yarn)?;
                let base = f64::from(freq_base);
                let ramp = YarnRamp::new(dimension_count as f64, base, original()? as f64, &yarn);
                let factors = yarn.factors(factor, attention_factor.into());
                (RopeScaling::Yarn { factor, ramp }, factors)
            }
            (Some(other), _) => {
                let known = "none, linear, yarn, longrope";
                return Err(keys.unsupported(TYPE, format!("{other:?}"), known));
            }
        };
        let has_factors = architecture.long_rope || kind == Some("longrope");
        Ok(RopeShape {
            dimension_count,
            freq_base,
            scaling,
            magnitude: magnitude * f64::from(attention_factor),
            score_factor: score_factor as f32,
            original_context_length: has_factors.then(original).transpose()?,
        })
    }

    /// The same with another base, and scaled or not.
    pub(super) fn in_window(self, freq_base: f32, scaled: bool) -> RopeShape {
        let plain = RopeShape {
            scaling: RopeScaling::None,
            magnitude: 1.0,
            ..self
        };
        RopeShape {
            freq_base,
            ..if scaled { self } else { plain }
        }
    }

    /// Number of pairs that rotate.
    pub(crate) fn pairs(&self) -> usize {
        self.dimension_count / 2
    }
}

fn dimension_count(keys: &Keys<'_>, head_dim: usize) -> Result<usize> {
    const KEY: &str = "rope.dimension_count";
    let count = keys.size(KEY, Some(head_dim), 2..=head_dim)?;
    if !count.is_multiple_of(2) {
        return Err(keys.malformed(KEY, "an even number".to_owned(), count));
    }
    Ok(count)
}

/// The base; Hunyuan's `alpha` raises it to `base * alpha^(n / (n - 2))` for `n` values that rotate.
fn freq_base(keys: &Keys<'_>, dimension_count: usize) -> Result<f32> {
    let base = keys.positive("rope.freq_base", Some(10_000.0))?;
    let alpha = keys.positive("rope.scaling.alpha", Some(1.0))?;
    let n_rot = dimension_count as f32;
    Ok(if alpha == 1.0 {
        base
    } else {
        base * alpha.powf(n_rot / (n_rot - 2.0))
    })
}

fn read_factor(keys: &Keys<'_>) -> Result<Option<f64>> {
    // The second is the first one's old name.
    for key in ["rope.scaling.factor", "rope.scale_linear"] {
        match keys.optional::<f32>(key)? {
            None => {}
            // As in llama.cpp, a factor of 0 is no scaling.
            Some(0.0) => return Ok(None),
            Some(_) => return Ok(Some(f64::from(keys.positive(key, None)?))),
        }
    }
    Ok(None)
}

/// YaRN's own metadata.
struct YarnKeys {
    /// Turns within the original context at which the ramp begins and ends.
    beta_fast: f64,
    beta_slow: f64,
    log_multiplier: Option<f64>,
    is_latent: bool,
}

impl YarnKeys {
    fn read(keys: &Keys<'_>, rule: YarnRule) -> Result<YarnKeys> {
        let own = |key, default| match rule {
            YarnRule::Standard | YarnRule::Latent => Ok(default),
            YarnRule::OwnKeys => keys.positive(key, Some(default)),
        };
        let log_multiplier = match rule {
            YarnRule::Standard => None,
            YarnRule::OwnKeys | YarnRule::Latent => {
                keys.optional_positive("rope.scaling.yarn_log_multiplier")?
            }
        };
        Ok(YarnKeys {
            beta_fast: own("rope.scaling.yarn_beta_fast", 32.0)?.into(),
            beta_slow: own("rope.scaling.yarn_beta_slow", 1.0)?.into(),
            log_multiplier: log_multiplier.map(f64::from),
            is_latent: rule == YarnRule::Latent,
        })
    }

    /// By how much rotated values grow, and scores besides.
    fn factors(&self, factor: f64, attention_factor: f64) -> [f64; 2] {
        let grown = |multiplier: f64| 1.0 + 0.1 * multiplier * factor.ln();
        let multiplier = self.log_multiplier.unwrap_or(0.0);
        if !self.is_latent {
            return [grown(1.0) / grown(multiplier), 1.0];
        }
        let magnitude = self.log_multiplier.map_or(grown(1.0), |_| 1.0);
        let root = magnitude * attention_factor * grown(10.0 * multiplier);
        [magnitude, root * root]
    }
}

/// The angle of each pair at position 1, and a factor for the rotated values.
#[derive(Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f64>,
    magnitude: f64,
}

impl Rope {
    /// `factors`, one per pair, divide the frequencies; empty for none.
    pub(crate) fn new(shape: &RopeShape, factors: &[f32]) -> Rope {
        let n_rot = shape.dimension_count as f64;
        let base = f64::from(shape.freq_base);
        let frequency = |i: usize| {
            let factor = factors.get(i).map_or(1.0, |&factor| f64::from(factor));
            let frequency = base.powf(-2.0 * i as f64 / n_rot) / factor;
            match shape.scaling {
                RopeScaling::None => frequency,
                RopeScaling::Linear { factor } => frequency / factor,
                RopeScaling::Yarn { factor, ramp } => {
                    let keep = ramp.keep(i as f64);
                    frequency * (keep + (1.0 - keep) / factor)
                }
            }
        };
        Rope {
            frequencies: (0..shape.pairs()).map(frequency).collect(),
            magnitude: shape.magnitude,
        }
    }

    /// Number of pairs that rotate.
    pub(crate) fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Cosines, then sines, of all pairs at `position`: `[2, pairs]`.
    pub(crate) fn angles(&self, position: usize, angles: &mut [f32]) {
        let (cos, sin) = angles.split_at_mut(self.pairs());
        for ((frequency, cos), sin) in self.frequencies.iter().zip(cos).zip(sin) {
            let (sine, cosine) = (position as f64 * frequency).sin_cos();
            *cos = (cosine * self.magnitude) as f32;
            *sin = (sine * self.magnitude) as f32;
        }
    }
}

/// Between which pairs YaRN goes over from keeping to dividing the angle.
#[derive(Clone, Copy, Debug, PartialEq)]
struct YarnRamp {
    low: f64,
    high: f64,
}

impl YarnRamp {
    fn new(n_rot: f64, base: f64, original_context_length: f64, keys: &YarnKeys) -> Self {
        let pair = |turns: f64| {
            n_rot * (original_context_length / (turns * 2.0 * PI)).ln() / (2.0 * base.ln())
        };
        Self {
            low: pair(keys.beta_fast).floor().max(0.0),
            high: pair(keys.beta_slow).ceil().min(n_rot - 1.0),
        }
    }

    /// How much of the plain angle pair `i` keeps: 1 for fast pairs, 0 for slow ones.
    fn keep(&self, i: f64) -> f64 {
        1.0 - ((i - self.low) / (self.high - self.low).max(0.001)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yarn_ramp_of_qwen_lies_where_the_formula_puts_it() {
        // 128 dimensions, base 10^6, 32768 positions: 128 ln(32768 / 64 pi) / (2 ln 10^6) = 23.6,
        // and 39.6 with 2 pi.
        let keys = YarnKeys {
            beta_fast: 32.0,
            beta_slow: 1.0,
            log_multiplier: None,
            is_latent: false,
        };
        let ramp = YarnRamp::new(128.0, 1e6, 32768.0, &keys);
        assert_eq!((ramp.low, ramp.high), (23.0, 40.0));
        assert_eq!((ramp.keep(10.0), ramp.keep(63.0)), (1.0, 0.0));
        assert!((ramp.keep(31.5) - 0.5).abs() < 1e-12);
    }
}
