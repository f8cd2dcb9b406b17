//! What the user types: with line editing and a history in a terminal, plain lines elsewhere.

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

/// Begins and ends a text of several lines.
const QUOTES: &str = "\"\"\"";

pub(crate) enum Read {
    /// Not empty.
    Text(String),
    Interrupted,
    End,
}

pub(crate) enum Input {
    Terminal {
        editor: Box<DefaultEditor>,
        history: Option<PathBuf>,
    },
    Plain,
}

impl Input {
    pub(crate) fn new() -> Result<Input, Box<dyn Error>> {
        if !io::stdin().is_terminal() {
            return Ok(Input::Plain);
        }
        let mut editor = Box::new(DefaultEditor::new()?);
        let history = history_path();
        if let Some(path) = &history {
            // There is none the first time.
            let _ = editor.load_history(path);
        }
        Ok(Input::Terminal { editor, history })
    }

    /// The next text: a line, or several between `"""`.
    pub(crate) fn read(&mut self) -> Result<Read, Box<dyn Error>> {
        loop {
            let line = match self.line("> ")? {
                Read::Text(line) => line,
                other => return Ok(other),
            };
            let Some(first) = line.trim_start().strip_prefix(QUOTES) else {
                match line.trim() {
                    "" => continue,
                    text => return Ok(self.remember(text.to_owned())),
                }
            };
            let mut text = first.to_owned();
            while !text.trim_end().ends_with(QUOTES) {
                match self.line(". ")? {
                    Read::Text(line) => text.extend(["\n", &line]),
                    other => return Ok(other),
                }
            }
            let text = text.trim_end().trim_end_matches(QUOTES).trim();
            if !text.is_empty() {
                return Ok(self.remember(text.to_owned()));
            }
        }
    }

    fn line(&mut self, prompt: &str) -> Result<Read, Box<dyn Error>> {
        match self {
            Input::Terminal { editor, .. } => match editor.readline(prompt) {
                Ok(line) => Ok(Read::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Read::Interrupted),
                Err(ReadlineError::Eof) => Ok(Read::End),
                Err(error) => Err(error.into()),
            },
            Input::Plain => Ok(match io::stdin().lines().next().transpose()? {
                Some(line) => Read::Text(line),
                None => Read::End,
            }),
        }
    }

    /// Keeps a text for the next time; a disk that is full is no reason to stop.
    fn remember(&mut self, text: String) -> Read {
        if let Input::Terminal { editor, history } = self {
            let _ = editor.add_history_entry(&text);
            if let Some(path) = history {
                let _ = path.parent().map(std::fs::create_dir_all);
                let _ = editor.save_history(path);
            }
        }
        Read::Text(text)
    }
}

/// In the folder for such files of the XDG base directories.
fn history_path() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    Some(folder.join("gristmill/chat-history"))
}
