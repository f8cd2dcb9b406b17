//! Reading sound GGUF files.

mod common;

use std::path::Path;

use common::gguf_writer::{GgufWriter, Kv};
use common::spec::{self, Spec, models_folder, oracle_folder};
use gristmill::gguf::{Array, FromValue, GgmlType, Gguf, Value, ValueType};

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
    fn shared<T: Clone + Send + Sync>() {}
    shared::<Gguf>();
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

/// One value of every type, under the type's name.
fn every_type() -> Gguf {
    let file = GgufWriter::new()
        .version(2)
        .kv("u8", Kv::U8(u8::MAX))
        .kv("i8", Kv::I8(i8::MIN))
        .kv("u16", Kv::U16(u16::MAX))
        .kv("i16", Kv::I16(i16::MIN))
        .kv("u32", Kv::U32(u32::MAX))
        .kv("i32", Kv::I32(i32::MIN))
        .kv("f32", Kv::F32(1.5))
        .kv("bool", Kv::Bool(true))
        .kv("string", Kv::Str(b"a\0\xff".to_vec()))
        .kv("array", Kv::Arr(vec![Kv::I16(-2), Kv::I16(3)]))
        .kv("u64", Kv::U64(u64::MAX))
        .kv("i64", Kv::I64(i64::MIN))
        .kv("f64", Kv::F64(0.1))
        .build();
    Gguf::from_bytes(file).unwrap()
}

#[test]
fn every_type_of_value_is_read() {
    let gguf = every_type();
    let names: Vec<&str> = gguf.metadata().map(|(key, _)| key).collect();
    let types: Vec<&str> = gguf
        .metadata()
        .map(|(_, value)| value.value_type().name())
        .collect();
    assert_eq!((names.len(), &names), (13, &types));
    for (key, value) in [
        ("u8", Value::U8(u8::MAX)),
        ("i8", Value::I8(i8::MIN)),
        ("u16", Value::U16(u16::MAX)),
        ("i16", Value::I16(i16::MIN)),
        ("u32", Value::U32(u32::MAX)),
        ("i32", Value::I32(i32::MIN)),
        ("f32", Value::F32(1.5)),
        ("bool", Value::Bool(true)),
        ("u64", Value::U64(u64::MAX)),
        ("i64", Value::I64(i64::MIN)),
        ("f64", Value::F64(0.1)),
    ] {
        assert_eq!(gguf.value(key), Some(&value), "{key}");
    }
    let Some(Value::String(text)) = gguf.value("string") else {
        panic!("a string")
    };
    assert_eq!(text.as_bytes(), b"a\0\xff");
    assert_eq!(text.to_str_lossy(), "a\0\u{fffd}");
    let array = gguf.require::<Array>("array").unwrap();
    assert_eq!((array.element_type(), array.len()), (ValueType::I16, 2));
    assert!(array.numbers::<i16>().unwrap().eq([-2, 3]));
    assert!(array.values().eq([Value::I16(-2), Value::I16(3)]));
}

#[test]
fn values_convert_where_nothing_is_lost() {
    let gguf = every_type();
    fn some<T: FromValue + PartialEq>(gguf: &Gguf, key: &str, expected: T) -> bool {
        gguf.require::<T>(key).is_ok_and(|found| found == expected)
    }
    assert!(some(&gguf, "u8", 255u32) && some(&gguf, "u16", 65535i32) && some(&gguf, "i8", -128));
    assert!(some(&gguf, "u64", u64::MAX) && some(&gguf, "u32", u64::from(u32::MAX)));
    assert!(some(&gguf, "f64", 0.1f32) && some(&gguf, "f32", 1.5f32) && some(&gguf, "bool", true));
    assert!(some(&gguf, "string", "a\0\u{fffd}".to_owned()));
    assert!(some(&gguf, "array", vec![-2i64, 3]));
    for key in ["u64", "i8", "f32", "bool", "string", "array"] {
        assert!(gguf.require::<u32>(key).is_err(), "{key}");
    }
    assert!(gguf.require::<Vec<u32>>("array").is_err());
    assert!(gguf.require::<f32>("u8").is_err() && gguf.require::<bool>("u8").is_err());
    assert!(gguf.require::<String>("array").is_err() && gguf.require::<Array>("string").is_err());
}

#[test]
fn nested_arrays_are_read_to_the_fourth_level() {
    let leaf = Kv::texts(["x", "yz"]);
    let deep = Kv::Arr(vec![Kv::Arr(vec![Kv::Arr(vec![leaf])]), Kv::Arr(vec![])]);
    // The last element is an empty array: its type does not matter to its parent.
    let gguf = Gguf::from_bytes(GgufWriter::new().kv("deep", deep).build()).unwrap();
    let mut array = gguf.require::<Array>("deep").unwrap();
    assert_eq!((array.len(), array.element_type()), (2, ValueType::Array));
    for _ in 0..3 {
        let Some(Value::Array(inner)) = array.values().next() else {
            panic!("an array")
        };
        array = inner;
    }
    assert!(array.strings().unwrap().eq([&b"x"[..], b"yz"]));
    assert!(
        array
            .numbers::<u8>()
            .unwrap_err()
            .to_string()
            .contains("key `deep`")
    );
}

#[test]
fn tensors_are_found_where_they_are() {
    let file = GgufWriter::new()
        .alignment(128)
        .tensor("q", &[64, 3, 2], 8, &[7; 34 * 12])
        .tensor("f", &[3], 0, &[9; 12])
        .build();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, file).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!((gguf.alignment(), gguf.name()), (128, "model.gguf"));
    let q = gguf.tensor("q").unwrap();
    assert_eq!(
        (q.shape(), q.cols(), q.rows(), q.byte_len()),
        (&[64, 3, 2][..], 64, 6, 408)
    );
    assert_eq!(gguf.tensor_bytes(q), [7; 408]);
    let f = gguf.tensor("f").unwrap();
    assert_eq!((f.shape(), f.cols(), f.rows()), (&[3][..], 3, 1));
    let view = gguf.tensor_view(f);
    assert_eq!(view.file_range().start % 128, 0);
    assert!(gguf.tensor("absent").is_none());
    drop(gguf);
    assert_eq!(*view, [9; 12]);
}

#[test]
fn a_file_may_lack_the_padding_behind_its_last_tensor() {
    let mut file = GgufWriter::new().tensor("f", &[3], 0, &[9; 12]).build();
    file.truncate(file.len() - 20);
    assert_eq!(Gguf::from_bytes(file).unwrap().tensors()[0].byte_len(), 12);
}
