//! The program `generate`, as a user runs it.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use gristmill::{GenerateOptions, Model, ModelBuilder, SamplingOptions};

/// Runs the program; standard output and standard error as text.
fn generate(arguments: &[&str]) -> Option<(Output, String, String)> {
    let output = Command::new(common::example("generate")?)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Some((output, stdout, stderr))
}

fn demo(builder: ModelBuilder) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    builder
        .open(folder.join("examples/demo-model/demo.gguf"))
        .unwrap()
}

#[test]
fn without_options_the_demo_model_tells_a_story() {
    let Some((output, stdout, stderr)) = generate(&[]) else {
        return;
    };
    assert!(output.status.success(), "{stderr}");
    let options = GenerateOptions::new().max_tokens(256);
    let story = demo(Model::builder())
        .generate("Once upon a time", &options)
        .unwrap();
    assert_eq!(stdout, format!("Once upon a time{}\n", story.text));
    assert!(
        stderr.contains("tokens/s") && stderr.contains("ended:"),
        "{stderr}"
    );
}

#[test]
fn options_reach_the_generation() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    std::fs::write(&file, "One day").unwrap();
    let file = file.to_str().unwrap();
    let numbers = [
        "-n",
        "30",
        "--temperature",
        "1.1",
        "--top-k",
        "9",
        "--top-p",
        "0.9",
    ];
    let others = [
        "--min-p", "0.01", "--seed", "5", "-t", "1", "--level", "scalar", "-c", "99",
    ];
    let mut arguments = vec!["--file", file, "--no-echo", "--stop", "\n"];
    arguments.extend(numbers.into_iter().chain(others));
    let Some((output, stdout, stderr)) = generate(&arguments) else {
        return;
    };
    assert!(output.status.success(), "{stderr}");

    let sampling = SamplingOptions {
        temperature: 1.1,
        top_k: 9,
        top_p: 0.9,
        min_p: 0.01,
        seed: Some(5),
    };
    let options = GenerateOptions::new()
        .max_tokens(30)
        .sampling(sampling)
        .stop("\n");
    let model = demo(Model::builder().threads(1).level("scalar".parse().unwrap()));
    let expected = model.generate("One day", &options).unwrap().text;
    assert_eq!(stdout, expected + "\n");
}

#[test]
fn what_is_wrong_is_named() {
    for (arguments, named) in [
        (["-m", "nowhere.gguf"], "nowhere.gguf"),
        (["--top-p", "1.5"], "top_p"),
        (["--context", "2"], "context is full"),
        (["--level", "mmx"], "scalar"),
        (["--file", "nowhere.txt"], "nowhere.txt"),
    ] {
        let Some((output, stdout, stderr)) = generate(&arguments) else {
            return;
        };
        assert!(!output.status.success());
        assert!(
            stderr.contains("error:") && stderr.contains(named),
            "{arguments:?}: {stderr}"
        );
        assert_eq!(stdout, "");
    }
}
