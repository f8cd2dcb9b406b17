//! Lines that begin with `/`.

use std::error::Error;
use std::path::Path;
use std::str::FromStr;

use gristmill::SamplingOptions;
use gristmill::chat::{Chat, Json, Message};

use super::answer::Settings;

const HELP: &str = "\
/system TEXT     instructions for the whole conversation
/set NAME VALUE  change a setting; /set lists them
/retry           answer the last question again
/undo            take back the last question and its answer
/clear           forget the conversation, but not the instructions
/save FILE       write the conversation to a file, as JSON
/load FILE       go on with the conversation of such a file
/show            messages, and how full the context is
/bye             end; so does Control-D
\"\"\"              begins and ends a text of several lines";

/// What a command leads to.
pub(crate) enum Next {
    Read,
    Ask(String),
    Bye,
}

pub(crate) fn run(line: &str, chat: &mut Chat, settings: &mut Settings) -> Result<Next, String> {
    let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match command {
        "/bye" | "/exit" | "/quit" => return Ok(Next::Bye),
        "/help" | "/?" => eprintln!("{HELP}"),
        "/system" if rest.is_empty() => return Err("/system takes a text".into()),
        "/system" => chat.system(rest),
        "/clear" => chat
            .messages_mut()
            .retain(|message| message.role() == "system"),
        "/undo" => {
            chat.undo().ok_or("there is nothing to take back")?;
        }
        "/retry" => {
            let message = chat.undo().ok_or("there is no question yet")?;
            return Ok(Next::Ask(message.content().unwrap_or_default().to_owned()));
        }
        "/set" if rest.is_empty() => eprintln!("{}", list(settings)),
        "/set" => set(rest, settings)?,
        "/save" => save(chat, Path::new(file(rest)?)).map_err(|error| error.to_string())?,
        "/load" => load(chat, Path::new(file(rest)?)).map_err(|error| error.to_string())?,
        "/show" => show(chat),
        _ => return Err(format!("no command {command}\n{HELP}")),
    }
    Ok(Next::Read)
}

fn file(name: &str) -> Result<&str, String> {
    let is_named = !name.is_empty();
    is_named.then_some(name).ok_or_else(|| "name a file".into())
}

fn show(chat: &Chat) {
    for message in chat.messages() {
        eprintln!(
            "[{}] {}",
            message.role(),
            message.content().unwrap_or_default()
        );
    }
    let session = chat.session();
    let (used, all) = (session.position(), session.context_length());
    eprintln!("({used} of {all} positions of the context in use)");
}

/// Writes the messages as OpenAI's interface has them.
fn save(chat: &Chat, path: &Path) -> Result<(), Box<dyn Error>> {
    let messages: Vec<Json> = chat.messages().iter().map(Message::to_json).collect();
    let count = messages.len();
    std::fs::write(path, format!("{}\n", Json::Array(messages)))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    eprintln!("({count} messages in {})", path.display());
    Ok(())
}

/// Takes the messages of a file in place of those there are.
pub(crate) fn load(chat: &mut Chat, path: &Path) -> Result<(), Box<dyn Error>> {
    let place = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| place(&error))?;
    let Json::Array(items) = text.parse::<Json>().map_err(|error| place(&error))? else {
        return Err(place(&"no list of messages").into());
    };
    let messages: Result<Vec<Message>, _> = items.into_iter().map(Message::from_json).collect();
    *chat.messages_mut() = messages.map_err(|error| place(&error))?;
    eprintln!(
        "({} messages from {})",
        chat.messages().len(),
        path.display()
    );
    Ok(())
}

fn set(text: &str, settings: &mut Settings) -> Result<(), String> {
    let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let value = value.trim();
    if name == "max_tokens" {
        settings.max_tokens = number(value)?;
        return Ok(());
    }
    let mut sampling = settings.sampling().clone();
    let SamplingOptions {
        temperature,
        top_k,
        top_p,
        min_p,
        repeat_penalty,
        repeat_last_n,
        presence_penalty,
        frequency_penalty,
        seed,
        ..
    } = &mut sampling;
    match name {
        "temperature" => *temperature = number(value)?,
        "top_k" => *top_k = number(value)?,
        "top_p" => *top_p = number(value)?,
        "min_p" => *min_p = number(value)?,
        "repeat_penalty" => *repeat_penalty = number(value)?,
        "repeat_last_n" => *repeat_last_n = number(value)?,
        "presence_penalty" => *presence_penalty = number(value)?,
        "frequency_penalty" => *frequency_penalty = number(value)?,
        "seed" if value == "none" => *seed = None,
        "seed" => *seed = Some(number(value)?),
        _ => return Err(format!("no setting {name}\n{}", list(settings))),
    }
    settings.change(sampling).map_err(|error| error.to_string())
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no number for this"))
}

fn list(settings: &Settings) -> String {
    let sampling = settings.sampling();
    let seed = sampling.seed.map_or("none".into(), |seed| seed.to_string());
    format!(
        "temperature {}\ntop_k {}\ntop_p {}\nmin_p {}\nrepeat_penalty {}\nrepeat_last_n {}\n\
         presence_penalty {}\nfrequency_penalty {}\nseed {seed}\nmax_tokens {}",
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.min_p,
        sampling.repeat_penalty,
        sampling.repeat_last_n,
        sampling.presence_penalty,
        sampling.frequency_penalty,
        settings.max_tokens
    )
}
