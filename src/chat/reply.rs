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

impl AnswerPiece {
    fn says_something(&self) -> bool {
        !self.text.is_empty() || !self.reasoning.is_empty() || !self.tool_calls.is_empty()
    }

    /// Goes on with the piece that follows.
    fn add(&mut self, next: &AnswerPiece) {
        self.text.push_str(&next.text);
        self.reasoning.push_str(&next.reasoning);
        self.tool_calls.extend_from_slice(&next.tool_calls);
        self.tokens.extend(&next.tokens);
        self.logprobs.extend_from_slice(&next.logprobs);
    }
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
    /// All pieces that were given out, as one.
    given: AnswerPiece,
    /// The next piece, as far as it has come.
    piece: AnswerPiece,
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
            given: AnswerPiece::default(),
            piece: AnswerPiece::default(),
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
        // What was given out before is no part of it.
        let mut rest = AnswerPiece::default();
        for piece in &mut self {
            rest.add(&piece?);
        }
        Ok(Answer {
            text: rest.text,
            reasoning: rest.reasoning,
            tool_calls: rest.tool_calls,
            tokens: rest.tokens,
            logprobs: rest.logprobs,
            finish_reason: self.finish_reason().unwrap_or(FinishReason::Failed),
            timings: self.timings(),
        })
    }

    /// Takes one piece of the generation apart; `None` at the end.
    fn step(&mut self) -> Option<Result<()>> {
        let mut found = Found::default();
        match self.generation.next() {
            Some(Err(error)) => return Some(Err(error)),
            Some(Ok(piece)) => {
                self.splitter.push(&piece.text, &mut found);
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
        self.piece.text.push_str(&found.text);
        self.piece.reasoning.push_str(&found.reasoning);
        for call in found.calls {
            let call = match call.id() {
                Some(_) => call,
                None => {
                    // Nine letters and digits: Mistral's templates refuse other ids.
                    let of_answer = self.given.tool_calls.len() + self.piece.tool_calls.len();
                    let number = self.conversation.count_calls() + of_answer;
                    call.with_id(format!("call{number:05}"))
                }
            };
            self.piece.tool_calls.push(call);
        }
    }

    /// The context is full: goes on without the oldest turns, or ends if there is only this one.
    fn shift(&mut self) {
        let pending = self.generation.pending_tokens();
        let answer = [&self.given.tokens, &self.piece.tokens, pending].concat();
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
            if self.piece.says_something() {
                break;
            }
            match self.step() {
                Some(Ok(())) => {}
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
        }
        let piece = std::mem::take(&mut self.piece);
        self.given.add(&piece);
        (piece != AnswerPiece::default()).then_some(Ok(piece))
    }
}

impl FusedIterator for Reply<'_> {}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        let given = std::mem::take(&mut self.given);
        let mut message = Message::assistant(given.text);
        if !given.reasoning.is_empty() {
            message.set("reasoning_content", given.reasoning.into());
        }
        if !given.tool_calls.is_empty() {
            message = message.tool_calls(given.tool_calls);
        }
        self.conversation.messages.push(message);
    }
}
