//! How many guesses are worth a pass.
//!
//! A pass of `1 + k` tokens takes `1 + extra * k` times as long as one of a single token, and its `k` guesses
//! `guess * k`; it gives `1 + p1 + p1 p2 + …` tokens, where `p` are the probabilities that each guess comes
//! true if those before do. What `extra`, `guess` and the probabilities are is measured as it goes: they
//! differ more between machines, models and texts than any constants could say.

use std::time::{Duration, Instant};

use crate::Result;

/// Share of a pass that another token is thought to take before any was measured.
const EXTRA: f64 = 0.4;
/// Weight of a new measurement.
const FRESH: f64 = 0.15;
/// By how much of the way a measurement that is not made any more goes back to what was thought before it.
const FADE: f64 = 0.002;
/// What evaluating guesses must gain at least.
const LEAST_GAIN: f64 = 1.02;
/// Guesses that take less time than this share of a pass are free.
const FREE: f64 = 0.02;
/// Rounds of guesses that did not pay before there is a pause.
const ROUNDS: usize = 2;
/// A pause is so many times as long as the last one: a draft model reads at the end of it what came meanwhile.
const LONGER: usize = 4;
/// Tokens without guesses, at first and at most.
const PAUSES: [usize; 2] = [16, 1024];

/// Decides what to guess and what to evaluate.
#[derive(Clone, Debug, Default)]
pub(super) struct Planner {
    costs: Costs,
    calibration: Calibration,
    last: Option<Round>,
    pause: Pause,
}

/// What was guessed last.
#[derive(Clone, Debug)]
struct Round {
    /// Tokens before the guesses.
    position: usize,
    guesses: Vec<Guess>,
    /// How many of them were evaluated.
    evaluated: usize,
}

#[derive(Clone, Copy, Debug)]
struct Guess {
    token: u32,
    /// As the drafter says.
    claimed: f32,
}

impl Planner {
    /// Guesses that are worth to be evaluated behind `tokens`, at most `most`.
    pub(super) fn plan(
        &mut self,
        tokens: &[u32],
        most: usize,
        draft: impl FnOnce(&[u32], &mut Draft<'_>) -> Result<()>,
    ) -> Result<Vec<u32>> {
        self.learn(tokens);
        if most == 0 || self.pause.lasts() {
            return Ok(Vec::new());
        }
        let mut drafted = Draft {
            calibration: &self.calibration,
            price: self.costs.extra() + self.costs.guess,
            most,
            guesses: Vec::new(),
            reach: 1.0,
            expected: vec![1.0],
            started: Instant::now(),
            unpaid: 0,
        };
        draft(tokens, &mut drafted)?;
        let duration = drafted.started.elapsed();
        let guesses = drafted.guesses;
        let extra = self.costs.extra();
        let gain =
            |evaluated: usize| drafted.expected[evaluated] / (1.0 + extra * evaluated as f64);
        let best = (0..=guesses.len()).max_by(|&a, &b| gain(a).total_cmp(&gain(b)));
        let evaluated = best.filter(|&best| gain(best) >= LEAST_GAIN).unwrap_or(0);
        let paid = guesses.len().saturating_sub(drafted.unpaid);
        self.costs.note_guesses(paid, duration);
        let worth = guesses[..evaluated].iter().map(|guess| guess.token);
        let worth = worth.collect();
        self.last = Some(Round {
            position: tokens.len(),
            guesses,
            evaluated,
        });
        Ok(worth)
    }

    /// Looks which guesses came true.
    fn learn(&mut self, tokens: &[u32]) {
        let Some(round) = self.last.take() else {
            return;
        };
        let Some(came) = tokens.get(round.position..).filter(|came| !came.is_empty()) else {
            return;
        };
        let mut right = 0;
        for (guess, &token) in round.guesses.iter().zip(came) {
            let is_right = guess.token == token;
            self.calibration.note(guess.claimed, is_right);
            if !is_right {
                break;
            }
            right += 1;
        }
        if self.costs.guess > FREE {
            let spent = self.costs.extra() * round.evaluated as f64
                + self.costs.guess * round.guesses.len() as f64;
            self.pause.note(right.min(round.evaluated) as f64 - spent);
        }
    }

    /// How long a pass of so many tokens took.
    pub(super) fn note_pass(&mut self, tokens: usize, duration: Duration) {
        self.costs.note_pass(tokens, duration.as_secs_f64());
    }
}

/// Guesses, as a drafter makes them.
pub(super) struct Draft<'a> {
    calibration: &'a Calibration,
    /// Of one more guess, in passes.
    price: f64,
    most: usize,
    guesses: Vec<Guess>,
    /// The probability that all come true.
    reach: f64,
    /// Tokens that come of evaluating none of them, one, …
    expected: Vec<f64>,
    started: Instant,
    /// Guesses that were made before.
    unpaid: usize,
}

impl Draft<'_> {
    /// How many more are wanted.
    pub(super) fn room(&self) -> usize {
        self.most - self.guesses.len()
    }

    /// What was done up to now, which gives one guess, is not the work that guesses take.
    pub(super) fn start(&mut self) {
        (self.started, self.unpaid) = (Instant::now(), 1);
    }

    /// Adds a guess that is thought to come true with this probability if those before do. Whether another
    /// one may pay; it need not be made, nor left out.
    ///
    /// # Panics
    /// Without room.
    pub(super) fn push(&mut self, token: u32, claimed: f32) -> bool {
        assert!(self.room() > 0, "room for a guess");
        self.guesses.push(Guess { token, claimed });
        self.reach *= self.calibration.probability(claimed);
        let expected = self.expected[self.expected.len() - 1] + self.reach;
        self.expected.push(expected);
        let spent = 1.0 + self.price * self.guesses.len() as f64;
        self.room() > 0 && self.reach > self.price * (expected / spent)
    }
}

/// How long things take.
#[derive(Clone, Debug, Default)]
struct Costs {
    /// Seconds of a pass of one token; 0 before there was one.
    single: f64,
    /// What another token of a pass takes of that, minus [`EXTRA`].
    extra: f64,
    /// What a guess takes of it.
    guess: f64,
}

impl Costs {
    fn extra(&self) -> f64 {
        EXTRA + self.extra
    }

    fn note_pass(&mut self, tokens: usize, seconds: f64) {
        if self.single == 0.0 {
            self.single = seconds / (1.0 + self.extra() * (tokens - 1) as f64);
        } else if tokens == 1 {
            // A program that was held up says nothing about its speed.
            let seconds = seconds.min(2.0 * self.single);
            self.single += FRESH * (seconds - self.single);
            self.extra -= FADE * self.extra;
        } else {
            let extra = (seconds / self.single - 1.0) / (tokens - 1) as f64;
            self.extra += FRESH * (extra.clamp(0.0, 2.0) - self.extra());
        }
    }

    fn note_guesses(&mut self, guesses: usize, duration: Duration) {
        if guesses > 0 && self.single > 0.0 {
            let guess = duration.as_secs_f64() / guesses as f64 / self.single;
            self.guess += FRESH * (guess.min(2.0) - self.guess);
        }
    }
}

/// How often guesses come true, by how sure they were.
#[derive(Clone, Debug, Default)]
struct Calibration {
    /// How often, and how often right; of late.
    bins: [[f64; 2]; BINS],
}

/// Two for each halving of the doubt.
const BINS: usize = 16;
/// What a claim counts beside what was seen.
const CLAIM: f64 = 6.0;
/// How many guesses of a bin are remembered.
const MEMORY: f64 = 64.0;

impl Calibration {
    fn bin(claimed: f32) -> usize {
        let doubt = (1.0 - claimed).max(f32::MIN_POSITIVE);
        ((-2.0 * doubt.log2()) as usize).min(BINS - 1)
    }

    fn note(&mut self, claimed: f32, is_right: bool) {
        let [seen, right] = &mut self.bins[Self::bin(claimed)];
        *seen += 1.0 - *seen / MEMORY;
        *right += f64::from(u8::from(is_right)) - *right / MEMORY;
    }

    fn probability(&self, claimed: f32) -> f64 {
        let [seen, right] = self.bins[Self::bin(claimed)];
        (CLAIM * f64::from(claimed) + right) / (CLAIM + seen)
    }
}

/// When guesses that take time are not made.
#[derive(Clone, Debug, Default)]
struct Pause {
    /// Passes that rounds gained of late, weighted.
    gain: f64,
    /// Rounds since the last pause.
    rounds: usize,
    /// Of the last pause.
    length: usize,
    left: usize,
}

impl Pause {
    fn note(&mut self, gain: f64) {
        self.rounds += 1;
        self.gain += (gain - self.gain) / self.rounds.min(8) as f64;
        if self.rounds < ROUNDS {
            return;
        }
        if self.gain > 0.0 {
            self.length /= LONGER;
            return;
        }
        let [least, most] = PAUSES;
        self.length = (LONGER * self.length).clamp(least, most);
        (self.left, self.rounds) = (self.length, 0);
    }

    /// Whether there is one; called once per token.
    fn lasts(&mut self) -> bool {
        let lasts = self.left > 0;
        self.left -= usize::from(lasts);
        lasts
    }
}
