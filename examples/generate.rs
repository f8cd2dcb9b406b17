//! Continues a prompt, and prints the text as it comes.

mod common;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use clap::Parser;
use common::{Guesses, Loading};
use gristmill::{
    CacheType, FinishReason, GenerateOptions, Generation, MirostatVersion, Model, SamplingOptions,
    SessionOptions, Timings,
};
use indicatif::{ProgressBar, ProgressStyle};

/// Continues a prompt with a model from a GGUF file, and prints the text as it comes.
///
/// Without any option the demo model of this repository tells a story; with `--temperature 0.7` it
/// tells another one each time. The text goes to the standard output, all else to the standard error.
#[derive(Parser)]
#[command(name = "generate", version)]
struct Options {
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

    #[cfg(feature = "constrain")]
    #[command(flatten)]
    grammar: Grammar,

    #[command(flatten)]
    sampling: Sampling,

    #[command(flatten)]
    guesses: Guesses,

    #[command(flatten)]
    loading: Loading,
}

/// What the new text follows.
#[cfg(feature = "constrain")]
#[derive(clap::Args)]
struct Grammar {
    /// Write JSON that satisfies the JSON schema in this file
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,

    /// Follow the grammar in this file: in Lark's syntax if its name ends in .lark, else in GBNF
    #[arg(long, value_name = "FILE", conflicts_with = "json_schema")]
    grammar: Option<PathBuf>,
}

#[cfg(feature = "constrain")]
impl Grammar {
    fn constraint(
        &self,
        model: &Model,
    ) -> Result<Option<gristmill::constrain::Constraint>, Box<dyn std::error::Error>> {
        use gristmill::constrain::Constraint;
        let Some(path) = self.json_schema.as_ref().or(self.grammar.as_ref()) else {
            return Ok(None);
        };
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        let compile = match &self.json_schema {
            Some(_) => Constraint::json_schema_text,
            None if path.extension().is_some_and(|end| end == "lark") => Constraint::lark,
            None => Constraint::gbnf,
        };
        let constraint = compile(model, &text);
        Ok(Some(
            constraint.map_err(|error| format!("{}: {error}", path.display()))?,
        ))
    }
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

    /// Choose from the tokens of typical surprise that together reach this probability; 1 for all
    #[arg(long, value_name = "SHARE", default_value_t = SamplingOptions::default().typical_p)]
    typical: f32,

    /// Choose from the tokens within so many standard deviations of the greatest logit; 0 for all
    #[arg(long, value_name = "NUMBER", default_value_t = SamplingOptions::default().top_n_sigma)]
    top_n_sigma: f32,

    /// How often XTC removes the most probable tokens
    #[arg(long, value_name = "SHARE", default_value_t = SamplingOptions::default().xtc_probability)]
    xtc_probability: f32,

    /// XTC removes all tokens at least as probable as this, but for the last of them
    #[arg(long, value_name = "SHARE", default_value_t = SamplingOptions::default().xtc_threshold)]
    xtc_threshold: f32,

    /// Lower the temperature by up to this where the model is sure, and raise it where it is not
    #[arg(long, value_name = "NUMBER", default_value_t = SamplingOptions::default().dynatemp_range)]
    dynatemp_range: f32,

    /// How the dynamic temperature follows the entropy
    #[arg(long, value_name = "NUMBER", default_value_t = SamplingOptions::default().dynatemp_exponent)]
    dynatemp_exp: f32,

    /// Divide the logits of tokens that came before; 1 for no penalty
    #[arg(long, value_name = "NUMBER", default_value_t = SamplingOptions::default().repeat_penalty)]
    repeat_penalty: f32,

    /// Lower the logits of tokens that came before
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true,
        default_value_t = SamplingOptions::default().presence_penalty)]
    presence_penalty: f32,

    /// Lower the logits of tokens that came before, for each time
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true,
        default_value_t = SamplingOptions::default().frequency_penalty)]
    frequency_penalty: f32,

    /// So many of the last tokens count for these three penalties
    #[arg(long, value_name = "COUNT", default_value_t = SamplingOptions::default().repeat_last_n)]
    repeat_last_n: usize,

    /// Strength of DRY, which lowers the logits of tokens that go on with a repetition; 0 for none
    #[arg(long, value_name = "NUMBER", default_value_t = SamplingOptions::default().dry_multiplier)]
    dry_multiplier: f32,

    /// How DRY grows with each token of a repetition
    #[arg(long, value_name = "NUMBER", default_value_t = SamplingOptions::default().dry_base)]
    dry_base: f32,

    /// Repetitions of fewer tokens cost nothing
    #[arg(long, value_name = "COUNT", default_value_t = SamplingOptions::default().dry_allowed_length)]
    dry_allowed_length: usize,

    /// So many of the last tokens count for DRY [default: all]
    #[arg(long, value_name = "COUNT")]
    dry_penalty_last_n: Option<usize>,

    /// A text over which no repetition reaches; can be given more than once [default: a line break, a
    /// colon, a quotation mark, an asterisk]
    #[arg(long, value_name = "TEXT")]
    dry_sequence_breaker: Vec<String>,

    /// Steer the surprise of the text instead of filtering: 1 or 2, the version of Mirostat; 0 not to
    #[arg(long, value_name = "VERSION", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=2))]
    mirostat: u8,

    /// The surprise that Mirostat aims at, in bits
    #[arg(long, value_name = "NUMBER", default_value_t = SamplingOptions::default().mirostat_tau)]
    mirostat_ent: f32,

    /// How fast Mirostat follows
    #[arg(long, value_name = "NUMBER", default_value_t = SamplingOptions::default().mirostat_eta)]
    mirostat_lr: f32,

    /// Add to the logit of a token, as in 15043+1 or 15043-inf; can be given more than once
    #[arg(short, long, value_name = "ID(+/-)BIAS", value_parser = logit_bias)]
    logit_bias: Vec<(u32, f32)>,

    /// The same seed gives the same text [default: another one each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

impl Sampling {
    fn options(&self) -> SamplingOptions {
        let default = SamplingOptions::default();
        let breakers = &self.dry_sequence_breaker;
        SamplingOptions {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical,
            top_n_sigma: self.top_n_sigma,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            dynatemp_range: self.dynatemp_range,
            dynatemp_exponent: self.dynatemp_exp,
            repeat_penalty: self.repeat_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            repeat_last_n: self.repeat_last_n,
            dry_multiplier: self.dry_multiplier,
            dry_base: self.dry_base,
            dry_allowed_length: self.dry_allowed_length,
            dry_penalty_last_n: self
                .dry_penalty_last_n
                .unwrap_or(default.dry_penalty_last_n),
            dry_sequence_breakers: if breakers.is_empty() {
                default.dry_sequence_breakers
            } else {
                breakers.clone()
            },
            mirostat: match self.mirostat {
                0 => None,
                1 => Some(MirostatVersion::V1),
                _ => Some(MirostatVersion::V2),
            },
            mirostat_tau: self.mirostat_ent,
            mirostat_eta: self.mirostat_lr,
            logit_bias: self.logit_bias.clone(),
            seed: self.seed,
            ..default
        }
    }
}

fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let sign = text
        .find(['+', '-'])
        .ok_or("expected a token's id and a signed number")?;
    let (token, bias) = text.split_at(sign);
    let token = token
        .parse()
        .map_err(|error| format!("{token:?}: {error}"))?;
    let bias = bias.parse().map_err(|error| format!("{bias:?}: {error}"))?;
    Ok((token, bias))
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
    let model = options.loading.open()?;
    let opened = start.elapsed();
    let mut settings = SessionOptions::new().cache_type(options.cache_type);
    if let Some(positions) = options.context {
        settings = settings.context_length(positions);
    }
    if let Some(speculation) = options.guesses.speculation(&options.loading)? {
        settings = settings.speculate(speculation);
    }
    let mut session = model.session_with(&settings)?;
    let settings = generate_options(options);
    #[cfg(feature = "constrain")]
    let settings = match options.grammar.constraint(&model)? {
        Some(constraint) => settings.constraint(&constraint),
        None => settings,
    };
    let mut generation = session.generate(&prompt, &settings)?;
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
    let bar = OnceLock::new();
    let settings = GenerateOptions::new()
        .max_tokens(options.max_tokens)
        .sampling(options.sampling.options())
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
    if options.guesses.are_made() {
        eprintln!(
            "guessed:   {} tokens, {} of them right",
            timings.drafted_tokens, timings.accepted_tokens,
        );
    }
    let why = match reason {
        Some(FinishReason::EndOfGeneration(_)) => "the model ended the text".to_owned(),
        Some(FinishReason::MaxTokens) => "as many tokens as --max-tokens allows".to_owned(),
        Some(FinishReason::Complete) => "the grammar allows nothing more".to_owned(),
        Some(FinishReason::StopString(index)) => format!("before {:?}", options.stop[index]),
        Some(FinishReason::NoCandidate) => "no token is left to choose".to_owned(),
        Some(FinishReason::ContextFull) => "the context is full (--context)".to_owned(),
        _ => "it was interrupted".to_owned(),
    };
    eprintln!("ended:     {why}");
}
