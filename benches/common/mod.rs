//! What the benchmarks share.

#[path = "../../examples/common/mod.rs"]
mod examples;
#[path = "../../tests/common/mod.rs"]
mod tests;

use std::path::PathBuf;

/// Real models that are measured where they are there (see `README.md`).
const REAL_MODELS: [&str; 2] = ["smollm2-135m", "qwen2.5-coder-0.5b"];

/// Names and files of the models to measure: the demo model and real ones, of those that are there.
pub(crate) fn models() -> Vec<(String, PathBuf)> {
    let mut models = Vec::new();
    match examples::model_path(None) {
        Ok(path) => models.push(("demo".to_owned(), path)),
        Err(error) => println!("skipped: {error}"),
    }
    if let Some(folder) = tests::spec::models_folder() {
        for name in REAL_MODELS {
            let path = folder.join(format!("{name}.gguf"));
            if path.is_file() {
                models.push((name.to_owned(), path));
            } else {
                println!("skipped: no {}", path.display());
            }
        }
    }
    models
}
