//! Conversations with the demo model, whose file has no template.

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::gguf_writer::{GgufWriter, Kv};
use common::spec;
use gristmill::chat::{Chat, ChatTemplate, Message, RenderOptions};
use gristmill::gguf::Gguf;
use gristmill::{
    CancelToken, Candidates, Error, FinishReason, GenerateOptions, Model, Sampler, SamplingOptions,
    SessionOptions,
};

fn demo_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo-model/demo.gguf")
}

fn model() -> Model {
    Model::builder().threads(1).open(demo_path()).unwrap()
}

fn chat(model: &Model) -> Chat {
    Chat::new(
        model.session().unwrap(),
        ChatTemplate::named("chatml").unwrap(),
    )
}

fn max_tokens(tokens: usize) -> GenerateOptions {
    GenerateOptions::new().max_tokens(tokens)
}

/// The tokens of a conversation up to where the answer begins.
fn tokens(model: &Model, messages: &[Message]) -> Vec<u32> {
    let template = ChatTemplate::named("chatml").unwrap();
    let prompt = template.render(messages, &RenderOptions::new()).unwrap();
    prompt.encode(model.tokenizer()).unwrap()
}

/// The answer in a session that has read nothing before.
fn fresh_answer(model: &Model, messages: &[Message], options: &GenerateOptions) -> String {
    let mut session = model.session().unwrap();
    let options = options.clone().stop("<|im_end|>");
    let generation = session.generate_from(&tokens(model, messages), &options);
    generation.unwrap().finish().unwrap().text
}

#[test]
fn a_turn_costs_what_is_new_in_it() {
    let model = model();
    let mut chat = chat(&model);
    chat.system("You tell long stories to children, and they end well.");
    let options = max_tokens(24);
    let first = chat
        .send("Once upon a time", &options)
        .unwrap()
        .finish()
        .unwrap();
    let prompt = tokens(&model, &chat.messages()[..2]);
    assert_eq!(first.timings.prompt_tokens, prompt.len());
    assert_eq!(chat.messages()[2], Message::assistant(&*first.text));

    // If it ended by the number of tokens, there was no need to evaluate the last one.
    let mut evaluated = [&prompt[..], &first.tokens[..]].concat();
    evaluated.truncate(chat.session().position());
    let second = chat.send("And then?", &options).unwrap().finish().unwrap();
    let whole = tokens(&model, &chat.messages()[..4]);
    let same = evaluated
        .iter()
        .zip(&whole)
        .take_while(|(a, b)| a == b)
        .count();
    assert!(same >= prompt.len(), "{same} of {}", prompt.len());
    assert_eq!(second.timings.prompt_tokens, whole.len() - same);
    assert_eq!(
        second.text,
        fresh_answer(&model, &chat.messages()[..4], &options)
    );

    // The same again: only the logits are missing.
    chat.messages_mut().pop();
    let again = chat.reply(&options).unwrap().finish().unwrap();
    assert_eq!(
        (again.timings.prompt_tokens, &again.text),
        (1, &second.text)
    );

    // Another beginning: everything is new but the first tokens.
    chat.system("Be brief.");
    chat.messages_mut().truncate(2);
    let other = chat.reply(&options).unwrap().finish().unwrap();
    let prompt = tokens(&model, &chat.messages()[..2]);
    let same = whole
        .iter()
        .zip(&prompt)
        .take_while(|(a, b)| a == b)
        .count();
    assert_eq!(other.timings.prompt_tokens, prompt.len() - same);
    assert_eq!(
        other.text,
        fresh_answer(&model, &chat.messages()[..2], &options)
    );
}

#[test]
fn a_conversation_goes_on_in_a_session_from_a_file() {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let options = max_tokens(8);
    let mut chat = chat(&model);
    chat.send("Once upon a time", &options)
        .unwrap()
        .finish()
        .unwrap();
    chat.session_mut().save(&path).unwrap();
    let mut other = Chat::new(
        model.load_session(&path).unwrap(),
        ChatTemplate::named("chatml").unwrap(),
    );
    other.messages_mut().extend_from_slice(chat.messages());
    let [expected, found] = [&mut chat, &mut other].map(|chat| {
        let answer = chat.send("And then?", &options).unwrap().finish().unwrap();
        (answer.text, answer.timings.prompt_tokens)
    });
    assert_eq!(found, expected);
}

/// A model with recurrent layers, whose vocabulary is the small letters and other characters.
fn recurrent() -> Option<Model> {
    let mut specs = spec::all().into_iter();
    let spec = specs.find(|spec| spec.name == "lfm2")?;
    let specials = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let letters = ('a'..).map(String::from);
    let tokens: Vec<String> = specials.into_iter().chain(letters).take(128).collect();
    let kinds = (0..128).map(|id| Kv::I32([2, 3, 3].get(id).copied().unwrap_or(1)));
    let mut writer = spec
        .metadata(|key, value| (key != "tokenizer.ggml.model").then_some(value))
        .kv("tokenizer.ggml.model", Kv::text("llama"))
        .kv(
            "tokenizer.ggml.tokens",
            Kv::texts(tokens.iter().map(|token| &**token)),
        )
        .kv("tokenizer.ggml.scores", Kv::Arr(vec![Kv::F32(0.0); 128]))
        .kv("tokenizer.ggml.token_type", Kv::Arr(kinds.collect()))
        .kv("tokenizer.ggml.add_space_prefix", Kv::Bool(false));
    for (name, shape, data) in spec.data() {
        writer = writer.f32_tensor(name, shape, &data);
    }
    let gguf = Gguf::from_bytes(writer.build()).unwrap();
    Some(Model::builder().threads(1).load(gguf).unwrap())
}

#[test]
fn models_that_cannot_go_back_begin_again() {
    let Some(model) = recurrent() else {
        println!("skipped: no reference data");
        return;
    };
    let source = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}a";
    let template = ChatTemplate::new(source).unwrap();
    let mut chat = Chat::new(model.session().unwrap(), template.clone());
    // Tokens without a text would not come again.
    let options = max_tokens(6).sampling(SamplingOptions {
        banned: vec![0, 1, 2],
        ..SamplingOptions::default()
    });
    let mut said = Vec::new();
    for text in ["hello", "goodbye"] {
        let answer = chat.send(text, &options).unwrap().finish().unwrap();
        // Only what is new: the answer's last token, the user's words, and where the answer begins.
        let new = if said.is_empty() { 0 } else { 1 } + 1 + text.len() + 1;
        assert_eq!(
            answer.timings.prompt_tokens,
            new + usize::from(said.is_empty())
        );
        said.push(answer);
    }
    // Something before it is another: all is evaluated again, and comes to the same as at first.
    for text in ["hi", "hello"] {
        chat.messages_mut().clear();
        let answer = chat.send(text, &options).unwrap().finish().unwrap();
        assert_eq!(answer.timings.prompt_tokens, 2 + text.len() + 1);
        let mut fresh = Chat::new(model.session().unwrap(), template.clone());
        let expected = fresh.send(text, &options).unwrap().finish().unwrap();
        assert_eq!(answer.tokens, expected.tokens);
    }
    let mut fork = chat.fork().unwrap();
    let next = chat.send("goodbye", &options).unwrap().finish().unwrap();
    assert_eq!(next.tokens, said[1].tokens);
    let forked = fork.send("goodbye", &options).unwrap().finish().unwrap();
    assert_eq!(forked.tokens, next.tokens);
}

/// Writes down what it is told.
struct Listener(Arc<Mutex<Vec<u32>>>);

impl Sampler for Listener {
    fn apply(&mut self, _: &mut Candidates) {}

    fn accept(&mut self, token: u32) {
        self.0.lock().unwrap().push(token);
    }
}

#[test]
fn samplers_know_the_whole_conversation() {
    let model = model();
    let mut chat = chat(&model);
    for text in ["Once upon a time", "And then?"] {
        let told = Arc::<Mutex<Vec<u32>>>::default();
        let listener = Arc::clone(&told);
        let options = max_tokens(8).sampler(move || Listener(Arc::clone(&listener)));
        let answer = chat.send(text, &options).unwrap().finish().unwrap();
        let before = chat.messages().len() - 1;
        let mut expected = tokens(&model, &chat.messages()[..before]);
        expected.extend(answer.tokens);
        assert_eq!(*told.lock().unwrap(), expected);
    }
}

#[test]
fn a_dropped_answer_counts_as_far_as_it_was_given() {
    let model = model();
    let mut chat = chat(&model);
    let mut reply = chat.send("Once upon a time", &max_tokens(50)).unwrap();
    let given: String = (&mut reply)
        .take(3)
        .map(|piece| piece.unwrap().text)
        .collect();
    drop(reply);
    assert_eq!(chat.messages()[1], Message::assistant(given));
    let options = max_tokens(12);
    let answer = chat.send("And then?", &options).unwrap().finish().unwrap();
    assert_eq!(
        answer.text,
        fresh_answer(&model, &chat.messages()[..3], &options)
    );

    // Also where it was cancelled in the middle of the prompt.
    let cancel = CancelToken::new();
    cancel.cancel();
    let cancelled = chat
        .send("Stop", &max_tokens(5).cancel(&cancel))
        .unwrap()
        .finish();
    assert_eq!(cancelled.unwrap().finish_reason, FinishReason::Cancelled);
    let answer = chat.send("Go on", &options).unwrap().finish().unwrap();
    assert_eq!(
        answer.text,
        fresh_answer(&model, &chat.messages()[..7], &options)
    );
}

#[test]
fn a_refused_turn_changes_nothing() {
    let model = model();
    let session = model
        .session_with(&SessionOptions::new().context_length(64))
        .unwrap();
    let template = "{% for m in messages %}{{ m.content }}{% if m.content == 'x' %}\
                    {{ raise_exception('no x') }}{% endif %}{% endfor %}";
    let mut chat = Chat::new(session, ChatTemplate::new(template).unwrap());
    let long = "story ".repeat(100);
    let options = max_tokens(4);
    let full = chat.send(long, &options).unwrap_err();
    assert!(
        matches!(full, Error::ContextFull { capacity: 64, .. }),
        "{full:?}"
    );
    let refused = chat.send("x", &options).unwrap_err();
    assert!(matches!(refused, Error::Conversation { message, .. } if message == "no x"));
    let wrong = chat.send("Once", &options.clone().stop("")).unwrap_err();
    assert!(matches!(wrong, Error::Argument { name: "stop", .. }));
    assert!(chat.messages().is_empty());
    assert_eq!(
        chat.send("Once", &options)
            .unwrap()
            .finish()
            .unwrap()
            .tokens
            .len(),
        4
    );
}

#[test]
fn a_template_gets_the_tokens_of_the_model_unless_it_has_others() {
    let model = model();
    let source = "{{ bos_token }}{{ messages[0].content }}{{ raise_exception(bos_token) }}";
    let template = ChatTemplate::new(source).unwrap();
    let own = template.clone().with_tokens(Some("<own>"), None);
    let bos = model
        .tokenizer()
        .token_bytes(model.tokenizer().bos().unwrap())
        .unwrap();
    let bos = String::from_utf8_lossy(&bos);
    for (template, expected) in [(template, &*bos), (own, "<own>")] {
        let mut chat = Chat::new(model.session().unwrap(), template);
        let refused = chat.send("x", &max_tokens(1)).unwrap_err();
        assert!(matches!(&refused, Error::Conversation { message, .. } if message == expected));
    }
}

#[test]
fn a_file_without_a_template_says_so_and_names_others() {
    let error = model().chat().unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("demo.gguf") && text.contains("tokenizer.chat_template"),
        "{text}"
    );
    assert!(
        ChatTemplate::names().all(|name| text.contains(name)),
        "{text}"
    );
}

#[test]
fn templates_are_found_in_the_file_by_name() {
    let bytes = GgufWriter::new()
        .kv("general.architecture", Kv::text("llama"))
        .kv("tokenizer.chat_template", Kv::text("a"))
        .kv(
            "tokenizer.chat_template.tool_use",
            Kv::text("b{{ bos_token }}"),
        )
        .kv("tokenizer.chat_template.broken", Kv::text("\n{{"))
        .build();
    let gguf = Gguf::from_bytes(bytes).unwrap();
    assert_eq!(ChatTemplate::from_gguf(&gguf, None).unwrap().source(), "a");
    let tools = ChatTemplate::from_gguf(&gguf, Some("tool_use")).unwrap();
    let prompt = tools
        .with_tokens(Some("<s>"), None)
        .render(&[], &RenderOptions::new());
    assert_eq!(prompt.unwrap().text(), "b<s>");
    let missing = ChatTemplate::from_gguf(&gguf, Some("rag"));
    assert!(matches!(missing, Err(Error::Unsupported { .. })));
    let broken = ChatTemplate::from_gguf(&gguf, Some("broken"))
        .unwrap_err()
        .to_string();
    assert!(
        broken.contains("tokenizer.chat_template.broken") && broken.contains("line 2"),
        "{broken}"
    );
}
