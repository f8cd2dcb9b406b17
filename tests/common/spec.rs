//! Tiny random models with golden logits: `tests/golden/*.json`.
//!
//! A specification describes a model completely (metadata, tensors, how to generate every weight)
//! and holds the logits that llama.cpp (library version 0.5.0, ggml 0.25.3) computes for it with
//! F32 weights and an F32 cache. No weights are stored: [`Spec::gguf`] makes the file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::gguf_writer::{GgufWriter, Kv};

/// A model and what it must compute.
#[derive(Debug, Deserialize)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// `general.architecture`.
    pub(crate) arch: String,
    pub(crate) seed: u64,
    /// The context size to evaluate with.
    pub(crate) n_ctx: usize,
    pub(crate) kv: Vec<(String, String, Value)>,
    /// Name, shape in GGUF order, scale, offset.
    pub(crate) tensors: Vec<(String, Vec<u64>, f32, f32)>,
    /// The prompt, at positions from 0; no BOS is to be added.
    pub(crate) tokens: Vec<u32>,
    /// The positions whose logits are stored.
    #[serde(default)]
    pub(crate) rows: Vec<usize>,
    /// For each of `rows`, the logits of the whole vocabulary.
    #[serde(default)]
    pub(crate) logits: Vec<Vec<f32>>,
    /// What an encoder makes of the first tokens, in place of logits.
    #[serde(default)]
    pub(crate) embeddings: Vec<Embedding>,
    /// Architectures with GELU only: the logits with GELU in f32, not rounded to f16.
    pub(crate) logits_gelu_f32: Option<Vec<Vec<f32>>>,
}

/// The vector of a text. Its length is not 1.
#[derive(Debug, Deserialize)]
pub(crate) struct Embedding {
    /// How many tokens of the prompt the text has.
    pub(crate) tokens: usize,
    /// `mean`, `first` or `last`.
    pub(crate) pooling: String,
    pub(crate) vector: Vec<f32>,
    /// Architectures with GELU only: the vector with GELU not rounded to f16, evaluated in f64.
    pub(crate) vector_gelu_f32: Option<Vec<f32>>,
}

impl Spec {
    /// Reads `tests/golden/NAME.json`.
    pub(crate) fn golden(name: &str) -> Spec {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        Spec::read(&folder.join(format!("{name}.json")))
    }

    /// Reads any specification.
    pub(crate) fn read(path: &Path) -> Spec {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The model as a GGUF file, laid out as the one that the golden logits were computed from.
    pub(crate) fn gguf(&self) -> Vec<u8> {
        self.gguf_with(|_, value| Some(value))
    }

    /// The same with other metadata: `change` gets each key and its value.
    pub(crate) fn gguf_with(&self, change: impl Fn(&str, Kv) -> Option<Kv>) -> Vec<u8> {
        let mut writer = self.metadata(change);
        for (name, shape, data) in self.data() {
            writer = writer.f32_tensor(name, shape, &data);
        }
        writer.build()
    }

    /// A file without tensors.
    pub(crate) fn metadata(&self, change: impl Fn(&str, Kv) -> Option<Kv>) -> GgufWriter {
        let mut writer = GgufWriter::new();
        for (key, kind, value) in &self.kv {
            if let Some(value) = change(key, kv(kind, value)) {
                writer = writer.kv(key, value);
            }
        }
        writer
    }

    /// Names, shapes and values of all tensors.
    pub(crate) fn data(&self) -> impl Iterator<Item = (&str, &[u64], Vec<f32>)> {
        self.tensors.iter().map(|(name, shape, scale, offset)| {
            let count = shape.iter().product::<u64>() as usize;
            let data = weights(name, self.seed, count, *scale, *offset);
            (name.as_str(), &shape[..], data)
        })
    }
}

fn kv(kind: &str, value: &Value) -> Kv {
    let unsigned = |v: &Value| Kv::U32(v.as_u64().unwrap().try_into().unwrap());
    let signed = |v: &Value| Kv::I32(v.as_i64().unwrap().try_into().unwrap());
    let elements = || value.as_array().unwrap().iter();
    match kind {
        "str" => Kv::text(value.as_str().unwrap()),
        "u32" => unsigned(value),
        // Parsed from the decimal text, so that it is rounded once.
        "f32" => Kv::F32(value.to_string().parse().unwrap()),
        "bool" => Kv::Bool(value.as_bool().unwrap()),
        "arr:u32" => Kv::Arr(elements().map(unsigned).collect()),
        "arr:i32" => Kv::Arr(elements().map(signed).collect()),
        other => panic!("unknown kind {other}"),
    }
}

/// The elements of a tensor: SplitMix64, seeded by the tensor's name, as numbers from
/// `offset - scale` to `offset + scale`.
pub(crate) fn weights(name: &str, seed: u64, count: usize, scale: f32, offset: f32) -> Vec<f32> {
    let base = fnv1a64(name.as_bytes()) ^ seed;
    (0..count as u64)
        .map(|index| {
            let uniform = (split_mix(base, index) >> 40) as f32 / 16_777_216.0;
            offset + scale * (2.0 * uniform - 1.0)
        })
        .collect()
}

fn split_mix(base: u64, index: u64) -> u64 {
    let z = base.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The generator's published values: name, seed, index, scale, offset, and the bits of the weight.
pub(crate) const CHECKS: &[(&str, u64, usize, f32, f32, u32)] = &[
    ("token_embd.weight", 101, 0, 1.0, 0.0, 0xbf4f_67d4),
    ("blk.0.attn_q.weight", 101, 5, 0.3248, 0.0, 0x3e8a_c60c),
    ("blk.1.ffn_norm.weight", 9118, 63, 0.1, 1.0, 0x3f82_8011),
];

/// A folder of files made elsewhere, or `None` (said on the output) if it is not there.
pub(crate) fn folder(variable: &str, default: PathBuf) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map_or(default, PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: no folder {} ({variable})", folder.display());
        return None;
    }
    Some(folder)
}

/// The folder of reference data, environment variable `GRISTMILL_ORACLE`.
pub(crate) fn oracle_folder() -> Option<PathBuf> {
    folder(
        "GRISTMILL_ORACLE",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    )
}

/// The specifications kept here, and those of the reference data where it is there.
pub(crate) fn all() -> Vec<Spec> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    read_folder(oracle_folder().map_or(kept, |folder| folder.join("oracle")))
}

/// Encoders. Where an independent evaluation in f64 agrees with llama.cpp to 1e-6, the specifications have
/// llama.cpp's vectors only.
pub(crate) fn encoders() -> Vec<Spec> {
    read_folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders"))
}

fn read_folder(folder: PathBuf) -> Vec<Spec> {
    let files = std::fs::read_dir(folder).expect("a folder");
    let mut specs: Vec<_> = files
        .map(|file| file.expect("a file").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter(|path| {
            !path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("exact-"))
        })
        .map(|path| Spec::read(&path))
        .collect();
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    specs
}

/// The folder of real models, environment variable `GRISTMILL_MODELS`.
pub(crate) fn models_folder() -> Option<PathBuf> {
    let home = std::env::home_dir().unwrap_or_default();
    folder("GRISTMILL_MODELS", home.join(".cache/gristmill"))
}
