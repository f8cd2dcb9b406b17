//! Which tokens a grammar allows: a mask over the whole vocabulary at each place of texts that the model
//! wrote; the throughput is in masks.
//!
//! Before each, it prints how long the grammar takes to compile, and the mean and the 99th percentile of masks: of the
//! first text, where most is found out about a grammar, and of all later ones.

mod common;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use gristmill::constrain::Constraint;
use gristmill::{GenerateOptions, Model, SamplingOptions};
use serde_json::{Value, json};

/// Texts of each grammar, drawn with as many seeds.
const TEXTS: u64 = 12;
const PROMPT: &str = "Some data about a person, a place and a thing, as JSON:\n";

fn schemas() -> [(&'static str, Value); 6] {
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "email": {"type": "string", "format": "email"},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
        },
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    let values: Vec<String> = (0..500)
        .map(|number| format!("value-{}", number * 7919 % 9973))
        .collect();
    [
        ("any", json!(true)),
        ("person", person.clone()),
        (
            "people",
            json!({"type": "array", "items": person, "minItems": 2, "maxItems": 4}),
        ),
        (
            "short-strings",
            json!({"type": "array", "items": {"type": "string", "maxLength": 40}, "minItems": 3, "maxItems": 6}),
        ),
        (
            "pattern",
            json!({"type": "array", "items": {"type": "string", "pattern": "^[A-Z][a-z]+( [A-Z][a-z]+){0,3}$"}, "minItems": 2, "maxItems": 6}),
        ),
        (
            "enum",
            json!({"type": "array", "items": {"enum": values}, "minItems": 4, "maxItems": 4}),
        ),
    ]
}

/// Tokens of texts that follow the grammar.
fn texts(model: &Model, constraint: &Constraint) -> Vec<Vec<u32>> {
    let text = |seed| {
        let sampling = SamplingOptions {
            temperature: 0.8,
            seed: Some(seed),
            ..Default::default()
        };
        let options = GenerateOptions::new().max_tokens(100).sampling(sampling);
        let completion = model.generate(PROMPT, &options.constraint(constraint));
        completion.expect("a text").tokens
    };
    (0..TEXTS).map(text).collect()
}

/// How long each mask of a text takes.
fn follow(constraint: &Constraint, tokens: &[u32], mut each: impl FnMut(Duration)) {
    let mut follower = constraint.follow();
    for &token in tokens {
        let start = Instant::now();
        let allowed = follower.allowed().expect("a mask");
        std::hint::black_box(allowed);
        each(start.elapsed());
        follower.accept(token).expect("an allowed token");
    }
}

/// The time of so many masks.
fn read(constraint: &Constraint, texts: &[Vec<u32>], masks: u64) -> Duration {
    let (mut time, mut count) = (Duration::ZERO, 0);
    for tokens in texts.iter().cycle() {
        follow(constraint, tokens, |each| {
            (time, count) = (time + each, count + 1)
        });
        if count >= masks {
            break;
        }
    }
    time.mul_f64(masks as f64 / count as f64)
}

fn report(name: &str, what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    let last = times[times.len() * 99 / 100];
    println!(
        "{name}, {what}: {} masks, mean {mean:?}, 99 % within {last:?}, all within {:?}",
        times.len(),
        times[times.len() - 1]
    );
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("constrain");
    group.sample_size(10).throughput(Throughput::Elements(1));
    for (model_name, path) in common::models() {
        let model = Model::open(&path).expect("a model");
        let start = Instant::now();
        Constraint::regex(&model, "a").expect("a regex");
        println!(
            "{model_name}: {} tokens, prepared in {:?}",
            model.vocab_size(),
            start.elapsed()
        );
        for (schema_name, schema) in schemas() {
            let name = format!("{schema_name}/{model_name}");
            // Written once, and only if this benchmark is one of those asked for.
            let mut written = None;
            group.bench_function(&name, |bencher| {
                let (constraint, texts) =
                    written.get_or_insert_with(|| prepare(&name, &model, &schema));
                bencher.iter_custom(|masks| read(constraint, texts, masks));
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

fn prepare(name: &str, model: &Model, schema: &Value) -> (Constraint, Vec<Vec<u32>>) {
    let compile = || Constraint::json_schema(model, schema).expect("a schema");
    let texts = texts(model, &compile());
    let start = Instant::now();
    let constraint = compile();
    println!("{name}: compiled in {:?}", start.elapsed());
    for (what, texts) in [
        ("first text", &texts[..1]),
        ("all texts", &texts),
        ("again", &texts),
    ] {
        let mut times = Vec::new();
        for tokens in texts {
            follow(&constraint, tokens, |time| times.push(time));
        }
        report(name, what, times);
    }
    (constraint, texts)
}
