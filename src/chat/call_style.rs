//! How a template wants calls of tools: some write them only if the message has no content, some
//! only if the arguments are a text.

use crate::template::{ChatTemplate, Json, Message, RenderOptions, ToolCall};

/// A shape of messages with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallStyle {
    /// Content is null where nothing is said.
    null_content: bool,
    /// Arguments are the text of a JSON object, as in OpenAI's interface.
    text_arguments: bool,
}

impl CallStyle {
    /// The first shape of a call which the template writes as it is; `None` if it writes none.
    pub(super) fn of(template: &ChatTemplate, options: &RenderOptions) -> Option<CallStyle> {
        let options = options.clone().add_generation_prompt(false);
        let styles = [(false, false), (true, false), (false, true), (true, true)];
        let mut styles = styles
            .map(|(null_content, text_arguments)| CallStyle {
                null_content,
                text_arguments,
            })
            .into_iter();
        styles.find(|style| {
            let arguments = Json::object([("argument_key", "argument_text".into())]);
            let call = ToolCall::new("tool_name_here", arguments).with_id("call00000");
            let mut call = Message::assistant("").tool_calls([call]);
            style.apply(&mut call);
            let written = template.render(&[Message::user("?"), call], &options);
            written.is_ok_and(|prompt| {
                let text = prompt.text();
                let has = |part| text.contains(part);
                // A text within a text has its quotes escaped.
                has("tool_name_here") && has("argument_text") && !has("\\\"argument_key")
            })
        })
    }

    /// Brings a message with calls into this shape; others stay as they are.
    pub(super) fn apply(self, message: &mut Message) {
        let Some(Json::Array(calls)) = message.field("tool_calls") else {
            return;
        };
        let calls: Vec<Json> = calls.iter().map(|call| self.call(call.clone())).collect();
        let is_silent = message.content().is_none_or(str::is_empty)
            && !matches!(message.field("content"), Some(Json::Array(_)));
        if is_silent {
            let content = if self.null_content {
                Json::Null
            } else {
                "".into()
            };
            message.set("content", content);
        }
        message.set("tool_calls", calls.into());
    }

    fn call(self, mut call: Json) -> Json {
        if let Some(arguments) = call
            .get_mut("function")
            .and_then(|function| function.get_mut("arguments"))
        {
            let new = match arguments {
                Json::String(text) if !self.text_arguments => text.parse().ok(),
                Json::Object(_) if self.text_arguments => Some(arguments.to_string().into()),
                _ => None,
            };
            *arguments = new.unwrap_or_else(|| std::mem::take(arguments));
        }
        call
    }
}
