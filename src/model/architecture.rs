//! The table of architectures: what distinguishes one from another, as data.
//!
//! What all share (grouped-query attention, optional biases, fused or split query, key and value, tied
//! embeddings, RoPE scaling) is found from the file's metadata and tensors.

use gristmill_kernels::ops::{Activation, Pairing};

use super::experts::{ExpertRule, Gating, SharedExpert};
use super::recurrent::Sharing;
use crate::gguf::Gguf;
use crate::{Error, Result};

/// What an architecture computes differently from [`LLAMA`].
#[derive(Debug)]
pub(crate) struct Architecture {
    /// `general.architecture`, and the prefix of the metadata keys.
    pub(crate) name: &'static str,
    pub(crate) mixers: Mixers,
    /// Whether a token sees only those before it, where `attention.causal` does not say. If not, the model
    /// is an encoder: it has no logits, and reads a text at once.
    pub(crate) is_causal: bool,
    pub(crate) positions: Positions,
    pub(crate) norm: NormKind,
    pub(crate) layout: Layout,
    /// Names of the tensors of two norms, which differ between architectures. Not all have the second.
    pub(crate) feed_forward_norm: &'static str,
    pub(crate) output_norm: Option<&'static str>,
    pub(crate) query_key_norm: QueryKeyNorm,
    pub(crate) activation: Activation,
    pub(crate) gate: Gate,
    /// `feed_forward_length` is so many times the width of the feed-forward network.
    pub(crate) feed_forward_multiple: usize,
    pub(crate) scales: Scales,
    pub(crate) soft_caps: SoftCaps,
    pub(crate) window: Option<WindowRule>,
    /// With so many blocks the scores are scaled as if a head had `embedding_length / head_count` values.
    pub(crate) wide_scale_blocks: Option<usize>,
    /// Whether attention has an extra logit per head, without a value: the tensor `attn_sinks`.
    pub(crate) sinks: bool,
    pub(crate) yarn: YarnRule,
    /// Whether `rope_factors_short` and `_long` count without `rope.scaling.type`.
    pub(crate) long_rope: bool,
    /// How files with experts use them.
    pub(crate) experts: Option<ExpertRule>,
}

/// What mixes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mixers {
    /// Grouped-query attention.
    Attention,
    /// Multi-head latent attention.
    Latent,
    /// Gated delta nets, and attention with gated outputs in the last of every few blocks.
    DeltaNet(Sharing),
    /// Short convolutions in blocks without key heads, attention in the others.
    ShortConvolution,
}

/// How a token's position enters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Positions {
    /// Queries and keys rotate.
    Rope(Pairing),
    /// As `Rope`, but in blocks 3, 7, 11, … nothing rotates.
    RopeExceptFourth(Pairing),
    /// A row of the matrix `position_embd` is added to the token's embedding.
    Learned,
    /// Baichuan 7B (32 blocks) rotates adjacent values, 13B (40 blocks) has linear biases of at most 8
    /// (ALiBi). Other sizes were not published; llama.cpp gives them no positions at all.
    Baichuan,
}

/// What a norm divides by. A bias is added where the file has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// The root of the mean square.
    Rms,
    /// The standard deviation, after the mean was subtracted.
    Layer,
}

/// How norms, attention (A), feed-forward network (F) and the residual stream `x` go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `x += A(norm x); x += F(norm x)`
    Sequential,
    /// `x += A(n) + F(n)` with `n = norm x`. A second norm `attn_norm_2`, if there is one, is that of A.
    Parallel,
    /// `Parallel` where the file has no norm of the feed-forward network, else `Sequential`.
    ParallelWithoutNorm,
    /// `x += norm A(norm x); x += norm F(norm x)`
    Sandwich,
    /// `x += norm A(x); x += norm F(x)`
    After,
    /// `x = norm(x + A(x)); x = norm(x + F(x))`, and `x = norm x` before the first block.
    AfterSum,
}

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryKeyNorm {
    None,
    /// Of each head, before it rotates.
    Head,
    /// Of each head, after it has rotated.
    RotatedHead,
    /// Of all heads of a token together.
    Row,
    /// Layer norm of each head with weights of its own, where the file has them.
    OwnHead,
}

/// How a feed-forward network is gated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// `down(activation(gate x) * up x)`
    Separate,
    /// The same, and the tensor `ffn_up` holds the rows of the gate, then those of up.
    Fused,
    /// `down(activation(up x))`
    None,
}

/// Factors of embeddings, branches, scores and logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    None,
    /// Embeddings times the root of their length.
    Gemma,
    /// Embeddings, the outputs of attention and feed-forward network, and scores are multiplied by the
    /// values of keys, logits divided.
    Granite,
    /// As `Granite`, with values where the keys are missing: 12, `1.4 / sqrt(block_count)`, and
    /// `256 / embedding_length`.
    MiniCpm,
    /// Logits are multiplied by `logit_scale`.
    CommandR,
}

/// Bounds of scores and of logits, `cap * tanh(x / cap)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SoftCaps {
    None,
    /// Of logits, where the key is there.
    Logits,
    /// These where the keys are missing.
    Both {
        scores: f32,
        logits: f32,
    },
}

/// Which blocks see only a window of positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WindowRule {
    /// Where the key is missing. Without a value there is no window then.
    pub(crate) default: Option<usize>,
    /// Every block that is last of so many sees everything.
    pub(crate) pattern: usize,
    /// Whether half of an encoder's window lies before a token and half behind it; otherwise all of it
    /// lies before.
    pub(crate) is_symmetric: bool,
    /// Whether RoPE is scaled in blocks with a window as elsewhere.
    pub(crate) scaled: bool,
    /// RoPE's base in blocks with a window where `rope.freq_base_swa` is missing; none for that of the
    /// others.
    pub(crate) freq_base: Option<f32>,
}

/// Which metadata YaRN has, besides what all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum YarnRule {
    /// That of the paper; other keys are ignored, as llama.cpp does.
    Standard,
    /// Also `yarn_beta_fast`, `yarn_beta_slow` and `yarn_log_multiplier`.
    OwnKeys,
    /// `yarn_log_multiplier` is a tenth of the `mscale_all_dim` of DeepSeek V2, which scores grow by.
    Latent,
}

/// The common form; every other entry says what it does differently.
const LLAMA: Architecture = Architecture {
    name: "llama",
    mixers: Mixers::Attention,
    is_causal: true,
    positions: Positions::Rope(Pairing::Adjacent),
    norm: NormKind::Rms,
    layout: Layout::Sequential,
    feed_forward_norm: "ffn_norm",
    output_norm: Some("output_norm"),
    query_key_norm: QueryKeyNorm::None,
    activation: Activation::Silu,
    gate: Gate::Separate,
    feed_forward_multiple: 1,
    scales: Scales::None,
    soft_caps: SoftCaps::None,
    window: None,
    wide_scale_blocks: None,
    sinks: false,
    yarn: YarnRule::Standard,
    long_rope: false,
    experts: Some(MIXTRAL),
};

/// Experts as those of Mixtral, a model of the architecture `llama`.
const MIXTRAL: ExpertRule = ExpertRule {
    gating: Gating::Softmax,
    normalize: true,
    has_keys: false,
    own_length: false,
    shared: SharedExpert::None,
};

const QWEN3_EXPERTS: ExpertRule = ExpertRule {
    own_length: true,
    ..MIXTRAL
};

const HALVES: Positions = Positions::Rope(Pairing::Halves);

const QWEN2: Architecture = Architecture {
    name: "qwen2",
    positions: HALVES,
    experts: None,
    ..LLAMA
};

const PHI2: Architecture = Architecture {
    name: "phi2",
    positions: HALVES,
    norm: NormKind::Layer,
    layout: Layout::Parallel,
    activation: Activation::Gelu,
    gate: Gate::None,
    experts: None,
    ..LLAMA
};

const GEMMA: Architecture = Architecture {
    name: "gemma",
    positions: HALVES,
    activation: Activation::Gelu,
    scales: Scales::Gemma,
    experts: None,
    ..LLAMA
};

const GEMMA3: Architecture = Architecture {
    name: "gemma3",
    layout: Layout::Sandwich,
    query_key_norm: QueryKeyNorm::Head,
    soft_caps: SoftCaps::Logits,
    window: Some(WindowRule {
        default: None,
        pattern: 6,
        is_symmetric: false,
        scaled: false,
        freq_base: Some(10_000.0),
    }),
    wide_scale_blocks: Some(62),
    ..GEMMA
};

/// Encoders.
const BERT: Architecture = Architecture {
    name: "bert",
    is_causal: false,
    positions: Positions::Learned,
    norm: NormKind::Layer,
    layout: Layout::AfterSum,
    output_norm: None,
    activation: Activation::Gelu,
    gate: Gate::None,
    experts: None,
    ..LLAMA
};

const HUNYUAN: Architecture = Architecture {
    name: "hunyuan-dense",
    query_key_norm: QueryKeyNorm::RotatedHead,
    ..QWEN2
};

const QWEN3: Architecture = Architecture {
    name: "qwen3",
    query_key_norm: QueryKeyNorm::Head,
    ..QWEN2
};

const QWEN35: Architecture = Architecture {
    name: "qwen35",
    mixers: Mixers::DeltaNet(Sharing::Interleaved),
    feed_forward_norm: "post_attention_norm",
    ..QWEN3
};

/// Every architecture that runs. Source: the models as llama.cpp evaluates them.
const ARCHITECTURES: &[Architecture] = &[
    LLAMA,
    Architecture {
        name: "baichuan",
        positions: Positions::Baichuan,
        experts: None,
        ..LLAMA
    },
    BERT,
    Architecture {
        name: "command-r",
        norm: NormKind::Layer,
        layout: Layout::Parallel,
        query_key_norm: QueryKeyNorm::OwnHead,
        scales: Scales::CommandR,
        experts: None,
        ..LLAMA
    },
    Architecture {
        name: "deepseek",
        experts: Some(ExpertRule {
            normalize: false,
            own_length: true,
            shared: SharedExpert::Count,
            ..MIXTRAL
        }),
        ..LLAMA
    },
    Architecture {
        name: "deepseek2",
        mixers: Mixers::Latent,
        yarn: YarnRule::Latent,
        experts: Some(ExpertRule {
            normalize: false,
            has_keys: true,
            own_length: true,
            shared: SharedExpert::Count,
            ..MIXTRAL
        }),
        ..LLAMA
    },
    Architecture {
        name: "ernie4_5",
        experts: None,
        ..LLAMA
    },
    Architecture {
        name: "ernie4_5-moe",
        experts: Some(ExpertRule {
            own_length: true,
            shared: SharedExpert::Length,
            ..MIXTRAL
        }),
        ..LLAMA
    },
    Architecture {
        name: "falcon",
        ..PHI2
    },
    GEMMA,
    Architecture {
        name: "gemma2",
        layout: Layout::Sandwich,
        soft_caps: SoftCaps::Both {
            scores: 50.0,
            logits: 30.0,
        },
        window: Some(WindowRule {
            default: Some(4096),
            pattern: 2,
            is_symmetric: false,
            scaled: true,
            freq_base: None,
        }),
        wide_scale_blocks: Some(46),
        ..GEMMA
    },
    GEMMA3,
    Architecture {
        name: "gemma-embedding",
        is_causal: false,
        soft_caps: SoftCaps::None,
        window: Some(WindowRule {
            default: None,
            pattern: 6,
            is_symmetric: true,
            scaled: false,
            freq_base: Some(10_000.0),
        }),
        wide_scale_blocks: None,
        ..GEMMA3
    },
    Architecture {
        name: "glm4",
        layout: Layout::Sandwich,
        gate: Gate::Fused,
        experts: None,
        ..LLAMA
    },
    Architecture {
        name: "gpt2",
        positions: Positions::Learned,
        layout: Layout::Sequential,
        ..PHI2
    },
    Architecture {
        name: "gpt-oss",
        feed_forward_norm: "post_attention_norm",
        activation: Activation::ClampedSilu,
        window: Some(WindowRule {
            default: None,
            pattern: 2,
            is_symmetric: false,
            scaled: true,
            freq_base: None,
        }),
        sinks: true,
        experts: Some(ExpertRule {
            gating: Gating::SoftmaxOfSelected,
            own_length: true,
            ..MIXTRAL
        }),
        ..QWEN2
    },
    Architecture {
        name: "granite",
        scales: Scales::Granite,
        ..LLAMA
    },
    HUNYUAN,
    Architecture {
        name: "hunyuan-moe",
        experts: Some(ExpertRule {
            shared: SharedExpert::Length,
            ..MIXTRAL
        }),
        ..HUNYUAN
    },
    Architecture {
        name: "internlm2",
        experts: None,
        ..LLAMA
    },
    Architecture {
        name: "lfm2",
        mixers: Mixers::ShortConvolution,
        output_norm: Some("token_embd_norm"),
        ..QWEN3
    },
    Architecture {
        name: "minicpm",
        scales: Scales::MiniCpm,
        experts: None,
        ..LLAMA
    },
    Architecture {
        name: "mistral3",
        yarn: YarnRule::OwnKeys,
        ..LLAMA
    },
    Architecture {
        name: "nomic-bert",
        positions: HALVES,
        activation: Activation::Silu,
        gate: Gate::Separate,
        ..BERT
    },
    Architecture {
        name: "olmo2",
        layout: Layout::After,
        query_key_norm: QueryKeyNorm::Row,
        window: Some(WindowRule {
            default: None,
            pattern: 4,
            is_symmetric: false,
            scaled: false,
            freq_base: None,
        }),
        ..QWEN2
    },
    PHI2,
    Architecture {
        name: "phi3",
        gate: Gate::Fused,
        long_rope: true,
        ..QWEN2
    },
    Architecture {
        name: "phimoe",
        long_rope: true,
        experts: Some(MIXTRAL),
        ..QWEN2
    },
    Architecture {
        name: "qwen",
        feed_forward_multiple: 2,
        ..QWEN2
    },
    QWEN2,
    Architecture {
        name: "qwen2moe",
        experts: Some(ExpertRule {
            normalize: false,
            shared: SharedExpert::Gated,
            ..QWEN3_EXPERTS
        }),
        ..QWEN2
    },
    QWEN3,
    QWEN35,
    Architecture {
        name: "qwen3moe",
        experts: Some(QWEN3_EXPERTS),
        ..QWEN3
    },
    Architecture {
        name: "qwen3next",
        mixers: Mixers::DeltaNet(Sharing::Grouped),
        experts: Some(ExpertRule {
            shared: SharedExpert::Gated,
            ..QWEN3_EXPERTS
        }),
        ..QWEN35
    },
    Architecture {
        name: "seed_oss",
        feed_forward_norm: "post_attention_norm",
        ..QWEN2
    },
    Architecture {
        name: "smollm3",
        positions: Positions::RopeExceptFourth(Pairing::Adjacent),
        experts: None,
        ..LLAMA
    },
    Architecture {
        name: "stablelm",
        norm: NormKind::Layer,
        layout: Layout::ParallelWithoutNorm,
        query_key_norm: QueryKeyNorm::OwnHead,
        ..QWEN2
    },
    Architecture {
        name: "starcoder2",
        layout: Layout::Sequential,
        ..PHI2
    },
];

impl Architecture {
    /// The architecture of a file.
    pub(crate) fn of(gguf: &Gguf) -> Result<&'static Architecture> {
        const KEY: &str = "general.architecture";
        let name: String = gguf.require(KEY)?;
        let found = ARCHITECTURES
            .iter()
            .find(|architecture| architecture.name == name);
        found.ok_or_else(|| Error::Unsupported {
            place: gguf.place_of_key(KEY),
            what: format!("architecture {name:?}"),
            supported: Self::names().collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether what attention gives is multiplied by the sigmoid of values behind each query head.
    pub(crate) fn gates_attention(&self) -> bool {
        matches!(self.mixers, Mixers::DeltaNet(_))
    }

    /// The names of all that run.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        ARCHITECTURES.iter().map(|architecture| architecture.name)
    }
}
