//! A smaller model that guesses what the larger one will say.

use super::planner::Draft;
use super::{Drafter, FeedControl, check_goes_back};
use crate::model::Model;
use crate::session::{Session, SessionOptions};
use crate::{Error, Result, SamplerChain, SamplingOptions, TokenLogprobs};

/// Tokens that are read before it is guessed on them, at most: more are those of a prompt, or of a pause.
const FEW: usize = 2;

/// Guesses what a model finds most probable.
pub(super) struct DraftModel {
    /// What it has read: not always what the other session has.
    session: Session,
    /// Logits of tokens that both models have.
    vocab: usize,
}

impl DraftModel {
    /// For a session of the model that is guessed for.
    pub(super) fn new(target: &Session, model: &Model) -> Result<DraftModel> {
        let vocab = common_vocab(&target.model, model)?;
        let positions = target.context_length();
        let positions = positions.min(model.weights().most_positions());
        let options = SessionOptions::new()
            .context_length(positions)
            .cache_type(target.cache_type);
        let session = Session::new(model.clone(), &options)?;
        check_goes_back(&session)?;
        Ok(DraftModel { session, vocab })
    }
}

impl Drafter for DraftModel {
    fn draft(
        &mut self,
        tokens: &[u32],
        draft: &mut Draft<'_>,
        control: &FeedControl<'_>,
    ) -> Result<()> {
        let session = &mut self.session;
        let pairs = session.tokens().iter().zip(tokens);
        let same = pairs.take_while(|(own, other)| own == other).count();
        // The logits behind the last one are wanted.
        let same = same.min(tokens.len() - 1);
        let new = &tokens[same..];
        let fits = tokens.len() <= session.context_length();
        if !fits || new.iter().any(|&token| token as usize >= self.vocab) {
            return Ok(());
        }
        session.truncate(same)?;
        let control = FeedControl {
            progress: None,
            ..*control
        };
        session.feed_with(new, &control)?;
        if new.len() > FEW {
            draft.start();
        }
        let mut greedy = SamplerChain::new(&SamplingOptions::default())?;
        loop {
            let logits = &session.logits()[..self.vocab];
            let Some(token) = greedy.sample(logits) else {
                return Ok(());
            };
            let probability = TokenLogprobs::new(logits, token, 0).chosen.logprob.exp();
            let goes_on = draft.push(token, probability);
            if !goes_on || session.position() == session.context_length() {
                return Ok(());
            }
            session.feed_with(&[token], &control)?;
        }
    }

    fn fork(&mut self) -> Result<Box<dyn Drafter>> {
        Ok(Box::new(DraftModel {
            session: self.session.fork()?,
            vocab: self.vocab,
        }))
    }
}

/// How many tokens both vocabularies have, which must be the same up to there: files of one family differ
/// in how far they fill up.
fn common_vocab(target: &Model, draft: &Model) -> Result<usize> {
    let size = target.vocab_size().min(draft.vocab_size());
    let [of_target, of_draft] = [target, draft].map(Model::tokenizer);
    let text = |token| [of_target, of_draft].map(|tokenizer| tokenizer.token_bytes(token));
    let differs = (0..size as u32).find(|&token| {
        let [of_target, of_draft] = text(token);
        of_target != of_draft
    });
    let Some(token) = differs else {
        return Ok(size);
    };
    let [expected, found] = text(token).map(|bytes| match bytes {
        Some(bytes) => format!("{:?}", String::from_utf8_lossy(&bytes)),
        None => "none".to_owned(),
    });
    Err(Error::Argument {
        name: "speculate",
        expected: format!(
            "a draft model with the vocabulary of {}, where token {token} is {expected}",
            target.gguf().name()
        ),
        found: format!("{}, where it is {found}", draft.gguf().name()),
    })
}
