use proptest::prelude::*;

use super::*;

/// Temperature 1 and no filter.
fn plain() -> SamplingOptions {
    SamplingOptions {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: Some(1),
    }
}

fn sampler(options: &SamplingOptions) -> Sampler {
    Sampler::new(options).unwrap()
}

/// The ids that the filters let through.
fn kept(options: &SamplingOptions, logits: &[f32]) -> Vec<u32> {
    let mut sampler = sampler(options);
    sampler.filter(logits, candidates::greatest(logits).unwrap());
    sampler
        .candidates
        .iter()
        .map(|candidate| candidate.id)
        .collect()
}

fn logits(probabilities: &[f32]) -> Vec<f32> {
    // The constant must not matter.
    probabilities
        .iter()
        .map(|probability| probability.ln() + 3.0)
        .collect()
}

/// The definition, step by step: sort, cut, weigh, cut. Probability of each id; a sum over the
/// threshold of `top_p` is judged with `slack`.
fn reference(options: &SamplingOptions, logits: &[f32], slack: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap());
    if options.top_k > 0 {
        order.truncate(options.top_k);
    }
    let exp = |id: usize, temperature: f64| {
        (f64::from(logits[id] - logits[order[0]]) / temperature).exp()
    };
    let mass: f64 = order.iter().map(|&id| exp(id, 1.0)).sum();
    let mut kept = order.clone();
    if options.top_p < 1.0 {
        let mut sum = 0.0;
        let enough = |&id: &usize| {
            sum += exp(id, 1.0) / mass;
            sum >= f64::from(options.top_p) + slack
        };
        kept.truncate(
            order
                .iter()
                .position(enough)
                .map_or(order.len(), |at| at + 1),
        );
    }
    kept.retain(|&id| exp(id, 1.0) >= f64::from(options.min_p) * (1.0 - 1e-5));
    let temperature = f64::from(options.temperature);
    let mass: f64 = kept.iter().map(|&id| exp(id, temperature)).sum();
    let probability = |id| {
        if kept.contains(&id) {
            exp(id, temperature) / mass
        } else {
            0.0
        }
    };
    (0..logits.len()).map(probability).collect()
}

#[test]
fn the_default_takes_the_most_probable_token_and_the_lowest_id_of_equal_ones() {
    let mut greedy = sampler(&SamplingOptions::default());
    assert_eq!(greedy.sample(&[0.5, 2.0, -1.0, 2.0]), 1);
    assert_eq!(greedy.sample(&[-3.0, -2.0, -1.0]), 2);
    assert_eq!(greedy.sample(&[-0.0, 0.0]), 0);
}

#[test]
fn each_filter_follows_its_definition() {
    let logits = logits(&[0.1, 0.4, 0.05, 0.15, 0.3]);
    let top_k = |top_k| kept(&SamplingOptions { top_k, ..plain() }, &logits);
    assert_eq!(top_k(1), [1]);
    assert_eq!(top_k(3), [1, 3, 4]);
    assert_eq!(top_k(5), [0, 1, 2, 3, 4]);
    assert_eq!(top_k(0), [0, 1, 2, 3, 4]);
    let top_p = |top_p| kept(&SamplingOptions { top_p, ..plain() }, &logits);
    assert_eq!(top_p(0.0), [1]);
    assert_eq!(top_p(0.39), [1]);
    assert_eq!(top_p(0.41), [1, 4]);
    assert_eq!(top_p(0.84), [1, 3, 4]);
    assert_eq!(top_p(0.94), [0, 1, 3, 4]);
    assert_eq!(top_p(1.0), [0, 1, 2, 3, 4]);
    let min_p = |min_p| kept(&SamplingOptions { min_p, ..plain() }, &logits);
    assert_eq!(min_p(0.0), [0, 1, 2, 3, 4]);
    assert_eq!(min_p(0.2), [0, 1, 3, 4]);
    assert_eq!(min_p(0.3), [1, 3, 4]);
    assert_eq!(min_p(1.0), [1]);
}

#[test]
fn top_p_weighs_what_top_k_left_and_min_p_what_top_p_left() {
    // The first three weigh 0.8: of these, 0.4 and 0.25 are 81 %.
    let logits = logits(&[0.15, 0.4, 0.1, 0.1, 0.25]);
    assert_eq!(
        kept(
            &SamplingOptions {
                top_k: 3,
                top_p: 0.75,
                ..plain()
            },
            &logits
        ),
        [1, 4]
    );
    assert_eq!(
        kept(
            &SamplingOptions {
                top_p: 0.75,
                ..plain()
            },
            &logits
        ),
        [0, 1, 4]
    );
    // What `min_p` removes still counts for `top_p`.
    assert_eq!(
        kept(
            &SamplingOptions {
                top_p: 0.6,
                min_p: 0.3,
                ..plain()
            },
            &logits
        ),
        [1, 4]
    );
    // The temperature comes last: it does not change what is left.
    let hot = SamplingOptions {
        temperature: 5.0,
        top_k: 3,
        top_p: 0.75,
        ..plain()
    };
    assert_eq!(kept(&hot, &logits), [1, 4]);
}

/// 200 000 draws against the reference's probabilities; with a fixed seed the result is always the
/// same.
#[test]
fn draws_are_distributed_as_the_definition_says() {
    const DRAWS: u32 = 200_000;
    let logits = logits(&[0.02, 0.3, 0.05, 0.2, 0.01, 0.12, 0.08, 0.15, 0.04, 0.03]);
    let cases = [
        plain(),
        SamplingOptions {
            temperature: 0.5,
            ..plain()
        },
        SamplingOptions {
            temperature: 3.0,
            ..plain()
        },
        SamplingOptions {
            temperature: 1.5,
            top_k: 4,
            ..plain()
        },
        SamplingOptions {
            top_p: 0.7,
            ..plain()
        },
        SamplingOptions {
            temperature: 2.0,
            min_p: 0.25,
            ..plain()
        },
        SamplingOptions {
            temperature: 0.8,
            top_k: 8,
            top_p: 0.9,
            min_p: 0.2,
            seed: Some(5),
        },
    ];
    for options in cases {
        let probabilities = reference(&options, &logits, 0.0);
        let mut counts = vec![0_u32; logits.len()];
        let mut sampler = sampler(&options);
        for _ in 0..DRAWS {
            counts[sampler.sample(&logits) as usize] += 1;
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
fn a_seed_gives_the_same_draws_and_another_seed_others() {
    let logits = [0.0; 50];
    let draws = |seed| {
        let mut sampler = sampler(&SamplingOptions { seed, ..plain() });
        (0..100)
            .map(|_| sampler.sample(&logits))
            .collect::<Vec<_>>()
    };
    assert_eq!(draws(Some(3)), draws(Some(3)));
    assert_ne!(draws(Some(3)), draws(Some(4)));
    assert_ne!(draws(None), draws(None));
}

#[test]
fn what_is_no_number_is_never_chosen() {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    for options in [
        SamplingOptions::default(),
        plain(),
        SamplingOptions {
            top_k: 2,
            ..plain()
        },
    ] {
        let mut sampler = sampler(&options);
        for _ in 0..20 {
            assert_eq!(sampler.sample(&[NAN, -INF, 1.0, NAN]), 2, "{options:?}");
            assert_eq!(sampler.sample(&[NAN, 7.0, INF, f32::MIN]), 2, "{options:?}");
        }
        assert_eq!(sampler.sample(&[NAN, NAN]), 0);
        assert_eq!(sampler.sample(&[-INF]), 0);
        assert_eq!(sampler.sample(&[]), 0);
    }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let refused = |options: SamplingOptions| match Sampler::new(&options) {
        Err(Error::Argument { name, .. }) => name,
        other => panic!("{options:?}: {other:?}"),
    };
    for temperature in [-0.1, f32::NAN, f32::INFINITY] {
        assert_eq!(
            refused(SamplingOptions {
                temperature,
                ..plain()
            }),
            "temperature"
        );
    }
    for share in [-0.1, 1.1, f32::NAN, f32::INFINITY] {
        assert_eq!(
            refused(SamplingOptions {
                top_p: share,
                ..plain()
            }),
            "top_p"
        );
        assert_eq!(
            refused(SamplingOptions {
                min_p: share,
                ..plain()
            }),
            "min_p"
        );
    }
}

proptest! {
    #[test]
    fn filters_together_follow_their_definition(
        logits in prop::collection::vec(-6_f32..6.0, 1..120),
        top_k in 0_usize..60,
        top_p in 0_f32..=1.0,
        min_p in prop_oneof![Just(0_f32), 0_f32..=1.0],
    ) {
        let options = SamplingOptions { top_k, top_p, min_p, ..plain() };
        let kept = kept(&options, &logits);
        // Rounding may decide about one token at each threshold.
        let of_reference = |slack, min_p| -> Vec<u32> {
            let options = SamplingOptions { min_p, ..options.clone() };
            let probabilities = reference(&options, &logits, slack);
            (0..).zip(probabilities).filter(|(_, p)| *p > 0.0).map(|(id, _)| id).collect()
        };
        let least = of_reference(-1e-5, min_p * 1.00002);
        let most = of_reference(1e-5, min_p);
        prop_assert!(kept.iter().all(|id| most.contains(id)), "{kept:?} {most:?}");
        prop_assert!(least.iter().all(|id| kept.contains(id)), "{kept:?} {least:?}");
        prop_assert!(!kept.is_empty());
    }

    #[test]
    fn no_options_and_no_logits_panic(
        bits in prop::collection::vec(any::<u32>(), 0..100),
        temperature in prop_oneof![0_f32..4.0, Just(1e-45), Just(f32::MAX)],
        top_k in prop_oneof![0_usize..120, Just(usize::MAX)],
        top_p in 0_f32..=1.0,
        min_p in 0_f32..=1.0,
    ) {
        let logits: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let options = SamplingOptions { temperature, top_k, top_p, min_p, seed: Some(0) };
        let id = sampler(&options).sample(&logits) as usize;
        prop_assert!(id < logits.len().max(1));
        if logits.iter().any(|logit| *logit > f32::NEG_INFINITY) {
            prop_assert!(logits[id] > f32::NEG_INFINITY);
        }
    }
}
