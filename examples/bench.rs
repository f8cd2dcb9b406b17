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
use gristmill::{Level, Model, Session, SessionOptions};
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
/// tensors but a separate table of token embeddings) times tokens per second, and the last column how
/// much that is of what the same number of threads reach when they only add up 512 MiB. A model that
/// fits into the processor's caches can pass 100 %.
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
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let path = common::model_path(options.model.as_deref())?;
    let tests = tests(options);
    let mut rows = Vec::new();
    for &threads in &settings(&options.threads) {
        let mut bandwidth = None;
        for &level in &settings(&options.level) {
            let model = open(&path, threads, level)?;
            for test in &tests {
                let samples = measure(&model, *test, options.repetitions)?;
                let mut row = Row::new(&path, &model, *test, samples);
                if test.kind == Kind::Generation {
                    let bandwidth = match bandwidth {
                        Some(bandwidth) => bandwidth,
                        None => *bandwidth.insert(read_bandwidth(model.threads())?),
                    };
                    row.generation = Some(Reading::new(&model, row.avg_ts, bandwidth));
                }
                rows.push(row);
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

fn open(path: &Path, threads: Option<usize>, level: Option<Level>) -> Result<Model> {
    let mut builder = Model::builder();
    if let Some(threads) = threads {
        builder = builder.threads(threads);
    }
    if let Some(level) = level {
        builder = builder.level(level);
    }
    Ok(builder.open(path)?)
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

/// Runs a test; gives the tokens per second of each repetition.
fn measure(model: &Model, test: Test, repetitions: u32) -> Result<Vec<f64>> {
    let length = test.depth.saturating_add(test.tokens);
    let session = SessionOptions::new().context_length(length);
    let mut session = model.session_with(&session)?;
    let ids = pseudo_random_ids(model, length);
    let (before, ids) = ids.split_at(test.depth);

    let bar = progress_bar(model, test, repetitions);
    bar.tick();
    session.feed(before)?;
    let warm_up = match test.kind {
        Kind::Prompt => ids,
        Kind::Generation => &ids[..ids.len().min(WARM_UP_TOKENS)],
    };
    test.evaluate(&mut session, warm_up)?;
    let mut samples = Vec::new();
    for _ in 0..repetitions {
        session.truncate(test.depth)?;
        let start = Instant::now();
        test.evaluate(&mut session, ids)?;
        samples.push(test.tokens as f64 / start.elapsed().as_secs_f64());
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(samples)
}

fn progress_bar(model: &Model, test: Test, repetitions: u32) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}  {bar:24}  {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(repetitions.into())
        .with_style(style)
        .with_message(format!(
            "{}, level {}, threads {}",
            test.name(),
            model.level(),
            model.threads()
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

/// Bytes that the threads add up to find how fast memory can be read: more than caches hold.
const BANDWIDTH_BYTES: usize = 512 << 20;

/// Bytes per second that `threads` threads read, at best.
fn read_bandwidth(threads: usize) -> Result<f64> {
    const ROUNDS: usize = 7;
    let words = BANDWIDTH_BYTES / size_of::<u64>();
    let mut buffer: Vec<u64> = Vec::new();
    buffer.try_reserve_exact(words)?;
    // Not zeros: those may all be one page of the system.
    buffer.resize(words, 1);
    let parts: Vec<&[u64]> = buffer.chunks(words.div_ceil(threads)).collect();
    let barrier = Barrier::new(parts.len());
    let sum_rounds = |part: &[u64]| -> [Duration; ROUNDS] {
        std::array::from_fn(|_| {
            barrier.wait();
            let start = Instant::now();
            black_box(sum(black_box(part)));
            start.elapsed()
        })
    };
    let mut slowest = [Duration::ZERO; ROUNDS];
    thread::scope(|scope| {
        let threads: Vec<_> = parts
            .iter()
            .map(|part| scope.spawn(|| sum_rounds(part)))
            .collect();
        for times in threads.into_iter().filter_map(|thread| thread.join().ok()) {
            for (slowest, time) in slowest.iter_mut().zip(times) {
                *slowest = time.max(*slowest);
            }
        }
    });
    let best = slowest.into_iter().min().unwrap_or_default();
    Ok(BANDWIDTH_BYTES as f64 / best.as_secs_f64())
}

/// The sum of nearly all `words`, read from several places at a time: 4 streams are a third faster than
/// one, and 8 are slower again (Xeon of the Sapphire Rapids class, one and two threads).
fn sum(words: &[u64]) -> u64 {
    const STREAMS: usize = 4;
    let (lines, _) = words.as_chunks::<8>();
    let length = lines.len() / STREAMS;
    let streams: [_; STREAMS] = std::array::from_fn(|index| &lines[index * length..][..length]);
    let mut sums = [0_u64; 8];
    for at in 0..length {
        for stream in streams {
            for (sum, word) in sums.iter_mut().zip(stream[at]) {
                *sum = sum.wrapping_add(word);
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
    fn new(path: &Path, model: &Model, test: Test, samples: Vec<f64>) -> Row {
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
            level: model.level().name(),
            test: test.name(),
            n_prompt: of_kind(Kind::Prompt),
            n_gen: of_kind(Kind::Generation),
            n_depth: test.depth,
            avg_ts: mean,
            median_ts: median(&samples),
            stddev_ts: standard_deviation(&samples, mean),
            samples_ts: samples,
            generation: None,
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

/// What generation reads.
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
    fn new(model: &Model, tokens_per_second: f64, read_bandwidth: f64) -> Reading {
        let bytes_per_token = bytes_per_token(model.gguf());
        let bytes_per_second = bytes_per_token as f64 * tokens_per_second;
        Reading {
            bytes_per_token,
            bytes_per_second,
            read_bandwidth,
            fraction_of_read_bandwidth: bytes_per_second / read_bandwidth,
        }
    }
}

/// Bytes of the weights that a token needs: all but a separate table of token embeddings, of which it
/// needs one row. Where the file has no output matrix, the table is that as well.
fn bytes_per_token(gguf: &Gguf) -> u64 {
    let has_output = gguf.tensor("output.weight").is_some();
    let is_needed = |tensor: &&TensorInfo| !has_output || tensor.name() != "token_embd.weight";
    gguf.tensors().iter().filter(is_needed).map(byte_len).sum()
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
            "{:.1} GB/s at best where {threads} thread(s) only read\n",
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
