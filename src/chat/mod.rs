//! Conversations: messages, the template that writes them, and a session that remembers them.
//!
//! [`Model::chat`] begins one, with the template of the file:
//!
//! ```no_run
//! use gristmill::{GenerateOptions, Model};
//!
//! # fn main() -> gristmill::Result<()> {
//! let mut chat = Model::open("model.gguf")?.chat()?;
//! chat.system("You are brief.");
//! for piece in chat.send("Who wrote Os Lusíadas?", &GenerateOptions::new())? {
//!     print!("{}", piece?.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A file without a template is an error that says so. [`ChatTemplate::named`] has well-known ones to
//! choose from, and [`Chat::new`] takes any; which one is right, the model's publisher says.
//!
//! Text of messages never becomes a control token, whatever it contains: only what the template
//! wrote itself does, see [`Prompt`].

use std::iter::FusedIterator;

use crate::{
    Completion, Error, FinishReason, GenerateOptions, Generation, Model, Piece, Result, Session,
    Timings,
};

pub use crate::template::{ChatTemplate, Json, Message, Prompt, RenderOptions, ToolCall};

/// The name of templates for conversations with tools.
const TOOL_USE: &str = "tool_use";

impl Model {
    /// The file's template for conversations. Other uses have templates of their own in some files,
    /// see [`ChatTemplate::from_gguf`].
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if the file has none; the errors of
    /// [`ChatTemplate::new`].
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        let template = ChatTemplate::from_gguf(self.gguf(), None)?;
        Ok(template.with_tokens_of(self.tokenizer()))
    }

    /// A conversation with the file's template, in a session with the default settings.
    ///
    /// # Errors
    ///
    /// As [`Model::chat_template`] and [`Model::session`].
    pub fn chat(&self) -> Result<Chat> {
        let mut chat = Chat::new(self.session()?, self.chat_template()?);
        let key = format!("tokenizer.chat_template.{TOOL_USE}");
        if self.gguf().value(&key).is_some() {
            let template = ChatTemplate::from_gguf(self.gguf(), Some(TOOL_USE))?;
            chat.tool_template = Some(template.with_tokens_of(self.tokenizer()));
        }
        Ok(chat)
    }
}

/// A conversation with a model.
///
/// The session keeps what it has evaluated: each turn costs the tokens from the first one on that is
/// not the same as before, and that is in most cases what is new in it. Models with recurrent layers
/// cannot forget a part; they evaluate all again where not everything stays the same.
///
/// ```
/// # fn main() -> gristmill::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
/// # let model = gristmill::Model::open(path)?;
/// use gristmill::GenerateOptions;
/// use gristmill::chat::{Chat, ChatTemplate};
///
/// // The demo model's file has no template.
/// let template = ChatTemplate::named("chatml")?;
/// let mut chat = Chat::new(model.session()?, template);
/// chat.system("You tell stories.");
/// let options = GenerateOptions::new().max_tokens(20);
/// for piece in chat.send("Once upon a time", &options)? {
///     print!("{}", piece?.text);
/// }
/// let more = chat.send("And then?", &options)?.finish()?;
/// assert_eq!(chat.messages().len(), 5);
/// assert_eq!(chat.messages()[4].content(), Some(&*more.text));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Chat {
    session: Session,
    template: ChatTemplate,
    /// Used instead where there are tools.
    tool_template: Option<ChatTemplate>,
    render_options: RenderOptions,
    messages: Vec<Message>,
    /// What the session has evaluated, and perhaps more behind it.
    tokens: Vec<u32>,
}

impl Chat {
    /// A conversation with this template in this session, which forgets what it has read before. A
    /// template that knows no tokens gets those of the model, see [`ChatTemplate::with_tokens_of`].
    #[must_use]
    pub fn new(mut session: Session, template: ChatTemplate) -> Chat {
        session.clear();
        let template = match template.has_tokens() {
            true => template,
            false => template.with_tokens_of(session.model().tokenizer()),
        };
        Chat {
            session,
            template,
            tool_template: None,
            render_options: RenderOptions::new(),
            messages: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// Sets the instructions for the whole conversation, or changes them.
    pub fn system(&mut self, text: impl Into<String>) {
        let message = Message::system(text);
        match self
            .messages
            .first_mut()
            .filter(|first| first.role() == "system")
        {
            Some(first) => *first = message,
            None => self.messages.insert(0, message),
        }
    }

    /// Sets what the template gets besides the messages: tools, and variables such as
    /// `enable_thinking`.
    pub fn render_options(&mut self, options: RenderOptions) {
        self.render_options = options;
    }

    /// Adds a message without an answer: what a tool gave back, or an earlier conversation.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// All messages so far.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// All messages so far, to be changed: what stays the same from the beginning is not evaluated
    /// again.
    pub fn messages_mut(&mut self) -> &mut Vec<Message> {
        &mut self.messages
    }

    /// The session, which stands where the last turn ended.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Says something as the user, and gives the model's answer piece by piece. The answer becomes
    /// a message when it ends, or when it is dropped: then as far as it was given.
    ///
    /// # Errors
    ///
    /// As [`Chat::reply`]; the conversation is as before then.
    pub fn send(
        &mut self,
        text: impl Into<String>,
        options: &GenerateOptions,
    ) -> Result<Reply<'_>> {
        let before = self.messages.len();
        self.messages.push(Message::user(text));
        self.start(options, before)
    }

    /// As [`Chat::send`], but answers the messages so far.
    ///
    /// # Errors
    ///
    /// Those of [`ChatTemplate::render`], of [`Tokenizer::encode`](crate::tokenizer::Tokenizer::encode)
    /// and of [`Session::generate`]; [`Error::ContextFull`] if the
    /// conversation has become too long: remove messages, or begin a new one.
    pub fn reply(&mut self, options: &GenerateOptions) -> Result<Reply<'_>> {
        self.start(options, self.messages.len())
    }

    /// Begins an answer; where that fails, the messages from `before` on are taken back.
    fn start(&mut self, options: &GenerateOptions, before: usize) -> Result<Reply<'_>> {
        let tokens = match self.encode() {
            Ok(tokens) => tokens,
            Err(error) => {
                self.messages.truncate(before);
                return Err(error);
            }
        };
        let kept = self.rewind(&tokens);
        let stop = self.template().stop();
        let options = stop.map_or(options.clone(), |stop| options.clone().stop(stop));
        let (same, new) = tokens.split_at(kept);
        match self.session.generate_behind(same, new, &options) {
            Ok(generation) => {
                self.tokens.extend(new);
                Ok(Reply {
                    generation,
                    messages: &mut self.messages,
                    tokens: &mut self.tokens,
                    text: String::new(),
                })
            }
            Err(error) => {
                self.messages.truncate(before);
                Err(error)
            }
        }
    }

    fn template(&self) -> &ChatTemplate {
        match &self.tool_template {
            Some(template) if self.render_options.has_tools() => template,
            _ => &self.template,
        }
    }

    /// The whole conversation in tokens, as many as fit.
    fn encode(&self) -> Result<Vec<u32>> {
        let prompt = self
            .template()
            .render(&self.messages, &self.render_options)?;
        let tokens = prompt.encode(self.session.model().tokenizer())?;
        let capacity = self.session.context_length();
        match tokens.len() {
            0 => Err(Error::Argument {
                name: "messages",
                expected: "a conversation".into(),
                found: "one of which the template writes nothing".into(),
            }),
            needed if needed > capacity => Err(Error::ContextFull { capacity, needed }),
            _ => Ok(tokens),
        }
    }

    /// Goes back to where these tokens differ from the session's, and says how many are the same.
    /// The last one is never among them, as its logits are wanted.
    fn rewind(&mut self, tokens: &[u32]) -> usize {
        self.tokens.truncate(self.session.position());
        let pairs = self.tokens.iter().zip(tokens);
        let same = pairs.take_while(|(old, new)| old == new).count();
        let mut same = same.min(tokens.len() - 1);
        if self.session.truncate(same).is_err() {
            self.session.clear();
            same = 0;
        }
        self.tokens.truncate(same);
        same
    }
}

/// The pieces of an answer as [`Chat::send`] generates them.
#[derive(Debug)]
pub struct Reply<'chat> {
    generation: Generation<'chat>,
    messages: &'chat mut Vec<Message>,
    tokens: &'chat mut Vec<u32>,
    text: String,
}

impl Reply<'_> {
    /// Why it ended; `None` before the last piece. The end of a turn in a named template that the
    /// vocabulary has no token for is a stop string behind those of the options.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.generation.finish_reason()
    }

    /// How long it took so far. The prompt's tokens are those that were not evaluated before.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.generation.timings()
    }

    /// Generates what is left, and gives it as one.
    ///
    /// # Errors
    ///
    /// The first error that the iterator gives.
    pub fn finish(mut self) -> Result<Completion> {
        let completion = Completion::gather(&mut self)?;
        Ok(Completion {
            finish_reason: self.finish_reason().unwrap_or(FinishReason::Failed),
            timings: self.timings(),
            ..completion
        })
    }
}

impl Iterator for Reply<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        let piece = self.generation.next()?;
        if let Ok(piece) = &piece {
            self.text.push_str(&piece.text);
            self.tokens.extend(&piece.tokens);
        }
        Some(piece)
    }
}

impl FusedIterator for Reply<'_> {}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        self.tokens.extend(self.generation.pending_tokens());
        let text = std::mem::take(&mut self.text);
        self.messages.push(Message::assistant(text));
    }
}
