//! Options that several programs have.

use std::error::Error;
use std::path::PathBuf;

use gristmill::{Level, Model, Speculation};

/// Which model, and on what it runs.
#[derive(clap::Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct Loading {
    /// The GGUF file; any of a model in several files [default: the demo model]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Threads [default: the physical performance cores that this process may use]
    #[arg(short, long, value_name = "COUNT")]
    threads: Option<usize>,

    /// Instruction-set level, such as scalar or avx2 [default: the highest that this machine has]
    #[arg(long, value_name = "NAME")]
    level: Option<Level>,
}

impl Loading {
    pub(crate) fn path(&self) -> Result<PathBuf, String> {
        super::model_path(self.model.as_deref())
    }

    pub(crate) fn open(&self) -> Result<Model, Box<dyn Error>> {
        Ok(super::open(&self.path()?, self.threads, self.level)?)
    }
}

/// How tokens are guessed.
#[derive(clap::Args)]
#[command(next_help_heading = "Speculative decoding: the same text, sooner")]
pub(crate) struct Guesses {
    /// Guess that the text goes on as it did before: pays where much is copied, as in edits of code
    #[arg(long, conflicts_with = "draft")]
    lookup: bool,

    /// Guess with a much smaller model of the same vocabulary
    #[arg(long, value_name = "FILE")]
    draft: Option<PathBuf>,

    /// Guess at most so many tokens at a time [default: as many as give the same bits: 15 with AVX-512,
    /// 11 with AVX2]
    #[arg(long, value_name = "COUNT")]
    draft_max: Option<usize>,
}

impl Guesses {
    pub(crate) fn are_made(&self) -> bool {
        self.lookup || self.draft.is_some()
    }

    /// Another model runs as the one that it guesses for.
    pub(crate) fn speculation(&self, loading: &Loading) -> gristmill::Result<Option<Speculation>> {
        let speculation = match &self.draft {
            Some(path) => Speculation::draft(&super::open(path, loading.threads, loading.level)?),
            None if self.lookup => Speculation::prompt_lookup(),
            None => return Ok(None),
        };
        Ok(Some(match self.draft_max {
            Some(tokens) => speculation.max_tokens(tokens),
            None => speculation,
        }))
    }
}
