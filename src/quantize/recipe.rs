//! Which type each tensor of a quantised file gets: the rules of llama.cpp (`llama-quant.cpp`)
//! without an importance matrix and without the exceptions for Falcon.

use std::collections::BTreeSet;

use crate::gguf::{FromValue, GgmlType, Gguf, TensorInfo, Value};

use super::file_type::FileType;

/// The rules for one file.
pub(super) struct Recipe {
    file_type: FileType,
    /// Every tensor has the base type.
    pure: bool,
    facts: Facts,
}

/// What the rules ask about a model.
struct Facts {
    /// There is `output.weight`; otherwise the token embedding is the output too.
    has_output: bool,
    layers: usize,
    experts: u64,
    /// Query heads for each head of keys and values.
    group: u64,
    /// The layers that have an `attn_v`, or one fused with others.
    attention_layers: BTreeSet<usize>,
}

impl Recipe {
    pub(super) fn new(gguf: &Gguf, file_type: FileType, pure: bool) -> Recipe {
        Recipe {
            file_type,
            pure,
            facts: Facts::of(gguf),
        }
    }

    /// The type that a tensor should have.
    pub(super) fn choose(&self, tensor: &TensorInfo) -> GgmlType {
        if !is_quantised(tensor) {
            return tensor.ggml_type();
        }
        let base = self.file_type.base();
        let wanted = if self.pure || base.block_elements() == 1 {
            base
        } else {
            self.of_mixture(tensor)
        };
        fitting(wanted, tensor.cols())
    }

    fn of_mixture(&self, tensor: &TensorInfo) -> GgmlType {
        let name = tensor.name();
        let base = self.file_type.base();
        if name == "output.weight" || (!self.facts.has_output && name == "token_embd.weight") {
            let fits = tensor.cols().is_multiple_of(base.block_elements());
            return match base {
                GgmlType::Q8_0 => GgmlType::Q8_0,
                _ if fits => GgmlType::Q6_K,
                _ => GgmlType::Q8_0,
            };
        }
        let Some(layer) = layer(name) else {
            return base;
        };
        let chosen = if name.contains("attn_v.weight") {
            Some(self.attention_value(layer))
        } else if name.contains("attn_k.weight") {
            (self.facts.experts == 8).then_some(GgmlType::Q8_0)
        } else if name.contains("ffn_down") {
            self.ffn_down(layer)
        } else if name.contains("attn_output.weight") {
            self.attention_output()
        } else if name.contains("attn_qkv.weight") {
            self.fused_attention()
        } else {
            None
        };
        chosen.unwrap_or(base)
    }

    fn attention_value(&self, layer: usize) -> GgmlType {
        let Facts {
            layers,
            experts,
            group,
            ref attention_layers,
            ..
        } = self.facts;
        if experts == 8 {
            return GgmlType::Q8_0;
        }
        // Counted among the layers that have one.
        let index = attention_layers.range(..layer).count();
        let chosen = match self.file_type {
            FileType::Q2_K if group >= 4 => GgmlType::Q4_K,
            FileType::Q2_K => GgmlType::Q3_K,
            FileType::Q3_K_M if index < 2 => GgmlType::Q5_K,
            FileType::Q3_K_M => GgmlType::Q4_K,
            FileType::Q3_K_L => GgmlType::Q5_K,
            FileType::Q4_K_S if index < 4 => GgmlType::Q5_K,
            FileType::Q4_K_M | FileType::Q5_K_M if has_more_bits(index, attention_layers.len()) => {
                GgmlType::Q6_K
            }
            other => other.base(),
        };
        match chosen {
            // Models of 70 billion parameters: the tensor is small, for heads that share it.
            GgmlType::Q3_K | GgmlType::Q4_K if layers == 80 && group > 1 => GgmlType::Q5_K,
            chosen => chosen,
        }
    }

    fn ffn_down(&self, layer: usize) -> Option<GgmlType> {
        let layers = self.facts.layers;
        match self.file_type {
            FileType::Q2_K => Some(GgmlType::Q3_K),
            FileType::Q3_K_M if layer < layers / 16 => Some(GgmlType::Q5_K),
            FileType::Q3_K_M => Some(GgmlType::Q4_K),
            FileType::Q3_K_L => Some(GgmlType::Q5_K),
            FileType::Q4_K_S if layer < layers / 8 => Some(GgmlType::Q5_K),
            FileType::Q4_K_M | FileType::Q5_K_M if has_more_bits(layer, layers) => {
                Some(GgmlType::Q6_K)
            }
            _ => None,
        }
    }

    fn attention_output(&self) -> Option<GgmlType> {
        if self.facts.experts == 8 {
            return matches!(
                self.file_type,
                FileType::Q2_K
                    | FileType::Q3_K_S
                    | FileType::Q3_K_M
                    | FileType::Q4_K_S
                    | FileType::Q4_K_M
            )
            .then_some(GgmlType::Q5_K);
        }
        match self.file_type {
            FileType::Q2_K => Some(GgmlType::Q3_K),
            FileType::Q3_K_M => Some(GgmlType::Q4_K),
            FileType::Q3_K_L => Some(GgmlType::Q5_K),
            _ => None,
        }
    }

    fn fused_attention(&self) -> Option<GgmlType> {
        match self.file_type {
            FileType::Q3_K_M | FileType::Q3_K_L => Some(GgmlType::Q4_K),
            FileType::Q4_K_M => Some(GgmlType::Q5_K),
            FileType::Q5_K_M => Some(GgmlType::Q6_K),
            _ => None,
        }
    }
}

impl Facts {
    fn of(gguf: &Gguf) -> Facts {
        let architecture = gguf
            .value("general.architecture")
            .and_then(String::from_value);
        let architecture = architecture.unwrap_or_default();
        let number = |key: &str| match gguf.value(&format!("{architecture}.{key}"))? {
            // One for each layer.
            Value::Array(array) => array.values().next().as_ref().and_then(u64::from_value),
            value => u64::from_value(value),
        };
        let heads = number("attention.head_count").unwrap_or(1);
        let key_heads = number("attention.head_count_kv").unwrap_or(heads);
        let attention = ["attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"];
        let attention_layers = gguf
            .tensors()
            .iter()
            .filter(|tensor| attention.iter().any(|part| tensor.name().contains(part)))
            .filter_map(|tensor| layer(tensor.name()))
            .collect();
        Facts {
            has_output: gguf.tensor("output.weight").is_some(),
            layers: number("block_count")
                .and_then(|layers| layers.try_into().ok())
                .unwrap_or(0),
            experts: number("expert_count").unwrap_or(0),
            group: heads.checked_div(key_heads).unwrap_or(1),
            attention_layers,
        }
    }
}

/// The number of a name such as `blk.3.ffn_down.weight`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// The first and the last eighth of the layers, and every third between.
fn has_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= layers.saturating_mul(7) / 8 || (layer - eighth) % 3 == 2
}

/// Whether a tensor is large, and its values only factors of a product.
fn is_quantised(tensor: &TensorInfo) -> bool {
    const KEPT: [&str; 18] = [
        "_norm.weight",
        "ffn_gate_inp.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d.weight",
        "shortconv.conv.weight",
        "time_mix_first.",
        "time_mix_w",
        "time_mix_a",
        "time_mix_v0.",
        "time_mix_v1.",
        "time_mix_v2.",
        "time_mix_g1.",
        "time_mix_g2.",
        "time_mix_decay_w",
        "time_mix_lerp_fused.",
        "attn_rel_b.weight",
    ];
    let name = tensor.name();
    // Trailing ones are no dimensions.
    tensor.rows() > 1
        && name.ends_with("weight")
        && !["position_embd.weight", "token_types.weight"].contains(&name)
        && !KEPT.iter().any(|part| name.contains(part))
}

/// `wanted`, or the type that takes its place for rows that are not whole blocks of it.
fn fitting(wanted: GgmlType, cols: usize) -> GgmlType {
    let fits = |ggml_type: GgmlType| cols.is_multiple_of(ggml_type.block_elements());
    if fits(wanted) {
        return wanted;
    }
    let other = match wanted {
        GgmlType::Q2_K | GgmlType::Q3_K => GgmlType::Q4_0,
        GgmlType::Q4_K => GgmlType::Q5_0,
        GgmlType::Q5_K => GgmlType::Q5_1,
        GgmlType::Q6_K => GgmlType::Q8_0,
        _ => GgmlType::F16,
    };
    if fits(other) { other } else { GgmlType::F16 }
}
