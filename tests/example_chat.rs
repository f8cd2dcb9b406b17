//! The program `chat`, as a user runs it.

mod common;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Runs the program on the demo model, with an input.
fn chat(arguments: &[&str], input: &str) -> Option<Output> {
    let program = common::example("chat")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a program");
    let mut stdin = child.stdin.take().expect("an input");
    stdin.write_all(input.as_bytes()).expect("a reader");
    drop(stdin);
    Some(child.wait_with_output().expect("an end"))
}

const BRIEF: [&str; 6] = ["--template", "chatml", "-n", "8", "--seed", "1"];

#[test]
fn one_answer_goes_to_the_standard_output() {
    let Some(output) = chat(&[&BRIEF[..], &["--once", "Hello"]].concat(), "") else {
        return;
    };
    assert!(output.status.success());
    assert!(output.stdout.len() > 1);
    let again = chat(&[&BRIEF[..], &["--once", "Hello"]].concat(), "").expect("as before");
    assert_eq!(output.stdout, again.stdout);
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(report.contains("8 written"), "{report}");
}

#[test]
fn lines_are_turns_and_commands() {
    let lines = "/system Be brief.\nHello\n/nonsense\n\nAnd then?\n/clear\nHello\n/bye\nNo more\n";
    let Some(output) = chat(&BRIEF, lines) else {
        return;
    };
    assert!(output.status.success());
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(report.matches("tokens/s").count(), 3, "{report}");
    assert!(report.contains("no command /nonsense"), "{report}");
}

#[test]
fn conversations_are_saved_changed_and_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.json");
    let file = file.to_str().unwrap();
    let lines = format!(
        "/system Be brief.\n\"\"\"Hello\nyou\"\"\"\nAnd then?\n/undo\n/retry\n/set top_k 1\n/set top_p 7\n/save {file}\n"
    );
    let Some(output) = chat(&BRIEF, &lines) else {
        return;
    };
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{report}");
    assert_eq!(report.matches("tokens/s").count(), 3, "{report}");
    assert!(report.contains("top_p"), "{report}");
    let text = std::fs::read_to_string(file).unwrap();
    let messages: serde_json::Value = serde_json::from_str(&text).unwrap();
    let roles: Vec<&str> = messages
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(messages[1]["content"], "Hello\nyou");

    let loaded = chat(
        &[&BRIEF[..], &["--load", file]].concat(),
        "/show\n/load nowhere\n",
    )
    .unwrap();
    let report = String::from_utf8_lossy(&loaded.stderr).into_owned();
    assert!(
        report.contains("[user] Hello\nyou") && report.contains("nowhere: "),
        "{report}"
    );
}

#[test]
#[cfg(unix)]
fn a_reader_that_has_seen_enough_is_no_error() {
    let Some(program) = common::example("chat") else {
        return;
    };
    let mut child = Command::new(program)
        .args(BRIEF)
        .args(["--once", "Hello"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_file_without_a_template_is_an_error_that_names_some() {
    let Some(output) = chat(&["--once", "Hello"], "") else {
        return;
    };
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("chatml"), "{error}");
}
