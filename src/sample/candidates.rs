//! The tokens that may still be chosen.
//!
//! Tokens are ranked by logit, the greatest first, and by id where logits are equal. Candidates are
//! always kept in the order of ids: what is drawn does not depend on how a selection happens to leave
//! its elements.

use std::cmp::Ordering;

use super::exp::{exp, greatest, sum, sum_single};

/// A token that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Candidate {
    /// The token's id.
    pub token: u32,
    /// The logarithm of its probability, plus a number that is the same for all candidates. Finite.
    pub logit: f32,
}

impl Candidate {
    /// `Less` if this one ranks before the other.
    pub(super) fn rank(&self, other: &Candidate) -> Ordering {
        let by_logit = other.logit.total_cmp(&self.logit);
        by_logit.then(self.token.cmp(&other.token))
    }
}

/// The tokens that may be chosen next, and their logits: what a [`Sampler`](super::Sampler) changes.
///
/// At first these are all tokens of the vocabulary whose logit is a number.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// Finite, or minus infinity for a token that is no candidate.
    logits: Vec<f32>,
    /// The token of each logit; empty while that is its place, so that a vocabulary is one vector.
    tokens: Vec<u32>,
    scratch: Vec<Candidate>,
    weights: Vec<f32>,
    costs: Vec<f32>,
}

/// NaN is no candidate, infinity counts as the greatest finite number. Zeros of both signs become one,
/// since the ranking tells them apart.
fn clean(logit: f32) -> f32 {
    if logit > f32::NEG_INFINITY {
        (if logit < f32::MAX { logit } else { f32::MAX }) + 0.0
    } else {
        f32::NEG_INFINITY
    }
}

/// Whether the token's bit is set: bit `id % 32` of word `id / 32`.
pub(super) fn has_bit(words: &[u32], token: u32) -> bool {
    let word = words.get(token as usize / 32);
    word.is_some_and(|word| word >> (token % 32) & 1 == 1)
}

/// The most probable token.
pub(super) fn most_probable(logits: &[f32]) -> Option<u32> {
    let greatest = clean(greatest(logits));
    let at = |&logit: &f32| logit >= greatest && logit > f32::NEG_INFINITY;
    logits.iter().position(at).map(|at| at as u32)
}

impl Candidates {
    /// Number of candidates.
    #[must_use]
    pub fn len(&self) -> usize {
        let is_candidate = |&&logit: &&f32| logit > f32::NEG_INFINITY;
        self.logits.iter().filter(is_candidate).count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        greatest(&self.logits) == f32::NEG_INFINITY
    }

    /// All candidates, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = Candidate> + '_ {
        let candidate = |(place, &logit): (usize, &f32)| Candidate {
            token: self.tokens.get(place).copied().unwrap_or(place as u32),
            logit,
        };
        let is_candidate = |candidate: &Candidate| candidate.logit > f32::NEG_INFINITY;
        let all = self.logits.iter().enumerate();
        all.map(candidate).filter(is_candidate)
    }

    /// The most probable candidate; of equal ones that with the lowest id.
    #[must_use]
    pub fn most_probable(&self) -> Option<Candidate> {
        let place = most_probable(&self.logits)? as usize;
        Some(Candidate {
            token: self.token(place),
            logit: self.logits[place],
        })
    }

    /// The logit of a token; `None` if it is no candidate.
    #[must_use]
    pub fn logit(&self, token: u32) -> Option<f32> {
        let logit = self.logits[self.place(token)?];
        (logit > f32::NEG_INFINITY).then_some(logit)
    }

    /// Changes the logit of a token. NaN and minus infinity remove it, infinity counts as a very great
    /// number. A token that is no candidate does not become one.
    pub fn set_logit(&mut self, token: u32, logit: f32) {
        if let Some(place) = self.place(token)
            && self.logits[place] > f32::NEG_INFINITY
        {
            self.logits[place] = clean(logit);
        }
    }

    /// Removes the candidates for which `keep` is not true.
    pub fn retain(&mut self, mut keep: impl FnMut(Candidate) -> bool) {
        self.retain_places(|_, candidate| keep(candidate));
    }

    fn retain_places(&mut self, mut keep: impl FnMut(usize, Candidate) -> bool) {
        if self.tokens.is_empty() {
            self.tokens.extend(0..self.logits.len() as u32);
        }
        let mut kept = 0;
        for place in 0..self.logits.len() {
            let token = self.tokens[place];
            let logit = self.logits[place];
            if logit > f32::NEG_INFINITY && keep(place, Candidate { token, logit }) {
                self.tokens[kept] = token;
                self.logits[kept] = logit;
                kept += 1;
            }
        }
        self.logits.truncate(kept);
        self.tokens.truncate(kept);
    }

    /// Makes all tokens of a vocabulary candidates.
    pub(super) fn fill(&mut self, logits: &[f32]) {
        self.tokens.clear();
        self.logits.clear();
        self.logits.extend(logits.iter().map(|&logit| clean(logit)));
    }

    /// Makes those tokens candidates whose bits are set: bit `id % 32` of word `id / 32`.
    ///
    /// They become a list, except where there is a word for all tokens and most bits are set.
    pub(super) fn fill_allowed(&mut self, logits: &[f32], allowed: &[u32]) {
        let count: usize = allowed.iter().map(|word| word.count_ones() as usize).sum();
        self.tokens.clear();
        self.logits.clear();
        if count > logits.len() / 2 {
            for (logits, &word) in logits.chunks(32).zip(allowed) {
                let cleaned = logits.iter().enumerate().map(|(bit, &logit)| {
                    let logit = clean(logit);
                    if word >> bit & 1 == 1 {
                        logit
                    } else {
                        f32::NEG_INFINITY
                    }
                });
                self.logits.extend(cleaned);
            }
            return;
        }
        for (number, (logits, &word)) in logits.chunks(32).zip(allowed).enumerate() {
            let mut left = word;
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                if let Some(&logit) = logits.get(bit) {
                    self.tokens.push((number * 32 + bit) as u32);
                    self.logits.push(clean(logit));
                }
            }
        }
    }

    /// Changes the logit of a token that is a candidate, within finite numbers.
    pub(super) fn adjust(&mut self, token: u32, change: impl FnOnce(f32) -> f32) {
        if let Some(logit) = self.logit(token) {
            self.set_logit(token, change(logit).clamp(f32::MIN, f32::MAX));
        }
    }

    /// Divides the logits by a temperature, after moving the greatest one to 0.
    pub(super) fn divide(&mut self, temperature: f32) {
        // 0 / 0 would remove the most probable ones.
        let temperature = temperature.max(f32::MIN_POSITIVE);
        let greatest = greatest(&self.logits);
        if greatest > f32::NEG_INFINITY {
            for logit in &mut self.logits {
                *logit = (*logit - greatest) / temperature;
            }
        }
    }

    /// The distribution, if there is any candidate.
    pub(super) fn distribution(&self) -> Option<Distribution> {
        Distribution::of(&self.logits)
    }

    /// Keeps the first `count` of the ranking, at least one.
    pub(super) fn keep_first(&mut self, count: usize) {
        if count >= self.logits.len() {
            return;
        }
        let mut list = std::mem::take(&mut self.scratch);
        first(self.iter(), count.max(1), &mut list);
        list.sort_unstable_by_key(|candidate| candidate.token);
        self.tokens.clear();
        self.logits.clear();
        self.tokens
            .extend(list.iter().map(|candidate| candidate.token));
        self.logits
            .extend(list.iter().map(|candidate| candidate.logit));
        self.scratch = list;
    }

    /// The first `count` of the ranking, in its order.
    pub(super) fn ranking(&self, count: usize) -> Vec<Candidate> {
        let mut list = Vec::new();
        if count > 0 {
            first(self.iter(), count, &mut list);
        }
        list.sort_unstable_by(Candidate::rank);
        list
    }

    /// Keeps the candidates with the least `cost`, a function of the logit, that together have at least
    /// this share of the probability; at least one, and where costs are equal those that rank first.
    ///
    /// Nothing is sorted. What costs much is left out where the rest is enough; the masses of ranges of
    /// cost tell in which range the last one is, and only the candidates in there are ranked.
    pub(super) fn keep_share(&mut self, share: f32, cost: impl Fn(f32) -> f32) {
        /// In nats: of most vocabularies next to nothing is further away.
        const NEAR: f32 = 8.0;
        let greatest = greatest(&self.logits);
        if greatest == f32::NEG_INFINITY {
            return;
        }
        let wanted = f64::from(share) * self.weigh(greatest, &cost);
        for (weight, &cost) in self.weights.iter_mut().zip(&self.costs) {
            *weight = if cost > NEAR { 0.0 } else { *weight };
        }
        if sum(&self.weights, f64::from) > wanted {
            let costs = std::mem::take(&mut self.costs);
            self.retain_places(|place, _| costs[place] <= NEAR);
            self.costs = costs;
        }
        self.weigh(greatest, &cost);
        let ranges = Ranges::new(&self.costs, &self.weights);
        let (range, missing) = ranges.reach(wanted);
        let mut list = std::mem::take(&mut self.scratch);
        list.clear();
        list.extend((0..self.logits.len()).filter_map(|place| {
            let is_there = self.logits[place] > f32::NEG_INFINITY;
            (is_there && ranges.range(self.costs[place]) == range).then(|| Candidate {
                token: self.token(place),
                logit: self.logits[place],
            })
        }));
        let order = |a: &Candidate, b: &Candidate| {
            let by_cost = cost(a.logit).total_cmp(&cost(b.logit));
            by_cost.then_with(|| a.rank(b))
        };
        if let Some(last) = last_of_mass(&mut list, missing, greatest, order) {
            let most = cost(last.logit);
            let costs = std::mem::take(&mut self.costs);
            self.retain_places(|place, candidate| {
                costs[place] < most || costs[place] == most && order(&candidate, &last).is_le()
            });
            self.costs = costs;
        }
        self.scratch = list;
    }

    /// Sets the weight and the cost of each candidate, and gives the sum of the weights.
    fn weigh(&mut self, greatest: f32, cost: impl Fn(f32) -> f32) -> f64 {
        self.weights.clear();
        let weights = self.logits.iter().map(|&logit| exp(logit - greatest));
        self.weights.extend(weights);
        self.costs.clear();
        self.costs
            .extend(self.logits.iter().map(|&logit| cost(logit)));
        sum(&self.weights, f64::from)
    }

    /// Draws a candidate by its probability; `unit` is uniform in `0.0..1.0`.
    pub(super) fn draw(&mut self, unit: f64) -> Option<Candidate> {
        const CHUNK: usize = 256;
        let greatest = greatest(&self.logits);
        if greatest == f32::NEG_INFINITY {
            return None;
        }
        self.weights.clear();
        let weights = self.logits.iter().map(|&logit| exp(logit - greatest));
        self.weights.extend(weights);
        let chunks = || self.weights.chunks(CHUNK);
        let total: f64 = chunks().map(|chunk| sum(chunk, f64::from)).sum();
        let mut left = unit * total;
        let mut drawn = None;
        for (number, chunk) in chunks().enumerate() {
            let weight = sum(chunk, f64::from);
            if weight <= left {
                left -= weight;
                continue;
            }
            for (place, &weight) in chunk.iter().enumerate() {
                if weight > 0.0 {
                    drawn = Some(number * CHUNK + place);
                    left -= f64::from(weight);
                }
                if left < 0.0 {
                    break;
                }
            }
            break;
        }
        let last = || self.weights.iter().rposition(|&weight| weight > 0.0);
        // Rounding may leave nothing at the end.
        let place = drawn.or_else(last)?;
        Some(Candidate {
            token: self.token(place),
            logit: self.logits[place],
        })
    }

    fn token(&self, place: usize) -> u32 {
        self.tokens.get(place).copied().unwrap_or(place as u32)
    }

    fn place(&self, token: u32) -> Option<usize> {
        if self.tokens.is_empty() {
            Some(token as usize).filter(|&place| place < self.logits.len())
        } else {
            self.tokens.binary_search(&token).ok()
        }
    }
}

/// Puts the first `count` of the ranking, which is at least 1, into the list, in any order.
///
/// One pass: twice as many as wanted are collected, then the lower half of them is dropped, and from
/// there on only what beats the worst of them is collected.
fn first(candidates: impl Iterator<Item = Candidate>, count: usize, list: &mut Vec<Candidate>) {
    let mut floor = f32::NEG_INFINITY;
    list.clear();
    for candidate in candidates {
        // A later token with the same logit ranks behind.
        if candidate.logit <= floor {
            continue;
        }
        list.push(candidate);
        if list.len() == count.saturating_mul(2) {
            list.select_nth_unstable_by(count - 1, Candidate::rank);
            list.truncate(count);
            floor = list[count - 1].logit;
        }
    }
    if list.len() > count {
        list.select_nth_unstable_by(count - 1, Candidate::rank);
        list.truncate(count);
    }
}

/// The last candidate of the shortest beginning that weighs at least `missing`, or the last of all.
///
/// A bisection: each step selects the better half of what is undecided and weighs it.
fn last_of_mass(
    list: &mut [Candidate],
    mut missing: f64,
    greatest: f32,
    order: impl Fn(&Candidate, &Candidate) -> Ordering,
) -> Option<Candidate> {
    let mut undecided = list;
    while undecided.len() > 1 {
        let half = undecided.len() / 2;
        undecided.select_nth_unstable_by(half, &order);
        let (better, worse) = undecided.split_at_mut(half);
        let weight = |candidate: &Candidate| f64::from(exp(candidate.logit - greatest));
        let weight = better.iter().map(weight).sum::<f64>();
        undecided = if weight >= missing {
            better
        } else {
            missing -= weight;
            worse
        };
    }
    undecided.first().copied()
}

/// The masses of candidates by ranges of their cost.
struct Ranges {
    masses: [f64; Ranges::COUNT],
    per_cost: f32,
}

impl Ranges {
    const COUNT: usize = 256;
    /// In nats: next to nothing is further away.
    const MOST: f32 = 32.0;

    fn new(costs: &[f32], weights: &[f32]) -> Ranges {
        let most = greatest(costs).min(Ranges::MOST);
        let mut ranges = Ranges {
            masses: [0.0; Ranges::COUNT],
            per_cost: Ranges::COUNT as f32 / most,
        };
        for (&cost, &weight) in costs.iter().zip(weights) {
            ranges.masses[ranges.range(cost)] += f64::from(weight);
        }
        ranges
    }

    /// The conversion saturates.
    fn range(&self, cost: f32) -> usize {
        ((cost * self.per_cost) as usize).min(Ranges::COUNT - 1)
    }

    /// The range in which a mass is reached, and what is missing at its beginning.
    fn reach(&self, mut missing: f64) -> (usize, f64) {
        let mut last = (0, missing);
        for (range, &mass) in self.masses.iter().enumerate() {
            if mass > 0.0 {
                last = (range, missing);
                if mass >= missing {
                    break;
                }
            }
            missing -= mass;
        }
        last
    }
}

/// What logits say about probabilities: the softmax of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Distribution {
    pub(super) greatest: f32,
    /// The sum of `e` to the power of each logit's distance from the greatest.
    mass: f64,
    log_mass: f64,
}

impl Distribution {
    /// Of logits without NaN and plus infinity. `None` if there is no candidate.
    pub(super) fn of(logits: &[f32]) -> Option<Distribution> {
        let greatest = greatest(logits);
        (greatest > f32::NEG_INFINITY).then(|| {
            let mass = sum_single(logits, |logit| exp(logit - greatest));
            Distribution {
                greatest,
                mass,
                log_mass: mass.ln(),
            }
        })
    }

    /// The natural logarithm of a probability, at most 0.
    pub(super) fn log_probability(&self, logit: f32) -> f32 {
        (f64::from(logit) - f64::from(self.greatest) - self.log_mass) as f32
    }

    /// In nats.
    pub(super) fn entropy(&self, candidates: &Candidates) -> f32 {
        let term = |logit: f32| {
            // Whatever is further away weighs nothing.
            let distance = logit - self.greatest;
            let distance = if distance > -100.0 { distance } else { -100.0 };
            exp(distance) * distance
        };
        (self.log_mass - sum_single(&candidates.logits, term) / self.mass) as f32
    }
}

impl Candidates {
    /// The standard deviation of the logits.
    pub(super) fn deviation(&self) -> f32 {
        let count = self.len().max(1) as f64;
        let of_candidates =
            |logit: f32, term: f64| if logit > f32::NEG_INFINITY { term } else { 0.0 };
        let mean = sum(&self.logits, |logit| of_candidates(logit, f64::from(logit))) / count;
        let square = |logit| of_candidates(logit, (f64::from(logit) - mean).powi(2));
        (sum(&self.logits, square) / count).sqrt() as f32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(logits: &[f32]) -> Candidates {
        let mut candidates = Candidates::default();
        candidates.fill(logits);
        candidates
    }

    /// All candidates in the order of the ranking.
    fn ranking(logits: &[f32]) -> Vec<Candidate> {
        let mut ranking: Vec<_> = (0..)
            .zip(logits)
            .filter(|(_, logit)| **logit != f32::NEG_INFINITY && !logit.is_nan())
            .map(|(token, logit)| Candidate {
                token,
                logit: logit.min(f32::MAX),
            })
            .collect();
        ranking.sort_by(|a, b| b.logit.partial_cmp(&a.logit).unwrap());
        ranking
    }

    fn by_token(mut list: Vec<Candidate>) -> Vec<Candidate> {
        list.sort_by_key(|candidate| candidate.token);
        list
    }

    /// Few different values, so that there are ties, and all that is not a number.
    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => (-6_i8..6).prop_map(f32::from),
            8 => -20_f32..20.0,
            1 => prop::sample::select(vec![
                f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, -0.0, 0.0, 1e-40,
            ]),
        ]
    }

    proptest! {
        #[test]
        fn the_first_are_those_of_the_ranking(
            logits in prop::collection::vec(logit(), 1..300),
            count in 1_usize..320,
        ) {
            let mut kept = candidates(&logits);
            let mut expected = ranking(&logits);
            expected.truncate(count);
            prop_assert_eq!(kept.ranking(count), &expected[..]);
            kept.keep_first(count);
            prop_assert_eq!(kept.most_probable(), expected.first().copied());
            prop_assert_eq!(kept.len(), expected.len());
            prop_assert_eq!(kept.iter().collect::<Vec<_>>(), by_token(expected));
        }

        #[test]
        fn a_share_is_the_shortest_beginning_that_has_it(
            logits in prop::collection::vec(-40_f32..8.0, 1..200),
            share in 0_f32..1.0,
        ) {
            let mut kept = candidates(&logits);
            let greatest = kept.most_probable().unwrap().logit;
            kept.keep_share(share, |logit| greatest - logit);

            let ranking = ranking(&logits);
            let weight_of = |count: usize| -> f64 {
                ranking[..count].iter().map(|c| f64::from(c.logit - greatest).exp()).sum()
            };
            let mass = f64::from(share) * weight_of(ranking.len());
            let count = kept.len();
            prop_assert_eq!(kept.iter().collect::<Vec<_>>(), by_token(ranking[..count].to_vec()));
            prop_assert!(weight_of(count) >= mass * (1.0 - 1e-5));
            prop_assert!(count == 1 || weight_of(count - 1) <= mass * (1.0 + 1e-5));
        }

        #[test]
        fn entropy_and_deviation_are_those_of_the_definitions(
            logits in prop::collection::vec(-30_f32..30.0, 1..200),
        ) {
            let candidates = candidates(&logits);
            let count = logits.len() as f64;
            let mass: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
            let p = |&l: &f32| f64::from(l).exp() / mass;
            let entropy: f64 = logits.iter().map(|l| -p(l) * p(l).ln()).sum();
            let mean = logits.iter().copied().map(f64::from).sum::<f64>() / count;
            let variance = logits.iter().map(|&l| (f64::from(l) - mean).powi(2)).sum::<f64>() / count;
            let distribution = candidates.distribution().unwrap();
            let close = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-4;
            prop_assert!(close(distribution.entropy(&candidates), entropy));
            prop_assert!(close(distribution.log_probability(logits[0]), p(&logits[0]).ln()));
            prop_assert!(close(candidates.deviation(), variance.sqrt()));
        }
    }

    #[test]
    fn what_is_not_allowed_is_no_candidate() {
        let logits: Vec<f32> = (0..70).map(|id| id as f32 / 7.0).collect();
        // The last word is missing, and so are tokens 64 and on.
        for words in [[0x8000_0001_u32, 4], [!2, !4], [0, 0], [0, 1]] {
            let mut some = Candidates::default();
            some.fill(&logits[..3]);
            some.fill_allowed(&logits, &words);
            let expected: Vec<u32> = (0..64).filter(|&id| has_bit(&words, id)).collect();
            let found: Vec<u32> = some.iter().map(|candidate| candidate.token).collect();
            assert_eq!(found, expected);
            assert!(some.iter().all(|c| c.logit == logits[c.token as usize]));
            assert_eq!(
                some.most_probable().map(|c| c.token),
                expected.last().copied()
            );
            assert_eq!((some.logit(1), some.logit(65)), (None, None));
        }
        let mut some = Candidates::default();
        some.fill_allowed(&[f32::NAN, 1.0, 2.0], &[3]);
        assert_eq!(some.iter().map(|c| c.token).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn numbers_that_are_none_are_no_candidates() {
        let logits = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 1.0];
        let all = candidates(&logits);
        let pairs: Vec<_> = all.iter().map(|c| (c.token, c.logit)).collect();
        assert_eq!(pairs, [(2, f32::MAX), (3, 1.0)]);
        assert_eq!(all.len(), 2);
        assert_eq!(most_probable(&logits), Some(2));
        assert_eq!(most_probable(&logits[..2]), None);
        assert!(candidates(&logits[..2]).is_empty());
        assert!(candidates(&[]).distribution().is_none());
        assert_eq!(candidates(&[]).draw(0.5), None);
    }

    #[test]
    fn logits_are_changed_of_candidates_only() {
        let mut some = candidates(&[1.0, 2.0, 3.0, f32::NAN]);
        let check = |some: &mut Candidates| {
            some.set_logit(2, 7.0);
            assert_eq!(some.logit(2), Some(7.0));
            some.set_logit(3, 1.0);
            some.set_logit(9, 1.0);
            assert_eq!((some.logit(3), some.logit(9)), (None, None));
            some.adjust(2, |_| f32::NEG_INFINITY);
            assert_eq!(some.logit(2), Some(f32::MIN));
        };
        check(&mut some);
        some.retain(|candidate| candidate.token != 0);
        assert_eq!(some.logit(0), None);
        check(&mut some);
        some.set_logit(2, f32::NAN);
        assert_eq!(some.iter().map(|c| c.token).collect::<Vec<_>>(), [1]);
    }
}
