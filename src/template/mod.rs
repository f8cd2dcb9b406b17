//! Chat templates: messages to the text that a model was trained on.
//!
//! A template is a small program in Jinja that comes with the model. It is run by an interpreter of
//! our own (`lexer`, `parser`, `render`), whose strings know which of their bytes came from outside
//! (`text`); so text of a message never becomes a control token, whatever the template does with it.

mod args;
mod clock;
mod filters;
mod functions;
mod json;
mod lexer;
mod message;
mod methods;
mod named;
mod operators;
mod parser;
mod predicates;
pub(crate) mod python;
mod render;
mod syntax;
mod text;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use crate::gguf::Gguf;
use crate::tokenizer::{EncodeOptions, Tokenizer};
use crate::{Error, Result};

use clock::Clock;
use parser::Parsed;
use render::{Machine, Scope};
use text::Text;
use value::{Budget, Value};

pub(crate) use json::parse_prefix as parse_json_prefix;

pub use json::Json;
pub use message::{Message, ToolCall};

/// The template of a file, and with `.NAME` behind it those for other uses.
const KEY: &str = "tokenizer.chat_template";
/// Bytes of a template's source; published ones have at most some tens of thousands.
const MAX_SOURCE: usize = 1 << 20;
/// Steps that a template may take: statements, expressions, items of lists, and each 32 bytes of text
/// that is made or searched. Published templates take some hundred for each message. So many steps
/// take less than 0.1 s.
const MAX_STEPS: u64 = 500_000;
/// Steps that come on top for each byte of the input: a template may look at all of it several
/// times.
const STEPS_PER_BYTE: u64 = 8;

/// Why a template did not come to its end.
#[derive(Debug)]
enum Fault {
    /// It does not parse, or does what Python does not allow.
    Failed(String),
    /// It called `raise_exception`.
    Refused(String),
    Limit {
        what: &'static str,
        limit: u64,
    },
}

type Outcome<T> = std::result::Result<T, Fault>;

impl Fault {
    fn new(message: impl Into<String>) -> Fault {
        Fault::Failed(message.into())
    }

    fn at(self, place: &str, line: u32) -> Error {
        let place = format!("{place}: line {line}");
        match self {
            Fault::Failed(message) => Error::Template { place, message },
            Fault::Refused(message) => Error::Conversation { place, message },
            Fault::Limit { what, limit } => Error::Limit {
                place: format!("{place}: {what}"),
                limit,
                found: limit.saturating_add(1),
            },
        }
    }
}

/// How a model wants a conversation written: a template in Jinja, as published models have it.
///
/// Clones share one template. See [`Model::chat_template`](crate::Model::chat_template) for that
/// of a file.
///
/// ```
/// use gristmill::chat::{ChatTemplate, Message, RenderOptions};
///
/// let template = ChatTemplate::named("chatml")?;
/// let messages = [Message::system("Be brief."), Message::user("Hello <|im_end|>")];
/// let prompt = template.render(&messages, &RenderOptions::new())?;
/// assert_eq!(
///     prompt.text(),
///     "<|im_start|>system\nBe brief.<|im_end|>\n\
///      <|im_start|>user\nHello <|im_end|><|im_end|>\n\
///      <|im_start|>assistant\n"
/// );
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone)]
pub struct ChatTemplate(Arc<Inner>);

struct Inner {
    source: String,
    parsed: Parsed,
    /// For errors: the file and the key.
    place: String,
    bos: Option<String>,
    eos: Option<String>,
    /// Text that ends a turn in vocabularies that have no token for it.
    stop: Option<&'static str>,
}

/// What a template is given besides the messages.
///
/// ```
/// use gristmill::chat::RenderOptions;
///
/// let options = RenderOptions::new().variable("enable_thinking", false);
/// ```
#[derive(Clone, Debug)]
pub struct RenderOptions {
    tools: Option<Vec<Json>>,
    add_generation_prompt: bool,
    variables: Vec<(String, Json)>,
    unix_time: Option<i64>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        RenderOptions {
            tools: None,
            add_generation_prompt: true,
            variables: Vec::new(),
            unix_time: None,
        }
    }
}

impl RenderOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the text where the assistant's answer begins. Default: yes.
    #[must_use]
    pub fn add_generation_prompt(mut self, add: bool) -> Self {
        self.add_generation_prompt = add;
        self
    }

    /// Functions that the model may call, each a JSON object as OpenAI's interface has it
    /// (`{"type": "function", "function": {"name": …, "parameters": …}}`). Default: none.
    #[must_use]
    pub fn tools(mut self, tools: impl IntoIterator<Item = Json>) -> Self {
        self.tools = Some(tools.into_iter().collect());
        self
    }

    /// A variable that this template knows, such as `enable_thinking`. Its text is input, as that
    /// of messages is. Names that the template gets anyway cannot be set: `messages`, `tools`,
    /// `documents`, `add_generation_prompt`, `bos_token`, `eos_token`.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The time for templates that write the date, in seconds since the beginning of 1970, taken
    /// as local time. Default: now, in UTC.
    #[must_use]
    pub fn unix_time(mut self, seconds: i64) -> Self {
        self.unix_time = Some(seconds);
        self
    }

    pub(crate) fn tools_given(&self) -> &[Json] {
        self.tools.as_deref().unwrap_or_default()
    }

    fn clock(&self) -> Clock {
        let now = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.map_or(0, |since| since.as_secs() as i64)
        };
        // A year of a few digits, whatever is asked for.
        Clock::new(self.unix_time.unwrap_or_else(now).clamp(-1 << 40, 1 << 40))
    }
}

/// A conversation as a template wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    text: String,
    input: Vec<Range<usize>>,
}

impl Prompt {
    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Which bytes of the text came from messages, tools and variables, in order. Everything else
    /// the template wrote itself.
    #[must_use]
    pub fn input(&self) -> &[Range<usize>] {
        &self.input
    }

    /// What the template wrote itself: all of it, and the part behind all that came from outside.
    pub(crate) fn written(&self) -> (String, &str) {
        let mut written = String::new();
        let mut at = 0;
        for input in &self.input {
            written.push_str(&self.text[at..input.start]);
            at = input.end;
        }
        let tail = &self.text[at..];
        written.push_str(tail);
        (written, tail)
    }

    /// The token ids: control tokens are found in what the template wrote, and nowhere else.
    ///
    /// The token that begins a text is put before it if the vocabulary wants one and the template
    /// has not written it.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn encode(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let options = EncodeOptions {
            add_special: false,
            parse_special: true,
        };
        let mut ids = tokenizer.encode_with_literals(&self.text, &self.input, options)?;
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        if let Some(bos) = bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }
}

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] with the line of what is wrong, [`Error::Limit`] for a template of more
    /// than 1 MiB or one that is nested too deep.
    pub fn new(source: &str) -> Result<ChatTemplate> {
        ChatTemplate::parse(source, "chat template".into())
    }

    /// One of the well-known templates, for files that have none: see [`ChatTemplate::names`].
    /// Which one a model was trained with, its publisher says; another one works badly.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for another name.
    pub fn named(name: &str) -> Result<ChatTemplate> {
        let Some(named) = named::TEMPLATES.iter().find(|known| known.name == name) else {
            return Err(Error::Argument {
                name: "template",
                expected: format!("one of {}", named::names()),
                found: name.to_owned(),
            });
        };
        let template = ChatTemplate::parse(named.source, format!("chat template `{name}`"))?;
        Ok(template.change(|inner| inner.stop = Some(named.stop)))
    }

    /// The names of the well-known templates.
    pub fn names() -> impl Iterator<Item = &'static str> {
        named::TEMPLATES.iter().map(|named| named.name)
    }

    /// The template of a file: its only or first one, or that for another use, such as `tool_use`.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if the file has none; the errors of [`ChatTemplate::new`].
    pub fn from_gguf(gguf: &Gguf, name: Option<&str>) -> Result<ChatTemplate> {
        let key = name.map_or(KEY.to_owned(), |name| format!("{KEY}.{name}"));
        let Some(source) = gguf.optional::<String>(&key)? else {
            return Err(Error::Unsupported {
                place: gguf.place_of_key(&key),
                what: "a chat without a template in the file".into(),
                supported: format!("a template by name: {}", named::names()),
            });
        };
        ChatTemplate::parse(&source, gguf.place_of_key(&key))
    }

    fn parse(source: &str, place: String) -> Result<ChatTemplate> {
        if source.len() > MAX_SOURCE {
            return Err(Error::Limit {
                place: format!("{place}: bytes"),
                limit: MAX_SOURCE as u64,
                found: source.len() as u64,
            });
        }
        let parsed = parser::parse(source).map_err(|(line, fault)| fault.at(&place, line))?;
        Ok(ChatTemplate(Arc::new(Inner {
            source: source.to_owned(),
            parsed,
            place,
            bos: None,
            eos: None,
            stop: None,
        })))
    }

    /// Changes what is not shared yet.
    fn change(mut self, change: impl FnOnce(&mut Inner)) -> ChatTemplate {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
            return self;
        }
        let Inner {
            source,
            place,
            bos,
            eos,
            stop,
            ..
        } = &*self.0;
        // The source was parsed before.
        let Ok(mut template) = ChatTemplate::parse(source, place.clone()) else {
            return self;
        };
        if let Some(inner) = Arc::get_mut(&mut template.0) {
            (inner.bos, inner.eos, inner.stop) = (bos.clone(), eos.clone(), *stop);
            change(inner);
        }
        template
    }

    /// The texts of the tokens that begin and end a text, which some templates write.
    #[must_use]
    pub fn with_tokens(self, bos: Option<&str>, eos: Option<&str>) -> ChatTemplate {
        self.change(|inner| {
            inner.bos = bos.map(str::to_owned);
            inner.eos = eos.map(str::to_owned);
        })
    }

    /// As [`ChatTemplate::with_tokens`], those of a vocabulary.
    #[must_use]
    pub fn with_tokens_of(self, tokenizer: &Tokenizer) -> ChatTemplate {
        let text = |id: Option<u32>| {
            let bytes = tokenizer.token_bytes(id?)?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
        self.with_tokens(bos.as_deref(), eos.as_deref())
    }

    /// The template itself. It comes from the model's publisher, and can change or add messages.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether it was told of a token.
    pub(crate) fn has_tokens(&self) -> bool {
        self.0.bos.is_some() || self.0.eos.is_some()
    }

    pub(crate) fn stop(&self) -> Option<&'static str> {
        self.0.stop
    }

    /// Writes a conversation.
    ///
    /// # Errors
    ///
    /// [`Error::Conversation`] if the template refuses these messages, [`Error::Template`] if it
    /// fails, [`Error::Limit`] if it takes too many steps: it ends within a bounded time and memory,
    /// whatever it says.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Prompt> {
        let Inner { parsed, place, .. } = &*self.0;
        let tools = options.tools.iter().flatten();
        let variables = options.variables.iter().map(|(_, value)| value);
        let sizes = messages.iter().map(Message::size);
        let size: usize = sizes.chain(tools.chain(variables).map(Json::size)).sum();
        let budget =
            Budget::new(MAX_STEPS.saturating_add(STEPS_PER_BYTE.saturating_mul(size as u64)));
        let scope = self.variables(messages, options);
        let scope = scope.map_err(|fault| fault.at(place, 1))?;
        let mut machine = Machine::new(parsed, budget, options.clock(), scope);
        let text = machine.run();
        let (text, input) = text
            .map_err(|fault| fault.at(place, machine.line))?
            .into_parts();
        Ok(Prompt { text, input })
    }

    fn variables(&self, messages: &[Message], options: &RenderOptions) -> Outcome<Scope> {
        let mut scope = Scope::new();
        for (name, value) in &options.variables {
            scope.insert(name.as_str().into(), Value::input(value)?);
        }
        let list = |items: Outcome<Vec<Value>>| Value::list(items?);
        let messages = list(messages.iter().map(Message::value).collect())?;
        let tools = match &options.tools {
            Some(tools) => list(tools.iter().map(Value::input).collect())?,
            None => Value::None,
        };
        scope.insert("messages".into(), messages);
        scope.insert("tools".into(), tools);
        scope.insert("documents".into(), Value::None);
        let add = Value::Bool(options.add_generation_prompt);
        scope.insert("add_generation_prompt".into(), add);
        for (name, token) in [("bos_token", &self.0.bos), ("eos_token", &self.0.eos)] {
            scope.remove(name);
            if let Some(token) = token {
                scope.insert(name.into(), Value::written(token.as_str()));
            }
        }
        Ok(scope)
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("place", &self.0.place)
            .finish_non_exhaustive()
    }
}
