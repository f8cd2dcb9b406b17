//! A conversation with a model in the terminal, or one answer for a script.

mod common;

use std::error::Error;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gristmill::chat::{Chat, ChatTemplate};
use gristmill::{GenerateOptions, Level, Model, SamplingOptions, SessionOptions, Timings};

/// Talks with a model from a GGUF file, with the chat template of the file.
///
/// What is asked is a line of the standard input, or the text of --once. Answers go to the standard
/// output as they come, all else to the standard error. A line that begins with / is a command: /help
/// lists them.
#[derive(Parser)]
#[command(name = "chat", version)]
struct Options {
    /// The GGUF file; any of a model in several files [default: the demo model, which only tells stories]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Ask this, print the answer, and end
    #[arg(long, value_name = "TEXT")]
    once: Option<String>,

    /// Instructions for the whole conversation
    #[arg(short, long, value_name = "TEXT")]
    system: Option<String>,

    /// A well-known template in place of that of the file, such as chatml or llama3
    #[arg(long, value_name = "NAME")]
    template: Option<String>,

    /// Stop an answer after so many tokens
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 512)]
    max_tokens: usize,

    /// Draw tokens at this temperature; 0 takes the most probable one
    #[arg(long, value_name = "NUMBER", default_value_t = 0.7)]
    temperature: f32,

    /// The seed of the draws: the same one gives the same answers
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Positions of the context, for the whole conversation [default: what the model was made for, but at
    /// most 4096]
    #[arg(short, long, value_name = "COUNT")]
    context: Option<usize>,

    /// Threads [default: one for each physical performance core]
    #[arg(short, long, value_name = "COUNT")]
    threads: Option<usize>,

    /// The instruction-set level [default: the highest of this machine]
    #[arg(long, value_name = "NAME")]
    level: Option<Level>,
}

const COMMANDS: &str = "\
/system TEXT   instructions for the whole conversation
/clear         forget the conversation, but not the instructions
/bye           end; so does the end of the input";

fn main() -> ExitCode {
    common::exit(run(&Options::parse()))
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let path = common::model_path(options.model.as_deref())?;
    let model = common::open(&path, options.threads, options.level)?;
    let mut chat = begin(&model, options)?;
    if let Some(text) = &options.once {
        return answer(&mut chat, text, options);
    }
    let is_terminal = io::stdin().is_terminal();
    if is_terminal {
        eprintln!("{}; /help lists commands", path.display());
    }
    let mut lines = io::stdin().lock().lines();
    loop {
        if is_terminal {
            eprint!("> ");
        }
        let Some(line) = lines.next().transpose()? else {
            return Ok(());
        };
        match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
            ("", _) => {}
            ("/bye", _) => return Ok(()),
            ("/help", _) => eprintln!("{COMMANDS}"),
            ("/system", text) => chat.system(text),
            ("/clear", _) => chat
                .messages_mut()
                .retain(|message| message.role() == "system"),
            (command, _) if command.starts_with('/') => {
                eprintln!("no command {command}\n{COMMANDS}");
            }
            // The conversation goes on, as it was before.
            _ => {
                if let Err(error) = answer(&mut chat, line.trim(), options) {
                    eprintln!("error: {error}");
                }
            }
        }
    }
}

fn begin(model: &Model, options: &Options) -> Result<Chat, Box<dyn Error>> {
    let mut settings = SessionOptions::new();
    if let Some(positions) = options.context {
        settings = settings.context_length(positions);
    }
    let template = match &options.template {
        Some(name) => ChatTemplate::named(name)?,
        None => model.chat_template()?,
    };
    let mut chat = Chat::new(model.session_with(&settings)?, template);
    if let Some(text) = &options.system {
        chat.system(text);
    }
    Ok(chat)
}

/// Prints an answer as it comes.
fn answer(chat: &mut Chat, text: &str, options: &Options) -> Result<(), Box<dyn Error>> {
    let sampling = SamplingOptions {
        temperature: options.temperature,
        seed: options.seed,
        ..SamplingOptions::default()
    };
    let generate = GenerateOptions::new()
        .max_tokens(options.max_tokens)
        .sampling(sampling);
    let mut reply = chat.send(text, &generate)?;
    let mut out = io::stdout().lock();
    for piece in reply.by_ref() {
        out.write_all(piece?.text.as_bytes())?;
        out.flush()?;
    }
    writeln!(out)?;
    report(&reply.timings());
    Ok(())
}

fn report(timings: &Timings) {
    eprintln!(
        "({} tokens read, {} written, {:.1} tokens/s)",
        timings.prompt_tokens,
        timings.generated_tokens,
        timings.generated_tokens_per_second()
    );
}
