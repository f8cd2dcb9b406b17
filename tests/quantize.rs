//! Quantising models, through the public API.

mod common;

use std::collections::BTreeMap;

use common::gguf_writer::{GgufWriter, Kv};
use common::spec::{Spec, models_folder};
use gristmill::gguf::{GgmlType, Gguf, Value};
use gristmill::quantize::{FileType, Plan, QuantizeOptions};
use gristmill::{Error, GenerateOptions, Model};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo-model/demo.gguf");

/// The model quantised, from a file.
fn quantised(gguf: &Gguf, file_type: FileType, options: &QuantizeOptions) -> Gguf {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let plan = Plan::new(gguf, file_type, options).unwrap();
    let mut last = (0, 1);
    plan.write(&path, |done, total| {
        assert!(last.0 <= done && done <= total);
        last = (done, total);
    })
    .unwrap();
    assert_eq!(last.0, last.1, "progress comes to its end");
    let written = Gguf::from_bytes(std::fs::read(&path).unwrap()).unwrap();
    for ((tensor, planned), found) in plan.tensors().zip(written.tensors()) {
        assert_eq!(tensor.name(), found.name());
        assert_eq!(tensor.shape(), found.shape());
        assert_eq!(planned, found.ggml_type(), "{}", tensor.name());
    }
    written
}

/// Metadata without the two keys that are set.
fn other_metadata(gguf: &Gguf) -> Vec<(&str, &Value)> {
    let set = ["general.file_type", "general.quantization_version"];
    gguf.metadata()
        .filter(|(key, _)| !set.contains(key))
        .collect()
}

#[test]
fn everything_but_the_quantised_tensors_stays() {
    let demo = Gguf::open(DEMO).unwrap();
    let options = QuantizeOptions::new().requantize(true);
    for &file_type in FileType::ALL {
        let written = quantised(&demo, file_type, &options);
        assert_eq!(other_metadata(&written), other_metadata(&demo));
        assert_eq!(
            written.require::<u32>("general.file_type").unwrap(),
            file_type.number()
        );
        assert_eq!(
            written
                .require::<u32>("general.quantization_version")
                .unwrap(),
            2
        );
        let unchanged = |tensor: &&gristmill::gguf::TensorInfo| {
            tensor.ggml_type() == demo.tensor(tensor.name()).unwrap().ggml_type()
        };
        let mut vectors = 0;
        for tensor in written.tensors().iter().filter(unchanged) {
            let before = demo.tensor(tensor.name()).unwrap();
            assert!(written.tensor_bytes(tensor) == demo.tensor_bytes(before));
            vectors += usize::from(tensor.shape().len() == 1);
        }
        assert!(vectors > 0, "norms stay as they are");
    }
}

#[test]
fn a_quantised_model_still_tells_its_story() {
    let options = GenerateOptions::new().max_tokens(24);
    let story = |gguf: Gguf| {
        let model = Model::builder().load(gguf).unwrap();
        model.generate("Once upon a time", &options).unwrap().text
    };
    let demo = Gguf::open(DEMO).unwrap();
    let f16 = quantised(
        &demo,
        FileType::F16,
        &QuantizeOptions::new().requantize(true),
    );
    // 8 bits and an f16 scale are not exact in 16 bits, but next to it.
    assert_eq!(story(f16.clone()), story(demo));
    let q8 = quantised(&f16, FileType::Q8_0, &QuantizeOptions::new());
    assert_eq!(story(q8), story(f16));
}

#[test]
fn values_come_back_close_to_what_they_were() {
    let source = Gguf::from_bytes(Spec::golden("llama").gguf()).unwrap();
    let written = quantised(&source, FileType::Q8_0, &QuantizeOptions::new());
    let mut seen = 0;
    for tensor in written.tensors() {
        let before = source.tensor_bytes(source.tensor(tensor.name()).unwrap());
        let before: Vec<f32> = before
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        if tensor.ggml_type() != GgmlType::Q8_0 {
            continue;
        }
        let blocks = written.tensor_bytes(tensor).chunks_exact(34);
        assert_eq!(blocks.len() * 32, before.len());
        for (block, before) in blocks.zip(before.chunks_exact(32)) {
            let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
            for (&quant, before) in block[2..].iter().zip(before) {
                let off = (f32::from(quant as i8) * scale - before).abs();
                // Half a step, and the rounding of the scale.
                assert!(
                    off <= 0.57 * scale,
                    "{}: {off} at scale {scale}",
                    tensor.name()
                );
            }
        }
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn a_quantised_model_is_taken_only_where_that_is_allowed() {
    let demo = Gguf::open(DEMO).unwrap();
    let error = Plan::new(&demo, FileType::Q4_0, &QuantizeOptions::new()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Argument {
                name: "requantize",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("demo.gguf: tensor `"), "{error}");
    // What has its type already needs no quantising.
    Plan::new(&demo, FileType::Q8_0, &QuantizeOptions::new()).unwrap();
    for threads in [0, 1 << 20] {
        let options = QuantizeOptions::new().requantize(true).threads(threads);
        let error = Plan::new(&demo, FileType::Q4_0, &options).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Argument {
                    name: "threads",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn values_that_no_block_can_hold_end_in_an_error() {
    for value in [f32::NAN, f32::INFINITY, 1e5] {
        let mut values = [0.5; 64 * 600];
        values[64 * 300 + 7] = value;
        let file = GgufWriter::new()
            .f32_tensor("blk.0.ffn_up.weight", &[64, 600], &values)
            .build();
        let gguf = Gguf::from_bytes(file).unwrap();
        let plan = Plan::new(&gguf, FileType::Q4_0, &QuantizeOptions::new()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let error = plan
            .write(folder.path().join("out.gguf"), |_, _| ())
            .unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
        assert!(
            error.to_string().contains("`blk.0.ffn_up.weight`"),
            "{error}"
        );
        assert!(error.to_string().contains("row 256"), "{error}");
        assert_eq!(
            folder.path().read_dir().unwrap().count(),
            0,
            "no file is left"
        );
    }
}

#[test]
fn types_that_cannot_be_read_end_in_an_error() {
    let file = GgufWriter::new()
        .tensor("blk.0.ffn_up.weight", &[256, 2], 26, &[0; 2048])
        .build();
    let gguf = Gguf::from_bytes(file).unwrap();
    let options = QuantizeOptions::new().requantize(true);
    let error = Plan::new(&gguf, FileType::Q4_0, &options).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("Q4_0 of I32"), "{error}");
}

#[test]
fn names_lead_to_file_types() {
    for &file_type in FileType::ALL {
        assert_eq!(file_type.name().parse::<FileType>().unwrap(), file_type);
    }
    assert_eq!("q4_k".parse::<FileType>().unwrap(), FileType::Q4_K_M);
    let error = "Q9".parse::<FileType>().unwrap_err().to_string();
    assert!(error.contains("Q4_K_M") && error.contains("Q9"), "{error}");
}

/// A model with nothing but names: `layers` times the usual tensors, of rows of 256.
fn named(layers: u32, group: u32, more: &[(&str, Kv)], output: bool) -> Gguf {
    let mut writer = GgufWriter::new()
        .kv("general.architecture", Kv::text("llama"))
        .kv("llama.block_count", Kv::U32(layers))
        .kv("llama.attention.head_count", Kv::U32(8))
        .kv("llama.attention.head_count_kv", Kv::U32(8 / group));
    for (key, value) in more {
        writer = writer.kv(key, value.clone());
    }
    let mut tensor = |name: &str| {
        writer = writer.clone().f32_tensor(name, &[256, 2], &[0.0; 512]);
    };
    tensor("token_embd.weight");
    if output {
        tensor("output.weight");
    }
    for layer in 0..layers {
        for part in [
            "attn_q",
            "attn_k",
            "attn_v",
            "attn_output",
            "ffn_gate",
            "ffn_up",
            "ffn_down",
            "attn_norm",
            "ffn_gate_inp",
        ] {
            tensor(&format!("blk.{layer}.{part}.weight"));
        }
    }
    Gguf::from_bytes(writer.build()).unwrap()
}

/// The layers in which a tensor gets `wanted`.
fn layers_with(gguf: &Gguf, file_type: FileType, part: &str, wanted: GgmlType) -> Vec<usize> {
    let plan = Plan::new(gguf, file_type, &QuantizeOptions::new()).unwrap();
    let ending = format!(".{part}.weight");
    let tensors = plan
        .tensors()
        .filter(|(tensor, _)| tensor.name().ends_with(&ending));
    let layers = tensors
        .enumerate()
        .filter(|(_, (_, found))| *found == wanted);
    layers.map(|(layer, _)| layer).collect()
}

fn type_of(gguf: &Gguf, file_type: FileType, name: &str) -> GgmlType {
    let plan = Plan::new(gguf, file_type, &QuantizeOptions::new()).unwrap();
    let mut tensors = plan.tensors();
    tensors.find(|(tensor, _)| tensor.name() == name).unwrap().1
}

#[test]
fn some_layers_have_more_bits() {
    let all = |count: usize| (0..count).collect::<Vec<_>>();
    let gguf = named(32, 4, &[], true);
    // As published 7B and 8B files of llama.cpp have it.
    let more = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31];
    for file_type in [FileType::Q4_K_M, FileType::Q5_K_M] {
        assert_eq!(
            layers_with(&gguf, file_type, "ffn_down", GgmlType::Q6_K),
            more
        );
        assert_eq!(
            layers_with(&gguf, file_type, "attn_v", GgmlType::Q6_K),
            more
        );
    }
    let with = |file_type, part, wanted| layers_with(&gguf, file_type, part, wanted);
    assert_eq!(with(FileType::Q4_K_S, "ffn_down", GgmlType::Q5_K), all(4));
    assert_eq!(with(FileType::Q4_K_S, "attn_v", GgmlType::Q5_K), all(4));
    assert_eq!(with(FileType::Q3_K_M, "ffn_down", GgmlType::Q5_K), all(2));
    assert_eq!(with(FileType::Q3_K_M, "attn_v", GgmlType::Q5_K), all(2));
    assert_eq!(
        with(FileType::Q3_K_M, "attn_output", GgmlType::Q4_K),
        all(32)
    );
    assert_eq!(with(FileType::Q3_K_L, "ffn_down", GgmlType::Q5_K), all(32));
    assert_eq!(with(FileType::Q2_K, "ffn_down", GgmlType::Q3_K), all(32));
    assert_eq!(with(FileType::Q2_K, "attn_v", GgmlType::Q4_K), all(32));
    assert_eq!(with(FileType::Q4_K_M, "attn_q", GgmlType::Q4_K), all(32));
    assert_eq!(with(FileType::Q4_K_M, "attn_norm", GgmlType::F32), all(32));
    assert_eq!(
        with(FileType::Q4_K_M, "ffn_gate_inp", GgmlType::F32),
        all(32)
    );
    let ungrouped = named(2, 1, &[], true);
    assert_eq!(
        layers_with(&ungrouped, FileType::Q2_K, "attn_v", GgmlType::Q3_K),
        all(2)
    );
    let large = named(80, 8, &[], true);
    assert_eq!(
        layers_with(&large, FileType::Q4_K_S, "attn_v", GgmlType::Q5_K),
        all(80)
    );
    let experts = named(2, 4, &[("llama.expert_count", Kv::U32(8))], true);
    for (part, wanted) in [
        ("attn_v", GgmlType::Q8_0),
        ("attn_k", GgmlType::Q8_0),
        ("attn_output", GgmlType::Q5_K),
    ] {
        assert_eq!(
            layers_with(&experts, FileType::Q4_K_M, part, wanted),
            all(2)
        );
    }
}

#[test]
fn the_output_has_more_bits() {
    let apart = named(1, 1, &[], true);
    let tied = named(1, 1, &[], false);
    for (file_type, embedding, output) in [
        (FileType::Q4_0, GgmlType::Q4_0, GgmlType::Q6_K),
        (FileType::Q4_K_M, GgmlType::Q4_K, GgmlType::Q6_K),
        (FileType::Q8_0, GgmlType::Q8_0, GgmlType::Q8_0),
        (FileType::F16, GgmlType::F16, GgmlType::F16),
    ] {
        assert_eq!(type_of(&apart, file_type, "token_embd.weight"), embedding);
        assert_eq!(type_of(&apart, file_type, "output.weight"), output);
        assert_eq!(type_of(&tied, file_type, "token_embd.weight"), output);
    }
    let pure = QuantizeOptions::new().pure(true);
    let plan = Plan::new(&tied, FileType::Q4_0, &pure).unwrap();
    for (tensor, found) in plan.tensors().filter(|(_, found)| *found != GgmlType::F32) {
        assert_eq!(found, GgmlType::Q4_0, "{}", tensor.name());
    }
}

#[test]
fn rows_that_do_not_fit_get_another_type() {
    for (cols, file_type, expected) in [
        (96, FileType::Q2_K, GgmlType::Q4_0),
        (96, FileType::Q3_K_S, GgmlType::Q4_0),
        (96, FileType::Q4_K_S, GgmlType::Q5_0),
        (96, FileType::Q5_K_S, GgmlType::Q5_1),
        (96, FileType::Q6_K, GgmlType::Q8_0),
        (96, FileType::Q4_0, GgmlType::Q4_0),
        (20, FileType::Q4_0, GgmlType::F16),
        (20, FileType::Q4_K_M, GgmlType::F16),
    ] {
        let zeros = vec![0.0; 2 * cols];
        let file = GgufWriter::new()
            .f32_tensor("blk.9.ffn_up.weight", &[cols as u64, 2], &zeros)
            .build();
        let gguf = Gguf::from_bytes(file).unwrap();
        assert_eq!(type_of(&gguf, file_type, "blk.9.ffn_up.weight"), expected);
    }
}

/// How many tensors of each kind, whatever the layer, have each type.
fn kinds<'a>(
    tensors: impl Iterator<Item = (&'a str, GgmlType)>,
) -> BTreeMap<(String, &'static str), usize> {
    let mut kinds = BTreeMap::new();
    for (name, ggml_type) in tensors {
        let kind = name.trim_start_matches(|c: char| !c.is_alphabetic() || "blk.".contains(c));
        *kinds
            .entry((kind.to_owned(), ggml_type.name()))
            .or_default() += 1;
    }
    kinds
}

/// Published files, which llama.cpp made, have the types that the plan for their kind has. Older
/// versions counted layers in the order of the file, so numbers of tensors are compared.
#[test]
fn types_are_those_of_published_files() {
    let Some(folder) = models_folder() else {
        return;
    };
    for (name, file_type) in [
        ("qwen2.5-coder-0.5b", FileType::Q4_K_M),
        ("qwen2.5-coder-1.5b", FileType::Q4_K_M),
        ("smollm2-135m", FileType::Q4_1),
    ] {
        let path = folder.join(format!("{name}.gguf"));
        if !path.is_file() {
            println!("skipped: no {}", path.display());
            continue;
        }
        let gguf = Gguf::open(path).unwrap();
        assert_eq!(
            gguf.require::<u32>("general.file_type").unwrap(),
            file_type.number()
        );
        let options = QuantizeOptions::new().requantize(true);
        let plan = Plan::new(&gguf, file_type, &options).unwrap();
        let planned = kinds(plan.tensors().map(|(tensor, found)| (tensor.name(), found)));
        let published = gguf.tensors().iter();
        assert_eq!(
            planned,
            kinds(published.map(|tensor| (tensor.name(), tensor.ggml_type()))),
            "{name}"
        );
    }
}
