//! Calls of tools in the notations of several models: JSON in its variants, a name before JSON, tags,
//! and Python. Each is known from its looks.

use crate::template::{Json, ToolCall, parse_json_prefix, python};

use super::markers::{FUNCTION, SEPARATORS};

/// The parts of a call, by the names they have in JSON.
const NAMES: [&str; 3] = ["name", "tool_name", "function"];
const ARGUMENTS: [&str; 3] = ["arguments", "parameters", "args"];
const IDS: [&str; 2] = ["id", "tool_call_id"];
/// Some models put a call into a code block.
const FENCE: &str = "```json";

/// The calls between two markers; `None` if it is not calls all through.
///
/// Arguments in tags have no types of their own: they are text where the tool's schema says so, or
/// where they are no JSON.
pub(super) fn parse(open: &str, body: &str, tools: &[Json]) -> Option<Vec<ToolCall>> {
    let whole;
    let body = if FUNCTION.contains(&open) {
        whole = [open, body].concat();
        whole.trim()
    } else {
        body.trim()
    };
    let (fence, json) = unfenced(body);
    let calls = if json.starts_with(['{', '[']) {
        let end = if fence.is_empty() { "" } else { "```" };
        from_json(json.strip_suffix(end).unwrap_or(json), tools).or_else(|| from_python(body))
    } else if let Some(calls) = from_tags(body, tools) {
        Some(calls)
    } else {
        let call = from_name_and_json(body).map(|call| vec![call]);
        call.or_else(|| from_python(body))
    };
    // What no marker says to be a call is one only of a tool that there is.
    let is_known = |call: &ToolCall| !open.is_empty() || schema(call.name(), tools).is_some();
    calls.filter(|calls| !calls.is_empty() && calls.iter().all(is_known))
}

/// Whether an answer that begins like this can be nothing but a call in JSON.
pub(super) fn may_be_bare(text: &str) -> bool {
    let text = text.trim_start();
    if FENCE.starts_with(text) {
        return true;
    }
    let (_, json) = unfenced(text);
    let Some(inside) = json.strip_prefix('{').map(str::trim_start) else {
        return json.is_empty();
    };
    let Some(key) = inside.strip_prefix('"') else {
        return inside.is_empty();
    };
    let mut keys = NAMES.iter().chain(&ARGUMENTS).chain(&IDS).chain(&["type"]);
    match key.split_once('"') {
        Some((key, _)) => keys.any(|known| *known == key),
        None => keys.any(|known| known.starts_with(key)),
    }
}

/// Splits off the beginning of a code block.
fn unfenced(text: &str) -> (&str, &str) {
    let rest = text
        .strip_prefix(FENCE)
        .or_else(|| text.strip_prefix("```"));
    let rest = rest.unwrap_or(text);
    let fence = &text[..text.len() - rest.len()];
    (fence, rest.trim_start())
}

/// An object or a list of objects, or several with spaces, commas or semicolons between them.
fn from_json(mut rest: &str, tools: &[Json]) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let (json, after) = parse_json_prefix(rest)?;
        match json {
            Json::Array(items) => {
                for item in items {
                    calls.push(from_object(item, tools)?);
                }
            }
            object => calls.push(from_object(object, tools)?),
        }
        rest = after.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
    }
    Some(calls)
}

/// A call; what has no arguments is one only if there is such a tool.
fn from_object(json: Json, tools: &[Json]) -> Option<ToolCall> {
    let Json::Object(mut fields) = json else {
        return None;
    };
    let mut take = |names: &[&str]| {
        let at = fields.iter().position(|(key, _)| names.contains(&&**key))?;
        Some(fields.remove(at).1)
    };
    let call = match (take(&NAMES), take(&ARGUMENTS)) {
        (Some(Json::String(name)), arguments) => {
            let is_call = arguments.is_some() || schema(&name, tools).is_some();
            is_call.then(|| ToolCall::new(name, object(arguments)))?
        }
        // As OpenAI's interface has it.
        (Some(function @ Json::Object(_)), None) => from_object(function, tools)?,
        // The name alone is the key.
        (None, None) if fields.len() == 1 => {
            let (name, arguments) = fields.pop()?;
            schema(&name, tools)?;
            return Some(ToolCall::new(name, object(Some(arguments))));
        }
        _ => return None,
    };
    Some(match take(&IDS) {
        Some(Json::String(id)) => call.with_id(id),
        _ => call,
    })
}

/// Arguments as an object: some models write it as a text, or nothing for none.
fn object(arguments: Option<Json>) -> Json {
    match arguments {
        None | Some(Json::Null) => Json::Object(Vec::new()),
        Some(Json::String(text)) => match text.parse() {
            Ok(object @ Json::Object(_)) => object,
            _ => Json::String(text),
        },
        Some(other) => other,
    }
}

fn from_python(body: &str) -> Option<Vec<ToolCall>> {
    let calls = python::calls(body)?.into_iter();
    Some(
        calls
            .map(|(name, arguments)| ToolCall::new(name, arguments))
            .collect(),
    )
}

/// `NAME{…}`, with separators before the name and behind it.
fn from_name_and_json(body: &str) -> Option<ToolCall> {
    let (head, rest) = body.split_at(body.find(['{', '"'])?);
    let (json, rest) = parse_json_prefix(rest)?;
    if !matches!(rest.trim(), "" | "```") {
        return None;
    }
    let head = head.trim().trim_end_matches("```json").trim_end();
    let [args, call_id, sep, argument_begin, _] = SEPARATORS;
    let head = head.strip_suffix(args).unwrap_or(head);
    if let Some((name, id)) = head.split_once(call_id) {
        return Some(named(name, json)?.with_id(id.trim()));
    }
    if let Some(id) = head.strip_suffix(argument_begin) {
        // `functions.NAME:INDEX`.
        let name = id.trim().strip_prefix("functions.").unwrap_or(id);
        let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
        return Some(named(name, json)?.with_id(id.trim()));
    }
    // DeepSeek writes the kind before the name, or nothing behind it.
    let name = match head.split_once(sep) {
        Some((name, "")) | Some(("function", name)) => name,
        Some(_) => return None,
        None => head,
    };
    named(name, json)
}

/// A call of what looks like a name.
pub(super) fn named(name: &str, arguments: Json) -> Option<ToolCall> {
    let name = name.trim();
    let is_name =
        !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "<>{}[]\"".contains(c));
    is_name.then(|| ToolCall::new(name, object(Some(arguments))))
}

fn from_tags(body: &str, tools: &[Json]) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    if let Some((name, rest)) = body.split_once("<arg_key") {
        // The name stands before the first tag.
        let name = name.split_once('<').map_or(name, |(name, _)| name);
        let tagged = ["<arg_key", rest].concat();
        calls.push(named(name, pairs(&tagged, name.trim(), tools)?)?);
        return Some(calls);
    }
    let mut rest = body;
    while let Some((name, after)) = tag(rest, &["function", "invoke"]) {
        let end = after
            .find("</function>")
            .or_else(|| after.find("</invoke>"));
        let (inside, after) = after.split_at(end.unwrap_or(after.len()));
        let arguments = match inside.trim() {
            json if json.starts_with(['{', '"']) => json.parse().ok()?,
            _ => parameters(inside, name, tools),
        };
        calls.push(named(name, arguments)?);
        rest = after;
    }
    Some(calls).filter(|calls| !calls.is_empty())
}

/// What a tag such as `<function=NAME>` or `<invoke name="NAME">` names, and what stands behind it.
fn tag<'t>(text: &'t str, words: &[&str]) -> Option<(&'t str, &'t str)> {
    let found = words.iter().filter_map(|word| {
        let at = text.find(&format!("<{word}"))?;
        let rest = &text[at + 1 + word.len()..];
        let rest = rest
            .strip_prefix('=')
            .or_else(|| rest.strip_prefix(" name="))?;
        let (name, after) = rest.split_once('>')?;
        Some((at, name.trim_matches('"'), after))
    });
    let (_, name, after) = found.min_by_key(|&(at, ..)| at)?;
    Some((name, after))
}

/// `<parameter=KEY>VALUE</parameter>`, and variants.
fn parameters(mut rest: &str, function: &str, tools: &[Json]) -> Json {
    let mut entries = Vec::new();
    while let Some((key, after)) = tag(rest, &["parameter", "param"]) {
        let (text, after) = after.split_once("</param").unwrap_or((after, ""));
        entries.push((key.to_owned(), value(text, function, key, tools)));
        rest = after;
    }
    Json::Object(entries)
}

/// `<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>`, also with a suffix to the tags' names.
fn pairs(mut rest: &str, function: &str, tools: &[Json]) -> Option<Json> {
    let mut entries = Vec::new();
    while let Some((_, after)) = rest.split_once("<arg_key") {
        let (key, after) = after.split_once('>')?.1.split_once("</arg_key")?;
        let (_, after) = after.split_once("<arg_value")?;
        let (text, after) = after.split_once('>')?.1.split_once("</arg_value")?;
        entries.push((
            key.trim().to_owned(),
            value(text, function, key.trim(), tools),
        ));
        rest = after;
    }
    Some(Json::Object(entries))
}

/// An argument in a tag.
fn value(text: &str, function: &str, key: &str, tools: &[Json]) -> Json {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let inside = text
        .strip_prefix("<![CDATA[")
        .and_then(|text| text.strip_suffix("]]>"));
    let text = inside.unwrap_or(text);
    if is_text(function, key, tools) {
        return text.into();
    }
    if let Ok(json) = text.parse() {
        return json;
    }
    // Some templates write lists and objects as Python does.
    let is_python = text.starts_with(['{', '[']) || matches!(text, "True" | "False" | "None");
    let literal = is_python.then(|| python::literal(text)).flatten();
    literal.unwrap_or_else(|| text.into())
}

/// Whether the tool's schema wants a text there.
fn is_text(function: &str, key: &str, tools: &[Json]) -> bool {
    let parameters = schema(function, tools).and_then(|tool| tool.get("parameters"));
    let property = parameters.and_then(|schema| schema.get("properties")?.get(key));
    property.and_then(|property| property.get("type")?.as_str()) == Some("string")
}

/// What describes a tool: its name, its parameters.
fn schema<'t>(name: &str, tools: &'t [Json]) -> Option<&'t Json> {
    let all = tools
        .iter()
        .map(|tool| tool.get("function").unwrap_or(tool));
    all.into_iter()
        .find(|tool| tool.get("name").and_then(Json::as_str) == Some(name))
}
