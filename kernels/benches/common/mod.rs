//! What the benchmarks share: measuring against a limit that the same run finds.

pub(crate) mod limits;

use std::env;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};

/// What nothing can exceed.
pub(crate) struct Limit {
    pub(crate) per_second: f64,
    pub(crate) what: &'static str,
}

/// A group of short measurements: there are hundreds.
pub(crate) fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(300));
    group
}

/// Measures `work`, and prints what share of the limit `amount` per call is. Gives the least seconds of a
/// call; none if this benchmark was not asked for.
pub(crate) fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: &str,
    amount: usize,
    limit: impl FnOnce() -> Option<Limit>,
    mut work: impl FnMut(),
) -> Option<f64> {
    let mut least = None::<f64>;
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|count| {
            let start = Instant::now();
            (0..count).for_each(|_| work());
            let time = start.elapsed();
            let seconds = time.as_secs_f64() / count as f64;
            least = Some(least.map_or(seconds, |least| least.min(seconds)));
            time
        });
    });
    let least = least.filter(|_| !env::args().any(|argument| argument == "--test"))?;
    // Measured only now: it costs time, and a shared machine is another one after minutes.
    if let Some(Limit { per_second, what }) = limit() {
        let share = 100.0 * amount as f64 / least / per_second;
        println!(
            "{:24}limit:  {share:.0} % of {:.1} G/s, {what}",
            "",
            per_second / 1e9
        );
    }
    Some(least)
}
