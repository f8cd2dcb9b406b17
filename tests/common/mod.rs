//! What several test programs share.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod gguf_writer;
pub(crate) mod spec;

use std::path::PathBuf;

/// An example program, which `cargo test` builds beside the tests; building one test alone does not.
pub(crate) fn example(name: &str) -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = tests.parent()?.parent()?.join("examples").join(file);
    if !path.is_file() {
        println!("skipped: {} is not built", path.display());
        return None;
    }
    Some(path)
}
