//! The program `perplexity`, as a user runs it.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use gristmill::tokenizer::EncodeOptions;
use gristmill::{CacheType, Model, SessionOptions};

const CONTEXT: usize = 48;

/// Runs the program on the demo model and a text; standard output and standard error as text.
fn perplexity(text: &str, arguments: &str) -> Option<(Output, String, String)> {
    let program = common::example("perplexity")?;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text.txt"), text).unwrap();
    let output = Command::new(program)
        .current_dir(folder.path())
        .args(["-f", "text.txt", "-t", "2"])
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Some((output, stdout, stderr))
}

fn text() -> String {
    let names = ["Mila", "Tom", "Anna", "Ben", "Lily", "Max"];
    let stories = names.map(|name| {
        format!(
            "Once upon a time there was a little fox named {name}. One day {name} found a red ball \
             in the garden. \"What is the matter?\" asked the old owl. \"I lost my ball,\" said {name}. "
        )
    });
    stories.concat()
}

/// The first number of `line` behind `word`.
fn number(line: &str, word: &str) -> f64 {
    let (_, rest) = line.split_once(word).expect(line);
    let number = rest.split_whitespace().next().expect(line);
    number.trim_end_matches(',').parse().expect(line)
}

/// Perplexity and its standard error, from the definitions: one pass over each chunk, the probability
/// of every token, the losses of those whose place is in the second half.
fn expected(text: &str, chunks: usize) -> (f64, f64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = Model::open(folder.join("examples/demo-model/demo.gguf")).unwrap();
    let options = SessionOptions::new().cache_type(CacheType::F32);
    let ids = model
        .tokenizer()
        .encode(text, EncodeOptions::default())
        .unwrap();
    let mut losses = Vec::new();
    for chunk in ids.chunks_exact(CONTEXT).take(chunks) {
        let mut chunk = chunk.to_vec();
        chunk[0] = model.tokenizer().bos().unwrap();
        let mut session = model.session_with(&options).unwrap();
        session
            .feed_each(&chunk, |place, logits| {
                if (CONTEXT / 2..CONTEXT - 1).contains(&place) {
                    let exp = |logit: &f32| f64::from(*logit).exp();
                    let all: f64 = logits.iter().map(exp).sum();
                    losses.push(-(exp(&logits[chunk[place + 1] as usize]) / all).ln());
                }
            })
            .unwrap();
    }
    let count = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / count;
    let squares: f64 = losses.iter().map(|loss| (loss - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    (mean.exp(), mean.exp() * deviation / count.sqrt())
}

#[test]
fn the_second_half_of_each_chunk_is_scored() {
    let arguments = format!("--context {CONTEXT} --chunks 5 --cache-type f32,q8_0,f32");
    let Some((output, stdout, stderr)) = perplexity(&text(), &arguments) else {
        return;
    };
    assert!(output.status.success(), "{stderr}");
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{stdout}");
    assert_eq!(lines[0], "5 chunks of 48 tokens, 115 tokens scored");
    let (perplexity, error) = expected(&text(), 5);
    for (found, expected) in [
        (number(lines[1], "perplexity"), perplexity),
        (number(lines[1], "±"), error),
    ] {
        // Sums in another order move an activation across a rounding step now and then.
        assert!(
            (found / expected - 1.0).abs() < 0.01,
            "{found}, not {expected}"
        );
    }
    assert!(lines[2].starts_with("q8_0  perplexity"), "{stdout}");
    let difference = number(lines[2].split_once(", ").expect("a difference").1, "");
    let logarithms = [lines[2], lines[1]].map(|line| number(line, "perplexity").ln());
    assert!(
        (difference - (logarithms[0] - logarithms[1])).abs() < 2e-4,
        "{stdout}"
    );
    assert!(
        lines[3].ends_with(", +0.000000 ± 0.000000 nats per token"),
        "{stdout}"
    );
}

#[test]
fn mistakes_are_named() {
    let Some((output, _, stderr)) = perplexity("Once upon a time", "") else {
        return;
    };
    assert!(!output.status.success());
    assert!(
        stderr.contains("text.txt: a chunk takes 512 tokens, the text has "),
        "{stderr}"
    );
    for (arguments, expected) in [
        ("--cache-type q4_0", "f32, f16, q8_0"),
        ("--context 3", "3 is not in 4.."),
        ("--chunks 0", "0 is not in 1.."),
        ("-m missing.gguf", "missing.gguf"),
    ] {
        let (output, _, stderr) = perplexity(&text(), arguments).unwrap();
        assert!(!output.status.success());
        assert!(stderr.contains(expected), "{stderr}");
    }
}
