//! Texts that follow a grammar: JSON of a schema or of a Rust type, what a regular expression matches, or
//! what a context-free grammar derives.
//!
//! A [`Constraint`] says at each place of a text which tokens may follow, and the model chooses among
//! these. So what it writes follows the grammar whatever the model is; whether it makes sense is up to
//! the model, which is why the prompt should say what is wanted.
//!
//! ```
//! # fn main() -> gristmill::Result<()> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
//! # let model = gristmill::Model::open(path)?;
//! use gristmill::GenerateOptions;
//! use gristmill::constrain::Constraint;
//!
//! let date = Constraint::regex(&model, r"20[0-9][0-9]-(0[1-9]|1[0-2])")?;
//! let options = GenerateOptions::new().constraint(&date);
//! let text = model.generate("The fox came in ", &options)?.text;
//! assert_eq!(text.len(), 7);
//! # Ok(())
//! # }
//! ```
//!
//! # How a text ends
//!
//! Where the grammar allows the end and nothing else, the text ends with
//! [`FinishReason::Complete`](crate::FinishReason::Complete). Where it allows both, the model decides, and ends with
//! [`FinishReason::EndOfGeneration`](crate::FinishReason::EndOfGeneration). All other reasons
//! leave an unfinished text.
//!
//! # Trust
//!
//! Grammars may come from strangers: their size, and the work that they cause, are bounded. The grammars
//! are compiled and followed by the crate `llguidance`. Should it panic, this is caught and becomes an
//! error; so do not set `panic = "abort"` where grammars come from strangers.

mod compile;
mod gbnf;
mod patterns;
mod typed;
mod vocabulary;

use std::fmt;
use std::sync::Arc;

use llguidance::Matcher;
use llguidance::api::GrammarWithLexer;
use llguidance::toktrie::SimpleVob;
use serde_json::Value;

use crate::generate::{Guide, MakeGuide};
use crate::{Error, GenerateOptions, Model, Result};

pub(crate) use vocabulary::Vocabulary;

/// A grammar, compiled for the vocabulary of a model.
///
/// Clones share everything, also what was found out about the grammar by earlier generations, which makes
/// later ones faster. The first constraint of a model takes a moment more, as the vocabulary is
/// prepared for all.
#[derive(Clone)]
pub struct Constraint(Arc<Inner>);

struct Inner {
    kind: &'static str,
    vocabulary: Arc<Vocabulary>,
    /// At the beginning of a text.
    start: Matcher,
}

impl Constraint {
    /// Texts that are JSON of a [schema](https://json-schema.org), of draft 4 to 2020-12.
    ///
    /// Properties come in the order of the schema. Between the tokens of JSON there is at most a space, or a
    /// line break with at most 20 spaces or 5 tabs of indentation.
    ///
    /// What of JSON Schema is understood, `llguidance`
    /// [says](https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md); so it does what a
    /// schema's `x-guidance` means.
    ///
    /// # Errors
    ///
    /// [`Error::Constraint`] for what is no schema, for one that has keywords which cannot be
    /// guaranteed (such as `not` and `uniqueItems`), that nothing satisfies, or that is too large;
    /// [`Error::Unsupported`] if the model's vocabulary is not of byte-pair encoding or SentencePiece.
    pub fn json_schema(model: &Model, schema: &Value) -> Result<Constraint> {
        const KIND: &str = "JSON schema";
        compile::check_schema(schema).map_err(|message| refused(KIND, message))?;
        let mut schema = compile::with_whitespace(schema.clone());
        patterns::correct(&mut schema);
        Constraint::compile(model, KIND, GrammarWithLexer::from_json_schema(schema))
    }

    /// As [`Constraint::json_schema`], of a schema as text.
    ///
    /// # Errors
    ///
    /// As [`Constraint::json_schema`]; [`Error::Constraint`] for what is no JSON.
    pub fn json_schema_text(model: &Model, schema: &str) -> Result<Constraint> {
        let schema = serde_json::from_str(schema);
        let schema: Value = schema.map_err(|error| refused("JSON schema", error.to_string()))?;
        Constraint::json_schema(model, &schema)
    }

    /// Texts that a regular expression matches as a whole, in the syntax of the crate
    /// [`regex`](https://docs.rs/regex/latest/regex/#syntax).
    ///
    /// # Errors
    ///
    /// [`Error::Constraint`] for what is no regular expression, has look-around or
    /// anchors, or is too large; [`Error::Unsupported`] as in [`Constraint::json_schema`].
    pub fn regex(model: &Model, pattern: &str) -> Result<Constraint> {
        const KIND: &str = "regex";
        compile::check_text(pattern).map_err(|message| refused(KIND, message))?;
        let syntax = regex_syntax::Parser::new().parse(pattern);
        syntax.map_err(|error| refused(KIND, error.to_string()))?;
        Constraint::compile(model, KIND, GrammarWithLexer::from_regex(pattern))
    }

    /// Texts of a context-free grammar, in [`llguidance`'s
    /// variant](https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md) of Lark's syntax.
    /// The text is what the rule `start` derives.
    ///
    /// ```
    /// # fn main() -> gristmill::Result<()> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
    /// # let model = gristmill::Model::open(path)?;
    /// use gristmill::constrain::Constraint;
    ///
    /// let sums = r#"
    ///     start: number (("+" | "-") number)*
    ///     number: /[0-9]+/ | "(" start ")"
    /// "#;
    /// let sums = Constraint::lark(&model, sums)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Constraint`] for what is no grammar, or too large; [`Error::Unsupported`] as in
    /// [`Constraint::json_schema`].
    pub fn lark(model: &Model, grammar: &str) -> Result<Constraint> {
        const KIND: &str = "Lark grammar";
        compile::check_text(grammar).map_err(|message| refused(KIND, message))?;
        let grammar = GrammarWithLexer::from_lark(grammar.to_owned());
        Constraint::compile(model, KIND, grammar)
    }

    /// Texts of a context-free grammar in GBNF, [llama.cpp's
    /// notation](https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md). The text is what the
    /// rule `root` derives.
    ///
    /// # Errors
    ///
    /// As [`Constraint::lark`].
    pub fn gbnf(model: &Model, grammar: &str) -> Result<Constraint> {
        const KIND: &str = "GBNF grammar";
        let refuse = |message| refused(KIND, message);
        compile::check_text(grammar).map_err(refuse)?;
        let grammar = gbnf::to_lark(grammar).map_err(refuse)?;
        Constraint::compile(model, KIND, GrammarWithLexer::from_lark(grammar))
    }

    /// The beginning of a text, for those who choose tokens themselves.
    #[must_use]
    pub fn follow(&self) -> Follower {
        Follower {
            kind: self.0.kind,
            matcher: self.0.start.clone(),
            mask: SimpleVob::new(),
        }
    }

    fn compile(model: &Model, kind: &'static str, grammar: GrammarWithLexer) -> Result<Constraint> {
        let vocabulary = model.vocabulary()?;
        let start = compile::matcher(&vocabulary.factory, grammar);
        let start = start.ok_or_else(|| refused(kind, "no thread to compile it on"))?;
        match start.get_error() {
            Some(error) => Err(refused(kind, error)),
            None => Ok(Constraint(Arc::new(Inner {
                kind,
                vocabulary,
                start,
            }))),
        }
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Constraint").field(&self.0.kind).finish()
    }
}

/// Without the marks that `llguidance` puts around the states of its parser.
fn refused(kind: &'static str, message: impl AsRef<str>) -> Error {
    let message = message.as_ref();
    let end = ["\n<state>", "\n<non-verbose/>", "\n<backtrace>"];
    let end = end.iter().filter_map(|mark| message.find(mark)).min();
    let message = match message[..end.unwrap_or(message.len())].trim() {
        "NoExtensionBias" => "no text satisfies it",
        message => message,
    };
    Error::Constraint {
        kind,
        message: message.to_owned(),
    }
}

impl GenerateOptions {
    /// Makes the text follow a grammar, see the module [`constrain`](crate::constrain). Default: none.
    #[must_use]
    pub fn constraint(self, constraint: &Constraint) -> Self {
        self.guide(Arc::new(constraint.clone()))
    }
}

impl MakeGuide for Constraint {
    fn guide(&self, model: &Model) -> Result<Box<dyn Guide>> {
        if !Arc::ptr_eq(&self.0.vocabulary, &model.vocabulary()?) {
            return Err(Error::Argument {
                name: "constraint",
                expected: "one that was made for this model".into(),
                found: format!("a {} for another one", self.0.kind),
            });
        }
        Ok(Box::new(self.follow()))
    }
}

/// A place in a text that follows a grammar, for those who choose tokens themselves.
///
/// ```
/// # fn main() -> gristmill::Result<()> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");
/// # let model = gristmill::Model::open(path)?;
/// use gristmill::SamplerChain;
/// use gristmill::constrain::Constraint;
///
/// let constraint = Constraint::regex(&model, "(yes|no)!{3}")?;
/// let mut session = model.session()?;
/// session.feed(&model.tokenizer().encode("Is it?", Default::default())?)?;
/// let mut sampler = SamplerChain::new(&Default::default())?;
/// let mut follower = constraint.follow();
/// while !follower.is_complete() {
///     let token = sampler.sample_among(session.logits(), follower.allowed()?);
///     let Some(token) = token else { break };
///     follower.accept(token)?;
///     session.feed(&[token])?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Follower {
    kind: &'static str,
    matcher: Matcher,
    mask: SimpleVob,
}

impl Follower {
    /// The tokens that may come next: bit `id % 32` of word `id / 32`. Tokens that end a generation are
    /// among them where the text may end.
    ///
    /// # Errors
    ///
    /// [`Error::Constraint`] if the grammar has become too complex, or the text is complete.
    pub fn allowed(&mut self) -> Result<&[u32]> {
        let mask = self.matcher.compute_mask();
        self.mask = mask.map_err(|error| refused(self.kind, error.to_string()))?;
        Ok(self.mask.as_slice())
    }

    /// Goes on behind a token.
    ///
    /// # Errors
    ///
    /// [`Error::Constraint`] if the grammar does not allow it there; the follower is of no use then.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        let consumed = self.matcher.consume_token(token);
        consumed.map_err(|error| refused(self.kind, error.to_string()))
    }

    /// Whether the text is complete and nothing can follow.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Follower").field(&self.kind).finish()
    }
}

impl Guide for Follower {
    fn allowed(&mut self) -> Result<&[u32]> {
        Follower::allowed(self)
    }

    fn accept(&mut self, token: u32) -> Result<()> {
        Follower::accept(self, token)
    }

    fn forced(&mut self) -> Vec<u32> {
        self.matcher.compute_ff_tokens()
    }

    fn is_complete(&self) -> bool {
        Follower::is_complete(self)
    }
}
