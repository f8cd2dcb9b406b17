//! A hundred JSON schemas: what a real model writes, greedily and by chance, satisfies each of them, by
//! another validator (`jsonschema`).
//!
//! Without the real model the demo model writes; its texts are nonsense, and all the more of a test.

mod common;

use common::spec::models_folder;
use gristmill::constrain::Constraint;
use gristmill::{Completion, FinishReason, GenerateOptions, Model, SamplingOptions, Session};
use serde_json::Value;

/// Tokens of a text at most. What has not ended by then is no text of the schema, and is counted.
const MAX_TOKENS: usize = 56;

#[rustfmt::skip]
const SCHEMAS: [&str; 100] = [
    // Types.
    r#"true"#,
    r#"{"type": "null"}"#,
    r#"{"type": "boolean"}"#,
    r#"{"type": "integer"}"#,
    r#"{"type": "number", "multipleOf": 0.25, "minimum": -9, "maximum": 99}"#,
    r#"{"type": "string", "maxLength": 12}"#,
    r#"{"type": ["integer", "null"], "minimum": 1, "maximum": 99999}"#,
    r#"{"type": ["boolean", "string", "null"], "maxLength": 6}"#,
    r#"{"type": ["array", "object"], "maxItems": 2, "maxProperties": 0, "items": {"type": "boolean"}}"#,
    // Values.
    r#"{"const": null}"#,
    r#"{"const": "exactly this \"text\" \\ with / escapes\n"}"#,
    r#"{"const": {"b": [1, 2.5, {"c": null}], "a": "é😀"}}"#,
    r#"{"const": 3.75}"#,
    r#"{"enum": ["red", "green", "blue"]}"#,
    r#"{"enum": [1, 10, 100, -1, 0.5]}"#,
    r#"{"enum": ["a", 1, null, true, [], {}]}"#,
    r#"{"enum": ["a", "ab", "abc", "abcd", "abcde"]}"#,
    r#"{"type": "string", "enum": ["north", "south", "east", "west"]}"#,
    r#"{"enum": ["Straße", "naïve", "日本語", "😀😁", "a\tb", ""]}"#,
    // Integers.
    r#"{"type": "integer", "minimum": 0, "maximum": 9}"#,
    r#"{"type": "integer", "minimum": -5, "maximum": 5}"#,
    r#"{"type": "integer", "exclusiveMinimum": 10, "exclusiveMaximum": 13}"#,
    r#"{"type": "integer", "minimum": 1900, "maximum": 2099}"#,
    r#"{"type": "integer", "minimum": 97, "maximum": 10342}"#,
    r#"{"type": "integer", "maximum": -100, "minimum": -9999}"#,
    r#"{"type": "integer", "minimum": 0, "maximum": 4294967295}"#,
    r#"{"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000}"#,
    r#"{"type": "integer", "multipleOf": 25, "minimum": 30, "maximum": 110}"#,
    // Numbers.
    r#"{"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.001}"#,
    r#"{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5, "multipleOf": 0.05}"#,
    r#"{"type": "number", "minimum": -1.5, "maximum": 1.25, "multipleOf": 0.125}"#,
    r#"{"type": "number", "minimum": 99.5, "maximum": 100.75, "multipleOf": 0.01}"#,
    r#"{"type": "number", "minimum": 1, "maximum": 5, "multipleOf": 0.5}"#,
    // Lengths.
    r#"{"type": "string", "minLength": 3, "maxLength": 3}"#,
    r#"{"type": "string", "minLength": 5, "maxLength": 9}"#,
    r#"{"type": "string", "maxLength": 0}"#,
    r#"{"type": "string", "minLength": 1, "maxLength": 1}"#,
    // Patterns.
    r#"{"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}"#,
    r#"{"type": "string", "pattern": "^(\\([0-9]{3}\\))?[0-9]{3}-[0-9]{4}$"}"#,
    r#"{"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}"#,
    r#"{"type": "string", "pattern": "^[a-z]+@[a-z]+\\.(com|org)$", "maxLength": 16}"#,
    r#"{"type": "string", "pattern": "^v\\d+\\.\\d+$", "maxLength": 7}"#,
    r#"{"type": "string", "pattern": "b", "maxLength": 5}"#,
    r#"{"type": "string", "pattern": "^\"[^\"]{1,3}\"$"}"#,
    r#"{"type": "string", "pattern": "^[^\"\\\\\n]{2,5}\\\\[^\\\\]{2}$"}"#,
    r#"{"type": "string", "pattern": "^[^a-z]{2,4}$"}"#,
    // Formats.
    r#"{"type": "string", "format": "date"}"#,
    r#"{"type": "string", "format": "time", "maxLength": 11}"#,
    r#"{"type": "string", "format": "date-time"}"#,
    r#"{"type": "string", "format": "uuid"}"#,
    r#"{"type": "string", "format": "ipv4"}"#,
    r#"{"type": "string", "format": "duration", "maxLength": 6}"#,
    r#"{"type": "string", "format": "hostname", "maxLength": 12}"#,
    // Arrays.
    r#"{"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4}"#,
    r#"{"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3}"#,
    r#"{"type": "array", "maxItems": 0}"#,
    r#"{"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 3, "maxItems": 3}"#,
    r#"{"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "items": false, "minItems": 2}"#,
    r#"{"type": "array", "prefixItems": [{"const": "add"}, {"type": "integer"}], "items": {"type": "null"}, "minItems": 3, "maxItems": 4}"#,
    r#"{"type": "array", "items": {"type": "array", "items": {"enum": [0, 1]}, "minItems": 2, "maxItems": 2}, "minItems": 2, "maxItems": 2}"#,
    r#"{"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "maxItems": 2}"#,
    r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"type": "null"}, {"type": "boolean"}], "additionalItems": false, "minItems": 1}"#,
    // Objects.
    r#"{"type": "object", "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}}, "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 10}, "age": {"type": "integer", "minimum": 0, "maximum": 120}}, "required": ["name", "age"], "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"id": {"type": "integer"}, "tag": {"enum": ["new", "old"]}, "note": {"type": "string", "maxLength": 5}}, "required": ["tag"], "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"größe": {"type": "integer"}, "naïve key": {"type": "boolean"}, "日本": {"type": "null"}}, "required": ["größe", "naïve key", "日本"], "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"quote\"d": {"const": 1}, "back\\slash": {"const": 2}, "new\nline": {"const": 3}}, "required": ["quote\"d", "back\\slash", "new\nline"], "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"": {"const": 0}}, "required": [""], "additionalProperties": false}"#,
    r#"{"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 1}"#,
    r#"{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a", "b"], "additionalProperties": {"type": "null"}, "maxProperties": 2}"#,
    r#"{"type": "object", "patternProperties": {"^x[0-9]$": {"type": "boolean"}}, "additionalProperties": false, "maxProperties": 1}"#,
    r#"{"type": "object", "properties": {"outer": {"type": "object", "properties": {"inner": {"type": "object", "properties": {"value": {"type": "boolean"}}, "required": ["value"], "additionalProperties": false}}, "required": ["inner"], "additionalProperties": false}}, "required": ["outer"], "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"points": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 9}, "y": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["x", "y"], "additionalProperties": false}, "minItems": 1, "maxItems": 2}}, "required": ["points"], "additionalProperties": false}"#,
    r#"{"properties": {"only": {"type": "integer", "minimum": -1000, "maximum": 1000}}, "type": "object", "required": ["only"], "additionalProperties": false, "title": "Named", "description": "With words", "default": {"only": 3}, "examples": [{"only": 4}]}"#,
    // Combinations.
    r#"{"anyOf": [{"type": "integer", "minimum": 0, "maximum": 1000}, {"type": "boolean"}]}"#,
    r#"{"anyOf": [{"type": "string", "maxLength": 4}, {"type": "null"}]}"#,
    r#"{"anyOf": [{"type": "object", "properties": {"kind": {"const": "dog"}, "barks": {"type": "boolean"}}, "required": ["kind", "barks"], "additionalProperties": false}, {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["kind", "lives"], "additionalProperties": false}]}"#,
    r#"{"oneOf": [{"type": "integer", "minimum": 0, "maximum": 99}, {"type": "boolean"}]}"#,
    r#"{"oneOf": [{"const": "on"}, {"const": "off"}, {"type": "null"}]}"#,
    r#"{"oneOf": [{"type": "object", "properties": {"t": {"const": "a"}, "v": {"type": "null"}}, "required": ["t", "v"], "additionalProperties": false}, {"type": "object", "properties": {"t": {"const": "b"}, "w": {"type": "boolean"}}, "required": ["t", "w"], "additionalProperties": false}]}"#,
    r#"{"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 7}]}"#,
    r#"{"allOf": [{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}, {"type": "object", "properties": {"b": {"type": "null"}}, "required": ["b"]}], "maxProperties": 2}"#,
    r#"{"allOf": [{"enum": ["a", "b", "c"]}, {"enum": ["b", "c", "d"]}]}"#,
    r#"{"type": "string", "minLength": 2, "allOf": [{"maxLength": 4}, {"pattern": "^[a-f]+$"}]}"#,
    r#"{"type": "integer", "minimum": 0, "anyOf": [{"maximum": 3}, {"minimum": 8, "maximum": 9}]}"#,
    // References.
    r##"{"$defs": {"flag": {"type": "boolean"}}, "$ref": "#/$defs/flag"}"##,
    r##"{"$defs": {"digit": {"type": "integer", "minimum": 0, "maximum": 9}}, "type": "array", "items": {"$ref": "#/$defs/digit"}, "minItems": 2, "maxItems": 3}"##,
    r##"{"definitions": {"name": {"type": "string", "maxLength": 5}}, "type": "object", "properties": {"first": {"$ref": "#/definitions/name"}, "last": {"$ref": "#/definitions/name"}}, "required": ["first", "last"], "additionalProperties": false}"##,
    r##"{"type": "object", "properties": {"value": {"enum": [1, 2]}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}, "required": ["value", "next"], "additionalProperties": false}"##,
    r##"{"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1}}, "$ref": "#/$defs/tree"}"##,
    r##"{"$defs": {"a": {"anyOf": [{"const": 0}, {"type": "array", "items": {"$ref": "#/$defs/b"}, "minItems": 1, "maxItems": 1}]}, "b": {"anyOf": [{"const": 1}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}"##,
    // As people write them.
    r#"{"type": "object", "properties": {"sentiment": {"enum": ["positive", "neutral", "negative"]}, "confidence": {"type": "number", "minimum": 0, "maximum": 1}}, "required": ["sentiment", "confidence"], "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"city": {"type": "string", "minLength": 2, "maxLength": 12}, "temperature": {"type": "number", "minimum": -60, "maximum": 60}, "unit": {"enum": ["C", "F"]}}, "required": ["city", "temperature", "unit"], "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"tool": {"const": "search"}, "arguments": {"type": "object", "properties": {"query": {"type": "string", "maxLength": 12}, "limit": {"type": "integer", "minimum": 1, "maximum": 50}}, "required": ["query"], "additionalProperties": false}}, "required": ["tool", "arguments"], "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"date": {"type": "string", "format": "date"}, "paid": {"type": "boolean"}, "amount": {"type": "integer", "minimum": 1, "maximum": 999}}, "required": ["date", "paid", "amount"], "additionalProperties": false}"#,
    r#"{"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}$"}, "qty": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["sku", "qty"], "additionalProperties": false}, "minItems": 1, "maxItems": 2}"#,
    r#"{"type": "object", "properties": {"answer": {"type": ["string", "null"], "maxLength": 8}, "sources": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 20}, "maxItems": 3}}, "required": ["answer", "sources"], "additionalProperties": false}"#,
    r#"{"type": "object", "properties": {"x-y.z": {"type": "number", "minimum": 0, "maximum": 10}, "A_1": {"type": "null"}}, "required": ["A_1"], "additionalProperties": false, "x-guidance": {"whitespace_flexible": false}}"#,
];

/// The real model where it is, else the demo model.
fn model() -> Model {
    const REAL: &str = "qwen2.5-coder-0.5b.gguf";
    let real = models_folder().map(|folder| folder.join(REAL));
    if let Some(real) = real.filter(|path| path.is_file()) {
        return Model::open(real).expect("a model");
    }
    println!("skipped: no {REAL}; the demo model is used");
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    Model::open(demo).expect("the demo model")
}

fn write(session: &mut Session, constraint: &Constraint, sampling: SamplingOptions) -> Completion {
    session.clear();
    let options = GenerateOptions::new().max_tokens(MAX_TOKENS);
    let options = options.constraint(constraint).sampling(sampling);
    let generation = session.generate("A short JSON value:\n", &options);
    generation.expect("room").finish().expect("a text")
}

#[test]
fn what_is_written_satisfies_its_schema() {
    let model = model();
    let mut session = model.session().expect("a session");
    let (mut complete, mut all, mut tokens) = (0, 0, 0);
    for (number, text) in SCHEMAS.iter().enumerate() {
        let schema: Value = serde_json::from_str(text).expect("JSON");
        let constraint = Constraint::json_schema(&model, &schema)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let validator = jsonschema::options().should_validate_formats(true);
        let validator = validator.build(&schema).expect("a schema");
        for temperature in [0.0, 1.0] {
            let sampling = SamplingOptions {
                temperature,
                seed: Some(number as u64),
                ..Default::default()
            };
            let completion = write(&mut session, &constraint, sampling);
            println!("{text}: {} {:?}", completion.text, completion.finish_reason);
            all += 1;
            tokens += completion.tokens.len();
            use FinishReason::{Complete, EndOfGeneration};
            if matches!(completion.finish_reason, Complete | EndOfGeneration(_)) {
                complete += 1;
                let value: Value = serde_json::from_str(&completion.text)
                    .unwrap_or_else(|error| panic!("{text}: {completion:?}: {error}"));
                if let Err(error) = validator.validate(&value) {
                    panic!("{text}: {completion:?}: {error}");
                }
            }
        }
    }
    println!("{complete} of {all} texts are complete, of {tokens} tokens");
    assert!(
        complete * 100 >= all * 90,
        "{complete} of {all} are complete"
    );
}
