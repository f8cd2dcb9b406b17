//! What the example programs share.

use std::path::{Path, PathBuf};

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
