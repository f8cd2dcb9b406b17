//! The program `quantize`, as a user runs it.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::spec::Spec;
use gristmill::gguf::Gguf;

/// Runs the program in a folder.
fn quantize(folder: &Path, arguments: &str) -> Option<Output> {
    let mut command = Command::new(common::example("quantize")?);
    let arguments = arguments.split(' ');
    Some(
        command
            .current_dir(folder)
            .args(arguments)
            .output()
            .unwrap(),
    )
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_smaller_file_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (
        folder.path().join("in.gguf"),
        folder.path().join("out.gguf"),
    );
    std::fs::write(&input, Spec::golden("llama").gguf()).unwrap();
    let Some(run) = quantize(folder.path(), "-m in.gguf -o out.gguf q8_0 --dry-run") else {
        return;
    };
    assert!(run.status.success() && !output.exists());
    let run = quantize(folder.path(), "-m in.gguf -o out.gguf q8_0 -t 2").unwrap();
    let text = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{text}");
    assert!(
        text.contains("F32 -> Q8_0") && text.contains("out.gguf"),
        "{text}"
    );
    let before = std::fs::metadata(input).unwrap().len();
    assert!(std::fs::metadata(&output).unwrap().len() * 2 < before);
    let written = Gguf::open(output).unwrap();
    assert_eq!(written.require::<u32>("general.file_type").unwrap(), 7);
}

#[test]
fn the_input_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = Spec::golden("llama").gguf();
    std::fs::write(folder.path().join("in.gguf"), &file).unwrap();
    for output in ["in.gguf", "./in.gguf"] {
        let Some(run) = quantize(folder.path(), &format!("-m in.gguf -o {output} Q4_0")) else {
            return;
        };
        assert!(error(&run).contains("name another output"));
    }
    assert!(std::fs::read(folder.path().join("in.gguf")).unwrap() == file);
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some(run) = quantize(folder.path(), "-o out.gguf Q4_0") else {
        return;
    };
    let text = error(&run);
    assert!(text.contains("--requantize"), "{text}");
    assert!(error(&quantize(folder.path(), "-o out.gguf Q9").unwrap()).contains("Q4_K_M"));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}
