mod reference;
mod steps;

use proptest::prelude::*;

use super::*;
use crate::Error;

/// Temperature 1 and nothing else.
fn plain() -> SamplingOptions {
    SamplingOptions {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: Some(1),
        dry_sequence_breakers: Vec::new(),
        ..Default::default()
    }
}

fn chain(options: &SamplingOptions) -> SamplerChain {
    SamplerChain::new(options).unwrap()
}

/// Chooses once, and gives the candidates that were left for the draw.
fn left(chain: &mut SamplerChain, logits: &[f32]) -> Vec<Candidate> {
    chain.choose(logits, None);
    chain.candidates.iter().collect()
}

/// The ids that the filters let through.
fn kept(options: &SamplingOptions, logits: &[f32]) -> Vec<u32> {
    let left = left(&mut chain(options), logits);
    left.iter().map(|candidate| candidate.token).collect()
}

fn logits(probabilities: &[f32]) -> Vec<f32> {
    // The constant must not matter.
    probabilities.iter().map(|p| p.ln() + 3.0).collect()
}

#[test]
fn the_default_takes_the_most_probable_token_and_the_lowest_id_of_equal_ones() {
    let mut greedy = chain(&SamplingOptions::default());
    assert_eq!(greedy.sample(&[0.5, 2.0, -1.0, 2.0]), Some(1));
    assert_eq!(greedy.sample(&[-3.0, -2.0, -1.0]), Some(2));
    assert_eq!(greedy.sample(&[-0.0, 0.0]), Some(0));
    let mut biased = chain(&SamplingOptions {
        logit_bias: vec![(0, 1.5)],
        ..Default::default()
    });
    assert_eq!(biased.sample(&[0.5, 2.0, -1.0, 2.0]), Some(0));
    assert_eq!(biased.sample(&[0.5, 2.1, -1.0, 2.1]), Some(1));
}

#[test]
fn steps_follow_in_the_order_of_llama_cpp() {
    // The first three weigh 0.8: of these, 0.4 and 0.25 are 81 %.
    let shares = logits(&[0.15, 0.4, 0.1, 0.1, 0.25]);
    let top_k_and_p = SamplingOptions {
        top_k: 3,
        top_p: 0.75,
        ..plain()
    };
    assert_eq!(kept(&top_k_and_p, &shares), [1, 4]);
    let top_p = SamplingOptions {
        top_k: 0,
        ..top_k_and_p.clone()
    };
    assert_eq!(kept(&top_p, &shares), [0, 1, 4]);
    // What `min_p` removes still counts for `top_p`.
    let top_and_min_p = SamplingOptions {
        top_p: 0.6,
        min_p: 0.3,
        ..plain()
    };
    assert_eq!(kept(&top_and_min_p, &shares), [1, 4]);
    // The temperature comes last: it does not change what is left.
    let hot = SamplingOptions {
        temperature: 5.0,
        ..top_k_and_p.clone()
    };
    assert_eq!(kept(&hot, &shares), [1, 4]);
    // XTC takes from what they leave, so 0.25 is the least.
    let xtc = SamplingOptions {
        xtc_probability: 1.0,
        ..top_k_and_p
    };
    assert_eq!(kept(&xtc, &shares), [4]);
}

/// 200 000 draws against the reference's probabilities; with a fixed seed the result is always the
/// same.
#[test]
fn draws_are_distributed_as_the_definition_says() {
    const DRAWS: u32 = 200_000;
    let logits = logits(&[0.02, 0.3, 0.05, 0.2, 0.01, 0.12, 0.08, 0.15, 0.04, 0.03]);
    let with = |change: fn(&mut SamplingOptions)| {
        let mut options = plain();
        change(&mut options);
        options
    };
    let cases = [
        plain(),
        with(|o| o.temperature = 0.5),
        with(|o| o.temperature = 3.0),
        with(|o| (o.temperature, o.top_k) = (1.5, 4)),
        with(|o| o.top_p = 0.7),
        with(|o| (o.temperature, o.min_p) = (2.0, 0.25)),
        with(|o| o.typical_p = 0.6),
        with(|o| o.top_n_sigma = 1.0),
        with(|o| o.dynatemp_range = 0.8),
        with(|o| {
            (o.temperature, o.top_k, o.top_p, o.min_p) = (0.8, 8, 0.9, 0.2);
            (o.typical_p, o.top_n_sigma) = (0.95, 2.0);
            (o.dynatemp_range, o.dynatemp_exponent, o.seed) = (0.4, 2.0, Some(5));
        }),
    ];
    for options in cases {
        let probabilities = reference::distribution(&options, &logits);
        let mut counts = vec![0_u32; logits.len()];
        let mut chain = chain(&options);
        for _ in 0..DRAWS {
            counts[chain.sample(&logits).unwrap() as usize] += 1;
        }
        let mut chi_square = 0.0;
        for (&probability, &count) in probabilities.iter().zip(&counts) {
            if probability == 0.0 {
                assert_eq!(count, 0, "{options:?}: {counts:?}");
                continue;
            }
            let expected = probability * f64::from(DRAWS);
            chi_square += (f64::from(count) - expected).powi(2) / expected;
        }
        // The 99.9th percentile for 9 degrees of freedom, the most there are here.
        assert!(chi_square < 27.9, "{options:?}: {chi_square}");
    }
}

#[test]
fn a_large_vocabulary_is_drawn_from_evenly() {
    let logits = vec![1.0; 5_000];
    let mut chain = chain(&plain());
    let mut bins = [0_u32; 10];
    for _ in 0..20_000 {
        bins[chain.sample(&logits).unwrap() as usize / 500] += 1;
    }
    let square = |&count: &u32| (f64::from(count) - 2_000.0).powi(2) / 2_000.0;
    let chi_square: f64 = bins.iter().map(square).sum();
    assert!(chi_square < 27.9, "{bins:?}");
}

#[test]
fn a_seed_gives_the_same_draws_and_another_seed_others() {
    let logits = [0.0; 50];
    let all = SamplingOptions {
        xtc_probability: 0.5,
        xtc_threshold: 0.01,
        repeat_penalty: 1.1,
        presence_penalty: 0.1,
        dry_multiplier: 0.5,
        ..plain()
    };
    for options in [plain(), all] {
        let draws = |seed| {
            let mut chain = chain(&SamplingOptions {
                seed,
                ..options.clone()
            });
            let draws = (0..100).map(|_| chain.sample(&logits).unwrap());
            draws.collect::<Vec<_>>()
        };
        assert_eq!(draws(Some(3)), draws(Some(3)));
        assert_ne!(draws(Some(3)), draws(Some(4)));
        assert_ne!(draws(None), draws(None));
    }
}

/// What a seed means is not to change without notice.
#[test]
fn a_seed_gives_the_draws_it_always_gave() {
    let logits: Vec<f32> = (0..1000)
        .map(|id| (id * 37 % 101) as f32 * 0.0625)
        .collect();
    let mut chain = chain(&plain());
    let draws: Vec<u32> = (0..8).map(|_| chain.sample(&logits).unwrap()).collect();
    assert_eq!(draws, [816, 747, 100, 745, 187, 592, 988, 524]);
}

#[test]
fn what_is_no_number_is_never_chosen() {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    let top_k = SamplingOptions {
        top_k: 2,
        ..plain()
    };
    for options in [SamplingOptions::default(), plain(), top_k] {
        let mut chain = chain(&options);
        for _ in 0..20 {
            assert_eq!(chain.sample(&[NAN, -INF, 1.0, NAN]), Some(2), "{options:?}");
            assert_eq!(
                chain.sample(&[NAN, 7.0, INF, f32::MIN]),
                Some(2),
                "{options:?}"
            );
        }
        assert_eq!(chain.sample(&[NAN, NAN]), None);
        assert_eq!(chain.sample(&[-INF]), None);
        assert_eq!(chain.sample(&[]), None);
    }
}

#[test]
fn forced_tokens_come_first_and_banned_ones_never() {
    let mut chain = chain(&SamplingOptions {
        forced: vec![2, 0, 2, 9],
        banned: vec![1, 77],
        ..Default::default()
    });
    let logits = [1.0, 3.0, 0.0];
    let mut next = || chain.sample(&logits);
    assert_eq!([next(), next(), next()], [Some(2), Some(0), Some(2)]);
    // The vocabulary has no token 9.
    assert_eq!([next(), next()], [None, Some(0)]);
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut SamplingOptions)| {
        let mut options = plain();
        change(&mut options);
        match SamplerChain::new(&options) {
            Err(Error::Argument { name, .. }) => name,
            other => panic!("{options:?}: {other:?}"),
        }
    };
    for value in [-0.1, f32::NAN, f32::INFINITY] {
        assert_eq!(refused(&|o| o.temperature = value), "temperature");
        assert_eq!(refused(&|o| o.top_n_sigma = value), "top_n_sigma");
        assert_eq!(refused(&|o| o.dynatemp_range = value), "dynatemp_range");
        assert_eq!(
            refused(&|o| o.dynatemp_exponent = value),
            "dynatemp_exponent"
        );
        assert_eq!(refused(&|o| o.dry_multiplier = value), "dry_multiplier");
        assert_eq!(refused(&|o| o.dry_base = value), "dry_base");
        assert_eq!(refused(&|o| o.mirostat_tau = value), "mirostat_tau");
        assert_eq!(refused(&|o| o.mirostat_eta = value), "mirostat_eta");
        assert_eq!(refused(&|o| o.repeat_penalty = value), "repeat_penalty");
        for share in [value, 1.1] {
            assert_eq!(refused(&|o| o.top_p = share), "top_p");
            assert_eq!(refused(&|o| o.min_p = share), "min_p");
            assert_eq!(refused(&|o| o.typical_p = share), "typical_p");
            assert_eq!(refused(&|o| o.xtc_probability = share), "xtc_probability");
            assert_eq!(refused(&|o| o.xtc_threshold = share), "xtc_threshold");
        }
    }
    assert_eq!(refused(&|o| o.repeat_penalty = 0.0), "repeat_penalty");
    assert_eq!(refused(&|o| o.dry_base = 0.9), "dry_base");
    for value in [f32::NAN, f32::INFINITY] {
        assert_eq!(refused(&|o| o.presence_penalty = value), "presence_penalty");
        assert_eq!(
            refused(&|o| o.frequency_penalty = value),
            "frequency_penalty"
        );
        assert_eq!(refused(&|o| o.logit_bias = vec![(0, value)]), "logit_bias");
    }
    let both = |o: &mut SamplingOptions| (o.forced, o.banned) = (vec![1, 2], vec![2]);
    assert_eq!(refused(&both), "forced");
    let by_bias = |o: &mut SamplingOptions| {
        (o.forced, o.logit_bias) = (vec![1], vec![(1, f32::NEG_INFINITY)]);
    };
    assert_eq!(refused(&by_bias), "forced");
    let breakers = |o: &mut SamplingOptions| {
        (o.dry_multiplier, o.dry_sequence_breakers) = (1.0, vec!["\n".into()]);
    };
    assert_eq!(refused(&breakers), "dry_sequence_breakers");
    let empty = |o: &mut SamplingOptions| o.dry_sequence_breakers = vec![String::new()];
    assert_eq!(refused(&empty), "dry_sequence_breakers");
}

fn number(most: f32) -> impl Strategy<Value = f32> {
    prop_oneof![
        3 => 0.0..=most,
        1 => prop::sample::select(vec![0.0, most, most / 2.0, 1e-45, most * 1e-6]),
    ]
}

fn unbounded() -> impl Strategy<Value = f32> {
    prop_oneof![3 => number(4.0), 1 => number(f32::MAX)]
}

fn count() -> impl Strategy<Value = usize> {
    prop_oneof![2 => 0_usize..9, 1 => 0_usize..120, 1 => Just(usize::MAX)]
}

prop_compose! {
    fn filter_options()(
        (temperature, top_k, top_p, min_p) in (unbounded(), count(), number(1.0), number(1.0)),
        (typical_p, top_n_sigma) in (number(1.0), unbounded()),
        (xtc_probability, xtc_threshold) in (number(1.0), number(1.0)),
        (dynatemp_range, dynatemp_exponent) in (unbounded(), unbounded()),
        mirostat in prop::sample::select(vec![
            None, Some(MirostatVersion::V1), Some(MirostatVersion::V2)
        ]),
        (mirostat_tau, mirostat_eta) in (unbounded(), unbounded()),
    ) -> SamplingOptions {
        SamplingOptions {
            temperature, top_k, top_p, min_p, typical_p, top_n_sigma, xtc_probability,
            xtc_threshold, dynatemp_range, dynatemp_exponent, mirostat, mirostat_tau, mirostat_eta,
            ..plain()
        }
    }
}

prop_compose! {
    fn any_options()(
        filters in filter_options(),
        (repeat, presence, frequency) in (unbounded(), unbounded(), unbounded()),
        sign in prop::sample::select(vec![-1.0_f32, 1.0]),
        (repeat_last_n, dry_penalty_last_n, dry_allowed_length) in (count(), count(), count()),
        (dry_multiplier, dry_base) in (unbounded(), unbounded()),
        biases in prop::collection::vec((0_u32..120, unbounded()), 0..5),
        banned in prop::collection::vec(0_u32..120, 0..30),
    ) -> SamplingOptions {
        let bias = |&(token, bias): &(u32, f32)| {
            (token, if bias == f32::MAX { f32::NEG_INFINITY } else { sign * bias })
        };
        SamplingOptions {
            repeat_penalty: repeat.max(f32::from_bits(1)),
            presence_penalty: sign * presence,
            frequency_penalty: sign * frequency,
            repeat_last_n, dry_penalty_last_n, dry_allowed_length, dry_multiplier,
            dry_base: dry_base.max(1.0),
            logit_bias: biases.iter().map(bias).collect(),
            banned,
            ..filters
        }
    }
}

fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    let bits = any::<u32>().prop_map(f32::from_bits);
    prop_oneof![
        prop::collection::vec(bits, 0..100),
        prop::collection::vec(-9_f32..9.0, 0..100),
        prop::collection::vec(
            prop::sample::select(vec![f32::NAN, f32::MAX, f32::MIN, 0.0]),
            0..20
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_options_and_no_logits_panic_or_give_a_banned_token(
        options in any_options(),
        logits in any_logits(),
        text in prop::collection::vec(0_u32..5, 0..40),
    ) {
        let mut chain = chain(&options);
        for token in text {
            chain.accept(token);
        }
        let is_banned = |id: u32| {
            options.banned.contains(&id) || options.logit_bias.contains(&(id, f32::NEG_INFINITY))
        };
        let allowed = |id: u32| {
            logits.get(id as usize).is_some_and(|logit| *logit > f32::NEG_INFINITY) && !is_banned(id)
        };
        let is_some = (0..logits.len() as u32).any(allowed);
        for _ in 0..4 {
            let token = chain.sample(&logits);
            prop_assert_eq!(token.is_some(), is_some);
            prop_assert!(token.is_none_or(allowed), "{:?}", token);
        }
    }

    #[test]
    fn filters_together_follow_their_definition(
        logits in prop::collection::vec(-6_f32..6.0, 1..120),
        top_k in 0_usize..60,
        (top_p, typical_p) in (0.01_f32..=1.0, prop_oneof![Just(1_f32), 0.01_f32..1.0]),
        (min_p, top_n_sigma) in (prop_oneof![Just(0_f32), 0_f32..=1.0], 0_f32..4.0),
    ) {
        let options = SamplingOptions { top_k, top_p, min_p, typical_p, top_n_sigma, ..plain() };
        let of_reference = |slack: f32| {
            let moved = SamplingOptions {
                top_p: top_p * slack,
                typical_p: typical_p * slack,
                top_n_sigma: top_n_sigma * slack,
                min_p: min_p / slack,
                ..options.clone()
            };
            let positive = (0..).zip(reference::distribution(&moved, &logits));
            positive.filter(|(_, p)| *p > 0.0).map(|(id, _)| id).collect::<Vec<u32>>()
        };
        // Rounding may decide about a token at a threshold: such cases say nothing.
        let (least, most) = (of_reference(1.0 - 1e-5), of_reference(1.0 + 1e-5));
        prop_assume!(least == most);
        prop_assert_eq!(kept(&options, &logits), least);
    }
}
