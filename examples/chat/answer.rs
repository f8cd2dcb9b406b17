//! Asks the model, and prints the answer as it comes.

use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;

use gristmill::chat::Chat;
use gristmill::{
    CancelToken, FinishReason, GenerateOptions, SamplerChain, SamplingOptions, Timings,
};

/// Prompts of so many tokens take long enough to show how far they have come.
const LONG_PROMPT: usize = 256;

/// What holds for all answers.
pub(crate) struct Settings {
    sampling: SamplingOptions,
    pub(crate) max_tokens: usize,
}

impl Settings {
    pub(crate) fn new(max_tokens: usize) -> Settings {
        Settings {
            sampling: SamplingOptions::default(),
            max_tokens,
        }
    }

    pub(crate) fn sampling(&self) -> &SamplingOptions {
        &self.sampling
    }

    /// Takes other settings if they are within their ranges.
    pub(crate) fn change(&mut self, sampling: SamplingOptions) -> gristmill::Result<()> {
        SamplerChain::new(&sampling)?;
        self.sampling = sampling;
        Ok(())
    }
}

/// Stops the answer that is being given; `None` while there is none.
static STOP: Mutex<Option<CancelToken>> = Mutex::new(None);

fn set_stop(token: Option<CancelToken>) {
    if let Ok(mut stop) = STOP.lock() {
        *stop = token;
    }
}

/// From now on Control-C stops the answer, and the program only where there is none.
pub(crate) fn stop_at_interrupts() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| match STOP.lock().as_deref() {
        Ok(Some(token)) => token.cancel(),
        _ => std::process::exit(130),
    })
}

/// Says something to the model.
pub(crate) fn answer(
    chat: &mut Chat,
    text: &str,
    settings: &Settings,
) -> Result<(), Box<dyn Error>> {
    let cancel = CancelToken::new();
    set_stop(Some(cancel.clone()));
    let result = print(chat, text, settings, &cancel);
    set_stop(None);
    result
}

fn print(
    chat: &mut Chat,
    text: &str,
    settings: &Settings,
    cancel: &CancelToken,
) -> Result<(), Box<dyn Error>> {
    let is_terminal = io::stderr().is_terminal();
    let mut options = GenerateOptions::new()
        .max_tokens(settings.max_tokens)
        .sampling(settings.sampling.clone())
        .cancel(cancel);
    if is_terminal {
        options = options.progress(show_progress);
    }
    let mut reply = chat.send(text, &options)?;
    let mut out = io::stdout().lock();
    let mut was_thinking = false;
    for piece in reply.by_ref() {
        let piece = piece?;
        // Thoughts are for people to watch, no part of what a script asked for.
        if is_terminal && !piece.reasoning.is_empty() {
            eprint!("\x1b[2m{}\x1b[0m", piece.reasoning);
            was_thinking = true;
        }
        if was_thinking && !piece.text.is_empty() {
            eprintln!("\n");
            was_thinking = false;
        }
        out.write_all(piece.text.as_bytes())?;
        out.flush()?;
    }
    writeln!(out)?;
    report(reply.finish_reason(), &reply.timings());
    Ok(())
}

fn show_progress(done: usize, all: usize) {
    if all >= LONG_PROMPT && done < all {
        eprint!("\r{done} of {all} tokens read");
    } else if all >= LONG_PROMPT {
        eprint!("\r\x1b[K");
    }
}

fn report(reason: Option<FinishReason>, timings: &Timings) {
    let end = match reason {
        Some(FinishReason::MaxTokens) => ", cut off by --max-tokens",
        Some(FinishReason::ContextFull) => ", cut off by the end of the context",
        Some(FinishReason::Cancelled) => ", stopped",
        _ => "",
    };
    let guesses = match timings.drafted_tokens {
        0 => String::new(),
        drafted => format!(", {} of {drafted} guesses right", timings.accepted_tokens),
    };
    eprintln!(
        "({} tokens read, {} written, {:.1} tokens/s{guesses}{end})",
        timings.prompt_tokens,
        timings.generated_tokens,
        timings.generated_tokens_per_second()
    );
}
