//! What a file may claim, and what the error must say.

use crate::common::gguf_writer::Kv;
use crate::tiny::{I8, I32, Tensor, Tiny, VOCABULARY, sound};

pub(crate) struct Case {
    /// What is wrong, and whose weakness it was.
    pub(crate) name: &'static str,
    pub(crate) model: Tiny,
    /// What the error's text must contain: the place, then what was found there.
    pub(crate) expected: &'static [&'static str],
}

/// The sound model with one key of `llama` changed.
fn key(name: &'static str, key: &str, value: Kv, expected: &'static [&'static str]) -> Case {
    Case {
        name,
        model: sound().set(&format!("llama.{key}"), value),
        expected,
    }
}

fn case(name: &'static str, model: Tiny, expected: &'static [&'static str]) -> Case {
    Case {
        name,
        model,
        expected,
    }
}
/// All cases.
pub(crate) fn all() -> impl Iterator<Item = Case> {
    let cases = [
        size_cases(),
        head_cases(),
        number_cases(),
        tensor_cases(),
        identity_cases(),
    ];
    cases.into_iter().flatten()
}

fn size_cases() -> Vec<Case> {
    const BLOCKS: &str = "key `llama.block_count`";
    vec![
        key(
            "no layers",
            "block_count",
            Kv::U32(0),
            &[BLOCKS, "from 1 to 4096", "found 0"],
        ),
        key(
            "llama.cpp PR 25821: layers beyond a fixed array",
            "block_count",
            Kv::U32(u32::MAX),
            &[BLOCKS, "found 4294967295"],
        ),
        key(
            "layers beyond u32",
            "block_count",
            Kv::U64(1 << 40),
            &[BLOCKS, "1099511627776"],
        ),
        key(
            "GHSA-2xf2-gjm6-g2c6: layers of another type",
            "block_count",
            Kv::text("2"),
            &[BLOCKS, "an integer", "a string of 1 bytes"],
        ),
        key(
            "negative layers",
            "block_count",
            Kv::I32(-1),
            &[BLOCKS, "found i32 -1"],
        ),
        key(
            "a layer more than there are",
            "block_count",
            Kv::U32(3),
            &["tensor `blk.2.attn_", "no such tensor"],
        ),
        key(
            "a layer less than there are",
            "block_count",
            Kv::U32(1),
            &["tensor `blk.1.", "this tensor is not supported"],
        ),
        case(
            "layers missing",
            sound().without_key("llama.block_count"),
            &[BLOCKS],
        ),
        key(
            "no width",
            "embedding_length",
            Kv::U32(0),
            &["key `llama.embedding_length`", "found 0"],
        ),
        key(
            "a huge width",
            "embedding_length",
            Kv::U32(1 << 31),
            &["key `llama.embedding_length`", "found 2147483648"],
        ),
        key(
            "no hidden width",
            "feed_forward_length",
            Kv::U32(0),
            &["key `llama.feed_forward_length`", "found 0"],
        ),
        key(
            "a hidden width per layer",
            "feed_forward_length",
            Kv::Arr(vec![Kv::U32(48), Kv::U32(40)]),
            &["key `llama.feed_forward_length`", "values that differ"],
        ),
        key(
            "hidden widths of more layers",
            "feed_forward_length",
            Kv::Arr(vec![Kv::U32(48); 3]),
            &[
                "key `llama.feed_forward_length`",
                "each of 2 blocks",
                "found 3",
            ],
        ),
        key(
            "a hidden width of a layer that is none",
            "feed_forward_length",
            Kv::Arr(vec![Kv::U32(48), Kv::U32(0)]),
            &["key `llama.feed_forward_length`", "found 0"],
        ),
        key(
            "no context",
            "context_length",
            Kv::U32(0),
            &["key `llama.context_length`", "found 0"],
        ),
        key(
            "a huge context",
            "context_length",
            Kv::U32(u32::MAX),
            &["key `llama.context_length`", "found 4294967295"],
        ),
        key(
            "experts of which nobody says how many are used",
            "expert_count",
            Kv::U32(8),
            &["key `llama.expert_used_count`", "no such key"],
        ),
        case(
            "experts without a router",
            sound()
                .set("llama.expert_count", Kv::U32(8))
                .set("llama.expert_used_count", Kv::U32(2)),
            &["tensor `blk.0.ffn_gate_exps.weight`", "[32, 48, 8]"],
        ),
        case(
            "more experts used than there are",
            sound()
                .set("llama.expert_count", Kv::U32(8))
                .set("llama.expert_used_count", Kv::U32(9)),
            &["key `llama.expert_used_count`", "from 1 to 8", "found 9"],
        ),
        key(
            "more experts than memory",
            "expert_count",
            Kv::U32(u32::MAX),
            &["key `llama.expert_count`", "found 4294967295"],
        ),
        key(
            "experts of another type",
            "expert_count",
            Kv::F32(8.0),
            &["key `llama.expert_count`", "an integer"],
        ),
    ]
}

fn head_cases() -> Vec<Case> {
    const HEADS: &str = "key `llama.attention.head_count`";
    const KEY_HEADS: &str = "key `llama.attention.head_count_kv`";
    const ROTATED: &str = "key `llama.rope.dimension_count`";
    let lengths = |key: u32, value: u32| {
        sound()
            .set("llama.attention.key_length", Kv::U32(key))
            .set("llama.attention.value_length", Kv::U32(value))
    };
    vec![
        key(
            "no heads",
            "attention.head_count",
            Kv::U32(0),
            &[HEADS, "found 0"],
        ),
        key(
            "huge heads",
            "attention.head_count",
            Kv::U32(1 << 20),
            &[HEADS, "1048576"],
        ),
        key(
            "more heads than values",
            "attention.head_count",
            Kv::U32(64),
            &["key `llama.attention.key_length`", "found 0"],
        ),
        key(
            "no key heads",
            "attention.head_count_kv",
            Kv::U32(0),
            &[KEY_HEADS, "found 0"],
        ),
        key(
            "key heads that do not divide the heads",
            "attention.head_count_kv",
            Kv::U32(3),
            &[KEY_HEADS, "a divisor", "found 3"],
        ),
        key(
            "more key heads than heads",
            "attention.head_count_kv",
            Kv::U32(8),
            &[KEY_HEADS, "from 1 to 4", "found 8"],
        ),
        case(
            "an odd head",
            lengths(7, 7),
            &[ROTATED, "an even number", "found 7"],
        ),
        case("a head of one value", lengths(1, 1), &[ROTATED, "found 1"]),
        case(
            "no head",
            lengths(0, 0),
            &["key `llama.attention.key_length`", "found 0"],
        ),
        case(
            "values longer than the tensor's",
            lengths(8, 16),
            &["tensor `blk.0.attn_v.weight`", "[32, 32]", "[32, 16]"],
        ),
        case(
            "heads of another length than the tensors'",
            lengths(16, 16),
            &["tensor `blk.0.attn_q.weight`", "[32, 64]", "[32, 32]"],
        ),
        key(
            "more rotated values than a head has",
            "rope.dimension_count",
            Kv::U32(16),
            &[ROTATED, "from 2 to 8", "found 16"],
        ),
        key(
            "none rotated",
            "rope.dimension_count",
            Kv::U32(0),
            &[ROTATED, "found 0"],
        ),
        key(
            "an odd one rotated",
            "rope.dimension_count",
            Kv::U32(5),
            &[ROTATED, "found 5"],
        ),
    ]
}

fn number_cases() -> Vec<Case> {
    const EPSILON: &str = "key `llama.attention.layer_norm_rms_epsilon`";
    const BASE: &str = "key `llama.rope.freq_base`";
    const FACTOR: &str = "key `llama.rope.scaling.factor`";
    const ABOVE_0: &str = "a finite number above 0";
    let epsilon = |name, value, expected| {
        key(
            name,
            "attention.layer_norm_rms_epsilon",
            Kv::F32(value),
            expected,
        )
    };
    let base = |name, value, expected| key(name, "rope.freq_base", Kv::F32(value), expected);
    let factor = |name, value, expected| key(name, "rope.scaling.factor", Kv::F32(value), expected);
    let yarn = |key: &str, value| {
        sound()
            .set("llama.rope.scaling.type", Kv::text("yarn"))
            .set("llama.rope.scaling.factor", Kv::F32(4.0))
            .set(&format!("llama.rope.scaling.{key}"), value)
    };
    vec![
        epsilon("epsilon 0", 0.0, &[EPSILON, ABOVE_0, "found 0"]),
        epsilon("epsilon NaN", f32::NAN, &[EPSILON, ABOVE_0, "found NaN"]),
        epsilon(
            "epsilon below 0",
            -1e-5,
            &[EPSILON, ABOVE_0, "found -0.00001"],
        ),
        base("base 0", 0.0, &[BASE, ABOVE_0]),
        base("base NaN", f32::NAN, &[BASE, ABOVE_0, "found NaN"]),
        base(
            "base infinite",
            f32::INFINITY,
            &[BASE, ABOVE_0, "found inf"],
        ),
        base("base below 0", -1e4, &[BASE, ABOVE_0, "found -10000"]),
        key(
            "base of another type",
            "rope.freq_base",
            Kv::U32(10_000),
            &[BASE, "found u32"],
        ),
        factor("factor NaN", f32::NAN, &[FACTOR, ABOVE_0, "found NaN"]),
        factor(
            "factor infinite",
            f32::INFINITY,
            &[FACTOR, ABOVE_0, "found inf"],
        ),
        factor("factor below 0", -2.0, &[FACTOR, ABOVE_0, "found -2"]),
        key(
            "old factor NaN",
            "rope.scale_linear",
            Kv::F32(f32::NAN),
            &["key `llama.rope.scale_linear`", ABOVE_0, "found NaN"],
        ),
        key(
            "unknown scaling",
            "rope.scaling.type",
            Kv::text("su"),
            &["key `llama.rope.scaling.type`", "\"su\" is not supported"],
        ),
        key(
            "scaling of another type",
            "rope.scaling.type",
            Kv::U32(2),
            &["key `llama.rope.scaling.type`", "found u32 2"],
        ),
        case(
            "no original context",
            yarn("original_context_length", Kv::U32(0)),
            &[
                "key `llama.rope.scaling.original_context_length`",
                "found 0",
            ],
        ),
        case(
            "attention factor NaN",
            yarn("attn_factor", Kv::F32(f32::NAN)),
            &["key `llama.rope.scaling.attn_factor`", ABOVE_0],
        ),
    ]
}

fn tensor_cases() -> Vec<Case> {
    let rope = |factors: &[f32]| {
        let shape = [factors.len() as u64];
        sound().put(Tensor::floats("rope_freqs.weight", &shape, factors))
    };
    const EMBEDDING: &str = "tensor `token_embd.weight`";
    const ROPE: &str = "tensor `rope_freqs.weight`";
    vec![
        case(
            "fewer embeddings than tokens",
            sound()
                .put(Tensor::random("token_embd.weight", &[32, 11]))
                .without("output.weight"),
            &[EMBEDDING, "12 tokens", "11 rows"],
        ),
        case(
            "more embeddings than tokens",
            sound()
                .put(Tensor::random("token_embd.weight", &[32, 13]))
                .without("output.weight"),
            &[EMBEDDING, "12 tokens", "13 rows"],
        ),
        case(
            "another vocabulary at the output",
            sound().put(Tensor::random("output.weight", &[32, 13])),
            &["tensor `output.weight`", "[32, 12]", "[32, 13]"],
        ),
        case(
            "a tensor that nobody asks for",
            sound().put(Tensor::random("blk.0.attn_q_norm.weight", &[8])),
            &[
                "tensor `blk.0.attn_q_norm.weight`",
                "a model of architecture llama",
            ],
        ),
        case(
            "fused and split projections",
            sound().put(Tensor::random("blk.1.attn_qkv.weight", &[32, 64])),
            &["tensor `blk.1.attn_", "not supported"],
        ),
        case(
            "a matrix of integers",
            sound().put(Tensor::zeros("blk.0.ffn_up.weight", &[32, 48], I8, 1)),
            &[
                "tensor `blk.0.ffn_up.weight`",
                "type I8 is not supported",
                "Q4_K",
            ],
        ),
        case(
            "a norm of integers",
            sound().put(Tensor::zeros("output_norm.weight", &[32], I32, 4)),
            &["tensor `output_norm.weight`", "type I32 is not supported"],
        ),
        case(
            "RoPE factor 0",
            rope(&[1.0, 0.0, 1.0, 1.0]),
            &[ROPE, "above 0", "found 0"],
        ),
        case(
            "RoPE factor NaN",
            rope(&[f32::NAN; 4]),
            &[ROPE, "above 0", "found NaN"],
        ),
        case(
            "RoPE factor below 0",
            rope(&[-1.0; 4]),
            &[ROPE, "above 0", "found -1"],
        ),
        case(
            "too few RoPE factors",
            rope(&[1.0; 3]),
            &[ROPE, "shape [4]", "shape [3]"],
        ),
    ]
}

fn identity_cases() -> Vec<Case> {
    const ARCHITECTURE: &str = "key `general.architecture`";
    let architecture = |value| sound().set("general.architecture", value);
    vec![
        case(
            "unknown architecture",
            architecture(Kv::text("lama")),
            &[
                ARCHITECTURE,
                "\"lama\" is not supported",
                "llama, ",
                ", qwen2, ",
            ],
        ),
        case(
            "control characters in the architecture",
            architecture(Kv::text("\u{1b}[2J\0")),
            &[ARCHITECTURE, "\\u{1b}[2J\\0"],
        ),
        case(
            "architecture of another type",
            architecture(Kv::U32(1)),
            &[ARCHITECTURE, "found u32 1"],
        ),
        case(
            "no architecture",
            sound().without_key("general.architecture"),
            &[ARCHITECTURE],
        ),
        case(
            "keys of another architecture",
            architecture(Kv::text("qwen2")),
            &["key `qwen2.embedding_length`"],
        ),
        case(
            "no tokenizer",
            sound().without_key("tokenizer.ggml.model"),
            &["`tokenizer.ggml.model`"],
        ),
        case(
            "unknown tokenizer",
            sound().set("tokenizer.ggml.model", Kv::text("abacus")),
            &["key `tokenizer.ggml.model`", "abacus"],
        ),
        case(
            "llama.cpp PR 26690: scores of another type",
            sound().set("tokenizer.ggml.scores", Kv::Arr(vec![Kv::U8(0); 12])),
            &["key `tokenizer.ggml.scores`", "12 u8"],
        ),
        case(
            "llama.cpp 27226: a byte token that names no byte",
            sound().set(
                "tokenizer.ggml.tokens",
                Kv::texts(VOCABULARY.map(|text| if text == "<0x41>" { "<0x-1>" } else { text })),
            ),
            &["key `tokenizer.ggml.tokens`", "<0x-1>"],
        ),
        case(
            "a special token beyond the vocabulary",
            sound().set("tokenizer.ggml.eos_token_id", Kv::U32(12)),
            &["key `tokenizer.ggml.eos_token_id`", "12"],
        ),
    ]
}
