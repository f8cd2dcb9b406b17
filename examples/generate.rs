//! Continues a prompt, and prints the text as it comes.

mod common;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use clap::Parser;
use gristmill::{
    CacheType, FinishReason, GenerateOptions, Generation, Level, Model, SamplingOptions,
};
use gristmill::{SessionOptions, Timings};
use indicatif::{ProgressBar, ProgressStyle};

/// Continues a prompt with a model from a GGUF file, and prints the text as it comes.
///
/// Without any option the demo model of this repository tells a story; with `--temperature 0.7` it
/// tells another one each time. The text goes to the standard output, all else to the standard error.
#[derive(Parser)]
#[command(name = "generate", version)]
struct Options {
    /// The GGUF file; any of a model in several files [default: the demo model]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// The beginning of the text
    #[arg(short, long, value_name = "TEXT", default_value = "Once upon a time")]
    prompt: String,

    /// Read the beginning of the text from a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt")]
    file: Option<PathBuf>,

    /// Find special tokens such as <|im_start|> in the prompt
    #[arg(long)]
    special: bool,

    /// Print the new text only, not the prompt
    #[arg(long)]
    no_echo: bool,

    /// Stop after so many tokens
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 256)]
    max_tokens: usize,

    /// Stop before this text; can be given more than once
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// Go on where the model would end the text
    #[arg(long)]
    ignore_end: bool,

    /// Positions of the context, for the prompt and the new text [default: what the model was made
    /// for, but at most 4096]
    #[arg(short, long, value_name = "COUNT")]
    context: Option<usize>,

    /// How the KV cache stores values: f32, f16 or q8_0
    #[arg(long, value_name = "TYPE", default_value_t)]
    cache_type: CacheType,

    /// Threads [default: the physical performance cores that this process may use]
    #[arg(short, long, value_name = "COUNT")]
    threads: Option<usize>,

    /// Instruction-set level, such as scalar or avx2 [default: the highest that this machine has]
    #[arg(long, value_name = "NAME")]
    level: Option<Level>,

    #[command(flatten)]
    sampling: Sampling,
}

/// Tokens of a prompt that is shorter are read before a line would be seen.
const LONG_PROMPT: usize = 100;

#[derive(clap::Args)]
#[command(next_help_heading = "Choice of tokens")]
struct Sampling {
    /// Below 1 the text is more predictable, above 1 less; 0 always takes the most probable token
    #[arg(long, value_name = "NUMBER", default_value_t = SamplingOptions::default().temperature)]
    temperature: f32,

    /// Choose from so many of the most probable tokens; 0 for all
    #[arg(long, value_name = "COUNT", default_value_t = SamplingOptions::default().top_k)]
    top_k: usize,

    /// Choose from the most probable tokens that together reach this probability; 1 for all
    #[arg(long, value_name = "SHARE", default_value_t = SamplingOptions::default().top_p)]
    top_p: f32,

    /// Choose from the tokens at least this times as probable as the most probable one; 0 for all
    #[arg(long, value_name = "SHARE", default_value_t = SamplingOptions::default().min_p)]
    min_p: f32,

    /// The same seed gives the same text [default: another one each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    common::exit(run(&Options::parse()))
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let prompt = match &options.file {
        Some(path) => {
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => options.prompt.clone(),
    };
    let start = Instant::now();
    let path = common::model_path(options.model.as_deref())?;
    let model = common::open(&path, options.threads, options.level)?;
    let opened = start.elapsed();
    let mut settings = SessionOptions::new().cache_type(options.cache_type);
    if let Some(positions) = options.context {
        settings = settings.context_length(positions);
    }
    let mut session = model.session_with(&settings)?;
    let mut generation = session.generate(&prompt, &generate_options(options))?;
    let echo = if options.no_echo { "" } else { &prompt };
    let printed = print(&mut generation, echo);
    eprintln!("\nopened:    in {:.3} s", opened.as_secs_f64());
    report(
        generation.timings(),
        generation.finish_reason(),
        &model,
        options,
    );
    match printed {
        // Whoever reads our output, such as `head`, has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Failure::Output(error)) => Err(error.into()),
        Err(Failure::Model(error)) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

fn generate_options(options: &Options) -> GenerateOptions {
    let sampling = SamplingOptions {
        temperature: options.sampling.temperature,
        top_k: options.sampling.top_k,
        top_p: options.sampling.top_p,
        min_p: options.sampling.min_p,
        seed: options.sampling.seed,
    };
    let bar = OnceLock::new();
    let settings = GenerateOptions::new()
        .max_tokens(options.max_tokens)
        .sampling(sampling)
        .parse_special(options.special)
        .ignore_end_of_generation(options.ignore_end)
        .progress(move |done, total| show_progress(&bar, done, total));
    options
        .stop
        .iter()
        .fold(settings, |settings, stop| settings.stop(stop))
}

/// A line while a long prompt is read.
fn show_progress(bar: &OnceLock<ProgressBar>, done: usize, total: usize) {
    if total < LONG_PROMPT {
        return;
    }
    let bar = bar.get_or_init(|| ProgressBar::new(total as u64).with_style(progress_style()));
    bar.set_position(done as u64);
    bar.tick();
    if done == total {
        bar.finish_and_clear();
    }
}

fn progress_style() -> ProgressStyle {
    let template = "reading the prompt {wide_bar} {pos}/{len} tokens";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

enum Failure {
    Output(io::Error),
    Model(gristmill::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<gristmill::Error> for Failure {
    fn from(error: gristmill::Error) -> Failure {
        Failure::Model(error)
    }
}

fn print(generation: &mut Generation<'_>, echo: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(echo.as_bytes())?;
    output.flush()?;
    for piece in generation {
        output.write_all(piece?.text.as_bytes())?;
        output.flush()?;
    }
    Ok(writeln!(output)?)
}

fn report(timings: Timings, reason: Option<FinishReason>, model: &Model, options: &Options) {
    eprintln!(
        "prompt:    {} tokens in {:.3} s, {:.1} tokens/s",
        timings.prompt_tokens,
        timings.prompt_duration.as_secs_f64(),
        timings.prompt_tokens_per_second(),
    );
    eprintln!(
        "generated: {} tokens in {:.2} s, {:.1} tokens/s ({} threads, {})",
        timings.generated_tokens,
        timings.generation_duration.as_secs_f64(),
        timings.generated_tokens_per_second(),
        model.threads(),
        model.level(),
    );
    let why = match reason {
        Some(FinishReason::EndOfGeneration(_)) => "the model ended the text".to_owned(),
        Some(FinishReason::MaxTokens) => "as many tokens as --max-tokens allows".to_owned(),
        Some(FinishReason::StopString(index)) => format!("before {:?}", options.stop[index]),
        Some(FinishReason::ContextFull) => "the context is full (--context)".to_owned(),
        _ => "it was interrupted".to_owned(),
    };
    eprintln!("ended:     {why}");
}
