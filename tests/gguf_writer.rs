//! Writing GGUF files, compared with the tests' own writer, which shares no code with it.

mod common;

use std::fs;
use std::path::Path;

use common::gguf_writer::{GgufWriter, Kv};
use common::spec::Spec;
use gristmill::gguf::{Array, GgmlType, Gguf, Header, Writer};
use gristmill::{Error, Result};

/// Writes a file with all of another's metadata and tensors, some bytes at a time.
fn copy(gguf: &Gguf, path: &Path) -> Result<()> {
    let mut header = Header::with_metadata_of(gguf);
    for tensor in gguf.tensors() {
        header.add_tensor(tensor.name(), tensor.shape(), tensor.ggml_type())?;
    }
    let mut writer = Writer::create(path, &header)?;
    for tensor in gguf.tensors() {
        for bytes in gguf.tensor_bytes(tensor).chunks(1000) {
            writer.write(bytes)?;
        }
    }
    writer.finish()
}

/// Names of the files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_copied_file_has_the_same_bytes() {
    let every_value = [
        ("u8", Kv::U8(255)),
        ("i8", Kv::I8(-1)),
        ("u16", Kv::U16(65535)),
        ("i16", Kv::I16(-2)),
        ("u32", Kv::U32(7)),
        ("i32", Kv::I32(-3)),
        ("f32", Kv::F32(0.1)),
        ("bool", Kv::Bool(true)),
        ("text", Kv::Str(b"not UTF-8: \xff\0".to_vec())),
        ("u64", Kv::U64(u64::MAX)),
        ("i64", Kv::I64(i64::MIN)),
        ("f64", Kv::F64(-0.1)),
        (
            "numbers",
            Kv::Arr((0..9u8).map(|x| Kv::F32(x.into())).collect()),
        ),
        ("texts", Kv::texts(["a", "", "ü"])),
        (
            "nested",
            Kv::Arr(vec![Kv::Arr(vec![Kv::Bool(true)]), Kv::texts(["b"])]),
        ),
    ];
    for alignment in [None, Some(8), Some(256)] {
        let mut writer = GgufWriter::new();
        if let Some(alignment) = alignment {
            writer = writer.alignment(alignment);
        }
        for (key, value) in &every_value {
            writer = writer.kv(key, value.clone());
        }
        let file = writer
            .f32_tensor("one", &[3], &[1.0, 2.0, 3.0])
            .tensor("three", &[32, 2, 3], 2, &[5; 18 * 6])
            .f32_tensor("four", &[1, 1, 1, 5], &[0.5; 5])
            .build();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.gguf");
        copy(&Gguf::from_bytes(file.clone()).unwrap(), &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), file, "alignment {alignment:?}");
        assert_eq!(names(folder.path()), ["copy.gguf"]);
    }
}

#[test]
fn a_copied_model_has_the_same_bytes() {
    let file = Spec::golden("qwen2").gguf();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.gguf");
    copy(&Gguf::from_bytes(file.clone()).unwrap(), &path).unwrap();
    assert!(fs::read(&path).unwrap() == file);
}

#[test]
fn new_values_are_written_as_the_format_says() {
    let mut header = Header::new();
    header.set("text", "ü");
    header.set("number", 1u32);
    header.set("numbers", Array::of_numbers(&[1i16, -1]));
    header.set("bools", Array::of_numbers(&[true, false]));
    header.set("texts", Array::of_strings(&["a", "bc"]));
    header.set("number", 2.5f64);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.gguf");
    Writer::create(&path, &header).unwrap().finish().unwrap();
    let mut expected = GgufWriter::new()
        .kv("text", Kv::text("ü"))
        .kv("number", Kv::F64(2.5))
        .kv("numbers", Kv::Arr(vec![Kv::I16(1), Kv::I16(-1)]))
        .kv("bools", Kv::Arr(vec![Kv::Bool(true), Kv::Bool(false)]))
        .kv("texts", Kv::texts(["a", "bc"]))
        .build();
    // The tests' writer does not pad metadata alone.
    expected.resize(expected.len().next_multiple_of(32), 0);
    assert_eq!(fs::read(&path).unwrap(), expected);
}

#[test]
fn a_split_set_becomes_one_file() {
    let file = GgufWriter::new()
        .kv("split.no", Kv::U16(0))
        .kv("split.count", Kv::U16(1))
        .kv("split.tensors.count", Kv::I32(1))
        .kv("general.name", Kv::text("x"))
        .f32_tensor("t", &[1], &[1.0])
        .build();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.gguf");
    copy(&Gguf::from_bytes(file).unwrap(), &path).unwrap();
    let whole = Gguf::open(&path).unwrap();
    let keys: Vec<_> = whole.metadata().map(|(key, _)| key).collect();
    assert_eq!(keys, ["general.name"]);
}

#[test]
fn nothing_has_the_name_before_all_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, b"old").unwrap();
    let mut header = Header::new();
    header.add_tensor("t", &[2], GgmlType::F32).unwrap();

    let mut writer = Writer::create(&path, &header).unwrap();
    let second = Writer::create(&path, &header).unwrap();
    assert_eq!(
        names(folder.path()),
        ["model.gguf", "model.gguf.0.partial", "model.gguf.1.partial"]
    );
    drop(second);
    writer.write(&[0; 5]).unwrap();
    let error = writer.write(&[0; 4]).unwrap_err().to_string();
    assert!(
        error.contains("at most 3") && error.contains("`t`"),
        "{error}"
    );
    let error = writer.finish().unwrap_err().to_string();
    assert!(error.contains("3 more") && error.contains("`t`"), "{error}");
    assert_eq!(names(folder.path()), ["model.gguf"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");

    let mut writer = Writer::create(&path, &header).unwrap();
    writer.write(&[0; 8]).unwrap();
    assert!(matches!(writer.write(&[0]), Err(Error::Argument { .. })));
    writer.finish().unwrap();
    assert_eq!(names(folder.path()), ["model.gguf"]);
    assert_eq!(Gguf::open(&path).unwrap().tensors().len(), 1);
}

#[test]
fn what_no_reader_would_accept_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut header = Header::new();
    for (shape, ggml_type, part) in [
        (&[][..], GgmlType::F32, "1 to 4 dimensions"),
        (&[1; 5][..], GgmlType::F32, "1 to 4 dimensions"),
        (&[4, 0][..], GgmlType::F32, "size 0"),
        (&[31][..], GgmlType::Q8_0, "multiple of 32"),
        (&[1 << 40, 1 << 40][..], GgmlType::F32, "memory"),
    ] {
        let error = header.add_tensor("t", shape, ggml_type).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(part) && error.contains("`t`"), "{error}");
    }
    let refused = |header: &Header, part: &str| {
        let error = Writer::create(&path, header).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    header.add_tensor("t", &[1], GgmlType::F32).unwrap();
    header.add_tensor("t", &[1], GgmlType::F32).unwrap();
    refused(&header, "`t`: expected unique names");
    let mut header = Header::new();
    header.set("", 1u8);
    refused(&header, "an empty one");
    let mut header = Header::new();
    header.set(&"k".repeat(70_000), 1u8);
    refused(&header, "exceeds the limit");
    let mut header = Header::new();
    header.set("general.alignment", 33u32);
    refused(&header, "general.alignment");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn errors_of_the_system_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for path in [
        folder.path().to_owned(),
        folder.path().join("absent/model.gguf"),
        folder.path().join(".."),
    ] {
        let error = Writer::create(&path, &Header::new()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(
            error.to_string().contains(&*path.to_string_lossy()),
            "{error}"
        );
    }
}
