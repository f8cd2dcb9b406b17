//! An answer: as it comes, and as a whole.

use std::iter::FusedIterator;

use crate::template::{Message, ToolCall};
use crate::{FinishReason, Generation, Result, Timings, TokenLogprobs};

use super::conversation::{Conversation, Encoded};
use super::splitter::{Found, Splitter};

/// A part of an answer that became complete, and the tokens it came with.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AnswerPiece {
    /// What the model says, in whole characters; empty where it thinks or calls a tool.
    pub text: String,
    /// What the model thinks before it answers, without the markers around it such as `<think>`.
    pub reasoning: String,
    /// Calls of tools that became complete; each has an id, if need be one of ours.
    pub tool_calls: Vec<ToolCall>,
    /// The tokens chosen since the piece before, also those of markers. What they stand for may
    /// come with the next piece.
    pub tokens: Vec<u32>,
    /// How probable each of `tokens` was; empty unless
    /// [`GenerateOptions::logprobs`](crate::GenerateOptions::logprobs) asks for it.
    pub logprobs: Vec<TokenLogprobs>,
}

/// A finished answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// What the model says.
    pub text: String,
    /// What it thought before; empty where it did not.
    pub reasoning: String,
    /// The tools that it calls. Run them, [`push`](super::Chat::push) what they give back, see
    /// [`Message::tool_result`], and [`reply`](super::Chat::reply) goes on.
    pub tool_calls: Vec<ToolCall>,
    /// The tokens that were chosen, also those of markers and of a stop string.
    pub tokens: Vec<u32>,
    /// How probable each of `tokens` was; empty unless
    /// [`GenerateOptions::logprobs`](crate::GenerateOptions::logprobs) asks for it.
    pub logprobs: Vec<TokenLogprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// How long it took.
    pub timings: Timings,
}

/// The pieces of an answer as [`Chat::send`](super::Chat::send) generates them.
#[derive(Debug)]
pub struct Reply<'chat> {
    generation: Generation<'chat>,
    conversation: &'chat mut Conversation,
    splitter: Splitter,
    /// Of the answer, so far.
    tokens: Vec<u32>,
    /// The next piece, as far as it has come.
    piece: AnswerPiece,
    /// What was given out.
    text: String,
    reasoning: String,
    tool_calls: Vec<ToolCall>,
    is_split: bool,
}

impl<'chat> Reply<'chat> {
    pub(super) fn new(
        generation: Generation<'chat>,
        conversation: &'chat mut Conversation,
        splitter: Splitter,
    ) -> Reply<'chat> {
        let mut reply = Reply {
            generation,
            conversation,
            splitter,
            tokens: Vec::new(),
            piece: AnswerPiece::default(),
            text: String::new(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            is_split: false,
        };
        reply.generation.show_tokens(reply.splitter.texts());
        if reply.conversation.shifts {
            reply.generation.hold_when_full();
        }
        reply
    }

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
    pub fn finish(mut self) -> Result<Answer> {
        let mut answer = Answer {
            text: String::new(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            finish_reason: FinishReason::Failed,
            timings: Timings::default(),
        };
        for piece in &mut self {
            let piece = piece?;
            answer.text.push_str(&piece.text);
            answer.reasoning.push_str(&piece.reasoning);
            answer.tool_calls.extend(piece.tool_calls);
            answer.tokens.extend(piece.tokens);
            answer.logprobs.extend(piece.logprobs);
        }
        answer.finish_reason = self.finish_reason().unwrap_or(FinishReason::Failed);
        answer.timings = self.timings();
        Ok(answer)
    }

    /// Takes one piece of the generation apart; `None` at the end.
    fn step(&mut self) -> Option<Result<()>> {
        let mut found = Found::default();
        match self.generation.next() {
            Some(Err(error)) => return Some(Err(error)),
            Some(Ok(piece)) => {
                self.splitter.push(&piece.text, &mut found);
                self.tokens.extend(&piece.tokens);
                self.piece.tokens.extend(piece.tokens);
                self.piece.logprobs.extend(piece.logprobs);
            }
            None if self.generation.is_held() => self.shift(),
            None if self.is_split => return None,
            None => {}
        }
        if self.generation.finish_reason().is_some() && !self.is_split {
            self.is_split = true;
            self.splitter.finish(&mut found);
        }
        self.take(found);
        Some(Ok(()))
    }

    fn take(&mut self, found: Found) {
        self.text.push_str(&found.text);
        self.reasoning.push_str(&found.reasoning);
        self.piece.text.push_str(&found.text);
        self.piece.reasoning.push_str(&found.reasoning);
        for call in found.calls {
            let call = match call.id() {
                Some(_) => call,
                None => {
                    // Nine letters and digits: Mistral's templates refuse other ids.
                    let number = self.conversation.count_calls() + self.tool_calls.len();
                    call.with_id(format!("call{number:05}"))
                }
            };
            self.tool_calls.push(call.clone());
            self.piece.tool_calls.push(call);
        }
    }

    /// The context is full: goes on without the oldest turns, or ends if there is only this one.
    fn shift(&mut self) {
        let answer = [&self.tokens, self.generation.pending_tokens()].concat();
        let session = self.generation.session();
        let (tokenizer, capacity) = (session.model().tokenizer(), session.context_length());
        match self.conversation.encode(tokenizer, capacity, &answer) {
            Ok(Encoded { tokens, .. }) => self.generation.resume(&tokens),
            Err(_) => self.generation.end_full(),
        }
    }
}

impl Iterator for Reply<'_> {
    type Item = Result<AnswerPiece>;

    fn next(&mut self) -> Option<Result<AnswerPiece>> {
        loop {
            let has_content = !self.piece.text.is_empty()
                || !self.piece.reasoning.is_empty()
                || !self.piece.tool_calls.is_empty();
            if has_content {
                break;
            }
            match self.step() {
                Some(Ok(())) => {}
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
        }
        let piece = std::mem::take(&mut self.piece);
        (piece != AnswerPiece::default()).then_some(Ok(piece))
    }
}

impl FusedIterator for Reply<'_> {}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        let mut message = Message::assistant(std::mem::take(&mut self.text));
        if !self.reasoning.is_empty() {
            message.set(
                "reasoning_content",
                std::mem::take(&mut self.reasoning).into(),
            );
        }
        if !self.tool_calls.is_empty() {
            message = message.tool_calls(std::mem::take(&mut self.tool_calls));
        }
        self.conversation.messages.push(message);
    }
}
