//! The definitions, step by step and by sorting, in double precision.

use crate::SamplingOptions;

/// Tokens and logits.
type Tokens = Vec<(u32, f64)>;

fn sort(tokens: &mut Tokens) {
    tokens.sort_by(|a, b| b.1.total_cmp(&a.1));
}

pub(super) fn probabilities(tokens: &[(u32, f64)]) -> Vec<f64> {
    let greatest = tokens.iter().map(|t| t.1).fold(f64::MIN, f64::max);
    let weights: Vec<f64> = tokens.iter().map(|t| (t.1 - greatest).exp()).collect();
    let mass: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / mass).collect()
}

pub(super) fn entropy(probabilities: &[f64]) -> f64 {
    let terms = probabilities.iter().filter(|p| **p > 0.0);
    -terms.map(|p| p * p.ln()).sum::<f64>()
}

/// The beginning of a list that has this share.
fn beginning(tokens: Tokens, probabilities: &[f64], share: f64) -> Tokens {
    let mut sum = 0.0;
    let mut kept = Tokens::new();
    for (token, p) in tokens.into_iter().zip(probabilities) {
        kept.push(token);
        sum += p;
        if sum >= share {
            break;
        }
    }
    kept
}

fn typical(tokens: Tokens, share: f64) -> Tokens {
    let p = probabilities(&tokens);
    let entropy = entropy(&p);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| {
        let cost = |at: usize| (-p[at].ln() - entropy).abs();
        cost(a).total_cmp(&cost(b))
    });
    let ordered: Tokens = order.iter().map(|&at| tokens[at]).collect();
    let p: Vec<f64> = order.iter().map(|&at| p[at]).collect();
    beginning(ordered, &p, share)
}

/// The probability of each token where the filters leave it; without XTC, Mirostat and penalties.
pub(super) fn distribution(options: &SamplingOptions, logits: &[f32]) -> Vec<f64> {
    let mut tokens: Tokens = (0..).zip(logits.iter().copied().map(f64::from)).collect();
    sort(&mut tokens);
    if options.top_n_sigma > 0.0 {
        let count = tokens.len() as f64;
        let mean = tokens.iter().map(|t| t.1).sum::<f64>() / count;
        let variance = tokens.iter().map(|t| (t.1 - mean).powi(2)).sum::<f64>() / count;
        let floor = tokens[0].1 - f64::from(options.top_n_sigma) * variance.sqrt();
        tokens.retain(|t| t.1 >= floor);
    }
    if options.top_k > 0 {
        tokens.truncate(options.top_k);
    }
    if options.typical_p < 1.0 {
        tokens = typical(tokens, options.typical_p.into());
        sort(&mut tokens);
    }
    if options.top_p < 1.0 {
        let p = probabilities(&tokens);
        tokens = beginning(tokens, &p, options.top_p.into());
    }
    let best = tokens[0].1;
    tokens.retain(|t| (t.1 - best).exp() >= f64::from(options.min_p) * (1.0 - 1e-6));
    let temperature = temperature(options, &tokens);
    for token in &mut tokens {
        token.1 /= temperature;
    }
    let mut result = vec![0.0; logits.len()];
    for (token, p) in tokens.iter().zip(probabilities(&tokens)) {
        result[token.0 as usize] = p;
    }
    result
}

fn temperature(options: &SamplingOptions, tokens: &[(u32, f64)]) -> f64 {
    let (center, range): (f64, f64) = (options.temperature.into(), options.dynatemp_range.into());
    if range == 0.0 || tokens.len() == 1 {
        return center;
    }
    let part = entropy(&probabilities(tokens)) / (tokens.len() as f64).ln();
    let least = f64::max(center - range, 0.0);
    least + (center + range - least) * part.powf(options.dynatemp_exponent.into())
}

/// How long a repetition each next token would prolong: for each earlier place of the token, how many
/// tokens before it are those at the end of the text.
pub(super) fn repetition(text: &[u32], next: u32) -> usize {
    let before = |place: usize| {
        let pairs = text[..place].iter().rev().zip(text.iter().rev());
        pairs.take_while(|(a, b)| a == b).count()
    };
    let places = (0..text.len()).filter(|&place| text[place] == next);
    places.map(before).max().unwrap_or(0)
}

/// Mirostat by its definitions: what is kept, and how `mu` moves.
pub(super) struct Mirostat {
    pub(super) mu: f64,
    pub(super) tau: f64,
    pub(super) eta: f64,
}

impl Mirostat {
    pub(super) fn kept_v1(&self, logits: &[f32]) -> Vec<u32> {
        let mut tokens: Tokens = (0..).zip(logits.iter().copied().map(f64::from)).collect();
        sort(&mut tokens);
        let p = probabilities(&tokens);
        let (mut above, mut below) = (0.0, 0.0);
        for i in 1..p.len().min(100) {
            let t = ((i as f64 + 1.0) / i as f64).ln();
            above += t * (p[i - 1] / p[i]).ln();
            below += t * t;
        }
        let s = above / below;
        let epsilon = s - 1.0;
        let n = p.len() as f64;
        let k = (epsilon * 2_f64.powf(self.mu) / (1.0 - n.powf(-epsilon))).powf(1.0 / s);
        tokens.truncate((k as usize).max(1));
        tokens.iter().map(|t| t.0).collect()
    }

    pub(super) fn kept_v2(&self, logits: &[f32]) -> Vec<u32> {
        let mut tokens: Tokens = (0..).zip(logits.iter().copied().map(f64::from)).collect();
        sort(&mut tokens);
        let p = probabilities(&tokens);
        let count = p.iter().filter(|p| -p.log2() <= self.mu).count();
        tokens.truncate(count.max(1));
        tokens.iter().map(|t| t.0).collect()
    }

    pub(super) fn follow(&mut self, logits: &[f32], kept: &[u32], chosen: u32) {
        let tokens: Tokens = kept
            .iter()
            .map(|&id| (id, logits[id as usize].into()))
            .collect();
        let at = kept.iter().position(|&id| id == chosen).unwrap();
        let surprise = -probabilities(&tokens)[at].log2();
        self.mu -= self.eta * (surprise - self.tau);
    }
}
