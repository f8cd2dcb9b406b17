//! The program `generate`, as a user runs it.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use gristmill::{GenerateOptions, MirostatVersion, Model, ModelBuilder, SamplingOptions};

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
fn guesses_do_not_change_the_text() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    let Some((_, plain, _)) = generate(&[]) else {
        return;
    };
    for guess in [&["--lookup", "--draft-max", "5"][..], &["--draft", demo]] {
        let Some((output, stdout, stderr)) = generate(guess) else {
            return;
        };
        assert!(output.status.success(), "{stderr}");
        assert_eq!(stdout, plain, "{guess:?}");
        assert!(stderr.contains("of them right"), "{stderr}");
    }
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
        ..Default::default()
    };
    let options = GenerateOptions::new()
        .max_tokens(30)
        .sampling(sampling)
        .stop("\n");
    let model = demo(Model::builder().threads(1).level("scalar".parse().unwrap()));
    let expected = model.generate("One day", &options).unwrap().text;
    assert_eq!(stdout, expected + "\n");
}

/// Each with a value that changes the text.
#[test]
fn every_option_of_the_choice_of_tokens_reaches_it() {
    let model = demo(Model::builder());
    let default = || SamplingOptions {
        temperature: 1.2,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: Some(5),
        ..Default::default()
    };
    let text = |sampling| {
        let options = GenerateOptions::new().max_tokens(250).sampling(sampling);
        model.generate("Once upon a time", &options).unwrap().text
    };
    let plain = text(default());
    type Change = fn(&mut SamplingOptions);
    let cases: [(&str, Change); 14] = [
        ("--typical 0.5", |o| o.typical_p = 0.5),
        ("--top-n-sigma 0.7", |o| o.top_n_sigma = 0.7),
        ("--xtc-probability 1", |o| o.xtc_probability = 1.0),
        ("--xtc-probability 1 --xtc-threshold 0.3", |o| {
            (o.xtc_probability, o.xtc_threshold) = (1.0, 0.3);
        }),
        ("--dynatemp-range 3 --dynatemp-exp 0.5", |o| {
            (o.dynatemp_range, o.dynatemp_exponent) = (3.0, 0.5);
        }),
        ("--repeat-penalty 1.5 --repeat-last-n 20", |o| {
            (o.repeat_penalty, o.repeat_last_n) = (1.5, 20);
        }),
        ("--presence-penalty 2", |o| o.presence_penalty = 2.0),
        ("--frequency-penalty -0.5", |o| o.frequency_penalty = -0.5),
        (
            "--dry-multiplier 3 --dry-base 3 --dry-allowed-length 1",
            |o| {
                (o.dry_multiplier, o.dry_base, o.dry_allowed_length) = (3.0, 3.0, 1);
            },
        ),
        (
            "--dry-multiplier 9 --dry-allowed-length 1 --dry-penalty-last-n 30",
            |o| {
                (o.dry_multiplier, o.dry_allowed_length, o.dry_penalty_last_n) = (9.0, 1, 30);
            },
        ),
        (
            "--dry-multiplier 9 --dry-allowed-length 1 --dry-sequence-breaker e",
            |o| {
                (o.dry_multiplier, o.dry_allowed_length) = (9.0, 1);
                o.dry_sequence_breakers = vec!["e".into()];
            },
        ),
        ("--mirostat 1 --mirostat-ent 1.5", |o| {
            (o.mirostat, o.mirostat_tau) = (Some(MirostatVersion::V1), 1.5);
        }),
        ("--mirostat 2 --mirostat-lr 0.9 --mirostat-ent 1", |o| {
            (o.mirostat, o.mirostat_tau) = (Some(MirostatVersion::V2), 1.0);
            o.mirostat_eta = 0.9;
        }),
        ("--logit-bias 13-inf -l 15+1.5", |o| {
            o.logit_bias = vec![(13, f32::NEG_INFINITY), (15, 1.5)];
        }),
    ];
    for (flags, change) in cases {
        let fixed = "--temperature 1.2 --top-k 0 --top-p 1 --min-p 0 --seed 5 -n 250 --no-echo";
        let arguments: Vec<&str> = fixed.split(' ').chain(flags.split(' ')).collect();
        let Some((output, stdout, stderr)) = generate(&arguments) else {
            return;
        };
        assert!(output.status.success(), "{flags}: {stderr}");
        let mut sampling = default();
        change(&mut sampling);
        let expected = text(sampling);
        assert_ne!(expected, plain, "{flags}");
        assert_eq!(stdout, expected + "\n", "{flags}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (arguments, named) in [
        (["-m", "nowhere.gguf"], "nowhere.gguf"),
        (["--top-p", "1.5"], "top_p"),
        (["--mirostat", "3"], "--mirostat"),
        (["--logit-bias", "x+1"], "--logit-bias"),
        (["--logit-bias", "99999999+1"], "logit_bias"),
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

#[cfg(feature = "constrain")]
#[test]
fn the_text_follows_a_grammar_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        (
            "schema.json",
            "--json-schema",
            r#"{"enum": ["seven"]}"#,
            "\"seven\"\n",
        ),
        ("one.gbnf", "--grammar", "root ::= \"a\"{3}", "aaa\n"),
        ("one.lark", "--grammar", "start: \"b\" ~ 2", "bb\n"),
    ];
    for (name, option, grammar, text) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, grammar).unwrap();
        let path = path.to_str().unwrap();
        let Some((_, stdout, stderr)) = generate(&["--no-echo", option, path]) else {
            return;
        };
        assert_eq!(stdout, text, "{stderr}");
        std::fs::write(path, "(").unwrap();
        let (output, _, stderr) = generate(&[option, path]).unwrap();
        assert!(
            !output.status.success() && stderr.contains(name),
            "{stderr}"
        );
    }
}
