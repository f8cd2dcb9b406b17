//! Answers as values of Rust types.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Constraint;
use crate::chat::Chat;
use crate::{Error, FinishReason, GenerateOptions, Model, Result, Session};

/// Characters of a text's end that an error shows.
const SHOWN: usize = 60;
/// Keywords that put schemas together.
const COMBINING: [&str; 5] = ["$ref", "allOf", "anyOf", "oneOf", "unevaluatedProperties"];

impl Constraint {
    /// Texts that are JSON of a Rust type, by its [`JsonSchema`].
    ///
    /// Objects have the type's properties and no others, unless it says something about these, or is put
    /// together of several types.
    ///
    /// # Errors
    ///
    /// As [`Constraint::json_schema`].
    pub fn of_type<T: JsonSchema>(model: &Model) -> Result<Constraint> {
        let schema = SchemaSettings::draft2020_12().into_generator();
        let mut schema = schema.into_root_schema_for::<T>().to_value();
        if !combines(&schema) {
            close(&mut schema);
        }
        Constraint::json_schema(model, &schema)
    }
}

/// Whether an object's properties come from more than one schema: then none of them knows all.
fn combines(schema: &Value) -> bool {
    match schema {
        Value::Array(values) => values.iter().any(combines),
        Value::Object(members) => {
            let is_object = members.contains_key("properties");
            is_object && COMBINING.iter().any(|key| members.contains_key(*key))
                || members.contains_key("allOf")
                || members.values().any(combines)
        }
        _ => false,
    }
}

/// Forbids properties that an object's schema does not speak of.
fn close(schema: &mut Value) {
    match schema {
        Value::Array(values) => values.iter_mut().for_each(close),
        Value::Object(members) => {
            members.values_mut().for_each(close);
            let is_object = members.get("type").is_some_and(|name| name == "object");
            if is_object && members.get("properties").is_some_and(Value::is_object) {
                members
                    .entry("additionalProperties")
                    .or_insert(false.into());
            }
        }
        _ => {}
    }
}

impl Model {
    /// Answers a prompt with a value of a Rust type, see [`Session::generate_as`].
    ///
    /// # Errors
    ///
    /// As [`Session::generate_as`].
    pub fn generate_as<T: JsonSchema + DeserializeOwned>(
        &self,
        prompt: &str,
        options: &GenerateOptions,
    ) -> Result<T> {
        let constraint = Constraint::of_type::<T>(self)?;
        let options = options.clone().constraint(&constraint);
        let completion = self.generate(prompt, &options)?;
        read(&completion.text, completion.finish_reason)
    }
}

impl Session {
    /// Answers a prompt with a value of a Rust type: the text is JSON of the type's schema.
    ///
    /// The prompt should say what is wanted, and that JSON is; the names of the type's properties are all
    /// that the model sees of the type. A constraint of the options is replaced.
    ///
    /// ```no_run
    /// use gristmill::{GenerateOptions, Model};
    /// use schemars::JsonSchema;
    /// use serde::Deserialize;
    ///
    /// #[derive(Debug, Deserialize, JsonSchema)]
    /// struct Person {
    ///     name: String,
    ///     born: u16,
    ///     languages: Vec<String>,
    /// }
    ///
    /// # fn main() -> gristmill::Result<()> {
    /// let mut session = Model::open("model.gguf")?.session()?;
    /// let prompt = "Ada Lovelace as JSON with her name, year of birth and languages:\n";
    /// let ada: Person = session.generate_as(prompt, &GenerateOptions::new())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Incomplete`] if the text ends before the value does, or if the type does not take what its
    /// schema allows; [`Error::Constraint`] for a schema that cannot be guaranteed; the errors of
    /// [`Session::generate`] and its iterator.
    pub fn generate_as<T: JsonSchema + DeserializeOwned>(
        &mut self,
        prompt: &str,
        options: &GenerateOptions,
    ) -> Result<T> {
        let constraint = Constraint::of_type::<T>(self.model())?;
        let options = options.clone().constraint(&constraint);
        let completion = self.generate(prompt, &options)?.finish()?;
        read(&completion.text, completion.finish_reason)
    }
}

impl Chat {
    /// As [`Chat::send`], and gives the answer as a value of a Rust type, see [`Session::generate_as`]. The
    /// answer becomes a message also where it is incomplete.
    ///
    /// # Errors
    ///
    /// Those of [`Chat::send`] and of [`Session::generate_as`].
    pub fn send_as<T: JsonSchema + DeserializeOwned>(
        &mut self,
        text: impl Into<String>,
        options: &GenerateOptions,
    ) -> Result<T> {
        let constraint = Constraint::of_type::<T>(self.session().model())?;
        let options = options.clone().constraint(&constraint);
        let answer = self.send(text, &options)?.finish()?;
        // All of it: it is no call of a tool, and no thought, whatever it looks like.
        let tokenizer = self.session().model().tokenizer();
        let text = tokenizer.decode(&answer.tokens, Default::default())?;
        read(&text, answer.finish_reason)
    }
}

/// The value that a text is.
fn read<T: DeserializeOwned>(text: &str, reason: FinishReason) -> Result<T> {
    let expected = match reason {
        FinishReason::Complete | FinishReason::EndOfGeneration(_) => {
            match serde_json::from_str(text) {
                Ok(value) => return Ok(value),
                Err(error) => error.to_string(),
            }
        }
        _ => "more text".to_owned(),
    };
    let start = text.char_indices().rev().nth(SHOWN - 1);
    let end = &text[start.map_or(0, |(at, _)| at)..];
    let name = std::any::type_name::<T>();
    Err(Error::Incomplete {
        expected: format!("JSON of {name} ({expected})"),
        found: format!("{end:?} at the end ({reason:?})"),
    })
}
