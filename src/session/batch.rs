//! Several sessions in one pass.

use super::{Session, sequence};
use crate::model::{Model, Pass, Workspace};
use crate::{Error, Result};

impl Model {
    /// What evaluates tokens of several sessions together.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }
}

/// Evaluates a token of each of several sessions in one pass, which reads the weights once for all of
/// them: where many users wait for their next token, that costs little more than one.
///
/// ```
/// # fn main() -> gristmill::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
/// let model = gristmill::Model::open(path)?;
/// let mut sessions = [model.session()?, model.session()?];
/// sessions[0].feed(&[1, 2, 3])?;
/// sessions[1].feed(&[1, 4])?;
///
/// let mut batch = model.batch();
/// for _ in 0..8 {
///     // Whatever sampler chooses the next token of each.
///     let next = sessions.each_ref().map(|session| {
///         let logits = session.logits().iter().enumerate();
///         logits.max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(id, _)| id as u32)
///     });
///     let [a, b] = &mut sessions;
///     batch.step(&mut [(a, next[0]), (b, next[1])])?;
/// }
/// assert_eq!(sessions[1].position(), 10);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Batch {
    model: Model,
    workspace: Workspace,
}

impl Batch {
    pub(crate) fn new(model: Model) -> Batch {
        let workspace = Workspace::new(model.pool());
        Batch { model, workspace }
    }

    /// Evaluates the token beside each session at its next position. Afterwards its logits are those of
    /// this token. They equal those of [`Session::feed`], to the last bit as long as no more than 12 tokens
    /// go together on x86, or 4 on ARM; of more but for rounding.
    ///
    /// # Errors
    /// [`Error::ContextFull`] where a session has no room, [`Error::Argument`] for an id beyond the
    /// vocabulary and for a session of another model; nothing is evaluated then.
    pub fn step(&mut self, sessions: &mut [(&mut Session, u32)]) -> Result<()> {
        for (session, token) in sessions.iter() {
            session.check(&[*token])?;
            if !session.model.is_same(&self.model) {
                return Err(Error::Argument {
                    name: "sessions",
                    expected: "sessions of the model of the batch".to_owned(),
                    found: "one of another model".to_owned(),
                });
            }
        }
        if sessions.is_empty() {
            return Ok(());
        }
        let tokens: Vec<u32> = sessions.iter().map(|(_, token)| *token).collect();
        let sequences: Vec<_> = sessions
            .iter()
            .enumerate()
            .map(|(place, (session, _))| {
                let tokens = place..place + 1;
                sequence(&self.model, &session.cache, session.position(), tokens)
            })
            .collect();
        let pass = Pass {
            config: self.model.config(),
            weights: self.model.weights(),
            level: self.model.level(),
            tokens: &tokens,
            sequences: &sequences,
            output: 0..tokens.len(),
            gives_logits: true,
            cancel: None,
        };
        pass.run(self.model.pool(), &mut self.workspace);
        let all = self.workspace.logits.take();
        let vocab = self.model.vocab_size();
        for ((session, token), logits) in sessions.iter_mut().zip(all.chunks_exact(vocab)) {
            session.logits.clear();
            session.logits.extend_from_slice(logits);
            session.advance(&[*token]);
        }
        self.workspace.logits.give(all);
        Ok(())
    }
}
