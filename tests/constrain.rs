//! Texts that follow grammars, with the demo model.

use std::path::{Path, PathBuf};

use gristmill::chat::{Chat, ChatTemplate};
use gristmill::constrain::Constraint;
use gristmill::tokenizer::TokenKind;
use gristmill::{
    Candidates, Completion, Error, FinishReason, GenerateOptions, Model, Sampler, SamplerChain,
    SamplingOptions, SessionOptions,
};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const PROMPT: &str = "Once upon a time";

fn demo_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo-model/demo.gguf")
}

fn model() -> Model {
    Model::builder().threads(1).open(demo_path()).unwrap()
}

/// Greedy without a seed, else any token that is allowed may come.
fn sampling(seed: Option<u64>) -> SamplingOptions {
    SamplingOptions {
        temperature: if seed.is_some() { 2.0 } else { 0.0 },
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed,
        ..Default::default()
    }
}

fn options(constraint: &Constraint, seed: Option<u64>) -> GenerateOptions {
    let options = GenerateOptions::new().max_tokens(300);
    options.constraint(constraint).sampling(sampling(seed))
}

fn run(model: &Model, constraint: &Constraint, seed: Option<u64>) -> Completion {
    model.generate(PROMPT, &options(constraint, seed)).unwrap()
}

fn is_complete(completion: &Completion) -> bool {
    use FinishReason::{Complete, EndOfGeneration};
    matches!(completion.finish_reason, Complete | EndOfGeneration(_))
}

const SEEDS: [Option<u64>; 6] = [None, Some(1), Some(2), Some(3), Some(4), Some(5)];

#[test]
fn a_text_matches_the_regex_it_follows() {
    let model = model();
    for pattern in [
        "yes|no",
        "[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]",
        r"(\+|-)?\d{1,5}(\.\d{2,3})?",
        "[a-f]{1,9}x{2,4}[^a-z]{3}",
        r"/tmp/[a-z]{3}\\[a-z]/",
        "[äöüß]{2,6} (é|è|€|😀){3}",
        r"\p{Greek}{5}",
        r"The (fox|hen) (ran|sat)( and (ran|sat)){0,3}\.",
        r#"("[^"\n]{0,9}",){2}"#,
        "a(?s:.){7}b",
        "((a{0,3}b){0,3}c){0,3}d",
        "(?i:hello) [[:alpha:]]{4}",
    ] {
        let constraint = Constraint::regex(&model, pattern).unwrap();
        let whole = Regex::new(&format!("^(?:{pattern})$")).unwrap();
        for seed in SEEDS {
            let completion = run(&model, &constraint, seed);
            assert!(is_complete(&completion), "{pattern}: {completion:?}");
            assert!(
                whole.is_match(&completion.text),
                "{pattern}: {completion:?}"
            );
        }
    }
}

/// What may come is not only safe: it is all that the regex has.
#[test]
fn every_text_of_a_small_regex_comes() {
    let model = model();
    let constraint = Constraint::regex(&model, "a|ab|abc|b c|é").unwrap();
    let any = |seed| SamplingOptions {
        temperature: 50.0,
        ..sampling(Some(seed))
    };
    let options = |seed| {
        GenerateOptions::new()
            .constraint(&constraint)
            .sampling(any(seed))
    };
    let texts = (0..200).map(|seed| model.generate(PROMPT, &options(seed)).unwrap().text);
    let texts: std::collections::BTreeSet<String> = texts.collect();
    assert_eq!(
        texts.into_iter().collect::<Vec<_>>(),
        ["a", "ab", "abc", "b c", "é"]
    );
}

#[test]
fn control_tokens_are_no_text() {
    let model = model();
    let constraint = Constraint::regex(&model, "(?s:.){40}").unwrap();
    for seed in SEEDS {
        let completion = run(&model, &constraint, seed);
        let mut tokens = completion.tokens.iter();
        let is_control = |&id: &u32| model.tokenizer().token_kind(id) == Some(TokenKind::Control);
        assert!(!tokens.any(is_control), "{completion:?}");
        assert_eq!(completion.text.chars().count(), 40);
        assert_eq!(completion.finish_reason, FinishReason::Complete);
    }
    // A token's name can be a text like any other, which the token is not.
    let end = model.tokenizer().eos().unwrap();
    let name = model.tokenizer().token_text(end).unwrap().into_owned();
    for pattern in [
        format!("{}[a-z]", regex::escape(&name)),
        "(?s:.){40}".to_owned(),
    ] {
        let mut follower = Constraint::regex(&model, &pattern).unwrap().follow();
        let allowed = follower.allowed().unwrap();
        assert_eq!(allowed[end as usize / 32] >> (end % 32) & 1, 0);
    }
    let constraint = Constraint::regex(&model, &regex::escape(&name)).unwrap();
    let completion = run(&model, &constraint, None);
    assert_eq!(completion.text, name);
    assert!(completion.tokens.len() > 1 && !completion.tokens.contains(&end));
}

#[test]
fn the_model_ends_where_the_grammar_lets_it() {
    let model = model();
    let either = Constraint::regex(&model, "(?s:.*)").unwrap();
    let free = model.generate(PROMPT, &GenerateOptions::new()).unwrap();
    let bound = model
        .generate(PROMPT, &GenerateOptions::new().constraint(&either))
        .unwrap();
    assert!(matches!(
        bound.finish_reason,
        FinishReason::EndOfGeneration(_)
    ));
    assert_eq!((&free.text, &free.tokens), (&bound.text, &bound.tokens));
    // It must go on where the end is not allowed, and where the caller does not want it.
    let long = Constraint::regex(&model, "[a-z ]{50}").unwrap();
    let all = options(&long, Some(1)).ignore_end_of_generation(true);
    for options in [options(&long, Some(1)), all] {
        let completion = model.generate(PROMPT, &options).unwrap();
        assert_eq!(completion.finish_reason, FinishReason::Complete);
        assert_eq!(completion.text.len(), 50);
    }
    let cut = options(&long, None).max_tokens(3);
    let cut = model.generate(PROMPT, &cut).unwrap();
    assert_eq!(cut.finish_reason, FinishReason::MaxTokens);
    let stopped = options(&Constraint::regex(&model, "one two").unwrap(), None).stop(" t");
    let stopped = model.generate(PROMPT, &stopped).unwrap();
    assert_eq!(
        (&*stopped.text, stopped.finish_reason),
        ("one", FinishReason::StopString(0))
    );
}

#[test]
fn the_rest_of_the_chain_sees_what_is_allowed_only() {
    struct Least;

    impl Sampler for Least {
        fn apply(&mut self, candidates: &mut Candidates) {
            let least = candidates
                .iter()
                .map(|candidate| candidate.logit)
                .reduce(f32::min);
            candidates.retain(|candidate| Some(candidate.logit) == least);
        }
    }

    let model = model();
    let word = Constraint::regex(&model, "(red|green|blue){3}").unwrap();
    let whole = Regex::new("^(red|green|blue){3}$").unwrap();
    let sampling = SamplingOptions {
        temperature: 1.0,
        repeat_penalty: 1.5,
        dry_multiplier: 1.0,
        xtc_probability: 1.0,
        seed: Some(7),
        ..Default::default()
    };
    let options = GenerateOptions::new().constraint(&word);
    for options in [
        options.clone().sampling(sampling.clone()),
        options
            .clone()
            .sampling(sampling)
            .sampler(|| Least)
            .logprobs(2),
        options.sampler(|| Least),
    ] {
        let completion = model.generate(PROMPT, &options).unwrap();
        assert!(whole.is_match(&completion.text), "{completion:?}");
    }
    let digit = Constraint::regex(&model, "[ab]").unwrap();
    let id = |text| model.tokenizer().token_id(text).unwrap();
    let banned = |tokens| SamplingOptions {
        banned: tokens,
        ..Default::default()
    };
    let options = GenerateOptions::new().constraint(&digit);
    let one = options.clone().sampling(banned(vec![id("a")]));
    assert_eq!(model.generate(PROMPT, &one).unwrap().text, "b");
    let none = options.clone().sampling(banned(vec![id("a"), id("b")]));
    let none = model.generate(PROMPT, &none).unwrap();
    assert_eq!(none.finish_reason, FinishReason::NoCandidate);
    let forced = |text| SamplingOptions {
        forced: vec![id(text)],
        ..Default::default()
    };
    let fits = options.clone().sampling(forced("b"));
    assert_eq!(model.generate(PROMPT, &fits).unwrap().text, "b");
    let unfit = model
        .generate(PROMPT, &options.sampling(forced("c")))
        .unwrap();
    assert_eq!(unfit.finish_reason, FinishReason::NoCandidate);
}

/// Tokens that are forced are evaluated together, where nobody wants to see their logits.
#[test]
fn what_is_forced_is_the_same_text_in_fewer_passes() {
    let model = model();
    let schema = json!({
        "type": "object",
        "properties": {"is_it_true": {"type": "boolean"}, "which_one": {"enum": ["first", "second"]}},
        "required": ["is_it_true", "which_one"],
        "additionalProperties": false,
        "x-guidance": {"whitespace_flexible": false},
    });
    let constraint = Constraint::json_schema(&model, &schema).unwrap();
    let options = options(&constraint, None);
    let seen = model
        .generate(PROMPT, &options.clone().logprobs(0))
        .unwrap();
    let passes = |options: &GenerateOptions| {
        let mut session = model.session().unwrap();
        let mut passes = 0;
        let mut generation = session.generate(PROMPT, options).unwrap();
        let mut completion = (String::new(), Vec::new());
        for piece in generation.by_ref() {
            let piece = piece.unwrap();
            completion.0.push_str(&piece.text);
            completion.1.extend(piece.tokens);
            passes += 1;
        }
        assert_eq!(generation.finish_reason(), Some(FinishReason::Complete));
        (passes, completion)
    };
    let (few, unseen) = passes(&options);
    let (many, _) = passes(&options.clone().logprobs(0));
    assert_eq!(unseen, (seen.text, seen.tokens.clone()));
    assert!(few * 3 < many, "{few} of {many}");
    // All limits hold in the midst of them.
    for count in 1..seen.tokens.len() {
        let cut = model
            .generate(PROMPT, &options.clone().max_tokens(count))
            .unwrap();
        assert_eq!(cut.finish_reason, FinishReason::MaxTokens);
        assert_eq!(cut.tokens, seen.tokens[..count]);
        let prompt = model
            .tokenizer()
            .encode(PROMPT, Default::default())
            .unwrap()
            .len();
        let context = SessionOptions::new().context_length(prompt + count);
        let mut session = model.session_with(&context).unwrap();
        let full = session
            .generate(PROMPT, &options)
            .unwrap()
            .finish()
            .unwrap();
        let whole = count + 1 >= seen.tokens.len();
        assert_eq!(
            full.finish_reason == FinishReason::ContextFull,
            !whole,
            "{full:?}"
        );
        assert_eq!(full.tokens, seen.tokens[..count + 1]);
    }
}

#[test]
fn a_text_can_be_followed_by_hand() {
    let model = model();
    let constraint = Constraint::regex(&model, "(ab|cd){3}").unwrap();
    let mut session = model.session().unwrap();
    let prompt = model
        .tokenizer()
        .encode(PROMPT, Default::default())
        .unwrap();
    session.feed(&prompt).unwrap();
    let mut chain = SamplerChain::new(&SamplingOptions::default()).unwrap();
    let mut follower = constraint.follow();
    let mut tokens = Vec::new();
    while !follower.is_complete() {
        let token = chain
            .sample_among(session.logits(), follower.allowed().unwrap())
            .unwrap();
        follower.accept(token).unwrap();
        session.feed(&[token]).unwrap();
        tokens.push(token);
    }
    assert_eq!(tokens, run(&model, &constraint, None).tokens);
    let mut follower = constraint.follow();
    let wrong = model.tokenizer().token_id("x").unwrap();
    assert!(matches!(
        follower.accept(wrong),
        Err(Error::Constraint { .. })
    ));
}

#[test]
fn a_constraint_is_of_one_model() {
    let [one, other] = [model(), model()];
    let constraint = Constraint::regex(&one, "[0-9]").unwrap();
    assert!(
        one.clone()
            .generate(PROMPT, &options(&constraint, None))
            .is_ok()
    );
    let refused = other.generate(PROMPT, &options(&constraint, None));
    assert!(matches!(
        refused,
        Err(Error::Argument {
            name: "constraint",
            ..
        })
    ));
}

#[test]
fn one_constraint_serves_many_generations_at_a_time() {
    let model = model();
    let schema =
        json!({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 4, "maxItems": 6});
    let constraint = Constraint::json_schema(&model, &schema).unwrap();
    let text = |seed| run(&model, &constraint, Some(seed)).text;
    let one_by_one: Vec<String> = (0..6).map(text).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|seed| scope.spawn(move || text(seed))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(one_by_one, together);
}

#[derive(Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Colour {
    Red,
    /// Also of leaves.
    Green,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(tag = "kind")]
enum Shape {
    Circle { radius: u8 },
    Square { side: u8 },
}

#[derive(Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
struct Scene {
    colour: Colour,
    count: u8,
    is_new: bool,
    shapes: [Shape; 2],
    parent: Option<Box<Small>>,
    pair: (i8, bool),
}

#[derive(Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
struct Small {
    #[schemars(length(max = 4))]
    name: String,
    #[schemars(range(min = 5, max = 7))]
    rank: u32,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
struct Tagged {
    tag: bool,
    #[serde(flatten)]
    small: Small,
}

#[test]
fn answers_are_values_of_types() {
    let model = model();
    for seed in 0..12 {
        let options = GenerateOptions::new().sampling(sampling(Some(seed)));
        let mut session = model.session().unwrap();
        let scene: Scene = session.generate_as(PROMPT, &options).unwrap();
        if let Some(small) = &scene.parent {
            assert!(
                small.name.chars().count() <= 4 && (5..=7).contains(&small.rank),
                "{scene:?}"
            );
        }
        let tagged: Tagged = model.generate_as(PROMPT, &options).unwrap();
        assert!((5..=7).contains(&tagged.small.rank), "{tagged:?}");
        assert_eq!(json!(tagged)["tag"], json!(tagged.tag));
    }
    let template = ChatTemplate::named("chatml").unwrap();
    let mut chat = Chat::new(model.session().unwrap(), template);
    let options = GenerateOptions::new();
    let colours: [Colour; 2] = chat.send_as("Two colours!", &options).unwrap();
    assert_eq!(chat.messages().len(), 2);
    let said: Value = serde_json::from_str(chat.messages()[1].content().unwrap()).unwrap();
    assert_eq!(said, json!(colours));
}

#[test]
fn an_answer_that_is_cut_is_an_error() {
    let model = model();
    let options = GenerateOptions::new().max_tokens(2);
    let cut = model.generate_as::<Small>(PROMPT, &options);
    let Err(Error::Incomplete { expected, found }) = cut else {
        panic!("{cut:?}");
    };
    assert!(
        expected.contains("Small") && expected.contains("more text"),
        "{expected}"
    );
    assert!(found.contains("MaxTokens"), "{found}");
}

/// Reads sums: `1+(2-3)`.
fn is_sum(text: &str) -> bool {
    fn sum(text: &[u8], at: &mut usize) -> bool {
        loop {
            match text.get(*at) {
                Some(b'(') => {
                    *at += 1;
                    if !sum(text, at) || text.get(*at) != Some(&b')') {
                        return false;
                    }
                    *at += 1;
                }
                Some(byte) if byte.is_ascii_digit() => *at += 1,
                _ => return false,
            }
            match text.get(*at) {
                Some(b'+' | b'-') => *at += 1,
                _ => return true,
            }
        }
    }
    let mut at = 0;
    sum(text.as_bytes(), &mut at) && at == text.len()
}

#[test]
fn a_text_is_of_the_grammar_it_follows() {
    let model = model();
    let lark = "start: part ((\"+\" | \"-\") part)*\npart: /[0-9]/ | \"(\" start \")\"";
    let gbnf = "# Sums.\nroot ::= part ( [+-] part )*\npart ::= [0-9] |\n  \"(\" root \")\"\n";
    let lark = Constraint::lark(&model, lark).unwrap();
    let gbnf = Constraint::gbnf(&model, gbnf).unwrap();
    let mut complete = [0; 2];
    for seed in 0..40 {
        for (place, constraint) in [&lark, &gbnf].into_iter().enumerate() {
            let completion = run(&model, constraint, Some(seed));
            if is_complete(&completion) {
                complete[place] += 1;
                assert!(is_sum(&completion.text), "{completion:?}");
            }
        }
    }
    assert!(
        complete.iter().all(|&complete| complete > 20),
        "{complete:?}"
    );
}

/// JSON as a GBNF grammar, with what the notation has.
const JSON: &str = r#"
root   ::= ws value
value  ::= object | array | string | number | ("true" | "false" | "null")
object ::= "{" ws ( member ("," ws member)* )? "}" ws   # no comma at the end
member ::= string ":" ws value
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt/] | "u" [0-9a-fA-F]{4}) ){0,8} "\"" ws
number ::= "-"? ( "0" | [1-9] [0-9]{,5} ) ( "." [0-9]{1,3} )? ( [eE] [-+]? [0-9]{1,2} )? ws
ws     ::= | " " | "\n" [ \t]{0,4}
"#;

#[test]
fn json_can_be_a_gbnf_grammar() {
    let model = model();
    let constraint = Constraint::gbnf(&model, JSON).unwrap();
    let mut complete = 0;
    for seed in 0..40 {
        let completion = run(&model, &constraint, Some(seed));
        if is_complete(&completion) {
            complete += 1;
            let value = serde_json::from_str::<Value>(&completion.text);
            assert!(value.is_ok(), "{completion:?}");
        }
    }
    assert!(complete > 20, "{complete}");
}

fn refusal<T: std::fmt::Debug>(result: gristmill::Result<T>) -> String {
    match result {
        Err(Error::Constraint { kind, message }) => format!("{kind}: {message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_grammar_is_refused_with_the_reason() {
    let model = model();
    for (pattern, reason) in [
        ("(", "unclosed group"),
        ("abc\\", "incomplete escape"),
        ("(?=a)b", "look-ahead"),
        (r"\bfoo\b", "not supported"),
        ("[a&&b]", "no text satisfies it"),
    ] {
        let message = refusal(Constraint::regex(&model, pattern));
        assert!(message.contains(reason), "{pattern}: {message}");
    }
    for (schema, reason) in [
        (json!(7), "object or boolean"),
        (json!(false), "Unsatisfiable"),
        (
            json!({"type": "integer", "minimum": 5, "maximum": 2}),
            "Unsatisfiable",
        ),
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"not": {"type": "array"}}), "not"),
        (json!({"type": "colour"}), "colour"),
        (json!({"$ref": "#/$defs/none"}), "none"),
        (json!({"$ref": "#"}), "no text satisfies it"),
        (json!({"x-guidance": 7}), "JsonCompileOptions"),
    ] {
        let message = refusal(Constraint::json_schema(&model, &schema));
        assert!(message.contains(reason), "{schema}: {message}");
    }
    assert!(refusal(Constraint::json_schema_text(&model, "{\"type\"")).contains("EOF"));
    for (grammar, reason) in [
        ("", "no start rule"),
        ("start: x", "unknown name"),
        ("start: (((", "Expected token"),
        ("start: start", "no text satisfies it"),
    ] {
        let message = refusal(Constraint::lark(&model, grammar));
        assert!(message.contains(reason), "{grammar}: {message}");
    }
    for (grammar, reason) in [
        ("", "no rule `root`"),
        ("root ::= x", "no rule `x`"),
        ("root ::= [b-a]", "line 1, column 14: expected a range"),
        (
            "root ::= \"a\"\n  (",
            "line 2, column 3: expected the name of a rule, found '('",
        ),
        ("root ::= <think>", "tokens are not supported"),
        ("root ::= \"\\ud800\"", "a character's number"),
        ("root ::= \"a\"{3,2}", "from less to more"),
        ("root ::= \"a\"{99999999999}", "a number up to 2000"),
    ] {
        let message = refusal(Constraint::gbnf(&model, grammar));
        assert!(message.contains(reason), "{grammar}: {message}");
    }
}

/// What would take without bounds: each ends, in an error or in a text.
#[test]
fn hostile_grammars_end() {
    let model = model();
    let nested = |count| "(".repeat(count) + "a" + &")".repeat(count);
    let words: Vec<String> = (0..30_000).map(|number| format!("w{number}")).collect();
    let mut results = Vec::new();
    for pattern in [
        "(x+x+)+y",
        "a{1,1000}{1,1000}",
        "(.{0,1000}){0,1000}",
        "(?:a?){1000}a{1000}",
        ".*a.{20}b.{20}c",
        &"a?".repeat(200_000),
        &nested(150),
        &nested(100_000),
        &words.join("|"),
    ] {
        results.push(Constraint::regex(&model, pattern));
    }
    for schema in [
        json!({"enum": words}),
        json!({"type": "string", "pattern": "^(a{1,1000}){1,1000}$", "minLength": 1_000_000}),
        json!({"type": "array", "minItems": 1_000_000_000}),
        json!({"type": "integer", "multipleOf": 999_999_937}),
        json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        json!({"allOf": [{"$ref": "#"}, {"properties": {"a": {"$ref": "#"}}}]}),
        chain_of_definitions(8000),
        optional_properties(2000),
        alternatives_of_alternatives(40),
        nested_arrays(500),
    ] {
        results.push(Constraint::json_schema(&model, &schema));
    }
    results.push(Constraint::json_schema_text(&model, &"[".repeat(1 << 20)));
    let rules = |name: &str, last: &str, count| {
        let rule = |index| format!("{name}{index}: {name}{} | \"{last}\"\n", index + 1);
        let rules: String = (0..count).map(rule).collect();
        format!("start: {name}0\n{rules}{name}{count}: \"y\"\n")
    };
    let doubled = |index| format!("A{index}: A{} A{}\n", index + 1, index + 1);
    let doubling = (0..60).map(doubled).collect::<String>();
    for grammar in [
        rules("a", "x", 1000),
        rules("A", "x", 3000),
        rules("a", "x", 100_000),
        format!("start: A0\n{doubling}A60: \"x\"\n"),
        "start: \"a\" start".to_owned(),
        "start: a{1000}\na: b{1000}\nb: \"x\" | a".to_owned(),
        "start: s\ns: s s s | s s | \"a\" | ".to_owned(),
    ] {
        results.push(Constraint::lark(&model, &grammar));
    }
    for grammar in [
        "root ::= root root | \"a\" root | \"b\"".to_owned(),
        format!("root ::= {}", nested(1000)),
        format!("root ::= [a]{}", "*".repeat(100_000)),
        "root ::= (\"a\"{2000} root?){2000}".to_owned(),
    ] {
        results.push(Constraint::gbnf(&model, &grammar));
    }
    for constraint in results.into_iter().flatten() {
        let end = model.generate(PROMPT, &options(&constraint, Some(1)).max_tokens(40));
        assert!(
            matches!(end, Ok(_) | Err(Error::Constraint { .. })),
            "{end:?}"
        );
    }
}

fn chain_of_definitions(count: usize) -> Value {
    let definition = |index| {
        (
            format!("d{index}"),
            json!({"$ref": format!("#/$defs/d{}", index + 1)}),
        )
    };
    let mut definitions: serde_json::Map<String, Value> = (0..count).map(definition).collect();
    definitions.insert(format!("d{count}"), json!({"const": 1}));
    json!({"$defs": definitions, "$ref": "#/$defs/d0"})
}

fn optional_properties(count: usize) -> Value {
    let property = |index| (format!("p{index}"), json!({"type": "null"}));
    let properties: serde_json::Map<String, Value> = (0..count).map(property).collect();
    json!({"type": "object", "properties": properties})
}

fn alternatives_of_alternatives(count: usize) -> Value {
    let object = |name: String| json!({"type": "object", "properties": {name: {"type": "string"}}});
    let any = |number| json!({"anyOf": (0..10).map(|of| object(format!("{number}-{of}"))).collect::<Vec<_>>()});
    json!({"allOf": (0..count).map(any).collect::<Vec<_>>()})
}

fn nested_arrays(count: usize) -> Value {
    let mut schema = json!({"const": 1});
    for _ in 0..count {
        let mut outer = serde_json::Map::new();
        outer.insert("items".into(), schema);
        schema = Value::Object(outer);
    }
    schema
}
