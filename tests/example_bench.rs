//! The program `bench`, as a user runs it: what it reports beside times.

mod common;

use std::process::{Command, Output};

use common::spec::Spec;
use serde_json::Value;

/// Runs the program with a model and more arguments.
fn bench(spec: &Spec, arguments: &[&str]) -> Option<Output> {
    let program = common::example("bench")?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, spec.gguf()).unwrap();
    let mut command = Command::new(program);
    Some(
        command
            .arg("-m")
            .arg(path)
            .args(arguments)
            .output()
            .unwrap(),
    )
}

fn elements(spec: &Spec, wanted: impl Fn(&str) -> bool) -> u64 {
    let tensors = spec.tensors.iter().filter(|(name, ..)| wanted(name));
    tensors
        .map(|(_, shape, ..)| shape.iter().product::<u64>())
        .sum()
}

#[test]
fn every_combination_is_a_test() {
    let arguments = "-p 4,0,8 -n 3 -d 0,5 -t 1,2 --level scalar --cache-type q8_0 -r 2 --json";
    let arguments: Vec<_> = arguments.split(' ').collect();
    let Some(output) = bench(&Spec::golden("llama"), &arguments) else {
        return;
    };
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let tests: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["n_threads"].as_u64().unwrap(),
                row["test"].as_str().unwrap(),
            )
        })
        .collect();
    let names = ["pp4", "pp8", "tg3", "pp4 @ d5", "pp8 @ d5", "tg3 @ d5"];
    let of_threads = |threads| names.iter().map(move |&name| (threads, name));
    assert_eq!(
        tests,
        of_threads(1).chain(of_threads(2)).collect::<Vec<_>>()
    );
    for row in rows {
        assert_eq!(row["level"], "scalar");
        assert_eq!([&row["type_k"], &row["type_v"]], ["q8_0"; 2]);
        let samples: Vec<f64> = serde_json::from_value(row["samples_ts"].clone()).unwrap();
        let [a, b] = samples[..] else {
            panic!("two samples: {samples:?}")
        };
        let is = |key: &str, value: f64| {
            let found = row[key].as_f64().unwrap();
            // Two nearly equal samples leave a deviation of few digits.
            assert!(
                (found - value).abs() < 1e-9 * a.max(b),
                "{key}: {found}, not {value}"
            );
        };
        assert!(a > 0.0 && b > 0.0);
        is("avg_ts", (a + b) / 2.0);
        is("median_ts", (a + b) / 2.0);
        is("stddev_ts", (a - b).abs() / 2f64.sqrt());
    }
}

#[test]
fn a_token_needs_all_weights_but_a_separate_embedding() {
    for (name, skipped) in [("llama", "token_embd.weight"), ("llama-gqa-tied", "")] {
        let spec = Spec::golden(name);
        let Some(output) = bench(&spec, &["-p", "0", "-n", "2", "-r", "1", "--json"]) else {
            return;
        };
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let [row] = &rows[..] else {
            panic!("one test: {rows:?}")
        };
        assert_eq!(row["model_n_params"], elements(&spec, |_| true));
        assert_eq!(row["model_size"], 4 * elements(&spec, |_| true));
        assert_eq!(
            row["bytes_per_token"],
            4 * elements(&spec, |name| name != skipped)
        );
    }
}

#[test]
fn the_table_is_markdown() {
    let Some(output) = bench(&Spec::golden("llama"), &["-p", "4", "-n", "0", "-r", "1"]) else {
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
    let widths: Vec<_> = lines.iter().map(|line| line.chars().count()).collect();
    assert_eq!(widths, [widths[0]; 3], "{text}");
    assert!(
        lines[2].starts_with("| model ") && lines[2].contains(" pp4 |"),
        "{text}"
    );
    assert!(text.contains("llama F32 100 %"), "{text}");
}
