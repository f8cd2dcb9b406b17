//! How models mark reasoning and calls of tools in what they write. A model's template shows it, as
//! it writes the same markers itself, or the tokens that it has for them.

/// What stands behind a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The model's thoughts before its answer.
    Reasoning,
    /// One or more calls, in a notation that [`super::calls`] knows from its looks.
    Calls,
    /// What says which part comes next, as gpt-oss has it.
    Header,
    /// Nothing new: the answer goes on.
    Answer,
}

/// A part of an answer, and what begins and ends it.
#[derive(Debug)]
pub(super) struct Markers {
    pub(super) part: Part,
    /// Empty for calls that are the whole answer, see [`BARE_CALLS`].
    pub(super) open: &'static str,
    /// Any of these ends it; without one it goes on to the end of the answer.
    pub(super) close: &'static [&'static str],
}

/// In the templates of models that call a tool by an answer which is nothing but JSON: Llama 3, and
/// Qwen 2.5 Coder against what its template asks for.
const BARE_CALLS: [&str; 2] = [
    "{\"name\": function name, \"parameters\": dictionary of argument name",
    "<tool_call>",
];
/// Tags that begin a call, and are a part of its notation: the name of the tool stands in them.
pub(super) const FUNCTION: [&str; 2] = ["<function=", "<function name="];

const fn part(part: Part, open: &'static str, close: &'static [&'static str]) -> Markers {
    Markers { part, open, close }
}

/// From the templates that the models' publishers have put into their files.
const TABLE: &[Markers] = &[
    // DeepSeek R1, Qwen 3, QwQ, GLM 4.5, SmolLM3, MiniMax and many others.
    part(Part::Reasoning, "<think>", &["</think>"]),
    part(Part::Reasoning, "<seed:think>", &["</seed:think>"]),
    part(
        Part::Reasoning,
        "<think:opensource>",
        &["</think:opensource>"],
    ),
    // Magistral, Ministral.
    part(Part::Reasoning, "[THINK]", &["[/THINK]"]),
    // EXAONE Deep.
    part(Part::Reasoning, "<thought>", &["</thought>"]),
    // Granite and Hunyuan, around the answer behind the thoughts.
    part(Part::Answer, "<response>", &[]),
    part(Part::Answer, "</response>", &[]),
    part(Part::Answer, "<answer>", &[]),
    part(Part::Answer, "</answer>", &[]),
    // Command R7B, Command A.
    part(Part::Reasoning, "<|START_THINKING|>", &["<|END_THINKING|>"]),
    part(Part::Answer, "<|START_RESPONSE|>", &[]),
    part(Part::Answer, "<|END_RESPONSE|>", &[]),
    part(Part::Calls, "<|START_ACTION|>", &["<|END_ACTION|>"]),
    // Qwen 2.5, Qwen 3, Qwen 3 Coder, Hermes, GLM 4.5, Bielik.
    part(Part::Calls, "<tool_call>", &["</tool_call>"]),
    part(Part::Calls, "<seed:tool_call>", &["</seed:tool_call>"]),
    part(Part::Answer, "<tool_calls:opensource>", &[]),
    part(Part::Answer, "</tool_calls:opensource>", &[]),
    part(
        Part::Calls,
        "<tool_call:opensource>",
        &["</tool_call:opensource>"],
    ),
    part(
        Part::Calls,
        "<minimax:tool_call>",
        &["</minimax:tool_call>"],
    ),
    // Mistral: once before a list, or later before each call.
    part(Part::Calls, "[TOOL_CALLS]", &["[TOOL_CALLS]"]),
    // DeepSeek V3, R1 and their distillations.
    part(Part::Answer, "<｜tool▁calls▁begin｜>", &[]),
    part(Part::Answer, "<｜tool▁calls▁end｜>", &[]),
    part(
        Part::Calls,
        "<｜tool▁call▁begin｜>",
        &["<｜tool▁call▁end｜>"],
    ),
    // Kimi K2.
    part(Part::Answer, "<|tool_calls_section_begin|>", &[]),
    part(Part::Answer, "<|tool_calls_section_end|>", &[]),
    part(Part::Calls, "<|tool_call_begin|>", &["<|tool_call_end|>"]),
    // Llama 3.1 to 3.3, see above.
    part(Part::Calls, "", &[]),
    part(Part::Calls, "<|python_tag|>", &[]),
    // Functionary, MiniCPM.
    part(Part::Calls, FUNCTION[0], &["</function>"]),
    part(Part::Calls, FUNCTION[1], &["</function>"]),
    // Nemotron.
    part(Part::Calls, "<TOOLCALL>", &["</TOOLCALL>"]),
    // Granite, Phi 4 mini.
    part(Part::Calls, "<|tool_call|>", &["<|/tool_call|>"]),
    // LFM2.
    part(Part::Calls, "<|tool_call_start|>", &["<|tool_call_end|>"]),
    // Apertus.
    part(Part::Calls, "<|tools_prefix|>", &["<|tools_suffix|>"]),
    // gpt-oss.
    part(Part::Header, "<|start|>", &["<|message|>"]),
    part(Part::Header, "<|channel|>", &["<|message|>"]),
    part(Part::Answer, "<|end|>", &[]),
];

/// Parts of gpt-oss's headers behind `<|channel|>`. What ends a part is the same for all.
pub(super) const CHANNEL_ENDS: &[&str] = &["<|end|>", "<|start|>", "<|channel|>", "<|call|>"];

/// Texts within calls, of which some vocabularies make control tokens.
pub(super) const SEPARATORS: [&str; 5] = [
    "[ARGS]",
    "[CALL_ID]",
    "<｜tool▁sep｜>",
    "<|tool_call_argument_begin|>",
    "<|constrain|>",
];

/// The markers that a model knows, by what `is_known` says of each: its template mentions them, or its
/// vocabulary has them. Those of calls count only if there are tools.
pub(super) fn known(has_tools: bool, is_known: impl Fn(&str) -> bool) -> Vec<&'static Markers> {
    let counts = |row: &&Markers| {
        let texts = match row.open {
            "" => &BARE_CALLS[..],
            _ => std::slice::from_ref(&row.open),
        };
        (has_tools || row.part != Part::Calls) && texts.iter().any(|text| is_known(text))
    };
    TABLE.iter().filter(counts).collect()
}
