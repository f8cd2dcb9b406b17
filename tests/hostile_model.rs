//! Models that lie about themselves: metadata, tensors, weights and requests that a model must refuse
//! with an error that names the place, or survive, but never panic at.
//!
//! The identifiers are those of published weaknesses of GGUF runtimes that the case stands for. Files
//! that are damaged as containers are in `hostile_gguf.rs`.

mod common;

use std::sync::LazyLock;

use common::gguf_writer::{GgufWriter, Kv};
use common::spec::weights;
use gristmill::gguf::Gguf;
use gristmill::{
    CacheType, GenerateOptions, Level, Model, SamplerChain, SamplingOptions, Session,
    SessionOptions,
};
use gristmill_kernels::Format;
use proptest::prelude::*;

/// Numbers of `enum ggml_type`.
const F32: u32 = 0;
const I8: u32 = 24;
const I32: u32 = 26;

/// A small sound model whose parts can be replaced before it is written.
#[derive(Clone)]
struct Tiny {
    metadata: Vec<(String, Kv)>,
    tensors: Vec<Tensor>,
}

#[derive(Clone)]
struct Tensor {
    name: String,
    /// In GGUF order.
    shape: Vec<u64>,
    ggml_type: u32,
    data: Vec<u8>,
}

impl Tensor {
    fn floats(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
        Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            ggml_type: F32,
            data: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// Zeros of a type whose values take `bytes`.
    fn zeros(name: &str, shape: &[u64], ggml_type: u32, bytes: usize) -> Tensor {
        let count = shape.iter().product::<u64>() as usize;
        Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            ggml_type,
            data: vec![0; count * bytes],
        }
    }

    fn random(name: &str, shape: &[u64]) -> Tensor {
        let count = shape.iter().product::<u64>() as usize;
        let offset = if name.ends_with("norm.weight") {
            1.0
        } else {
            0.0
        };
        Tensor::floats(name, shape, &weights(name, 7, count, 0.3, offset))
    }
}

const VOCABULARY: [&str; 12] = [
    "<unk>",
    "<s>",
    "</s>",
    "<0x41>",
    "\u{2581}",
    "a",
    "b",
    "c",
    "ab",
    "\u{2581}a",
    "\u{2581}ab",
    "bc",
];

impl Tiny {
    /// A `llama` model of two layers, four heads and two key heads.
    fn new(width: u32, hidden: u32) -> Tiny {
        let vocab = VOCABULARY.len() as u64;
        let kinds = [2, 3, 3, 6]
            .into_iter()
            .chain([1; 8])
            .map(Kv::I32)
            .collect();
        let scores = (0..vocab).map(|id| Kv::F32(-(id as f32))).collect();
        let mut tiny = Tiny {
            metadata: Vec::new(),
            tensors: Vec::new(),
        }
        .set("general.architecture", Kv::text("llama"))
        .set("llama.context_length", Kv::U32(32))
        .set("llama.embedding_length", Kv::U32(width))
        .set("llama.block_count", Kv::U32(2))
        .set("llama.feed_forward_length", Kv::U32(hidden))
        .set("llama.attention.head_count", Kv::U32(4))
        .set("llama.attention.head_count_kv", Kv::U32(2))
        .set("llama.attention.layer_norm_rms_epsilon", Kv::F32(1e-5))
        .set("tokenizer.ggml.model", Kv::text("llama"))
        .set("tokenizer.ggml.tokens", Kv::texts(VOCABULARY))
        .set("tokenizer.ggml.scores", Kv::Arr(scores))
        .set("tokenizer.ggml.token_type", Kv::Arr(kinds));
        let (width, hidden) = (u64::from(width), u64::from(hidden));
        tiny.add("token_embd.weight", &[width, vocab]);
        tiny.add("output.weight", &[width, vocab]);
        tiny.add("output_norm.weight", &[width]);
        for block in 0..2 {
            let mut add = |part: &str, shape: &[u64]| {
                tiny.add(&format!("blk.{block}.{part}.weight"), shape);
            };
            add("attn_norm", &[width]);
            add("attn_q", &[width, width]);
            add("attn_k", &[width, width / 2]);
            add("attn_v", &[width, width / 2]);
            add("attn_output", &[width, width]);
            add("ffn_norm", &[width]);
            add("ffn_gate", &[width, hidden]);
            add("ffn_up", &[width, hidden]);
            add("ffn_down", &[hidden, width]);
        }
        tiny
    }

    fn add(&mut self, name: &str, shape: &[u64]) {
        self.tensors.push(Tensor::random(name, shape));
    }

    /// Replaces the value of a key, or adds it.
    fn set(mut self, key: &str, value: Kv) -> Tiny {
        self.metadata.retain(|(other, _)| other != key);
        self.metadata.push((key.to_owned(), value));
        self
    }

    fn without_key(mut self, key: &str) -> Tiny {
        self.metadata.retain(|(other, _)| other != key);
        self
    }

    /// Replaces the tensor of that name, or adds it.
    fn put(mut self, tensor: Tensor) -> Tiny {
        self.tensors.retain(|other| other.name != tensor.name);
        self.tensors.push(tensor);
        self
    }

    fn without(mut self, name: &str) -> Tiny {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    fn file(&self) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        for (key, value) in &self.metadata {
            writer = writer.kv(key, value.clone());
        }
        for tensor in &self.tensors {
            writer = writer.tensor(&tensor.name, &tensor.shape, tensor.ggml_type, &tensor.data);
        }
        writer.build()
    }

    fn load(&self) -> gristmill::Result<Model> {
        load(self.file(), Level::detect())
    }
}

/// The sound model that the cases change.
fn sound() -> Tiny {
    Tiny::new(32, 48)
}

fn load(file: Vec<u8>, level: Level) -> gristmill::Result<Model> {
    let gguf = Gguf::from_bytes(file)?;
    Model::builder().threads(1).level(level).load(gguf)
}

struct Case {
    /// What is wrong, and whose weakness it was.
    name: &'static str,
    model: Tiny,
    /// What the error's text must contain: the place, then what was found there.
    expected: &'static [&'static str],
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

#[test]
fn hostile_models_end_in_errors_that_name_the_place() {
    let cases = [
        size_cases(),
        head_cases(),
        number_cases(),
        tensor_cases(),
        identity_cases(),
    ];
    for case in cases.into_iter().flatten() {
        let Case {
            name,
            model,
            expected,
        } = case;
        let text = match model.load() {
            Ok(_) => panic!("{name}: loaded"),
            Err(error) => error.to_string(),
        };
        for part in expected.iter().chain(&["<memory>: "]) {
            assert!(text.contains(part), "{name}: {part:?} not in {text:?}");
        }
        assert!(text.len() < 500, "{name}: {text}");
    }
}

#[test]
fn every_tensor_must_be_there_in_its_shape() {
    for Tensor { name, shape, .. } in sound().tensors {
        let place = format!("<memory>: tensor `{name}`: expected shape [");
        let check = |what: &str, model: Tiny| {
            let text = match model.load() {
                Ok(_) => panic!("{name} {what}: loaded"),
                Err(error) => error.to_string(),
            };
            assert!(text.starts_with(&place), "{name} {what}: {text}");
        };
        if name != "output.weight" {
            check("is missing", sound().without(&name));
        }
        let longer = [&[shape[0] + 1], &shape[1..]].concat();
        check(
            "has longer rows",
            sound().put(Tensor::random(&name, &longer)),
        );
        // Any number of embeddings is a shape: the tokenizer's vocabulary is compared later.
        if name != "token_embd.weight" {
            let rows = shape.get(1).map_or(2, |rows| rows + 1);
            let more = Tensor::random(&name, &[shape[0], rows]);
            check("has more rows", sound().put(more));
        }
        let deep = Tensor::random(&name, &[shape[0], shape.get(1).copied().unwrap_or(1), 2]);
        check("has another dimension", sound().put(deep));
    }
}

#[test]
fn the_model_that_the_cases_change_is_sound() {
    let model = sound().load().expect("sound");
    let completion = model
        .generate("ab", &GenerateOptions::new().max_tokens(4))
        .expect("sound");
    assert!(!completion.tokens.is_empty());
    let mut session = model.session().expect("memory");
    session.feed(&[1, 10, 7]).expect("room");
    assert!(session.logits().iter().all(|logit| logit.is_finite()));
    let tied = sound().without("output.weight").load().expect("tied");
    assert_eq!(tied.vocab_size(), 12);
}

fn argument(result: gristmill::Result<Session>, expected: &[&str]) {
    let text = match result {
        Ok(session) => panic!("a session of {} positions", session.context_length()),
        Err(error) => error.to_string(),
    };
    for part in expected.iter().chain(&["option context_length"]) {
        assert!(text.contains(part), "{part:?} not in {text:?}");
    }
}

#[test]
fn a_context_that_memory_cannot_hold_is_an_error() {
    let model = sound().load().expect("sound");
    let session = |positions| model.session_with(&SessionOptions::new().context_length(positions));
    argument(session(0), &["at least 1", "found 0"]);
    for positions in [1 << 44, 1 << 57, 1 << 62, usize::MAX / 2, usize::MAX] {
        argument(
            session(positions),
            &["fits into memory", &positions.to_string()],
        );
    }
}

/// The system promises each layer's part where it would refuse the whole.
#[test]
#[cfg(target_os = "linux")]
fn a_context_of_which_memory_holds_only_each_part_is_an_error() {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    if read("/proc/sys/vm/overcommit_memory").trim() != "0" {
        println!("skipped: this system promises memory that it does not have, or none");
        return;
    }
    let kilobytes = |name: &str| -> usize {
        let info = read("/proc/meminfo");
        let line = info
            .lines()
            .find(|line| line.starts_with(name))
            .expect("a line");
        line.split_whitespace()
            .nth(1)
            .and_then(|kb| kb.parse().ok())
            .expect("a number")
    };
    let memory = 1024 * (kilobytes("MemTotal:") + kilobytes("SwapTotal:"));
    let model = sound().load().expect("sound");
    // Two layers of keys and values: four parts of 2 heads of 8 values of 2 bytes.
    let positions = memory / 5 * 4 / 32;
    argument(
        model.session_with(&SessionOptions::new().context_length(positions)),
        &["fits into memory"],
    );
}

#[test]
fn tokens_that_do_not_exist_are_an_error() {
    let model = sound().load().expect("sound");
    let mut session = model.session().expect("memory");
    for token in [12, 1 << 31, u32::MAX] {
        let text = session
            .feed(&[1, token])
            .expect_err("no such token")
            .to_string();
        assert!(text.contains("ids below 12"), "{text}");
        assert!(text.contains(&token.to_string()), "{text}");
    }
    assert_eq!(session.position(), 0);
    assert!(session.truncate(usize::MAX).is_err());
    assert!(session.feed(&[1; 33]).is_err(), "33 tokens in 32 positions");
}

/// A model whose matrices are of one format and hold the same few bytes over and over.
fn filled(format: Format, pattern: &[u8]) -> Tiny {
    let mut tiny = Tiny::new(256, 256);
    for tensor in tiny
        .tensors
        .iter_mut()
        .filter(|tensor| tensor.shape.len() == 2)
    {
        let row = format
            .row_bytes(tensor.shape[0] as usize)
            .expect("whole blocks");
        let bytes = row * tensor.shape[1] as usize;
        tensor.ggml_type = format.ggml_type();
        tensor.data = pattern.iter().copied().cycle().take(bytes).collect();
    }
    tiny
}

/// Evaluates a prompt and single tokens and samples, whatever the logits are.
fn exercise(model: &Model, cache_type: CacheType) {
    let options = SessionOptions::new().cache_type(cache_type);
    let mut session = model.session_with(&options).expect("memory");
    let random = SamplingOptions {
        temperature: 0.7,
        seed: Some(1),
        ..SamplingOptions::default()
    };
    for sampling in [SamplingOptions::default(), random] {
        let mut sampler = SamplerChain::new(&sampling).expect("sound options");
        session.clear();
        session.feed(&[1, 5, 6, 7, 8, 9, 10, 11, 5]).expect("room");
        for _ in 0..2 {
            // Without any number there is nothing to choose.
            let token = sampler.sample(session.logits()).unwrap_or(0);
            assert!((token as usize) < model.vocab_size());
            session.feed(&[token]).expect("room");
        }
    }
}

#[test]
fn weights_without_sense_do_not_panic() {
    let noise: Vec<u8> = weights("noise", 3, 4099, 128.0, 128.0)
        .iter()
        .map(|&x| x as u8)
        .collect();
    // As f16: NaN, infinity, the largest number, anything. As bf16 and f32 the same, but for the
    // f16 infinity, so they have their own.
    let patterns: [&[u8]; 6] = [
        &[0xff],
        &[0x00, 0x7c],
        &[0xff, 0x7b],
        &[0x00, 0x00, 0x80, 0x7f],
        &[0xff, 0xff, 0x7f, 0x7f],
        &noise,
    ];
    for &format in Format::ALL {
        for pattern in patterns {
            let file = filled(format, pattern).file();
            for level in Level::available() {
                let model = load(file.clone(), level).expect("sound but for the weights");
                exercise(&model, CacheType::F16);
                exercise(&model, CacheType::F32);
            }
        }
    }
}

#[test]
fn norms_and_angles_without_sense_do_not_panic() {
    for value in [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 0.0] {
        for name in [
            "blk.0.attn_norm.weight",
            "blk.1.ffn_norm.weight",
            "output_norm.weight",
        ] {
            let norm = Tensor::floats(name, &[32], &[value; 32]);
            exercise(&sound().put(norm).load().expect("a shape"), CacheType::F16);
        }
    }
    let extremes = [f32::MIN_POSITIVE, 1e-45, 1.0, f32::MAX];
    for base in extremes {
        for factor in extremes {
            let model = sound()
                .set("llama.rope.freq_base", Kv::F32(base))
                .set("llama.rope.scaling.type", Kv::text("yarn"))
                .set("llama.rope.scaling.factor", Kv::F32(factor))
                .set("llama.rope.scaling.attn_factor", Kv::F32(factor));
            exercise(&model.load().expect("in range"), CacheType::F16);
        }
    }
}

static SOUND: LazyLock<(Vec<u8>, usize)> = LazyLock::new(|| {
    let tiny = sound();
    let file = tiny.file();
    let data: usize = tiny.tensors.iter().map(|tensor| tensor.data.len()).sum();
    let header = file.len() - data;
    (file, header)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn flipped_bytes_fail_to_open_or_evaluate_but_never_panic(
        in_header in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..3),
        anywhere in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..8),
    ) {
        let (mut file, header) = SOUND.clone();
        for (index, flip) in in_header {
            file[index.index(header)] ^= flip;
        }
        for (index, flip) in anywhere {
            let index = index.index(file.len());
            file[index] ^= flip;
        }
        match load(file, Level::detect()) {
            Ok(model) => {
                // An error is as good as a text.
                let _ = model.generate("ab a", &GenerateOptions::new().max_tokens(3));
            }
            Err(error) => prop_assert!(error.to_string().contains("<memory>: "), "{error}"),
        }
    }
}
