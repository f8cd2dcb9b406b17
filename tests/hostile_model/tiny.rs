//! A small sound model, in parts.

use crate::common::gguf_writer::{GgufWriter, Kv};
use crate::common::spec::weights;
use gristmill::gguf::Gguf;
use gristmill::{Level, Model};

/// Numbers of `enum ggml_type`.
const F32: u32 = 0;
pub(crate) const I8: u32 = 24;
pub(crate) const I32: u32 = 26;

/// A small sound model whose parts can be replaced before it is written.
#[derive(Clone)]
pub(crate) struct Tiny {
    pub(crate) metadata: Vec<(String, Kv)>,
    pub(crate) tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// In GGUF order.
    pub(crate) shape: Vec<u64>,
    pub(crate) ggml_type: u32,
    pub(crate) data: Vec<u8>,
}

impl Tensor {
    pub(crate) fn floats(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
        Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            ggml_type: F32,
            data: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// Zeros of a type whose values take `bytes`.
    pub(crate) fn zeros(name: &str, shape: &[u64], ggml_type: u32, bytes: usize) -> Tensor {
        let count = shape.iter().product::<u64>() as usize;
        Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            ggml_type,
            data: vec![0; count * bytes],
        }
    }

    pub(crate) fn random(name: &str, shape: &[u64]) -> Tensor {
        let count = shape.iter().product::<u64>() as usize;
        let offset = if name.ends_with("norm.weight") {
            1.0
        } else {
            0.0
        };
        Tensor::floats(name, shape, &weights(name, 7, count, 0.3, offset))
    }
}

pub(crate) const VOCABULARY: [&str; 12] = [
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
    pub(crate) fn new(width: u32, hidden: u32) -> Tiny {
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

    pub(crate) fn add(&mut self, name: &str, shape: &[u64]) {
        self.tensors.push(Tensor::random(name, shape));
    }

    /// Replaces the value of a key, or adds it.
    pub(crate) fn set(mut self, key: &str, value: Kv) -> Tiny {
        self.metadata.retain(|(other, _)| other != key);
        self.metadata.push((key.to_owned(), value));
        self
    }

    pub(crate) fn without_key(mut self, key: &str) -> Tiny {
        self.metadata.retain(|(other, _)| other != key);
        self
    }

    /// Replaces the tensor of that name, or adds it.
    pub(crate) fn put(mut self, tensor: Tensor) -> Tiny {
        self.tensors.retain(|other| other.name != tensor.name);
        self.tensors.push(tensor);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Tiny {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        for (key, value) in &self.metadata {
            writer = writer.kv(key, value.clone());
        }
        for tensor in &self.tensors {
            writer = writer.tensor(&tensor.name, &tensor.shape, tensor.ggml_type, &tensor.data);
        }
        writer.build()
    }

    pub(crate) fn load(&self) -> gristmill::Result<Model> {
        load(self.file(), Level::detect())
    }
}

/// The sound model that the cases change.
pub(crate) fn sound() -> Tiny {
    Tiny::new(32, 48)
}

pub(crate) fn load(file: Vec<u8>, level: Level) -> gristmill::Result<Model> {
    let gguf = Gguf::from_bytes(file)?;
    Model::builder().threads(1).level(level).load(gguf)
}
