//! One token through mixtures of experts that differ in how many there are, and in how many a token takes:
//! its time goes by the latter. The models are made here, of random `Q8_0` blocks.

use std::path::Path;

use criterion::{Criterion, SamplingMode, Throughput};
use gristmill::gguf::{GgmlType, Header, Writer};
use gristmill::{Model, Result, SessionOptions};

const WIDTH: u64 = 512;
const BLOCKS: u32 = 4;
const VOCABULARY: u64 = 1024;

/// Experts, and how many of them a token takes.
const MIXTURES: [[u32; 2]; 4] = [[16, 2], [64, 2], [16, 8], [64, 8]];

fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("experts");
    group.sample_size(50).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(1));
    for [count, used] in MIXTURES {
        let path = folder.path().join(format!("{used}-of-{count}.gguf"));
        write_model(&path, count, used)?;
        let model = Model::open(&path)?;
        let options = SessionOptions::new().context_length(1024);
        let mut session = model.session_with(&options)?;
        let mut token = 0;
        group.bench_function(format!("{used} of {count}"), |bencher| {
            bencher.iter(|| {
                if session.position() == session.context_length() {
                    session.clear();
                }
                // Another one each time, so that other experts are read.
                token = (token + 97) % VOCABULARY as u32;
                session.feed(&[token]).expect("room in the context");
            });
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

fn write_model(path: &Path, count: u32, used: u32) -> Result<()> {
    let mut header = Header::new();
    let key = |name: &str| format!("qwen3moe.{name}");
    header.set("general.architecture", "qwen3moe");
    header.set(&key("context_length"), 4096_u32);
    header.set(&key("embedding_length"), WIDTH as u32);
    header.set(&key("block_count"), BLOCKS);
    header.set(&key("feed_forward_length"), WIDTH as u32);
    header.set(&key("attention.head_count"), 8_u32);
    header.set(&key("attention.head_count_kv"), 2_u32);
    header.set(&key("attention.layer_norm_rms_epsilon"), 1e-6_f32);
    header.set(&key("expert_count"), count);
    header.set(&key("expert_used_count"), used);
    header.set(&key("expert_feed_forward_length"), WIDTH as u32);
    header.set("tokenizer.ggml.model", "none");
    let mut tensors = vec![("token_embd".to_owned(), vec![WIDTH, VOCABULARY])];
    let head = WIDTH / 8;
    for block in 0..BLOCKS {
        let mut add = |name: &str, shape: &[u64]| {
            tensors.push((format!("blk.{block}.{name}"), shape.to_vec()));
        };
        add("attn_norm", &[WIDTH]);
        add("attn_q", &[WIDTH, WIDTH]);
        add("attn_k", &[WIDTH, WIDTH / 4]);
        add("attn_v", &[WIDTH, WIDTH / 4]);
        add("attn_q_norm", &[head]);
        add("attn_k_norm", &[head]);
        add("attn_output", &[WIDTH, WIDTH]);
        add("ffn_norm", &[WIDTH]);
        add("ffn_gate_inp", &[WIDTH, u64::from(count)]);
        for name in ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"] {
            add(name, &[WIDTH, WIDTH, u64::from(count)]);
        }
    }
    tensors.push(("output_norm".to_owned(), vec![WIDTH]));
    for (name, shape) in &tensors {
        header.add_tensor(&format!("{name}.weight"), shape, ggml_type(shape))?;
    }
    let mut writer = Writer::create(path, &header)?;
    let mut seed = 1;
    for (_, shape) in &tensors {
        let values = shape.iter().product::<u64>() as usize;
        match ggml_type(shape) {
            GgmlType::F32 => writer.write(&1.0_f32.to_le_bytes().repeat(values))?,
            _ => writer.write(&blocks(values / 32, &mut seed))?,
        }
    }
    writer.finish()
}

/// Vectors are norms.
fn ggml_type(shape: &[u64]) -> GgmlType {
    if shape.len() == 1 {
        GgmlType::F32
    } else {
        GgmlType::Q8_0
    }
}

/// Random blocks of `Q8_0`: a scale of 2^-10 as f16, and 32 bytes.
fn blocks(count: usize, seed: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(34 * count);
    for _ in 0..count {
        bytes.extend(0x1400_u16.to_le_bytes());
        for _ in 0..4 {
            // xorshift64 (Marsaglia, 2003)
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            bytes.extend(seed.to_le_bytes());
        }
    }
    bytes
}
