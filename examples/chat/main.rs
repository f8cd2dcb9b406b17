//! A conversation with a model in the terminal, or one answer for a script.

mod answer;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod input;

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gristmill::chat::{Chat, ChatTemplate, RenderOptions};
use gristmill::{Model, SamplingOptions, SessionOptions};

use answer::Settings;
use commands::Next;
use common::{Guesses, Loading};
use input::{Input, Read};

/// Talks with a model from a GGUF file, with the chat template of the file.
///
/// What is asked is a line of the standard input, or the text of --once. Answers go to the standard
/// output as they come, all else to the standard error. A line that begins with / is a command: /help
/// lists them. Control-C stops an answer, Control-D ends the program.
#[derive(Parser)]
#[command(name = "chat", version)]
struct Options {
    /// Ask this, print the answer, and end
    #[arg(long, value_name = "TEXT")]
    once: Option<String>,

    /// Instructions for the whole conversation
    #[arg(short, long, value_name = "TEXT")]
    system: Option<String>,

    /// A well-known template in place of that of the file, such as chatml or llama3
    #[arg(long, value_name = "NAME")]
    template: Option<String>,

    /// Ask the model not to think before it answers, if its template knows how to
    #[arg(long)]
    no_think: bool,

    /// Go on with the conversation of this file, as /save writes it
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,

    /// Stop an answer after so many tokens
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 2048)]
    max_tokens: usize,

    /// Draw tokens at this temperature; 0 takes the most probable one
    #[arg(long, value_name = "NUMBER", default_value_t = 0.7)]
    temperature: f32,

    /// The seed of the draws: the same one gives the same answers
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Positions of the context; when it is full, the oldest turns are forgotten [default: what the model
    /// was made for, but at most 4096]
    #[arg(short, long, value_name = "COUNT")]
    context: Option<usize>,

    #[command(flatten)]
    guesses: Guesses,

    #[command(flatten)]
    loading: Loading,
}

fn main() -> ExitCode {
    common::exit(run(&Options::parse()))
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let model = options.loading.open()?;
    let mut chat = begin(&model, options)?;
    let mut settings = Settings::new(options.max_tokens);
    settings.change(SamplingOptions {
        temperature: options.temperature,
        seed: options.seed,
        ..SamplingOptions::default()
    })?;
    if let Some(text) = &options.once {
        return answer::answer(&mut chat, text, &settings);
    }
    if io::stdin().is_terminal() {
        answer::stop_at_interrupts()?;
        eprintln!("{}; /help lists commands", model.gguf().name());
    }
    converse(&mut chat, &mut settings)
}

fn begin(model: &Model, options: &Options) -> Result<Chat, Box<dyn Error>> {
    let mut session = SessionOptions::new();
    if let Some(positions) = options.context {
        session = session.context_length(positions);
    }
    if let Some(speculation) = options.guesses.speculation(&options.loading)? {
        session = session.speculate(speculation);
    }
    let mut chat = match &options.template {
        Some(name) => Chat::new(model.session_with(&session)?, ChatTemplate::named(name)?),
        None => Chat::new(model.session_with(&session)?, model.chat_template()?),
    };
    chat.context_shift(true);
    if options.no_think {
        chat.render_options(RenderOptions::new().variable("enable_thinking", false));
    }
    if let Some(path) = &options.load {
        commands::load(&mut chat, path)?;
    }
    if let Some(text) = &options.system {
        chat.system(text);
    }
    Ok(chat)
}

fn converse(chat: &mut Chat, settings: &mut Settings) -> Result<(), Box<dyn Error>> {
    let mut input = Input::new()?;
    loop {
        let text = match input.read()? {
            Read::Text(text) => text,
            Read::Interrupted => {
                eprintln!("Control-D or /bye ends the program");
                continue;
            }
            Read::End => return Ok(()),
        };
        let next = match text.starts_with('/') {
            true => commands::run(&text, chat, settings),
            false => Ok(Next::Ask(text)),
        };
        // After an error the conversation goes on, as it was before.
        let result = match next {
            Ok(Next::Bye) => return Ok(()),
            Ok(Next::Read) => Ok(()),
            Ok(Next::Ask(text)) => answer::answer(chat, &text, settings),
            Err(message) => Err(message.into()),
        };
        match result {
            Err(error) if common::is_broken_pipe(&*error) => return Err(error),
            Err(error) => eprintln!("error: {error}"),
            Ok(()) => {}
        }
    }
}
