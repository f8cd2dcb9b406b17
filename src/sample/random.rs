//! A small pseudo-random generator: the same seed gives the same numbers everywhere.

use std::hash::{BuildHasher, RandomState};

/// xoshiro256++ 1.0 by David Blackman and Sebastiano Vigna (<https://prng.di.unimi.it/>), its state
/// filled by SplitMix64 as the authors recommend.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(super) fn from_seed(seed: u64) -> Random {
        let mut source = seed;
        Random {
            state: std::array::from_fn(|_| split_mix(&mut source)),
        }
    }

    fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s0.wrapping_add(*s3).rotate_left(23).wrapping_add(*s0);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }

    /// Uniform in `0.0..1.0`, with 53 random bits.
    pub(super) fn next_unit(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / (1u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * SCALE
    }
}

/// A seed that differs from call to call: the standard library seeds its hash maps from the operating
/// system.
pub(super) fn entropy() -> u64 {
    RandomState::new().hash_one(())
}

/// SplitMix64 (same source).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the authors' C program with the state 1, 2, 3, 4.
    #[test]
    fn xoshiro_gives_the_published_numbers() {
        let mut random = Random {
            state: [1, 2, 3, 4],
        };
        let expected = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
            14_011_001_112_246_962_877,
            12_406_186_145_184_390_807,
            15_849_039_046_786_891_736,
            10_450_023_813_501_588_000,
        ];
        assert_eq!(expected.map(|_| random.next_u64()), expected);
    }

    /// The first outputs of the authors' C program with the state 1477776061723855037.
    #[test]
    fn split_mix_gives_the_published_numbers() {
        let mut state = 1_477_776_061_723_855_037;
        let expected = [
            1_985_237_415_132_408_290,
            2_979_275_885_539_914_483,
            13_511_426_838_097_143_398,
            8_488_337_342_461_049_707,
            15_141_737_807_933_549_159,
        ];
        assert_eq!(expected.map(|_| split_mix(&mut state)), expected);
    }

    #[test]
    fn units_fill_the_half_open_interval() {
        let mut random = Random::from_seed(7);
        let mut bins = [0_u32; 8];
        for _ in 0..80_000 {
            let unit = random.next_unit();
            assert!((0.0..1.0).contains(&unit));
            bins[(unit * 8.0) as usize] += 1;
        }
        assert!(
            bins.iter().all(|count| (9_600..10_400).contains(count)),
            "{bins:?}"
        );
    }

    #[test]
    fn entropy_differs_from_call_to_call() {
        assert_ne!(entropy(), entropy());
    }
}
