//! Templates for files that have none, by the names under which the formats are known. They are
//! written here from the formats that the models' publishers describe, and do the plain case only:
//! system, user and assistant in turns.

/// A well-known template.
pub(super) struct Named {
    pub(super) name: &'static str,
    pub(super) source: &'static str,
    /// What ends the assistant's turn.
    pub(super) stop: &'static str,
}

pub(super) fn names() -> String {
    let names: Vec<&str> = TEMPLATES.iter().map(|named| named.name).collect();
    names.join(", ")
}

pub(super) const TEMPLATES: &[Named] = &[
    Named {
        name: "chatml",
        stop: "<|im_end|>",
        source: "\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
",
    },
    Named {
        name: "llama2",
        stop: "</s>",
        source: "\
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = '<<SYS>>\\n' + message.content + '\\n<</SYS>>\\n\\n' -%}
{%- elif message.role == 'assistant' -%}
{{- ' ' + message.content + ' ' + eos_token -}}
{%- else -%}
{{- bos_token + '[INST] ' + ns.system + message.content + ' [/INST]' -}}
{%- set ns.system = '' -%}
{%- endif -%}
{%- endfor -%}
",
    },
    Named {
        name: "llama3",
        stop: "<|eot_id|>",
        source: "\
{{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' -}}
{{- message.content | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
",
    },
    Named {
        name: "gemma",
        stop: "<end_of_turn>",
        source: "\
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = message.content | trim + '\\n\\n' -%}
{%- else -%}
{%- set role = 'model' if message.role == 'assistant' else message.role -%}
{{- '<start_of_turn>' + role + '\\n' + ns.system + message.content | trim -}}
{{- '<end_of_turn>\\n' -}}
{%- set ns.system = '' -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}
",
    },
    Named {
        name: "mistral",
        stop: "</s>",
        source: "\
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = message.content + '\\n\\n' -%}
{%- elif message.role == 'assistant' -%}
{{- ' ' + message.content + eos_token -}}
{%- else -%}
{{- '[INST] ' + ns.system + message.content + ' [/INST]' -}}
{%- set ns.system = '' -%}
{%- endif -%}
{%- endfor -%}
",
    },
    Named {
        name: "phi3",
        stop: "<|end|>",
        source: "\
{%- for message in messages -%}
{{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
",
    },
    Named {
        name: "zephyr",
        stop: "</s>",
        source: "\
{%- for message in messages -%}
{{- '<|' + message.role + '|>\\n' + message.content + eos_token + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
",
    },
];
