//! Answers in the notations that models were trained on, taken apart. The examples are what the
//! publishers' templates and model cards show.

use crate::template::{Json, ToolCall};

use super::markers::known;
use super::splitter::{Found, Splitter};

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]"#;

fn tools() -> Vec<Json> {
    let Ok(Json::Array(tools)) = TOOLS.parse() else {
        panic!("no tools");
    };
    tools
}

/// An answer behind `tail`, from a model whose template has these markers in it.
fn split_behind(tail: &str, template: &str, has_tools: bool, answer: &str) -> Found {
    let splitter = || {
        let tools = if has_tools { tools() } else { Vec::new() };
        Splitter::new(
            known(has_tools, |text| template.contains(text)),
            tools,
            tail,
        )
    };
    let mut whole = Found::default();
    let mut at_once = splitter();
    at_once.push(answer, &mut whole);
    at_once.finish(&mut whole);
    // It does not matter in which pieces it comes.
    for length in 1..4 {
        let mut found = Found::default();
        let mut splitter = splitter();
        let chars: Vec<char> = answer.chars().collect();
        for piece in chars.chunks(length) {
            splitter.push(&piece.iter().collect::<String>(), &mut found);
        }
        splitter.finish(&mut found);
        assert_eq!(found, whole, "{answer:?} in pieces of {length}");
    }
    whole
}

fn split(template: &str, answer: &str) -> Found {
    split_behind("", template, true, answer)
}

fn found(reasoning: &str, text: &str, calls: &[ToolCall]) -> Found {
    Found {
        text: text.to_owned(),
        reasoning: reasoning.to_owned(),
        calls: calls.to_vec(),
    }
}

fn weather() -> ToolCall {
    let arguments = [("city", "Lisboa".into()), ("days", Json::Int(3))];
    ToolCall::new("weather", Json::object(arguments))
}

fn now() -> ToolCall {
    ToolCall::new("now", Json::Object(Vec::new()))
}

#[test]
fn reasoning_is_no_part_of_the_answer() {
    let both = found("Let me see.\n\nYes.", "It is 4.\n", &[]);
    for (open, close) in [
        ("<think>", "</think>"),
        ("[THINK]", "[/THINK]"),
        ("<seed:think>", "</seed:think>"),
    ] {
        let template = [open, close].concat();
        let answer = format!("{open}\nLet me see.\n\nYes.\n{close}\n\nIt is 4.\n");
        assert_eq!(split(&template, &answer), both, "{open}");
        // Where the template has opened it.
        let answer = answer.strip_prefix(open).unwrap();
        let tail = format!("<|im_start|>assistant\n{open}\n");
        assert_eq!(
            split_behind(&tail, &template, false, answer),
            both,
            "{open}"
        );
        // Where the template has opened and closed it.
        let tail = format!("<|im_start|>assistant\n{open}\n\n{close}\n\n");
        let plain = split_behind(&tail, &template, false, "It is 4.\n");
        assert_eq!(plain, found("", "It is 4.\n", &[]), "{open}");
        // A template that knows no such marker.
        let answer = format!("{open}x{close}y");
        assert_eq!(split("", &answer), found("", &answer, &[]));
    }
    let marked = "<think>\nLet me see.\n\nYes.\n</think>\n<answer>\nIt is 4.\n</answer>";
    let template = "<think></think><answer></answer>";
    assert_eq!(
        split(template, marked),
        found("Let me see.\n\nYes.", "It is 4.", &[])
    );
    let unfinished = split("<think>", "<think>Let me");
    assert_eq!(unfinished, found("Let me", "", &[]));
}

#[test]
fn an_answer_may_speak_of_markers() {
    let answer = "Qwen 3 writes <think> and </think> around it. a < b, <thi";
    assert_eq!(split("<think>", answer), found("", answer, &[]));
    let calls = "Write <tool_call>{\"name\": ...}</tool_call> to call one.";
    assert_eq!(split("<tool_call>", calls), found("", calls, &[]));
    let without_tools = "<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>";
    let plain = split_behind("", "<tool_call>", false, without_tools);
    assert_eq!(plain, found("", without_tools, &[]));
}

#[test]
fn spaces_stay_where_nothing_is_marked() {
    for answer in ["", " ", "\n", " a  b \n c \n\n"] {
        assert_eq!(
            split("<think><tool_call>", answer),
            found("", answer, &[]),
            "{answer:?}"
        );
    }
}

#[test]
fn hermes_and_qwen() {
    let one = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Lisboa\", \"days\": 3}}\n</tool_call>";
    let two = "<tool_call>\n{\"arguments\": {}, \"name\": \"now\"}\n</tool_call>";
    assert_eq!(split("<tool_call>", one), found("", "", &[weather()]));
    let answer = format!("<think>\nWhich?\n</think>\n\nI look it up.\n{one}\n{two}\n");
    let expected = found("Which?", "I look it up.", &[weather(), now()]);
    assert_eq!(split("<think><tool_call>", &answer), expected);
    // The last marker is often missing, and one object may hold several calls.
    let open = format!(
        "{}{}",
        one.replace("</tool_call>", ""),
        "{\"name\": \"now\"}"
    );
    assert_eq!(
        split("<tool_call>", &open),
        found("", "", &[weather(), now()])
    );
    // Cut off within: nothing is lost.
    let cut = "Wait. <tool_call>\n{\"name\": \"weather\", \"argu";
    assert_eq!(split("<tool_call>", cut), found("", cut, &[]));
}

#[test]
fn qwen_coder_and_others_with_tags() {
    let tags = "<tool_call>\n<function=weather>\n<parameter=city>\nLisboa\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>";
    assert_eq!(
        split("<tool_call><function=", tags),
        found("", "", &[weather()])
    );
    // Without the tags around it, as the model does it now and then.
    let bare = "<function=weather><parameter=city>Lisboa</parameter><parameter=days>3</parameter></function>";
    assert_eq!(
        split("<tool_call><function=", bare),
        found("", "", &[weather()])
    );
    let seed = tags.replace("tool_call", "seed:tool_call");
    assert_eq!(
        split("<seed:tool_call>", &seed),
        found("", "", &[weather()])
    );
    let functionary = "<function=weather>{\"city\": \"Lisboa\", \"days\": 3}</function><function=now>{}</function>";
    assert_eq!(
        split("<function=", functionary),
        found("", "", &[weather(), now()])
    );
    let glm = "\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Lisboa</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>";
    assert_eq!(split("<tool_call>", glm), found("", "", &[weather()]));
    let minimax = "<minimax:tool_call>\n<invoke name=\"weather\">\n<parameter name=\"city\">Lisboa</parameter>\n<parameter name=\"days\">3</parameter>\n</invoke>\n<invoke name=\"now\">\n</invoke>\n</minimax:tool_call>";
    assert_eq!(
        split("<minimax:tool_call>", minimax),
        found("", "", &[weather(), now()])
    );
    // What the schema calls a text is one, whatever it looks like.
    let number = "<function=weather><parameter=city>42</parameter></function>";
    let call = ToolCall::new("weather", Json::object([("city", "42".into())]));
    assert_eq!(split("<function=", number), found("", "", &[call]));
}

#[test]
fn llama_3_calls_by_bare_json() {
    let template = "Respond in the format {\"name\": function name, \"parameters\": dictionary of argument name and its value}.<|python_tag|>";
    let json = "{\"name\": \"weather\", \"parameters\": {\"city\": \"Lisboa\", \"days\": 3}}";
    assert_eq!(split(template, json), found("", "", &[weather()]));
    let tagged = format!(
        "<|python_tag|>{json}; {{\"type\": \"function\", \"name\": \"now\", \"parameters\": {{}}}}"
    );
    assert_eq!(split(template, &tagged), found("", "", &[weather(), now()]));
    for answer in [
        "{\"name\": \"Ana\", \"age\": 3}",
        "{ no JSON }",
        "As JSON: {\"name\": \"now\"}",
    ] {
        assert_eq!(split(template, answer), found("", answer, &[]));
    }
}

#[test]
fn qwen_coder_calls_in_a_code_block() {
    let call = "```json\n{\n  \"name\": \"weather\",\n  \"arguments\": {\n    \"city\": \"Lisboa\",\n    \"days\": 3\n  }\n}\n```";
    assert_eq!(split("<tool_call>", call), found("", "", &[weather()]));
    for answer in [
        "```json\n{\"name\": \"Ana\", \"arguments\": {}}\n```",
        "```json\n{\"city\": \"Lisboa\"}\n```\n",
        "```python\nprint({})\n```",
        "```json\n[]",
        "```",
    ] {
        assert_eq!(split("<tool_call>", answer), found("", answer, &[]));
    }
    // What cannot be a call any more is given out at once.
    let markers = known(true, |text| text == "<tool_call>");
    let mut splitter = Splitter::new(markers, tools(), "");
    let mut part = Found::default();
    splitter.push("```json\n{\"ci", &mut part);
    assert_eq!(part.text, "```json\n{\"ci");
}

#[test]
fn lfm_2_and_llama_in_python() {
    let list = "<|tool_call_start|>[weather(city=\"Lisboa\", days=3), now()]<|tool_call_end|>";
    let both = found("", "", &[weather(), now()]);
    assert_eq!(split("<|tool_call_start|>", list), both);
    let one = "<|python_tag|>weather.call(city='Lisboa', days=3)";
    assert_eq!(split("<|python_tag|>", one), found("", "", &[weather()]));
    let values = "<|tool_call_start|>[f(a={'b': [-1, 2.5, True, None]})]<|tool_call_end|>";
    let inside = vec![
        Json::Int(-1),
        Json::Float(2.5),
        Json::Bool(true),
        Json::Null,
    ];
    let arguments = Json::object([("a", Json::object([("b", inside.into())]))]);
    let call = ToolCall::new("f", arguments);
    assert_eq!(split("<|tool_call_start|>", values), found("", "", &[call]));
    let tag = "<function=f><parameter=a>{'b': [-1, 2.5, True, None]}</parameter></function>";
    assert_eq!(
        split("<function=", tag),
        split("<|tool_call_start|>", values)
    );
    for answer in [
        "<|python_tag|>print(days)",
        "<|python_tag|>weather(open('x').read())",
        "<|python_tag|>[1, 2]",
        "<|python_tag|>f(a=1) }}{{ f(a=1)",
    ] {
        assert_eq!(split("<|python_tag|>", answer), found("", answer, &[]));
    }
}

#[test]
fn mistral_of_both_kinds() {
    let list = "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Lisboa\", \"days\": 3}, \"id\": \"abcDEF123\"}, {\"name\": \"now\", \"arguments\": {}}]";
    let expected = found("", "", &[weather().with_id("abcDEF123"), now()]);
    assert_eq!(split("[TOOL_CALLS]", list), expected);
    let each = "Yes.[TOOL_CALLS]weather[ARGS]{\"city\": \"Lisboa\", \"days\": 3}[TOOL_CALLS]now[CALL_ID]123456789[ARGS]{}";
    let expected = found("", "Yes.", &[weather(), now().with_id("123456789")]);
    assert_eq!(split("[TOOL_CALLS]", each), expected);
}

#[test]
fn deepseek_of_both_kinds() {
    let template =
        "<think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜><｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    let old = "</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Lisboa\", \"days\": 3}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    let expected = found("", "", &[weather(), now()]);
    assert_eq!(split_behind("<think>\n", template, true, old), expected);
    let new = "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Lisboa\", \"days\": 3}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    assert_eq!(
        split(template, new),
        found("", "I look.", &[weather(), now()])
    );
}

#[test]
fn lists_of_calls_behind_one_marker() {
    let list = "[{\"name\": \"weather\", \"arguments\": {\"city\": \"Lisboa\", \"days\": 3}}]";
    let nemotron = format!("<TOOLCALL>{list}</TOOLCALL>");
    assert_eq!(split("<TOOLCALL>", &nemotron), found("", "", &[weather()]));
    let granite = format!("<|tool_call|>{list}");
    assert_eq!(
        split("<|tool_call|>", &granite),
        found("", "", &[weather()])
    );
    let apertus = "<|tools_prefix|>[{\"weather\": {\"city\": \"Lisboa\", \"days\": 3}}, {\"now\": {}}]<|tools_suffix|>";
    assert_eq!(
        split("<|tools_prefix|>", apertus),
        found("", "", &[weather(), now()])
    );
    let kimi = "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{\"city\": \"Lisboa\", \"days\": 3}<|tool_call_end|><|tool_calls_section_end|>";
    let expected = found("", "", &[weather().with_id("functions.weather:0")]);
    assert_eq!(
        split(
            "<|tool_calls_section_begin|><|tool_calls_section_end|><|tool_call_begin|>",
            kimi
        ),
        expected
    );
    let command = "<|START_THINKING|>I look.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {\"city\": \"Lisboa\", \"days\": 3}}\n]<|END_ACTION|>";
    let expected = found("I look.", "", &[weather().with_id("0")]);
    assert_eq!(
        split("<|START_THINKING|><|START_ACTION|>", command),
        expected
    );
}

#[test]
fn gpt_oss_names_its_channels() {
    let template = "<|start|><|channel|><|message|><|end|>";
    let tail = "<|end|><|start|>assistant";
    let answer = "<|channel|>analysis<|message|>User asks.<|end|><|start|>assistant<|channel|>final<|message|>It is 4.";
    assert_eq!(
        split_behind(tail, template, true, answer),
        found("User asks.", "It is 4.", &[])
    );
    let arguments = "{\"city\": \"Lisboa\", \"days\": 3}";
    let inside = format!(
        "<|channel|>analysis<|message|>User asks.<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{arguments}<|call|>"
    );
    assert_eq!(
        split_behind(tail, template, true, &inside),
        found("User asks.", "", &[weather()])
    );
    let before =
        format!(" to=functions.weather<|channel|>commentary json<|message|>{arguments}<|call|>");
    assert_eq!(
        split_behind(tail, template, true, &before),
        found("", "", &[weather()])
    );
}

/// Bits of answers, sound and not.
const BITS: &[&str] = &[
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<|python_tag|>",
    "<function=",
    "</function>",
    "<parameter=",
    "</parameter>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "analysis",
    " to=functions.",
    "now",
    "{\"name\": \"now\", \"arguments\": {}}",
    "{",
    "}",
    "\"name\"",
    "```json\n",
    "```",
    "now()",
    "[",
    "]",
    "(",
    " ",
    "\n",
    "é",
    "<",
    "<th",
    "｜",
    ">",
    "word",
];

proptest::proptest! {
    #[test]
    fn any_answer_is_taken_apart_the_same_in_all_pieces(
        bits in proptest::collection::vec(proptest::sample::select(BITS), 0..12),
        tail in proptest::sample::select(&["", "<think>\n", "<|start|>assistant"][..]),
    ) {
        let template = BITS.concat();
        split_behind(tail, &template, true, &bits.concat());
    }
}
