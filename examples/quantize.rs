//! Makes a smaller file of a model: its tensors in types of fewer bits.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use gristmill::gguf::Gguf;
use gristmill::quantize::{FileType, Plan, QuantizeOptions};
use indicatif::{ProgressBar, ProgressStyle};

/// Makes a smaller file of a model: its tensors in types of fewer bits.
///
/// The best source is a model of F32, F16 or BF16. Blocks and the choice of types are those of
/// llama.cpp without an importance matrix; Q4_K_M is a good middle for most models.
#[derive(Parser)]
#[command(name = "quantize", version)]
struct Options {
    /// The GGUF file; any of a model in several files [default: the demo model]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// The file to write; one that is there is replaced when all is done
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M,
    /// Q5_K_S, Q5_K_M or Q6_K
    #[arg(value_name = "TYPE")]
    file_type: FileType,

    /// Take a model that is quantised already: what it lost adds to what is lost now
    #[arg(long)]
    requantize: bool,

    /// Give all tensors the same type, also those that usually have more bits
    #[arg(long)]
    pure: bool,

    /// Only show what would be written
    #[arg(long)]
    dry_run: bool,

    /// Threads [default: the processors that this process may use]
    #[arg(short, long, value_name = "COUNT")]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    common::exit(run(&Options::parse()))
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let input = common::model_path(options.model.as_deref())?;
    let gguf = Gguf::open(&input)?;
    refuse_input_as_output(&input, &gguf, &options.output)?;
    let mut settings = QuantizeOptions::new()
        .requantize(options.requantize)
        .pure(options.pure);
    if let Some(threads) = options.threads {
        settings = settings.threads(threads);
    }
    let plan = Plan::new(&gguf, options.file_type, &settings).map_err(with_advice)?;
    print_summary(&plan);
    if options.dry_run {
        return Ok(());
    }
    let start = Instant::now();
    let bar = ProgressBar::new(0).with_style(progress_style());
    plan.write(&options.output, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    eprintln!(
        "{} written in {:.1} s",
        options.output.display(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The error, and what helps here.
fn with_advice(error: gristmill::Error) -> String {
    match error {
        gristmill::Error::Argument {
            name: "requantize", ..
        } => format!("{error}\n--requantize takes it all the same"),
        other => other.to_string(),
    }
}

/// Fails if the output is a file of the model that is read.
fn refuse_input_as_output(input: &Path, gguf: &Gguf, output: &Path) -> Result<(), String> {
    // What does not exist is no input.
    let Ok(output) = fs::canonicalize(output) else {
        return Ok(());
    };
    let parts = gguf
        .part_names()
        .iter()
        .map(|name| input.with_file_name(name));
    for part in parts.chain([input.to_owned()]) {
        if fs::canonicalize(&part).is_ok_and(|part| part == output) {
            return Err(format!(
                "{} is the model that is read; name another output",
                output.display()
            ));
        }
    }
    Ok(())
}

/// Tensors and bytes of each pair of types, before and after.
fn print_summary(plan: &Plan) {
    let mut pairs = BTreeMap::<_, (usize, usize, usize)>::new();
    let mut totals = (0, 0);
    for (tensor, to) in plan.tensors() {
        let before = tensor.byte_len();
        let after = tensor.rows() * (tensor.cols() / to.block_elements()) * to.block_bytes();
        let pair = pairs
            .entry((tensor.ggml_type().name(), to.name()))
            .or_default();
        *pair = (pair.0 + 1, pair.1 + before, pair.2 + after);
        totals = (totals.0 + before, totals.1 + after);
    }
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    for ((from, to), (tensors, before, after)) in pairs {
        eprintln!(
            "{tensors:5} tensors  {from:>5} -> {to:5}  {:9.1} -> {:9.1} MiB",
            mib(before),
            mib(after)
        );
    }
    eprintln!(
        "{:5} tensors  in all          {:9.1} -> {:9.1} MiB",
        plan.tensors().len(),
        mib(totals.0),
        mib(totals.1)
    );
}

fn progress_style() -> ProgressStyle {
    let template = "quantising {wide_bar} {percent} % {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
