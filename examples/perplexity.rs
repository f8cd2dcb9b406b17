//! Measures how well a model predicts a text: its perplexity, as llama.cpp's `perplexity` does.

mod common;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use common::Loading;
use gristmill::tokenizer::EncodeOptions;
use gristmill::{CacheType, Model, Session, SessionOptions};
use indicatif::{ProgressBar, ProgressStyle};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measures how well a model predicts a text: its perplexity.
///
/// The method is that of llama.cpp's program of this name. The text's tokens are cut into chunks that
/// fill a context, each begins with the token that begins a text where the model expects one, and the
/// tokens of its second half are scored, which have at least half a context before them. The perplexity
/// is e to the mean of -ln(probability) per token, ± its standard error. Figures compare only for the
/// same text, tokenizer and context.
///
/// The error says how far another text of this kind might be off. Two ways to run a model on one text
/// differ by much less, so with several cache types the differences are paired: the mean and standard
/// error, over the tokens, of what a token loses against the first type.
#[derive(Parser)]
#[command(name = "perplexity", version)]
struct Options {
    /// The text, in UTF-8
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,

    /// Tokens of a chunk
    #[arg(short, long, value_name = "COUNT", default_value_t = 512,
        value_parser = clap::value_parser!(u32).range(4..))]
    context: u32,

    /// Chunks to evaluate [default: all that are full]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,

    /// How the KV cache stores values: f32, f16 or q8_0; several are compared with the first
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "f16"
    )]
    cache_type: Vec<CacheType>,

    #[command(flatten)]
    loading: Loading,
}

fn main() -> ExitCode {
    common::exit(run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let text = read(&options.file)?;
    let model = options.loading.open()?;
    let context = options.context as usize;
    if context > model.context_length() {
        eprintln!(
            "note: the model was trained for {} positions, not {context}",
            model.context_length()
        );
    }
    let ids = model.tokenizer().encode(&text, EncodeOptions::default())?;
    let most = options.chunks.map_or(usize::MAX, |chunks| chunks as usize);
    let chunks: Vec<_> = ids.chunks_exact(context).take(most).collect();
    if chunks.is_empty() {
        return Err(format!(
            "{}: a chunk takes {context} tokens, the text has {}; a longer one, or a smaller \
             --context",
            options.file.display(),
            ids.len()
        )
        .into());
    }
    let mut runs = options
        .cache_type
        .iter()
        .map(|&cache_type| Run::new(&model, cache_type, context))
        .collect::<Result<Vec<_>>>()?;
    evaluate(&mut runs, &chunks)?;
    println!(
        "{} chunks of {context} tokens, {} tokens scored",
        chunks.len(),
        runs[0].loss.count
    );
    for run in &runs {
        println!("{run}");
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    Ok(fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Scores the chunks one after the other, in all runs.
fn evaluate(runs: &mut [Run], chunks: &[&[u32]]) -> Result<()> {
    let bar = ProgressBar::new((chunks.len() * runs.len()) as u64).with_style(progress_style());
    bar.tick();
    for chunk in chunks {
        let mut first: Option<Vec<f64>> = None;
        for run in &mut *runs {
            let losses = losses(&mut run.session, chunk)?;
            losses.iter().for_each(|&loss| run.loss.add(loss));
            match &first {
                None => first = Some(losses),
                Some(first) => {
                    let pairs = losses.iter().zip(first);
                    pairs.for_each(|(loss, first)| run.difference.add(loss - first));
                }
            }
            bar.inc(1);
            bar.set_message(run.to_string());
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn progress_style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// What each token of the second half of `chunk` loses: -ln of its probability.
fn losses(session: &mut Session, chunk: &[u32]) -> Result<Vec<f64>> {
    let half = chunk.len() / 2;
    let mut ids = chunk.to_vec();
    let tokenizer = session.model().tokenizer();
    if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.adds_bos()) {
        ids[0] = bos;
    }
    session.clear();
    session.feed(&ids[..half])?;
    // Nothing comes after the last token.
    let scored = &ids[half..ids.len() - 1];
    let next = &ids[half + 1..];
    let mut losses = Vec::with_capacity(next.len());
    session.feed_each(scored, |place, logits| {
        losses.push(loss(logits, next[place]));
    })?;
    Ok(losses)
}

/// -ln of the probability of `id`.
fn loss(logits: &[f32], id: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from((logit - largest).exp()))
        .sum();
    sum.ln() - f64::from(logits[id as usize] - largest)
}

/// The text seen with one type of cache.
struct Run {
    cache_type: CacheType,
    session: Session,
    loss: Estimate,
    /// Loss minus that of the first run, token by token; empty in that one.
    difference: Estimate,
}

impl Run {
    fn new(model: &Model, cache_type: CacheType, context: usize) -> Result<Run> {
        let options = SessionOptions::new()
            .context_length(context)
            .cache_type(cache_type);
        Ok(Run {
            cache_type,
            session: model.session_with(&options)?,
            loss: Estimate::default(),
            difference: Estimate::default(),
        })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let perplexity = self.loss.mean().exp();
        write!(
            f,
            "{:<4}  perplexity {perplexity:.4} ± {:.5}",
            self.cache_type.name(),
            self.loss.error() * perplexity
        )?;
        if self.difference.count == 0 {
            return Ok(());
        }
        write!(
            f,
            ", {:+.6} ± {:.6} nats per token",
            self.difference.mean(),
            self.difference.error()
        )
    }
}

/// A mean, and how sure it is.
#[derive(Default)]
struct Estimate {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Estimate {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Standard error of the mean; infinite where one value tells nothing.
    fn error(&self) -> f64 {
        if self.count < 2 {
            return f64::INFINITY;
        }
        let variance = self.squares / self.count as f64 - self.mean().powi(2);
        // Rounding can take a variance of 0 below it.
        (variance.max(0.0) / (self.count - 1) as f64).sqrt()
    }
}
