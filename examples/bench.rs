//! Measures how fast a model reads a prompt and generates, in the tests of llama-bench.

mod common;

use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use gristmill::gguf::{Gguf, TensorInfo};
use gristmill::{CacheType, Level, Model, Session, SessionOptions};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measures how fast a model reads a prompt and generates.
///
/// The tests are those of llama-bench, so that the two tables can be laid side by side:
///
///   pp512  one prompt of 512 tokens, evaluated in one go into an empty cache
///   tg128  128 tokens, one after the other, each through a whole forward pass; none is chosen from
///          the logits, so choosing costs nothing here
///
/// The tokens are pseudo-random. With --depth so many tokens are in the cache already, and the test's
/// name says so: tg128 @ d4096. Every test is run once to warm up (of tg the first 16 tokens), then as
/// often as --repetitions says. Lists such as -t 1,2,4 run all combinations.
///
/// Generation is bound by reading the weights: GB/s is the bytes of weights that one token needs (all
/// tensors but a separate table of token embeddings, and of experts those that a token takes) times
/// tokens per second, and the last column how much that is of what the same number of threads reach when they only add up those bytes, in the
/// fastest of several ways. That is measured before and after each repetition, since on a shared machine
/// it changes within minutes; the column is the median of the repetitions.
#[derive(Parser)]
#[command(name = "bench", version, verbatim_doc_comment)]
struct Options {
    /// The GGUF file; any of a model in several files [default: the demo model]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Tokens of the prompt (pp); 0 for no such test
    #[arg(
        short,
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "512"
    )]
    prompt_tokens: Vec<u32>,

    /// Tokens to generate (tg); 0 for no such test
    #[arg(
        short = 'n',
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "128"
    )]
    generate_tokens: Vec<u32>,

    /// Tokens in the cache before the test
    #[arg(
        short,
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "0"
    )]
    depth: Vec<u32>,

    /// Threads [default: the physical performance cores that this process may use]
    #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
    threads: Vec<usize>,

    /// Instruction sets, such as scalar or avx2 [default: the best of this machine]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    level: Vec<Level>,

    /// How the KV cache stores values: f32, f16 or q8_0
    #[arg(long, value_name = "TYPE", default_value_t)]
    cache_type: CacheType,

    /// Measurements of each test
    #[arg(short, long, value_name = "COUNT", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,

    /// Print JSON: an array with an object for each test, keys as llama-bench has them
    #[arg(long)]
    json: bool,
}

/// What the warm-up of a generation test generates at most.
const WARM_UP_TOKENS: usize = 16;

fn main() -> ExitCode {
    common::exit(run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let path = common::model_path(options.model.as_deref())?;
    let tests = tests(options);
    let mut rows = Vec::new();
    for &threads in &settings(&options.threads) {
        for &level in &settings(&options.level) {
            let model = common::open(&path, threads, level)?;
            for test in &tests {
                let run = Run {
                    model: &model,
                    test: *test,
                    cache_type: options.cache_type,
                    repetitions: options.repetitions,
                };
                rows.push(Row::new(&path, &run, run.measure()?));
            }
        }
    }
    let text = if options.json {
        serde_json::to_string_pretty(&rows)? + "\n"
    } else {
        table(&rows)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads our output, such as `head`, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// The values of an option; without any, the library's default.
fn settings<T: Copy>(values: &[T]) -> Vec<Option<T>> {
    match values {
        [] => vec![None],
        values => values.iter().copied().map(Some).collect(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prompt,
    Generation,
}

/// A test: so many tokens, behind so many others.
#[derive(Clone, Copy)]
struct Test {
    kind: Kind,
    tokens: usize,
    depth: usize,
}

impl Test {
    fn name(self) -> String {
        let kind = match self.kind {
            Kind::Prompt => "pp",
            Kind::Generation => "tg",
        };
        match self.depth {
            0 => format!("{kind}{}", self.tokens),
            depth => format!("{kind}{} @ d{depth}", self.tokens),
        }
    }

    /// Evaluates the first `tokens` of `ids`, as the test does it.
    fn evaluate(self, session: &mut Session, ids: &[u32]) -> Result<()> {
        match self.kind {
            Kind::Prompt => session.feed(ids)?,
            Kind::Generation => {
                for id in ids.chunks(1) {
                    session.feed(id)?;
                }
            }
        }
        Ok(())
    }
}

fn tests(options: &Options) -> Vec<Test> {
    let mut tests = Vec::new();
    for &depth in &options.depth {
        for (kind, counts) in [
            (Kind::Prompt, &options.prompt_tokens),
            (Kind::Generation, &options.generate_tokens),
        ] {
            let counts = counts.iter().filter(|&&tokens| tokens > 0);
            tests.extend(counts.map(|&tokens| Test {
                kind,
                tokens: tokens as usize,
                depth: depth as usize,
            }));
        }
    }
    tests
}

/// A test of a model.
struct Run<'a> {
    model: &'a Model,
    test: Test,
    cache_type: CacheType,
    repetitions: u32,
}

/// A repetition of a test.
struct Sample {
    tokens_per_second: f64,
    /// Bytes of weights per second that the same threads read before and after it, if they were asked.
    read_bandwidth: Option<f64>,
}

impl Run<'_> {
    fn measure(&self) -> Result<Vec<Sample>> {
        let Run { model, test, .. } = *self;
        let length = test.depth.saturating_add(test.tokens);
        let session = SessionOptions::new()
            .context_length(length)
            .cache_type(self.cache_type);
        let mut session = model.session_with(&session)?;
        let ids = pseudo_random_ids(model, length);
        let (before, ids) = ids.split_at(test.depth);

        let bar = progress_bar(self);
        bar.tick();
        session.feed(before)?;
        let warm_up = match test.kind {
            Kind::Prompt => ids,
            Kind::Generation => &ids[..ids.len().min(WARM_UP_TOKENS)],
        };
        test.evaluate(&mut session, warm_up)?;
        let reader = (test.kind == Kind::Generation).then(|| Reader::new(model));
        let read = || reader.as_ref().map(Reader::bytes_per_second);
        let mut bandwidth = read();
        let mut samples = Vec::new();
        for _ in 0..self.repetitions {
            if reader.is_some() {
                // Brings back into the caches what generation has there.
                go_back(&mut session, before)?;
                session.feed(&ids[..1])?;
            }
            go_back(&mut session, before)?;
            let start = Instant::now();
            test.evaluate(&mut session, ids)?;
            let tokens_per_second = test.tokens as f64 / start.elapsed().as_secs_f64();
            let before = std::mem::replace(&mut bandwidth, read());
            samples.push(Sample {
                tokens_per_second,
                read_bandwidth: before.zip(bandwidth).map(|(a, b)| f64::midpoint(a, b)),
            });
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(samples)
    }
}

/// Makes the session one that has read `before` and nothing else.
fn go_back(session: &mut Session, before: &[u32]) -> gristmill::Result<()> {
    if session.truncate(before.len()).is_ok() {
        return Ok(());
    }
    // A model with recurrent layers.
    session.clear();
    session.feed(before)
}

fn progress_bar(run: &Run<'_>) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}  {bar:24}  {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(run.repetitions.into())
        .with_style(style)
        .with_message(format!(
            "{}, level {}, threads {}",
            run.test.name(),
            run.model.level(),
            run.model.threads()
        ))
}

/// Token ids for a test: the one that begins a text, if the model expects it, then any others.
fn pseudo_random_ids(model: &Model, count: usize) -> Vec<u32> {
    let mut state = 1_u64;
    let mut next = || {
        // Knuth's generator (MMIX), of which the upper bits are good.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % model.vocab_size() as u64) as u32
    };
    let mut ids: Vec<u32> = (0..count).map(|_| next()).collect();
    let tokenizer = model.tokenizer();
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    if let (Some(first), Some(bos)) = (ids.first_mut(), bos) {
        *first = bos;
    }
    ids
}

/// Reads the weights that a token needs, to find how fast that can be: where they lie in memory, since
/// the size of its pages alone can make a third.
struct Reader<'a> {
    /// What each thread reads.
    shares: Vec<Vec<&'a [u8]>>,
    /// How often it does in one measurement.
    passes: usize,
}

/// Bytes that a measurement reads at least.
const LEAST_READ: usize = 256 << 20;

/// Measurements of each way to read, of which the fastest counts.
const ROUNDS: usize = 2;

impl<'a> Reader<'a> {
    fn new(model: &'a Model) -> Reader<'a> {
        let weights = needed(model.gguf());
        let total: usize = weights.clone().map(<[u8]>::len).sum();
        let share = total.div_ceil(model.threads()).max(1);
        let mut shares = vec![Vec::new(); model.threads()];
        let mut taken = 0;
        for mut bytes in weights {
            while !bytes.is_empty() {
                let room = share - taken % share;
                let (now, rest) = bytes.split_at(bytes.len().min(room));
                shares[taken / share].push(now);
                taken += now.len();
                bytes = rest;
            }
        }
        Reader {
            shares,
            passes: LEAST_READ.div_ceil(total.max(1)).min(LEAST_READ),
        }
    }

    /// Bytes per second in the fastest way: of a Zen 4's two threads it is 4 streams, of one thread now 4
    /// and now 1. Wider vectors than the portable ones, and prefetching, gain nothing from memory there.
    fn bytes_per_second(&self) -> f64 {
        let ways = [sum::<1>, sum::<2>, sum::<4>];
        let rounds = ways.into_iter().cycle().take(ROUNDS * ways.len());
        let best = rounds.map(|sum| self.time(sum)).min().unwrap_or_default();
        let bytes = self.shares.iter().flatten().map(|bytes| bytes.len());
        (self.passes * bytes.sum::<usize>()) as f64 / best.as_secs_f64()
    }

    /// The time of the slowest thread.
    fn time(&self, sum: fn(&[u8]) -> u64) -> Duration {
        let barrier = Barrier::new(self.shares.len());
        let read = |share: &[&[u8]]| {
            barrier.wait();
            let start = Instant::now();
            for bytes in (0..self.passes).flat_map(|_| share) {
                black_box(sum(black_box(bytes)));
            }
            start.elapsed()
        };
        thread::scope(|scope| {
            let shares = self.shares.iter();
            let threads: Vec<_> = shares.map(|share| scope.spawn(|| read(share))).collect();
            let times = threads.into_iter().filter_map(|thread| thread.join().ok());
            times.max().unwrap_or_default()
        })
    }
}

/// The sum of nearly all `bytes` as words, read from several places at a time.
fn sum<const STREAMS: usize>(bytes: &[u8]) -> u64 {
    let (lines, _) = bytes.as_chunks::<64>();
    let length = lines.len() / STREAMS;
    let streams: [_; STREAMS] = std::array::from_fn(|index| &lines[index * length..][..length]);
    let mut sums = [0_u64; 8];
    for at in 0..length {
        for stream in streams {
            for (sum, word) in sums.iter_mut().zip(stream[at].as_chunks().0) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            }
        }
    }
    sums.iter().fold(0, |sum, part| sum.wrapping_add(*part))
}

/// The result of a test, with the names that llama-bench gives the same things.
#[derive(Serialize)]
struct Row {
    model_filename: String,
    /// Architecture, and each type's share of the weights' bytes.
    model_type: String,
    /// Bytes of all tensors.
    model_size: u64,
    model_n_params: u64,
    n_threads: usize,
    /// How the KV cache stores keys, and values.
    type_k: &'static str,
    type_v: &'static str,
    level: &'static str,
    test: String,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    /// Tokens per second: mean, median, standard deviation, and all.
    avg_ts: f64,
    median_ts: f64,
    stddev_ts: f64,
    samples_ts: Vec<f64>,
    #[serde(flatten)]
    generation: Option<Reading>,
}

impl Row {
    fn new(path: &Path, run: &Run<'_>, samples: Vec<Sample>) -> Row {
        let Run { model, test, .. } = *run;
        let generation = Reading::new(model, &samples);
        let samples: Vec<f64> = samples.iter().map(|it| it.tokens_per_second).collect();
        let tensors = model.gguf().tensors();
        let of_kind = |kind| if test.kind == kind { test.tokens } else { 0 };
        let mean = mean(&samples);
        Row {
            model_filename: path.display().to_string(),
            model_type: format!("{} {}", model.architecture(), type_mix(model.gguf())),
            model_size: tensors.iter().map(byte_len).sum(),
            model_n_params: tensors
                .iter()
                .map(|tensor| tensor.shape().iter().product::<u64>())
                .sum(),
            n_threads: model.threads(),
            type_k: run.cache_type.name(),
            type_v: run.cache_type.name(),
            level: model.level().name(),
            test: test.name(),
            n_prompt: of_kind(Kind::Prompt),
            n_gen: of_kind(Kind::Generation),
            n_depth: test.depth,
            avg_ts: mean,
            median_ts: median(&samples),
            stddev_ts: standard_deviation(&samples, mean),
            samples_ts: samples,
            generation,
        }
    }

    fn cells(&self) -> Vec<String> {
        let file = Path::new(&self.model_filename).file_stem();
        let reading = |cell: &dyn Fn(&Reading) -> String| self.generation.as_ref().map(cell);
        vec![
            file.unwrap_or_default().to_string_lossy().into_owned(),
            format!("{:.2} MiB", self.model_size as f64 / f64::from(1 << 20)),
            format!("{:.2} M", self.model_n_params as f64 / 1e6),
            self.level.to_owned(),
            self.n_threads.to_string(),
            self.test.clone(),
            format!("{:.2} ± {:.2}", self.avg_ts, self.stddev_ts),
            format!("{:.2}", self.median_ts),
            reading(&|it| format!("{:.1}", it.bytes_per_second / 1e9)).unwrap_or_default(),
            reading(&|it| format!("{:.0} %", 100.0 * it.fraction_of_read_bandwidth))
                .unwrap_or_default(),
        ]
    }
}

/// What generation reads; medians of the repetitions.
#[derive(Serialize)]
struct Reading {
    /// Bytes of weights that one token needs.
    bytes_per_token: u64,
    bytes_per_second: f64,
    /// Bytes per second that the same number of threads can read.
    read_bandwidth: f64,
    fraction_of_read_bandwidth: f64,
}

impl Reading {
    /// `None` where the bandwidth was not measured.
    fn new(model: &Model, samples: &[Sample]) -> Option<Reading> {
        let bytes_per_token = needed(model.gguf()).map(|bytes| bytes.len() as u64).sum();
        let read = |sample: &Sample| bytes_per_token as f64 * sample.tokens_per_second;
        let median_of = |value: &dyn Fn(&Sample) -> Option<f64>| {
            let values: Option<Vec<f64>> = samples.iter().map(value).collect();
            values.map(|values| median(&values))
        };
        Some(Reading {
            bytes_per_token,
            bytes_per_second: median_of(&|sample| Some(read(sample)))?,
            read_bandwidth: median_of(&|sample| sample.read_bandwidth)?,
            fraction_of_read_bandwidth: median_of(&|sample| {
                Some(read(sample) / sample.read_bandwidth?)
            })?,
        })
    }
}

/// The weights that a token needs: all but a separate table of token embeddings, of which it needs one
/// row, and of experts as many as a token takes. Where the file has no output matrix, the table is that
/// as well.
fn needed(gguf: &Gguf) -> impl Iterator<Item = &[u8]> + Clone {
    let has_output = gguf.tensor("output.weight").is_some();
    let architecture: String = gguf.require("general.architecture").unwrap_or_default();
    let number = |key: &str| {
        let number = gguf.optional::<usize>(&format!("{architecture}.{key}"));
        number.ok().flatten()
    };
    let (count, used) = (number("expert_count"), number("expert_used_count"));
    let (count, used) = (count.unwrap_or(1).max(1), used.unwrap_or(1));
    let tensors = gguf.tensors().iter();
    let tensors = tensors.filter(move |tensor| !has_output || tensor.name() != "token_embd.weight");
    tensors.map(move |tensor| {
        let bytes = gguf.tensor_bytes(tensor);
        if tensor.name().contains("_exps.") {
            &bytes[..bytes.len() / count * used.min(count)]
        } else {
            bytes
        }
    })
}

fn byte_len(tensor: &TensorInfo) -> u64 {
    tensor.byte_len() as u64
}

/// The types of the weights and their shares of the bytes, such as `Q4_K 73 % + Q6_K 27 %`.
fn type_mix(gguf: &Gguf) -> String {
    let mut types: Vec<(&str, u64)> = Vec::new();
    for tensor in gguf.tensors() {
        let name = tensor.ggml_type().name();
        match types.iter_mut().find(|(known, _)| *known == name) {
            Some((_, bytes)) => *bytes += byte_len(tensor),
            None => types.push((name, byte_len(tensor))),
        }
    }
    types.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    let total: u64 = types.iter().map(|(_, bytes)| bytes).sum();
    let share = |bytes: u64| 100.0 * bytes as f64 / total.max(1) as f64;
    let mix = types
        .iter()
        .filter(|&&(_, bytes)| share(bytes) >= 0.5)
        .map(|&(name, bytes)| format!("{name} {:.0} %", share(bytes)));
    mix.collect::<Vec<_>>().join(" + ")
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        mean(&sorted[half - 1..=half])
    } else {
        sorted[half]
    }
}

/// Of the population that the samples are taken from; 0 where there is but one.
fn standard_deviation(samples: &[f64], mean: f64) -> f64 {
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (squares / (samples.len().max(2) - 1) as f64).sqrt()
}

/// The results as a table in Markdown, with what it rests on before it.
fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else {
        return "no test\n".to_owned();
    };
    let mut text = format!("{}: {}\n", first.model_filename, first.model_type);
    if let Some(reading) = rows.iter().find_map(|row| row.generation.as_ref()) {
        text += &format!(
            "{:.1} MB of weights for each token generated\n",
            reading.bytes_per_token as f64 / 1e6
        );
    }
    let bandwidth = |row: &Row| Some((row.n_threads, row.generation.as_ref()?.read_bandwidth));
    let mut bandwidths: Vec<_> = rows.iter().filter_map(bandwidth).collect();
    bandwidths.dedup_by_key(|&mut (threads, _)| threads);
    for (threads, bandwidth) in bandwidths {
        text += &format!(
            "{:.1} GB/s where {threads} thread(s) only read them\n",
            bandwidth / 1e9
        );
    }
    text.push('\n');
    text + &markdown(rows.iter().map(Row::cells))
}

/// The columns of the table; the first one is aligned to the left.
const COLUMNS: [&str; 10] = [
    "model", "size", "params", "level", "threads", "test", "t/s", "median", "GB/s", "of read",
];

fn markdown(cells: impl Iterator<Item = Vec<String>>) -> String {
    let cells: Vec<Vec<String>> = cells.collect();
    let width = |column: usize| {
        let cells = cells.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|cell| cell.chars().count());
        widths.max().unwrap_or(0).max(COLUMNS[column].len())
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, &width))| match column {
            0 => format!(" {cell:width$} |"),
            _ => format!(" {cell:>width$} |"),
        });
        format!("|{}\n", cells.collect::<String>())
    };
    let rule = widths.iter().enumerate().map(|(column, width)| {
        let end = if column == 0 { "-" } else { ":" };
        format!(" {}{end} |", "-".repeat(width - 1))
    });
    let mut text = line(&COLUMNS.map(str::to_owned));
    text += &format!("|{}\n", rule.collect::<String>());
    cells.iter().for_each(|row| text += &line(row));
    text
}
