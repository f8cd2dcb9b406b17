//! What the example programs share.

#![allow(dead_code, unused_imports, reason = "each program takes what it needs")]

mod options;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gristmill::{Level, Model};

pub(crate) use options::{Guesses, Loading};

/// Ends a program: what went wrong goes to standard error. A reader that has seen enough is nothing
/// wrong.
pub(crate) fn exit(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether whoever read the output is gone.
pub(crate) fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Opens a model with the threads and the level that were asked for.
pub(crate) fn open(
    path: &Path,
    threads: Option<usize>,
    level: Option<Level>,
) -> gristmill::Result<Model> {
    let mut builder = Model::builder();
    if let Some(threads) = threads {
        builder = builder.threads(threads);
    }
    if let Some(level) = level {
        builder = builder.level(level);
    }
    builder.open(path)
}

/// The model that was named, else the demo model of this repository.
pub(crate) fn model_path(named: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo-model/demo.gguf");
    if demo.is_file() {
        return Ok(demo);
    }
    Err(format!(
        "the demo model {} is not there; name a GGUF file",
        demo.display()
    ))
}
