//! The angles of rotary position embedding, with the scalings for long contexts.
//!
//! Pair `i` of `n / 2` turns by `position * base^(-2i / n)`, changed by the model's scaling:
//! linear interpolation (Chen et al., 2023) divides every angle; YaRN (Peng et al., 2023) divides
//! those of slow pairs and scales the magnitude; Llama 3.1 divides each by a factor of its own, which
//! the file holds as the tensor `rope_freqs.weight`.

use std::f64::consts::PI;

use super::keys::Keys;
use crate::Result;

/// How the angles differ from those of the plain formula.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RopeScaling {
    None,
    /// Angles are divided by `factor`.
    Linear {
        factor: f32,
    },
    /// Angles of slow pairs are divided by `factor`.
    Yarn {
        factor: f32,
        original_context_length: usize,
        attention_factor: f32,
    },
}

impl RopeScaling {
    pub(super) fn read(keys: &Keys<'_>, context_length: usize) -> Result<RopeScaling> {
        const TYPE: &str = "rope.scaling.type";
        let kind = keys.optional::<String>(TYPE)?;
        match (kind.as_deref(), Self::read_factor(keys)?) {
            (Some("none"), _) | (Some("linear" | "yarn") | None, None) => Ok(RopeScaling::None),
            (Some("linear") | None, Some(factor)) => Ok(RopeScaling::Linear { factor }),
            (Some("yarn"), Some(factor)) => Ok(RopeScaling::Yarn {
                factor,
                original_context_length: keys.size(
                    "rope.scaling.original_context_length",
                    Some(context_length),
                    1..=usize::MAX,
                )?,
                attention_factor: keys.positive("rope.scaling.attn_factor", Some(1.0))?,
            }),
            (Some(other), _) => {
                Err(keys.unsupported(TYPE, format!("{other:?}"), "none, linear, yarn"))
            }
        }
    }

    fn read_factor(keys: &Keys<'_>) -> Result<Option<f32>> {
        // The second is the first one's old name.
        for key in ["rope.scaling.factor", "rope.scale_linear"] {
            match keys.optional(key)? {
                None => {}
                // As in llama.cpp, a factor of 0 is no scaling.
                Some(0.0) => return Ok(None),
                Some(factor) if f32::is_finite(factor) && factor > 0.0 => return Ok(Some(factor)),
                Some(factor) => {
                    let expected = "a finite number above 0".to_owned();
                    return Err(keys.malformed(key, expected, factor));
                }
            }
        }
        Ok(None)
    }
}

/// The angle of each pair at position 1, and a factor for the rotated values.
#[derive(Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f64>,
    magnitude: f64,
}

impl Rope {
    /// Of `dimension_count` values, an even number. `factors`, one per pair, divide the frequencies;
    /// empty for none.
    pub(crate) fn new(
        dimension_count: usize,
        freq_base: f32,
        scaling: RopeScaling,
        factors: &[f32],
    ) -> Rope {
        let n_rot = dimension_count as f64;
        let base = f64::from(freq_base);
        let mut frequencies: Vec<f64> = (0..dimension_count / 2)
            .map(|i| {
                let factor = factors.get(i).map_or(1.0, |&factor| f64::from(factor));
                base.powf(-2.0 * i as f64 / n_rot) / factor
            })
            .collect();
        let mut magnitude = 1.0;
        match scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => {
                frequencies
                    .iter_mut()
                    .for_each(|frequency| *frequency /= f64::from(factor));
            }
            RopeScaling::Yarn {
                factor,
                original_context_length,
                attention_factor,
            } => {
                let factor = f64::from(factor);
                let ramp = YarnRamp::new(n_rot, base, original_context_length as f64);
                for (i, frequency) in frequencies.iter_mut().enumerate() {
                    let keep = ramp.keep(i as f64);
                    *frequency *= keep + (1.0 - keep) / factor;
                }
                magnitude = (1.0 + 0.1 * factor.ln()) * f64::from(attention_factor);
            }
        }
        Rope {
            frequencies,
            magnitude,
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
struct YarnRamp {
    low: f64,
    high: f64,
}

impl YarnRamp {
    /// Turns within the original context at which the ramp begins and ends.
    const BETA_FAST: f64 = 32.0;
    const BETA_SLOW: f64 = 1.0;

    fn new(n_rot: f64, base: f64, original_context_length: f64) -> Self {
        let pair = |turns: f64| {
            n_rot * (original_context_length / (turns * 2.0 * PI)).ln() / (2.0 * base.ln())
        };
        Self {
            low: pair(Self::BETA_FAST).floor().max(0.0),
            high: pair(Self::BETA_SLOW).ceil().min(n_rot - 1.0),
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
        let ramp = YarnRamp::new(128.0, 1e6, 32768.0);
        assert_eq!((ramp.low, ramp.high), (23.0, 40.0));
        assert_eq!((ramp.keep(10.0), ramp.keep(63.0)), (1.0, 0.0));
        assert!((ramp.keep(31.5) - 0.5).abs() < 1e-12);
    }
}
