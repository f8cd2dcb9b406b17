//! The program `inspect`, as a user runs it.

mod common;

use std::process::{Command, Output};

use common::gguf_writer::{GgufWriter, Kv};
use common::spec::Spec;
use serde_json::Value;

/// Runs the program with a file of the given contents and more arguments.
fn inspect(file: &[u8], arguments: &[&str]) -> Option<Output> {
    let program = common::example("inspect")?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, file).unwrap();
    Some(
        Command::new(program)
            .arg(path)
            .args(arguments)
            .output()
            .unwrap(),
    )
}

#[test]
fn json_tells_what_is_in_the_file() {
    let spec = Spec::golden("qwen2");
    let Some(output) = inspect(&spec.gguf(), &["--json"]) else {
        return;
    };
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let elements: u64 = spec
        .tensors
        .iter()
        .map(|(_, shape, ..)| shape.iter().product::<u64>())
        .sum();
    assert_eq!(report["total"]["tensors"], spec.tensors.len());
    assert_eq!(report["total"]["elements"], elements);
    assert_eq!(report["types"][0]["bytes"], 4 * elements);
    assert_eq!(report["metadata"][0]["value"], "qwen2");
    assert_eq!(report["tensors"][0]["name"], spec.tensors[0].0);
}

#[test]
fn what_is_supported_is_listed() {
    let Some(program) = common::example("inspect") else {
        return;
    };
    let run = |arguments: &[&str]| {
        let output = Command::new(&program).args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&["--supported"]);
    for name in ["deepseek2", "IQ2_XXS", "gpt2", "llama-bpe"] {
        assert!(text.contains(&format!("  {name}")), "{name}: {text}");
    }
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    let lists: Value = serde_json::from_str(&run(&["--supported", "--json"])).unwrap();
    assert_eq!(lists["architectures"][0], "llama");
}

#[test]
fn text_is_shortened_and_harmless() {
    let file = GgufWriter::new()
        .kv("tokens", Kv::Arr((0..1000).map(Kv::U32).collect()))
        .kv("name", Kv::text("red: \x1b[31m"))
        .kv("epsilon", Kv::F32(0.1))
        .build();
    let Some(output) = inspect(&file, &[]) else {
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("array of u32 1000  [0, 1, 2, 3, 4, 5, …]"),
        "{text}"
    );
    assert!(
        text.contains("\"red: \\u{1b}[31m\"") && !text.contains('\x1b'),
        "{text}"
    );
    assert!(text.contains("0.1\n"), "{text}");
    let full = inspect(&file, &["--full", "--filter", "tok"]).unwrap();
    let text = String::from_utf8(full.stdout).unwrap();
    assert!(
        text.contains("998, 999]") && !text.contains("epsilon"),
        "{text}"
    );
}

#[test]
fn a_damaged_file_is_one_line_of_error() {
    let Some(output) = inspect(b"PK\x03\x04....", &[]) else {
        return;
    };
    assert!(!output.status.success() && output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("error: model.gguf: header: expected a GGUF file"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
}
