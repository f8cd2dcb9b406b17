//! The tokens that a draw may still choose, and the filters that remove some.
//!
//! Tokens are ranked by logit, the greatest first, and by id where logits are equal. Every filter
//! keeps a beginning of this ranking, and every list here is kept in the order of ids: so what is
//! drawn does not depend on how a selection happens to leave its elements.

use std::cmp::Ordering;

/// A token and its logit, which is finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) logit: f32,
}

impl Candidate {
    /// `Less` if this one ranks before the other.
    fn rank(&self, other: &Candidate) -> Ordering {
        other
            .logit
            .total_cmp(&self.logit)
            .then(self.id.cmp(&other.id))
    }
}

/// The logits that a token can have: NaN and minus infinity are no candidates, infinity counts as
/// the greatest finite number.
pub(super) fn all(logits: &[f32]) -> impl Iterator<Item = Candidate> + Clone {
    // Zeros of both signs become one, since the ranking tells them apart.
    let candidate = |(id, &logit): (usize, &f32)| Candidate {
        id: id as u32,
        logit: logit.min(f32::MAX) + 0.0,
    };
    logits
        .iter()
        .enumerate()
        .filter(|&(_, &logit)| logit > f32::NEG_INFINITY)
        .map(candidate)
}

/// The greatest logit; `None` if there is no candidate.
pub(super) fn greatest(logits: &[f32]) -> Option<f32> {
    // `f32::max` ignores NaN.
    let greatest = logits
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
        .min(f32::MAX);
    (greatest > f32::NEG_INFINITY).then_some(greatest)
}

/// Puts the first `k` of the ranking into the list, which is emptied before.
///
/// `k` is at least 1. One pass: twice as many as wanted are collected, then the lower half of them
/// is dropped, and from there on only what beats the worst of them is collected.
pub(super) fn top_k(logits: &[f32], k: usize, list: &mut Vec<Candidate>) {
    let capacity = k.saturating_mul(2).min(logits.len());
    let mut floor = f32::NEG_INFINITY;
    list.clear();
    for candidate in all(logits) {
        // A later token with the same logit ranks behind.
        if candidate.logit <= floor {
            continue;
        }
        list.push(candidate);
        if list.len() == capacity && k < capacity {
            list.select_nth_unstable_by(k - 1, Candidate::rank);
            list.truncate(k);
            floor = list[k - 1].logit;
        }
    }
    if list.len() > k {
        list.select_nth_unstable_by(k - 1, Candidate::rank);
        list.truncate(k);
    }
    list.sort_unstable_by_key(|candidate| candidate.id);
}

/// `e` to the power of the logit's distance from the greatest one.
fn weight(logit: f32, greatest: f32) -> f32 {
    (logit - greatest).exp()
}

/// The sum of all weights.
pub(super) fn mass(candidates: impl Iterator<Item = Candidate>, greatest: f32) -> f64 {
    candidates
        .map(|candidate| f64::from(weight(candidate.logit, greatest)))
        .sum()
}

/// The masses of tokens by their distance from the greatest logit.
///
/// They tell roughly, but in one pass, how far down the ranking some mass reaches.
pub(super) struct Profile([f64; Profile::STEPS]);

impl Profile {
    const STEPS: usize = 128;
    const STEPS_PER_NAT: f32 = 4.0;

    pub(super) fn new(candidates: impl Iterator<Item = Candidate>, greatest: f32) -> Profile {
        let mut masses = [0.0; Profile::STEPS];
        for Candidate { logit, .. } in candidates {
            // The last step holds all that is further away; the conversion saturates.
            let step = (Profile::distance(logit, greatest) as usize).min(Profile::STEPS - 1);
            masses[step] += f64::from(weight(logit, greatest));
        }
        Profile(masses)
    }

    /// In steps.
    pub(super) fn distance(logit: f32, greatest: f32) -> f32 {
        (greatest - logit) * Profile::STEPS_PER_NAT
    }

    pub(super) fn mass(&self) -> f64 {
        self.0.iter().sum()
    }

    /// A distance, in steps, so that the candidates that are nearer have the mass.
    pub(super) fn reach(&self, mass: f64) -> f32 {
        let mut sum = 0.0;
        let reached = |step: &f64| {
            sum += step;
            sum >= mass
        };
        match self.0[..Profile::STEPS - 1].iter().position(reached) {
            Some(step) => (step + 1) as f32,
            None => f32::INFINITY,
        }
    }
}

/// The logit of a token that is `min_p` times as probable as the most probable one.
pub(super) fn min_p_floor(min_p: f32, greatest: f32) -> f32 {
    greatest + min_p.ln()
}

/// Keeps the shortest beginning of the ranking that weighs at least `mass`, at least one candidate.
///
/// A bisection: each step selects the better half of what is still undecided and weighs it, so the
/// whole is linear and nothing is sorted.
pub(super) fn keep_mass(
    list: &mut Vec<Candidate>,
    mass: f64,
    greatest: f32,
    scratch: &mut Vec<Candidate>,
) {
    scratch.clear();
    scratch.extend_from_slice(list);
    let mut undecided = &mut scratch[..];
    let mut missing = mass;
    while undecided.len() > 1 {
        let half = undecided.len() / 2;
        undecided.select_nth_unstable_by(half, Candidate::rank);
        let (better, worse) = undecided.split_at_mut(half);
        let weight = self::mass(better.iter().copied(), greatest);
        undecided = if weight >= missing {
            better
        } else {
            missing -= weight;
            worse
        };
    }
    if let [last] = undecided {
        list.retain(|candidate| candidate.rank(last).is_le());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All candidates in the order of the ranking.
    fn ranking(logits: &[f32]) -> Vec<Candidate> {
        let mut ranking: Vec<_> = (0..)
            .zip(logits)
            .filter(|(_, logit)| **logit != f32::NEG_INFINITY && !logit.is_nan())
            .map(|(id, logit)| Candidate {
                id,
                logit: logit.min(f32::MAX),
            })
            .collect();
        ranking.sort_by(|a, b| b.logit.partial_cmp(&a.logit).unwrap());
        ranking
    }

    fn by_id(mut list: Vec<Candidate>) -> Vec<Candidate> {
        list.sort_by_key(|candidate| candidate.id);
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
        fn top_k_keeps_the_first_of_the_ranking(
            logits in prop::collection::vec(logit(), 1..300),
            k in 1_usize..320,
        ) {
            let mut list = vec![Candidate { id: 9, logit: 9.0 }];
            top_k(&logits, k, &mut list);
            let mut expected = ranking(&logits);
            expected.truncate(k);
            prop_assert_eq!(list, by_id(expected));
        }

        #[test]
        fn keep_mass_keeps_the_shortest_beginning(
            logits in prop::collection::vec(-8_f32..8.0, 1..200),
            share in 0_f64..1.0,
        ) {
            let greatest = greatest(&logits).unwrap();
            let mass = share * mass(all(&logits), greatest);
            let mut list: Vec<_> = all(&logits).collect();
            keep_mass(&mut list, mass, greatest, &mut Vec::new());

            let ranking = ranking(&logits);
            let weight_of = |count: usize| -> f64 {
                ranking[..count].iter().map(|c| f64::from(c.logit - greatest).exp()).sum()
            };
            let count = list.len();
            prop_assert_eq!(&list, &by_id(ranking[..count].to_vec()));
            prop_assert!(weight_of(count) >= mass * (1.0 - 1e-5));
            prop_assert!(count == 1 || weight_of(count - 1) <= mass * (1.0 + 1e-5));
        }

        #[test]
        fn a_profile_reaches_as_far_as_the_mass(
            logits in prop::collection::vec(-30_f32..30.0, 1..200),
            share in 0_f64..=1.0,
        ) {
            let greatest = greatest(&logits).unwrap();
            let profile = Profile::new(all(&logits), greatest);
            let total = mass(all(&logits), greatest);
            prop_assert!((profile.mass() / total - 1.0).abs() < 1e-9);
            let reach = profile.reach(share * total);
            let within = |reach: f32| {
                let near = |c: &Candidate| Profile::distance(c.logit, greatest) < reach;
                mass(all(&logits).filter(near), greatest) / total
            };
            prop_assert!(within(reach) >= share - 1e-9);
            prop_assert!(reach == f32::INFINITY || within(reach - 1.0) <= share + 1e-9);
        }
    }

    #[test]
    fn numbers_that_are_none_are_no_candidates() {
        let logits = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 1.0];
        let expected = [
            Candidate {
                id: 2,
                logit: f32::MAX,
            },
            Candidate { id: 3, logit: 1.0 },
        ];
        assert_eq!(all(&logits).collect::<Vec<_>>(), expected);
        assert_eq!(greatest(&logits), Some(f32::MAX));
        assert_eq!(greatest(&logits[..2]), None);
        assert_eq!(greatest(&[]), None);
    }
}
