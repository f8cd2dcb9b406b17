//! Patterns of a schema, written so that `llguidance` takes them for what they are.
//!
//! A pattern is about a string's characters, a grammar about its JSON, where some are escaped. derivre
//! (0.3.13), which `llguidance` has for that, lets a class that contains all control characters match all escapes of
//! one letter: so `[^"]` would match `\"`. A class without U+0000 does not.

use llguidance::regex_to_lark;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};
use serde_json::{Map, Value, json};

/// Keywords with values that are no schemas.
const VALUES: [&str; 6] = [
    "const",
    "enum",
    "default",
    "examples",
    "required",
    "x-guidance",
];
/// Keywords with a schema for each name.
const MAPS: [&str; 5] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
];

/// Formats of which `llguidance` lets a minute have 61 seconds at any time, and a pattern against that.
const MINUTES: [(&str, &str); 2] = [("time", "^.{6}[0-5]"), ("date-time", "^.{17}[0-5]")];

/// Rewrites the patterns of a schema of bounded depth.
pub(super) fn correct(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(correct),
        Value::Object(members) => {
            let is_format = |name: &str| members.get("format").is_some_and(|format| format == name);
            let pattern = MINUTES.iter().find(|(name, _)| is_format(name));
            if let Some((_, pattern)) = pattern
                && let Value::Array(all) = members.entry("allOf").or_insert_with(|| json!([]))
            {
                all.push(json!({"pattern": pattern}));
            }
            for (key, value) in members.iter_mut() {
                match value {
                    Value::String(pattern) if key == "pattern" => {
                        if let Some(corrected) = corrected(pattern) {
                            *pattern = corrected;
                        }
                    }
                    _ if VALUES.contains(&key.as_str()) => {}
                    Value::Object(named) if MAPS.contains(&key.as_str()) => {
                        if key == "patternProperties" {
                            *named = std::mem::take(named)
                                .into_iter()
                                .map(with_name)
                                .collect::<Map<_, _>>();
                        }
                        named.values_mut().for_each(correct);
                    }
                    value => correct(value),
                }
            }
        }
        _ => {}
    }
}

fn with_name((pattern, schema): (String, Value)) -> (String, Value) {
    (corrected(&pattern).unwrap_or(pattern), schema)
}

/// The pattern without U+0000 in classes that have all control characters; `None` if it is right as it is.
fn corrected(pattern: &str) -> Option<String> {
    // As `llguidance` does, and as ECMAScript means them: digits and words of ASCII.
    let ascii = regex_to_lark(pattern, "dw");
    let hir = regex_syntax::parse(&ascii).ok()?;
    let mut is_changed = false;
    let hir = without_nul(hir, &mut is_changed);
    is_changed.then(|| hir.to_string())
}

fn without_nul(hir: Hir, is_changed: &mut bool) -> Hir {
    let all = |parts: Vec<Hir>, is_changed: &mut bool| {
        let parts = parts.into_iter().map(|part| without_nul(part, is_changed));
        parts.collect::<Vec<_>>()
    };
    match hir.into_kind() {
        HirKind::Class(Class::Unicode(mut class)) => {
            if matches_escapes_of_others(&class) {
                *is_changed = true;
                let nul = ClassUnicodeRange::new('\0', '\0');
                class.difference(&ClassUnicode::new([nul]));
            }
            Hir::class(Class::Unicode(class))
        }
        HirKind::Class(class) => Hir::class(class),
        HirKind::Repetition(mut repetition) => {
            *repetition.sub = without_nul(*repetition.sub, is_changed);
            Hir::repetition(repetition)
        }
        HirKind::Capture(mut capture) => {
            *capture.sub = without_nul(*capture.sub, is_changed);
            Hir::capture(capture)
        }
        HirKind::Concat(parts) => Hir::concat(all(parts, is_changed)),
        HirKind::Alternation(parts) => Hir::alternation(all(parts, is_changed)),
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Look(look) => Hir::look(look),
    }
}

/// Whether the class has all control characters, perhaps without the line break, but not both of the other
/// characters that JSON escapes.
fn matches_escapes_of_others(class: &ClassUnicode) -> bool {
    let has = |character: char| {
        let mut ranges = class.ranges().iter();
        ranges.any(|range| (range.start()..=range.end()).contains(&character))
    };
    let mut control = ('\0'..' ').filter(|&character| character != '\n');
    control.all(has) && !(has('"') && has('\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_corrected_and_values_are_not() {
        let schema = |inner: &str| {
            json!({
                "properties": {"pattern": {"pattern": inner}, "const": {"items": [{"pattern": inner}]}},
                "patternProperties": {inner: {"const": {"pattern": "[^\"]"}}},
                "enum": [{"pattern": "[^\"]"}],
                "pattern": r"^\d+[^a]\s[^\s]$",
            })
        };
        let mut corrected = schema("[^\"]");
        correct(&mut corrected);
        let found = corrected["properties"]["pattern"]["pattern"].clone();
        let found = found.as_str().unwrap();
        let hir = |class: &str| regex_syntax::parse(class).unwrap();
        assert_eq!(hir(found), hir(r"[\x01-!#-\x{10FFFF}]"));
        assert_eq!(corrected, schema(found));
    }

    #[test]
    fn corrected_patterns_match_the_same_but_for_nul() {
        let texts = [
            "", "a", "\"", "\\", "\n", "a\"", "ab", "é", "\u{1}", "a\nb", "x=\"y\"",
        ];
        for pattern in [
            "^[^\"]$",
            "[^\\\\]+$",
            "^([^\"\\\\]|b)*$",
            "[^\\n\"]{2}",
            "^\\d?[^\"]?$",
        ] {
            let corrected = corrected(pattern).expect(pattern);
            let [before, after] = [pattern, &corrected].map(|p| regex::Regex::new(p).unwrap());
            for text in texts {
                let both = [before.is_match(text), after.is_match(text)];
                assert_eq!(both[0], both[1], "{pattern} {text:?}");
            }
        }
        for pattern in ["^.$", "^\\S+$", "[a-z]", "(?s:.)", "[^a]", "\\W\\D"] {
            assert_eq!(corrected(pattern), None, "{pattern}");
        }
    }
}
