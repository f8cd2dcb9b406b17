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
//! What a model thinks before it answers, and the calls of tools that it makes, are told apart from the
//! answer by the markers that its template has: see [`Answer`] and [`Chat::reply`].
//!
//! Text of messages never becomes a control token, whatever it contains: only what the template
//! wrote itself does, see [`Prompt`].

mod call_style;
mod calls;
mod conversation;
mod markers;
mod reply;
mod splitter;

#[cfg(test)]
mod tests;

use crate::{GenerateOptions, Model, Result, Session};

use conversation::{Conversation, Encoded};

pub use self::reply::{Answer, AnswerPiece, Reply};
pub use crate::template::{ChatTemplate, Json, Message, Prompt, RenderOptions, ToolCall};

/// The name of templates for conversations with tools.
const TOOL_USE: &str = "tool_use";

impl Model {
    /// The file's template for conversations. Other uses have templates of their own in some files,
    /// see [`ChatTemplate::from_gguf`].
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`](crate::Error::Unsupported) if the file has none; the errors of
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
            chat.conversation.tool_template = Some(template.with_tokens_of(self.tokenizer()));
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
    conversation: Conversation,
}

impl Chat {
    /// A conversation with this template in this session. What the session has read before is not
    /// evaluated again, as far as the conversation begins with it: so a conversation goes on in a
    /// session from a file, see [`Model::load_session`]. A template that knows no tokens gets those
    /// of the model, see [`ChatTemplate::with_tokens_of`].
    #[must_use]
    pub fn new(session: Session, template: ChatTemplate) -> Chat {
        let template = match template.has_tokens() {
            true => template,
            false => template.with_tokens_of(session.model().tokenizer()),
        };
        Chat {
            session,
            conversation: Conversation::new(template),
        }
    }

    /// Sets the instructions for the whole conversation, or changes them.
    pub fn system(&mut self, text: impl Into<String>) {
        let message = Message::system(text);
        let messages = &mut self.conversation.messages;
        match messages
            .first_mut()
            .filter(|first| first.role() == "system")
        {
            Some(first) => *first = message,
            None => messages.insert(0, message),
        }
    }

    /// Sets what the template gets besides the messages: tools, and variables such as
    /// `enable_thinking`.
    pub fn render_options(&mut self, options: RenderOptions) {
        self.conversation.render_options = options;
    }

    /// Whether the conversation goes on when the context is full. Default: no, then that is an
    /// [`Error::ContextFull`](crate::Error::ContextFull), or the answer's
    /// [`FinishReason::ContextFull`](crate::FinishReason::ContextFull).
    ///
    /// If it does, the model forgets the oldest turns, but never what the system says: as many that
    /// what is left takes at most half of the context, which is evaluated again. The messages stay
    /// in [`Chat::messages`]. A single turn that is too long ends as without it.
    pub fn context_shift(&mut self, shift: bool) {
        self.conversation.shifts = shift;
    }

    /// Adds a message without an answer: what a tool gave back, or an earlier conversation.
    pub fn push(&mut self, message: Message) {
        self.conversation.messages.push(message);
    }

    /// All messages so far.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.conversation.messages
    }

    /// All messages so far, to be changed: what stays the same from the beginning is not evaluated
    /// again.
    pub fn messages_mut(&mut self) -> &mut Vec<Message> {
        &mut self.conversation.messages
    }

    /// Takes back the last message of the user and what followed, and gives that message. Sent again,
    /// as it was or changed, it costs only what is not the same.
    ///
    /// ```
    /// # fn main() -> gristmill::Result<()> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    /// # let model = gristmill::Model::open(path)?;
    /// # use gristmill::{GenerateOptions, chat::{Chat, ChatTemplate}};
    /// # let mut chat = Chat::new(model.session()?, ChatTemplate::named("chatml")?);
    /// # let options = GenerateOptions::new().max_tokens(4);
    /// chat.send("Once upon a thyme", &options)?.finish()?;
    /// let said = chat.undo();
    /// assert_eq!(said.as_ref().and_then(|said| said.content()), Some("Once upon a thyme"));
    /// assert!(chat.messages().is_empty());
    /// chat.send("Once upon a time", &options)?.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn undo(&mut self) -> Option<Message> {
        self.conversation.undo()
    }

    /// A second conversation that has come as far as this one, and goes on by itself: nothing is
    /// evaluated again.
    ///
    /// # Errors
    ///
    /// As [`Session::fork`].
    pub fn fork(&mut self) -> Result<Chat> {
        Ok(Chat {
            session: self.session.fork()?,
            conversation: self.conversation.clone(),
        })
    }

    /// The session, which stands where the last turn ended.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, to be saved or to guess tokens from now on.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Says something as the user, and gives the model's answer piece by piece. The answer becomes
    /// a message when it ends, or when it is dropped: then as far as it was given.
    ///
    /// What the model thinks before its answer, and the tools that it calls, are no part of the
    /// text: see [`AnswerPiece`].
    ///
    /// # Errors
    ///
    /// As [`Chat::reply`]; the conversation is as before then.
    pub fn send(
        &mut self,
        text: impl Into<String>,
        options: &GenerateOptions,
    ) -> Result<Reply<'_>> {
        let before = self.messages().len();
        self.push(Message::user(text));
        self.start(options, before)
    }

    /// As [`Chat::send`], but answers the messages so far.
    ///
    /// ```no_run
    /// use gristmill::GenerateOptions;
    /// use gristmill::chat::{Json, Message, RenderOptions};
    ///
    /// # fn weather(_: &Json) -> String { String::new() }
    /// # fn main() -> gristmill::Result<()> {
    /// let tool: Json = r#"{"type": "function", "function": {"name": "weather", "description":
    ///     "The weather of today", "parameters": {"type": "object", "properties": {"city":
    ///     {"type": "string"}}, "required": ["city"]}}}"#.parse()?;
    /// let mut chat = gristmill::Model::open("model.gguf")?.chat()?;
    /// chat.render_options(RenderOptions::new().tools([tool]));
    /// chat.push(Message::user("Do I need an umbrella in Lisbon?"));
    /// loop {
    ///     let answer = chat.reply(&GenerateOptions::new())?.finish()?;
    ///     for call in &answer.tool_calls {
    ///         chat.push(Message::tool_result(call, weather(call.arguments())));
    ///     }
    ///     if answer.tool_calls.is_empty() {
    ///         println!("{}", answer.text);
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`ChatTemplate::render`], of [`Tokenizer::encode`](crate::tokenizer::Tokenizer::encode)
    /// and of [`Session::generate`]; [`Error::ContextFull`](crate::Error::ContextFull) if the
    /// conversation has become too long: remove messages, begin a new one, or see
    /// [`Chat::context_shift`].
    pub fn reply(&mut self, options: &GenerateOptions) -> Result<Reply<'_>> {
        self.start(options, self.messages().len())
    }

    /// Begins an answer; where that fails, the messages from `before` on are taken back.
    fn start(&mut self, options: &GenerateOptions, before: usize) -> Result<Reply<'_>> {
        let capacity = self.session.context_length();
        let tokenizer = self.session.model().tokenizer();
        let encoded = self.conversation.encode(tokenizer, capacity, &[]);
        let Encoded { tokens, prompt } = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                self.conversation.messages.truncate(before);
                return Err(error);
            }
        };
        let kept = self.session.rewind(&tokens);
        let stop = self.conversation.template().stop();
        let options = stop.map_or(options.clone(), |stop| options.clone().stop(stop));
        let (same, new) = tokens.split_at(kept);
        let tokenizer = self.session.model().tokenizer();
        let splitter = self.conversation.splitter(&prompt, tokenizer);
        match self.session.generate_behind(same, new, &options) {
            Ok(generation) => Ok(Reply::new(generation, &mut self.conversation, splitter)),
            Err(error) => {
                self.conversation.messages.truncate(before);
                Err(error)
            }
        }
    }
}
