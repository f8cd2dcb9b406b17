//! Answers with reasoning and calls of tools, through conversations with the demo model: it is made
//! to say what a published template writes for such a message.

mod common;

use std::path::Path;

use gristmill::chat::{Answer, Chat, ChatTemplate, Json, Message, RenderOptions};
use gristmill::tokenizer::EncodeOptions;
use gristmill::{FinishReason, GenerateOptions, Model, SamplingOptions, SessionOptions};

use common::spec::{models_folder, oracle_folder};

fn model() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo-model/demo.gguf");
    Model::builder().threads(1).open(path).unwrap()
}

fn named(model: &Model, template: &str, positions: usize) -> Chat {
    let options = SessionOptions::new().context_length(positions);
    let template = ChatTemplate::named(template).unwrap();
    Chat::new(model.session_with(&options).unwrap(), template)
}

/// Settings with which the model says this.
fn saying(model: &Model, text: &str) -> GenerateOptions {
    let encode = EncodeOptions {
        add_special: false,
        parse_special: false,
    };
    let forced = model.tokenizer().encode(text, encode).unwrap();
    GenerateOptions::new()
        .max_tokens(forced.len())
        .sampling(SamplingOptions {
            forced,
            ..SamplingOptions::default()
        })
}

fn max_tokens(tokens: usize) -> GenerateOptions {
    GenerateOptions::new().max_tokens(tokens)
}

fn array<'j>(json: &'j Json, key: &str) -> &'j [Json] {
    match json.get(key) {
        Some(Json::Array(items)) => items,
        _ => &[],
    }
}

/// What ends an answer as a template writes it.
const ENDS: [&str; 11] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "</s>",
    "<seed:eos>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
    "<|call|>",
    "<SPECIAL_12>",
    "[e~[",
    "<｜hy_eos:opensource｜>",
];

/// Names and arguments of calls.
fn calls_of(message: &Json) -> Vec<(String, Json)> {
    let calls = array(message, "tool_calls").iter();
    let functions = calls.map(|call| call.get("function").unwrap());
    functions
        .map(|function| {
            let arguments = match function.get("arguments").unwrap() {
                Json::String(text) => text.parse().unwrap(),
                other => other.clone(),
            };
            let name = function.get("name").and_then(Json::as_str).unwrap();
            (name.to_owned(), arguments)
        })
        .collect()
}

/// What a template writes for the message of an assistant, if it writes the conversation before as
/// it does without it.
fn written(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
) -> Option<String> {
    let before = template
        .render(&messages[..messages.len() - 1], options)
        .ok()?;
    let whole = options.clone().add_generation_prompt(false);
    let whole = template.render(messages, &whole).ok()?;
    let turn = whole.text().strip_prefix(before.text())?;
    let end = ENDS.iter().filter_map(|end| turn.find(end)).min();
    Some(turn[..end.unwrap_or(turn.len())].to_owned())
}

#[test]
fn what_templates_write_of_calls_is_read_back() {
    let Some(folder) = oracle_folder() else {
        return;
    };
    let folder = folder.join("tok");
    let text = std::fs::read_to_string(folder.join("templates.json")).unwrap();
    let golden: Json = text.parse().unwrap();
    let conversations = golden.get("conversations").unwrap();
    let model = model();
    let mut checked = Vec::new();
    for entry in array(&golden, "templates") {
        let file = entry.get("file").and_then(Json::as_str).unwrap();
        let source = std::fs::read_to_string(folder.join(file)).unwrap();
        let template = ChatTemplate::new(&source).unwrap().with_tokens(
            entry.get("bos_token").and_then(Json::as_str),
            entry.get("eos_token").and_then(Json::as_str),
        );
        for name in [
            "tools_dict_args",
            "tools_json_args",
            "tools_two_calls",
            "thinking_last",
        ] {
            let conversation = conversations.get(name).unwrap();
            let all = array(conversation, "messages");
            let at = all.iter().position(|message| {
                let role = message.get("role").and_then(Json::as_str);
                role == Some("assistant")
                    && (name == "thinking_last" || message.get("tool_calls").is_some())
            });
            let message = &all[at.unwrap()];
            let messages: Vec<Message> = all[..=at.unwrap()]
                .iter()
                .map(|json| Message::from_json(json.clone()).unwrap())
                .collect();
            let tools = array(conversation, "tools").to_vec();
            let options = RenderOptions::new().tools(tools);
            let Some(turn) = written(&template, &messages, &options) else {
                continue;
            };
            let call = message
                .get("tool_calls")
                .map(|_| calls_of(message)[0].0.clone());
            let reasoning = message.get("reasoning_content").and_then(Json::as_str);
            if !turn.contains(call.as_deref().or(reasoning).unwrap()) || turn.contains("\\\"") {
                // It writes none, or not as a model would.
                continue;
            }
            let settings = SessionOptions::new().context_length(20_000);
            let mut chat = Chat::new(model.session_with(&settings).unwrap(), template.clone());
            chat.render_options(options);
            chat.messages_mut()
                .extend_from_slice(&messages[..at.unwrap()]);
            let answer = chat
                .reply(&saying(&model, &turn))
                .unwrap()
                .finish()
                .unwrap();
            let calls: Vec<(String, Json)> = answer
                .tool_calls
                .iter()
                .map(|call| (call.name().to_owned(), call.arguments().clone()))
                .collect();
            let mut expected = calls_of(message);
            if file.contains("gpt-oss") {
                // It writes the first one only.
                expected.truncate(1);
            }
            assert_eq!(calls, expected, "{file} {name}: {turn:?}");
            let said = format!("{}{}", answer.reasoning, answer.text);
            let content = message
                .get("content")
                .and_then(Json::as_str)
                .unwrap_or_default();
            let content = format!("{}{content}", reasoning.unwrap_or_default());
            let is_left_out = said.is_empty() && !calls.is_empty();
            assert!(
                said.trim() == content || is_left_out,
                "{file} {name}: {said:?} for {content:?}"
            );
            checked.push(format!("{file} {name}"));
        }
    }
    assert!(checked.len() >= 35, "{}: {checked:#?}", checked.len());
}

const TOOLS: &str = r#"{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}"#;

/// Hermes's way of calls and reasoning, and no more.
const TEMPLATE: &str = "\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content -}}
{%- for call in message.tool_calls -%}
{{- '<tool_call>' + call.function | tojson + '</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{{- '<|im_start|>assistant\\n<think>\\n' -}}";

fn answer(chat: &mut Chat, model: &Model, text: &str) -> Answer {
    chat.reply(&saying(model, text)).unwrap().finish().unwrap()
}

#[test]
fn a_conversation_keeps_the_parts_of_an_answer() {
    let model = model();
    let template = ChatTemplate::new(TEMPLATE).unwrap();
    let mut chat = Chat::new(model.session().unwrap(), template);
    chat.render_options(RenderOptions::new().tools([TOOLS.parse().unwrap()]));
    chat.push(Message::user("What time is it?"));
    let text = "I need a clock.\n</think>\n\nOne moment. <tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>";
    let first = answer(&mut chat, &model, text);
    assert_eq!(
        (&*first.reasoning, &*first.text),
        ("I need a clock.", "One moment.")
    );
    let call = &first.tool_calls[0];
    assert_eq!((call.name(), call.id()), ("now", Some("call00000")));
    let message = &chat.messages()[1];
    assert_eq!(message.content(), Some("One moment."));
    assert_eq!(
        message.field("reasoning_content"),
        Some(&"I need a clock.".into())
    );

    chat.push(Message::tool_result(call, "12:30"));
    let again = answer(
        &mut chat,
        &model,
        "</think><tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>",
    );
    assert_eq!(again.tool_calls[0].id(), Some("call00001"));
    assert_eq!(chat.messages().len(), 4);

    // The pieces say the same as the whole.
    chat.messages_mut().truncate(1);
    let mut parts = (String::new(), String::new(), 0, Vec::new());
    for piece in chat.reply(&saying(&model, text)).unwrap() {
        let piece = piece.unwrap();
        parts.0.push_str(&piece.reasoning);
        parts.1.push_str(&piece.text);
        parts.2 += piece.tool_calls.len();
        parts.3.extend(piece.tokens);
    }
    assert_eq!(parts, (first.reasoning, first.text, 1, first.tokens));
}

#[test]
fn templates_get_calls_in_the_shape_they_write() {
    let model = model();
    let call = |arguments: &str| {
        format!(
            "{{{{ messages[0].content }}}}{{% for m in messages[1:] %}}{{% if {arguments} %}}{{% for c in m.tool_calls %}}{{{{ c.function.name + X }}}}{{% endfor %}}{{% endif %}}{{% endfor %}}"
        )
    };
    // Some write calls only beside no content, some want the arguments as a text.
    let null = call("m.content is none").replace('X', "(c.function.arguments | tojson)");
    let text = call("true").replace('X', "c.function.arguments");
    let both = call("m.content is none").replace('X', "c.function.arguments");
    let plain = call("m.content == ''").replace('X', "(c.function.arguments | tojson)");
    let message = |arguments: &str| {
        let json = format!(
            "{{\"role\": \"assistant\", \"tool_calls\": [{{\"function\": {{\"name\": \"now\", \"arguments\": {arguments}}}}}]}}"
        );
        Message::from_json(json.parse().unwrap()).unwrap()
    };
    let mut counts = Vec::new();
    for source in [&null, &text, &both, &plain] {
        for arguments in ["{\"zone\": \"UTC\"}", "\"{\\\"zone\\\": \\\"UTC\\\"}\""] {
            let template = ChatTemplate::new(source).unwrap();
            let mut chat = Chat::new(model.session().unwrap(), template.clone());
            chat.push(Message::user("Once"));
            chat.push(message(arguments));
            let reply = chat.reply(&max_tokens(1)).unwrap().finish().unwrap();
            counts.push(reply.timings.prompt_tokens);
        }
    }
    let expected = "Oncenow{\"zone\": \"UTC\"}";
    let tokens = ChatTemplate::new(&format!("{{{{ '{expected}' }}}}")).unwrap();
    let tokens = tokens.render(&[], &RenderOptions::new()).unwrap();
    let tokens = tokens.encode(model.tokenizer()).unwrap().len();
    assert_eq!(counts, vec![tokens; 8]);
}

#[test]
fn a_fork_goes_its_own_way() {
    let model = model();
    let mut chat = named(&model, "chatml", 512);
    chat.send("Once upon a time", &max_tokens(16))
        .unwrap()
        .finish()
        .unwrap();
    let mut other = chat.fork().unwrap();
    let mut texts = Vec::new();
    for chat in [&mut chat, &mut other] {
        let answer = chat
            .send("And then?", &max_tokens(16))
            .unwrap()
            .finish()
            .unwrap();
        texts.push((answer.text, answer.timings.prompt_tokens));
    }
    assert_eq!(texts[0], texts[1]);
    other
        .send("The end", &max_tokens(4))
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!((chat.messages().len(), other.messages().len()), (4, 6));
}

#[test]
fn the_last_turn_can_be_said_again() {
    let model = model();
    let mut chat = named(&model, "chatml", 512);
    chat.system("You tell stories.");
    let first = chat
        .send("Once upon a time", &max_tokens(16))
        .unwrap()
        .finish()
        .unwrap();
    let second = chat
        .send("And then?", &max_tokens(8))
        .unwrap()
        .finish()
        .unwrap();
    chat.push(Message::assistant("Well."));
    assert_eq!(chat.undo(), Some(Message::user("And then?")));
    assert_eq!(chat.messages().len(), 3);
    let again = chat
        .send("And then?", &max_tokens(8))
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!((again.text, again.timings.prompt_tokens), (second.text, 1));
    chat.undo();
    assert_eq!(chat.undo(), Some(Message::user("Once upon a time")));
    assert_eq!(chat.undo(), None);
    assert_eq!(chat.messages(), [Message::system("You tell stories.")]);
    let again = chat
        .send("Once upon a time", &max_tokens(16))
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(again.text, first.text);
}

#[test]
fn a_full_context_forgets_the_oldest_turns() {
    let model = model();
    let (positions, turns) = (400, 14);
    let mut chat = named(&model, "chatml", positions);
    chat.system("You are a cat.");
    chat.context_shift(true);
    let options = max_tokens(12);
    let mut other = named(&model, "chatml", 4096);
    let mut forgotten = vec![0];
    for turn in 0..turns {
        let said = format!("{turn}. What did the cat do?");
        let last = chat.send(said, &options).unwrap().finish().unwrap();
        assert!(chat.session().position() <= positions);
        // The answer is that of a conversation of the system's words and the last turns only.
        let all = &chat.messages()[..chat.messages().len() - 1];
        let from = (*forgotten.last().unwrap()..=turn).find(|from| {
            *other.messages_mut() = [&all[..1], &all[1 + 2 * from..]].concat();
            other.reply(&options).unwrap().finish().unwrap().text == last.text
        });
        // `None` where the context was full in the middle of the answer.
        forgotten.extend(from);
    }
    assert_eq!(chat.messages().len(), 1 + 2 * turns);
    assert!(forgotten.len() >= turns - 3, "{forgotten:?}");
    assert!(
        forgotten.is_sorted() && forgotten.last() > Some(&3),
        "{forgotten:?}"
    );
    // Half of the context is made free at a time, so most turns find their beginning as it was.
    forgotten.dedup();
    assert!(forgotten.len() <= turns / 2, "{forgotten:?}");
}

#[test]
fn an_answer_goes_on_beyond_a_full_context() {
    let model = model();
    let positions = 400;
    let endless = max_tokens(1000).ignore_end_of_generation(true);
    let mut chat = named(&model, "chatml", positions);
    chat.system("You are a cat.");
    for _ in 0..2 {
        chat.send("What did the cat do?", &max_tokens(16))
            .unwrap()
            .finish()
            .unwrap();
    }
    let before = chat.messages().to_vec();
    // Without a shift it ends; the turn alone is too long for the context in the end, too.
    let ended = chat.send("And then?", &endless).unwrap().finish().unwrap();
    assert_eq!(ended.finish_reason, FinishReason::ContextFull);
    chat.messages_mut().truncate(before.len());
    chat.context_shift(true);
    let shifted = chat.send("And then?", &endless).unwrap().finish().unwrap();
    assert_eq!(shifted.finish_reason, FinishReason::ContextFull);
    assert!(shifted.tokens.len() > ended.tokens.len());
    assert_eq!(shifted.tokens[..ended.tokens.len()], ended.tokens);
    assert!(shifted.text.starts_with(&ended.text));
    assert_eq!(
        chat.messages().last().unwrap().content(),
        Some(&*shifted.text)
    );

    // What follows is what the model says behind the rest of the conversation and this beginning.
    let options = SessionOptions::new().context_length(4096);
    let mut session = model.session_with(&options).unwrap();
    let template = ChatTemplate::named("chatml").unwrap();
    let mut kept = vec![before[0].clone(), Message::user("And then?")];
    let rest = |kept: &[Message]| {
        let prompt = template.render(kept, &RenderOptions::new()).unwrap();
        let mut tokens = prompt.encode(model.tokenizer()).unwrap();
        tokens.extend(&ended.tokens);
        tokens
    };
    // As many turns as fit into half of the context, or the last one.
    let mut tokens = rest(&kept);
    for from in [3, 1] {
        let mut more = before.clone();
        more.drain(1..from);
        more.push(Message::user("And then?"));
        if rest(&more).len() <= positions / 2 {
            tokens = rest(&more);
            kept = more;
        }
    }
    let go_on = endless.clone().max_tokens(8).stop("<|im_end|>");
    let expected = session
        .generate_from(&tokens, &go_on)
        .unwrap()
        .finish()
        .unwrap();
    let from = ended.tokens.len();
    assert_eq!(
        shifted.tokens[from..from + 8],
        expected.tokens,
        "{} messages",
        kept.len()
    );
}

/// Greedy, so the same on every machine but for rounding; the tool and the question leave little
/// room.
#[test]
fn a_real_model_calls_a_tool() {
    let path = models_folder().map(|folder| folder.join("qwen2.5-coder-0.5b.gguf"));
    let Some(path) = path.filter(|path| path.is_file()) else {
        println!("skipped: no qwen2.5-coder-0.5b.gguf");
        return;
    };
    let tool = r#"{"type": "function", "function": {"name": "get_weather",
        "description": "Get the current weather of a city", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}}, "required": ["city"]}}}"#;
    let mut chat = Model::open(path).unwrap().chat().unwrap();
    chat.render_options(RenderOptions::new().tools([tool.parse().unwrap()]));
    let question = "What is the weather in Lisbon now?";
    let answer = chat
        .send(question, &max_tokens(64))
        .unwrap()
        .finish()
        .unwrap();
    let [call] = &answer.tool_calls[..] else {
        panic!("{answer:?}");
    };
    assert_eq!((call.name(), &*answer.text), ("get_weather", ""));
    assert!(
        call.arguments()
            .get("city")
            .and_then(Json::as_str)
            .is_some()
    );
    // The call is a part of the conversation that the template can write.
    chat.push(Message::tool_result(call, "21.5 °C"));
    let next = chat.reply(&max_tokens(4)).unwrap().finish().unwrap();
    assert_eq!(next.finish_reason, FinishReason::MaxTokens);
}
