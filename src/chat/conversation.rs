//! What is said so far, and how it is written for the model.

use crate::template::{ChatTemplate, Json, Message, Prompt, RenderOptions};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

use super::call_style::CallStyle;
use super::markers::known;
use super::splitter::Splitter;

#[derive(Clone, Debug)]
pub(super) struct Conversation {
    pub(super) template: ChatTemplate,
    /// Used instead where there are tools.
    pub(super) tool_template: Option<ChatTemplate>,
    pub(super) render_options: RenderOptions,
    pub(super) messages: Vec<Message>,
    /// Whether old turns may be left out.
    pub(super) shifts: bool,
    /// Where the messages begin that are not left out, but for those of the system.
    start: usize,
}

/// A conversation in tokens.
pub(super) struct Encoded {
    pub(super) tokens: Vec<u32>,
    pub(super) prompt: Prompt,
}

impl Conversation {
    pub(super) fn new(template: ChatTemplate) -> Conversation {
        Conversation {
            template,
            tool_template: None,
            render_options: RenderOptions::new(),
            messages: Vec::new(),
            shifts: false,
            start: 0,
        }
    }

    pub(super) fn template(&self) -> &ChatTemplate {
        match &self.tool_template {
            Some(template) if !self.render_options.tools_given().is_empty() => template,
            _ => &self.template,
        }
    }

    /// The conversation, and behind it the tokens of an answer that has begun. Where they are too
    /// many, and old turns may be left out, they become no more than half of the context.
    pub(super) fn encode(
        &mut self,
        tokenizer: &Tokenizer,
        capacity: usize,
        answer: &[u32],
    ) -> Result<Encoded> {
        let mut wanted = capacity;
        let style = self.call_style();
        loop {
            let prompt = self.render(style)?;
            let mut tokens = prompt.encode(tokenizer)?;
            if tokens.is_empty() {
                return Err(Error::Argument {
                    name: "messages",
                    expected: "a conversation".into(),
                    found: "one of which the template writes nothing".into(),
                });
            }
            tokens.extend(answer);
            let needed = tokens.len();
            if needed <= wanted && (answer.is_empty() || needed < capacity) {
                return Ok(Encoded { tokens, prompt });
            }
            if self.shifts && self.forget_turn() {
                wanted = capacity / 2;
            } else if needed <= capacity && wanted < capacity {
                return Ok(Encoded { tokens, prompt });
            } else {
                return Err(Error::ContextFull { capacity, needed });
            }
        }
    }

    /// How the template wants calls, if there are any.
    fn call_style(&self) -> Option<CallStyle> {
        let has_calls = |message: &Message| message.field("tool_calls").is_some();
        let asks = self.messages.iter().any(has_calls);
        asks.then(|| CallStyle::of(self.template(), &self.render_options))?
    }

    fn render(&self, style: Option<CallStyle>) -> Result<Prompt> {
        let (system, turns) = self.kept();
        let mut messages = [system, turns].concat();
        if let Some(style) = style {
            messages.iter_mut().for_each(|message| style.apply(message));
        }
        self.template().render(&messages, &self.render_options)
    }

    /// The messages of the system that begin the conversation, and those that are not left out.
    fn kept(&self) -> (&[Message], &[Message]) {
        let is_system = |message: &Message| matches!(message.role(), "system" | "developer");
        let leading = self
            .messages
            .iter()
            .take_while(|message| is_system(message))
            .count();
        let (system, turns) = self.messages.split_at(leading);
        let last = turns.iter().rposition(is_user).unwrap_or(0);
        (
            system,
            &turns[self.start.saturating_sub(leading).min(last)..],
        )
    }

    /// Leaves out one turn more: from what a user says to what the user says next. False for the
    /// last one.
    fn forget_turn(&mut self) -> bool {
        let (_, turns) = self.kept();
        let next = turns.iter().skip(1).position(is_user);
        let Some(next) = next else {
            return false;
        };
        self.start = self.messages.len() - turns.len() + 1 + next;
        true
    }

    /// Forgets the last thing that the user said, and what came of it.
    pub(super) fn undo(&mut self) -> Option<Message> {
        let last = self.messages.iter().rposition(is_user)?;
        self.messages.drain(last..).next()
    }

    /// What takes an answer to this prompt apart.
    pub(super) fn splitter(&self, prompt: &Prompt, tokenizer: &Tokenizer) -> Splitter {
        let tools = self.render_options.tools_given();
        let (written, tail) = prompt.written();
        let source = self.template().source();
        let markers = known(!tools.is_empty(), |text| {
            source.contains(text) || written.contains(text) || tokenizer.token_id(text).is_some()
        });
        Splitter::new(markers, tools.to_vec(), tail)
    }

    /// How many calls of tools there are.
    pub(super) fn count_calls(&self) -> usize {
        let calls = self
            .messages
            .iter()
            .filter_map(|message| message.field("tool_calls"));
        calls
            .map(|calls| match calls {
                Json::Array(calls) => calls.len(),
                _ => 0,
            })
            .sum()
    }
}

fn is_user(message: &Message) -> bool {
    message.role() == "user"
}
