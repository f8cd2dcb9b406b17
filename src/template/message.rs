//! Messages of a conversation.

use super::json::Json;
use super::value::Value;
use super::{Outcome, Text};
use crate::{Error, Result};

/// Bytes of a role's name.
const MAX_ROLE: usize = 32;

/// A message: who says it, what it says, and what else a template may want to know of it.
///
/// ```
/// use gristmill::chat::{Json, Message, ToolCall};
///
/// let arguments = Json::object([("city", "Lisboa".into())]);
/// let messages = [
///     Message::system("You are brief."),
///     Message::user("How is the weather in Lisbon?"),
///     Message::assistant("").tool_calls([ToolCall::new("weather", arguments)]),
///     Message::tool("21.5 °C").with("name", "weather"),
/// ];
/// assert_eq!(messages[3].role(), "tool");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    role: String,
    /// All but the role, in order.
    fields: Vec<(String, Json)>,
}

impl Message {
    /// Instructions for the whole conversation.
    #[must_use]
    pub fn system(text: impl Into<String>) -> Message {
        Message::new("system", text.into())
    }

    /// What the user says.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Message {
        Message::new("user", text.into())
    }

    /// What the model said.
    #[must_use]
    pub fn assistant(text: impl Into<String>) -> Message {
        Message::new("assistant", text.into())
    }

    /// What a tool that the model called gave back.
    #[must_use]
    pub fn tool(text: impl Into<String>) -> Message {
        Message::new("tool", text.into())
    }

    /// What a call gave back, with the name and the id that it had.
    ///
    /// ```
    /// use gristmill::chat::{Json, Message, ToolCall};
    ///
    /// let call = ToolCall::new("weather", Json::object([("city", "Lisboa".into())])).with_id("w1");
    /// let message = Message::tool_result(&call, "21.5 °C");
    /// assert_eq!(message.field("tool_call_id"), Some(&"w1".into()));
    /// ```
    #[must_use]
    pub fn tool_result(call: &ToolCall, text: impl Into<String>) -> Message {
        let message = Message::tool(text).with("name", call.name());
        match call.id() {
            Some(id) => message.with("tool_call_id", id),
            None => message,
        }
    }

    fn new(role: &str, text: String) -> Message {
        Message {
            role: role.to_owned(),
            fields: vec![("content".to_owned(), Json::String(text))],
        }
    }

    /// A message as OpenAI's interface has it: an object with `role`, `content` and what else the
    /// template knows. Nothing but the role is checked.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if it is no object, or its role is not a word of at most 32 ASCII
    /// letters, digits, `_` and `-`: templates make control tokens of roles.
    pub fn from_json(json: Json) -> Result<Message> {
        let Json::Object(mut fields) = json else {
            return Err(refused("an object", "something else"));
        };
        let role = fields.iter().position(|(key, _)| key == "role");
        let role = role.map(|at| fields.remove(at).1).unwrap_or_default();
        let role = role.as_str().ok_or_else(|| refused("a role", "none"))?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if !(1..=MAX_ROLE).contains(&role.len()) || !role.chars().all(is_part) {
            let found: String = role.chars().take(MAX_ROLE).collect();
            return Err(refused("a word as role", &found));
        }
        Ok(Message {
            role: role.to_owned(),
            fields,
        })
    }

    /// The message as [`Message::from_json`] reads it.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let role = ("role".to_owned(), Json::from(&*self.role));
        Json::Object(
            [role]
                .into_iter()
                .chain(self.fields.iter().cloned())
                .collect(),
        )
    }

    /// Adds or replaces a field, such as `name`, `tool_call_id` or `reasoning_content`. The role
    /// stays.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Json>) -> Message {
        self.set(key, value.into());
        self
    }

    pub(crate) fn set(&mut self, key: impl Into<String>, value: Json) {
        let key = key.into();
        match self.fields.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.fields.push((key, value)),
        }
    }

    /// The calls of tools that the model made.
    #[must_use]
    pub fn tool_calls(self, calls: impl IntoIterator<Item = ToolCall>) -> Message {
        let calls: Vec<Json> = calls.into_iter().map(ToolCall::into_json).collect();
        self.with("tool_calls", calls)
    }

    /// Who says it: `system`, `user`, `assistant`, `tool`, or what else the template knows.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// A field but the role.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&Json> {
        let found = self.fields.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    /// What it says, if that is one text.
    #[must_use]
    pub fn content(&self) -> Option<&str> {
        self.field("content")?.as_str()
    }

    /// Bytes of all text in it, and one for each value.
    pub(super) fn size(&self) -> usize {
        let sizes = self
            .fields
            .iter()
            .map(|(key, value)| key.len() + value.size());
        self.role.len() + sizes.sum::<usize>()
    }

    /// As the template sees it: the role counts as the template's own word, since it is a part of
    /// control tokens; all else is input.
    pub(super) fn value(&self) -> Outcome<Value> {
        let role = (Value::written("role"), Value::written(&*self.role));
        let mut entries = vec![role];
        for (key, value) in self.fields.iter().filter(|(key, _)| key != "role") {
            let key = Value::text(Text::input(&**key));
            entries.push((key, Value::input(value)?));
        }
        Value::dict(entries)
    }
}

fn refused(expected: &str, found: &str) -> Error {
    Error::Argument {
        name: "message",
        expected: expected.to_owned(),
        found: format!("{found:?}"),
    }
}

/// A call of a tool by the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    id: Option<String>,
    name: String,
    arguments: Json,
}

impl ToolCall {
    /// A call of the tool with this name; most templates want an object as arguments.
    #[must_use]
    pub fn new(name: impl Into<String>, arguments: impl Into<Json>) -> ToolCall {
        ToolCall {
            id: None,
            name: name.into(),
            arguments: arguments.into(),
        }
    }

    /// Adds the id by which the tool's answer names the call.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> ToolCall {
        self.id = Some(id.into());
        self
    }

    /// The id, if there is one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The name of the tool.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the tool is given: an object, unless a model wrote something else.
    #[must_use]
    pub fn arguments(&self) -> &Json {
        &self.arguments
    }

    fn into_json(self) -> Json {
        let id = self.id.map(|id| ("id", Json::String(id)));
        let function = Json::object([
            ("name", Json::String(self.name)),
            ("arguments", self.arguments),
        ]);
        let rest = [("type", "function".into()), ("function", function)];
        Json::object(id.into_iter().chain(rest))
    }
}
