//! Compiling grammars within bounds.

use std::thread;

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Map, Value, json};

/// Bytes of a grammar as text.
const MAX_TEXT: usize = 1 << 20;
/// Its lines: a grammar has a rule on each, and compiling takes time with the square of their number.
const MAX_LINES: usize = 4000;
/// Brackets that are open at the same time: compilers go down into each.
const MAX_NESTING: usize = 200;
/// Values of a schema, each in a list or an object, in it as one.
const MAX_VALUES: usize = 1 << 17;
/// Lists and objects in one another.
const MAX_DEPTH: usize = 64;
/// Compilers go down into each definition that they meet for the first time.
const STACK: usize = 1 << 28;

/// What a text may have between the tokens of JSON. Without bounds, small models write line breaks forever.
const WHITESPACE: &str = r" |\n( {0,20}|\t{0,5})";

pub(super) fn check_text(text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT {
        return Err(format!(
            "{} bytes exceed the limit of {MAX_TEXT}",
            text.len()
        ));
    }
    if text.lines().count() > MAX_LINES {
        return Err(format!("more than {MAX_LINES} lines"));
    }
    let mut nesting = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => nesting += 1,
            b')' | b']' | b'}' => nesting = nesting.saturating_sub(1),
            _ => {}
        }
        if nesting > MAX_NESTING {
            return Err(format!("more than {MAX_NESTING} open brackets"));
        }
    }
    Ok(())
}

pub(super) fn check_schema(schema: &Value) -> Result<(), String> {
    let mut values = 0;
    let mut level: Vec<&Value> = vec![schema];
    for _ in 0..MAX_DEPTH {
        values += level.len();
        if values > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        let mut next = Vec::new();
        for value in level {
            match value {
                Value::Array(values) => next.extend(values),
                Value::Object(members) => next.extend(members.values()),
                _ => {}
            }
        }
        if next.is_empty() {
            return Ok(());
        }
        level = next;
    }
    Err(format!(
        "more than {MAX_DEPTH} lists and objects in one another"
    ))
}

/// The schema with our [`WHITESPACE`], unless it has its own.
pub(super) fn with_whitespace(schema: Value) -> Value {
    const KEY: &str = "x-guidance";
    let mut members = match schema {
        Value::Object(members) => members,
        Value::Bool(true) => Map::new(),
        other => return other,
    };
    let options = members.entry(KEY).or_insert_with(|| json!({}));
    let sets_whitespace = ["whitespace_flexible", "whitespace_pattern"];
    if let Value::Object(options) = options
        && !sets_whitespace.iter().any(|key| options.contains_key(*key))
    {
        options.insert("whitespace_pattern".into(), WHITESPACE.into());
    }
    Value::Object(members)
}

/// Compiles on a stack of its own, which the system gives memory as it is used. `None` if there is no thread to be
/// had.
pub(super) fn matcher(factory: &ParserFactory, grammar: GrammarWithLexer) -> Option<Matcher> {
    let compile = move || {
        let parser = factory.create_parser(TopLevelGrammar::from_grammar(grammar));
        let mut matcher = Matcher::new(parser);
        // The first mask is needed anyway, and tells whether there is any text at all.
        let _ = matcher.compute_mask();
        matcher
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, compile).ok()?;
        thread.join().ok()
    })
}
