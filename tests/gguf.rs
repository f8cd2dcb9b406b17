//! Reading sound GGUF files.

mod common;

use std::path::Path;

use common::gguf_writer::{GgufWriter, Kv};
use common::spec::{self, Spec, models_folder, oracle_folder};
use gristmill::gguf::{Array, GgmlType, Gguf, Value};

const GOLDEN: &[&str] = &[
    "llama",
    "llama-gqa-tied",
    "llama-yi-linear",
    "llama31-ropefreqs",
    "qwen2",
    "qwen2-yarn",
];

#[test]
fn generated_weights_equal_the_published_ones() {
    for &(name, seed, index, scale, offset, bits) in spec::CHECKS {
        let weights = spec::weights(name, seed, index + 1, scale, offset);
        assert_eq!(weights[index].to_bits(), bits, "{name}");
    }
}

#[test]
fn golden_specifications_make_files_that_open() {
    for name in GOLDEN {
        let spec = Spec::golden(name);
        let gguf = Gguf::from_bytes(spec.gguf()).unwrap();
        assert_eq!(
            gguf.require::<String>("general.architecture").unwrap(),
            spec.arch
        );
        let embedding = gguf.tensor("token_embd.weight").unwrap();
        assert_eq!(embedding.rows(), spec.logits[0].len(), "{name}");
        assert_eq!(embedding.ggml_type(), GgmlType::F32);
        for (name, shape, scale, offset) in &spec.tensors {
            let tensor = gguf.tensor(name).unwrap();
            assert_eq!(tensor.shape(), shape);
            let count = tensor.rows() * tensor.cols();
            let expected = spec::weights(name, spec.seed, count, *scale, *offset);
            let bytes = gguf.tensor_bytes(tensor).chunks_exact(4);
            let found = bytes.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            assert!(found.eq(expected), "{} {name}", spec.name);
        }
    }
}

fn open_all_in(folder: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            let gguf = Gguf::open(&path).unwrap();
            assert!(
                gguf.require::<String>("general.architecture").is_ok(),
                "{}",
                path.display()
            );
            if let Some(Value::Array(tokens)) = gguf.value("tokenizer.ggml.tokens") {
                assert_eq!(tokens.strings().unwrap().count(), tokens.len());
            }
            count += 1;
        }
    }
    count
}

#[test]
fn real_vocabularies_open() {
    let Some(folder) = oracle_folder() else {
        return;
    };
    assert!(open_all_in(&folder.join("tok/vocab")) > 0);
}

#[test]
fn real_models_open() {
    let Some(folder) = models_folder() else {
        return;
    };
    open_all_in(&folder);
}

#[test]
fn an_empty_file_has_nothing_in_it() {
    for version in [2, 3] {
        let gguf = Gguf::from_bytes(GgufWriter::new().version(version).build()).unwrap();
        assert_eq!(
            (gguf.version(), gguf.alignment(), gguf.name()),
            (version, 32, "<memory>")
        );
        assert_eq!((gguf.metadata().len(), gguf.tensors().len()), (0, 0));
    }
}

#[test]
fn array_of_strings_is_read_in_place() {
    let file = GgufWriter::new()
        .kv("tokens", Kv::texts(["a", "", "ü\0"]))
        .build();
    let gguf = Gguf::from_bytes(file).unwrap();
    let array = gguf.require::<Array>("tokens").unwrap();
    let strings: Vec<&[u8]> = array.strings().unwrap().collect();
    assert_eq!(strings, [&b"a"[..], b"", "ü\0".as_bytes()]);
    let error = array.numbers::<u32>().unwrap_err().to_string();
    assert!(
        error.contains("`tokens`") && error.contains("3 string"),
        "{error}"
    );
}
