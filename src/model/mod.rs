//! A model: a file's weights, its tokenizer and the threads that evaluate it.

mod architecture;
mod attention;
mod blocks;
mod config;
mod experts;
mod forward;
mod keys;
mod latent;
mod recurrent;
mod rope;
mod scales;
mod weights;

use std::path::Path;
use std::sync::Arc;

use gristmill_kernels::Level;

use crate::cpus;
use crate::gguf::Gguf;
use crate::pool::{MAX_THREADS, Pool};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

pub(crate) use architecture::Architecture;
pub(crate) use attention::AttentionShape;
pub(crate) use blocks::{Block, Mixing};
pub(crate) use config::Config;
pub(crate) use forward::{Pass, Sequence, Workspace};
pub(crate) use recurrent::RecurrentShape;
pub(crate) use weights::Weights;

/// The logistic function.
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The environment variable that lowers the instruction-set level where the builder does not set it.
const LEVEL_VARIABLE: &str = "GRISTMILL_LEVEL";

/// A model, ready to make sessions. Clones share everything.
///
/// ```
/// # fn main() -> gristmill::Result<()> {
/// let model = gristmill::Model::open(concat!(
///     env!("CARGO_MANIFEST_DIR"),
///     "/examples/demo-model/demo.gguf"
/// ))?;
/// let mut session = model.session()?;
/// let tokens = model.tokenizer().encode("Once upon a time", Default::default())?;
/// session.feed(&tokens)?;
/// assert_eq!(session.logits().len(), model.vocab_size());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Model(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gguf: Gguf,
    config: Config,
    weights: Weights,
    tokenizer: Tokenizer,
    level: Level,
    pool: Pool,
    /// What grammars are compiled for, once one is.
    #[cfg(feature = "constrain")]
    vocabulary: std::sync::OnceLock<Arc<crate::constrain::Vocabulary>>,
}

impl Model {
    /// Opens a GGUF file (or a split set by any of its parts) with the default settings.
    ///
    /// The file is mapped, not read: opening takes milliseconds, and weights come into memory as they
    /// are used. See [`Gguf::open`] about files that change while they are mapped.
    ///
    /// # Errors
    /// As [`ModelBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Model> {
        Model::builder().open(path)
    }

    /// Settings, before a file is opened.
    #[must_use]
    pub fn builder() -> ModelBuilder {
        ModelBuilder::default()
    }

    /// Whether both are clones of one model.
    pub(crate) fn is_same(&self, other: &Model) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The file.
    #[must_use]
    pub fn gguf(&self) -> &Gguf {
        &self.0.gguf
    }

    /// `general.architecture` of the file.
    #[must_use]
    pub fn architecture(&self) -> &'static str {
        self.0.config.architecture.name
    }

    /// Text to token ids and back.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// Number of token ids, and of logits.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.0.weights.output.matrix.rows()
    }

    /// Positions that the model was trained for.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.0.config.sizes.context_length
    }

    /// The instruction-set level in use.
    #[must_use]
    pub fn level(&self) -> Level {
        self.0.level
    }

    /// The number of threads in use.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.pool.threads()
    }

    /// What grammars are compiled for; made where it is asked for first.
    #[cfg(feature = "constrain")]
    pub(crate) fn vocabulary(&self) -> Result<Arc<crate::constrain::Vocabulary>> {
        if let Some(vocabulary) = self.0.vocabulary.get() {
            return Ok(vocabulary.clone());
        }
        let vocabulary = Arc::new(crate::constrain::Vocabulary::new(self)?);
        // Another thread may have been faster: then all take its one.
        Ok(self.0.vocabulary.get_or_init(|| vocabulary).clone())
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.0.weights
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }
}

/// Settings of a [`Model`].
///
/// ```
/// # fn main() -> gristmill::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
/// let model = gristmill::Model::builder().threads(2).open(path)?;
/// assert_eq!(model.threads(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ModelBuilder {
    threads: Option<usize>,
    level: Option<Level>,
}

impl ModelBuilder {
    /// Threads of a forward pass. Default: one for each physical performance core that this process
    /// may use, by its affinity mask and by the quota of its control group (Linux; elsewhere, one for
    /// each processor).
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The instruction-set level. Default: the environment variable `GRISTMILL_LEVEL`, else the
    /// highest of this machine.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// Opens a GGUF file, or a split set by any of its parts.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Malformed`], [`Error::Limit`] if it is damaged;
    /// [`Error::Unsupported`] if this version cannot run it; [`Error::Argument`] for a setting out
    /// of range.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Model> {
        self.load(Gguf::open(path)?)
    }

    /// Makes a model of a file that is open already, or in memory (see [`Gguf::from_bytes`]).
    ///
    /// # Errors
    /// As [`ModelBuilder::open`].
    pub fn load(self, gguf: Gguf) -> Result<Model> {
        let level = self.chosen_level()?;
        let pool = Pool::new(self.thread_count()?)?;
        let config = Config::read(&gguf)?;
        let weights = Weights::bind(&gguf, &config)?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        let rows = weights.token_embedding.rows();
        if let Some(vocab) = tokenizer.vocab_size().filter(|&vocab| vocab != rows) {
            return Err(Error::Malformed {
                place: gguf.place_of_tensor("token_embd.weight"),
                expected: format!("a row for each of the tokenizer's {vocab} tokens"),
                found: format!("{rows} rows"),
            });
        }
        Ok(Model(Arc::new(Inner {
            gguf,
            config,
            weights,
            tokenizer,
            level,
            pool,
            #[cfg(feature = "constrain")]
            vocabulary: std::sync::OnceLock::new(),
        })))
    }

    fn chosen_level(&self) -> Result<Level> {
        if let Some(level) = self.level {
            return Ok(level);
        }
        let Ok(name) = std::env::var(LEVEL_VARIABLE) else {
            return Ok(Level::detect());
        };
        name.parse()
            .map_err(|error: gristmill_kernels::UnknownLevel| Error::Argument {
                name: LEVEL_VARIABLE,
                expected: format!("one of {}", error.available),
                found: error.name,
            })
    }

    fn thread_count(&self) -> Result<usize> {
        let default = || cpus::default_threads().min(MAX_THREADS);
        let threads = self.threads.unwrap_or_else(default);
        if (1..=MAX_THREADS).contains(&threads) {
            return Ok(threads);
        }
        Err(Error::Argument {
            name: "threads",
            expected: format!("a number from 1 to {MAX_THREADS}"),
            found: threads.to_string(),
        })
    }
}
