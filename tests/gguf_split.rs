//! Models in several files.

mod common;

use std::path::{Path, PathBuf};

use common::gguf_writer::{GgufWriter, Kv};
use gristmill::gguf::Gguf;
use tempfile::TempDir;

/// A part of a set of three with one tensor `t{no}` of four elements `no`.
fn part(no: u16) -> GgufWriter {
    claiming(no, 3, 3).f32_tensor(&format!("t{no}"), &[4], &[f32::from(no); 4])
}

fn claiming(no: u16, count: u16, tensors: i32) -> GgufWriter {
    GgufWriter::new()
        .kv("split.no", Kv::U16(no))
        .kv("split.count", Kv::U16(count))
        .kv("split.tensors.count", Kv::I32(tensors))
}

fn path(folder: &TempDir, no: u16) -> PathBuf {
    folder.path().join(format!("m-{:05}-of-00003.gguf", no + 1))
}

/// A folder with the parts, the one at the index given replaced.
fn folder_with(replaced: usize, by: &GgufWriter) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for no in 0..3u16 {
        let part = if usize::from(no) == replaced {
            by
        } else {
            &part(no)
        };
        write(&path(&folder, no), part);
    }
    folder
}

fn write(path: &Path, file: &GgufWriter) {
    std::fs::write(path, file.build()).unwrap();
}

fn error_of(folder: &TempDir, no: u16) -> String {
    Gguf::open(path(folder, no)).unwrap_err().to_string()
}

#[test]
fn any_part_opens_the_whole_set() {
    let first = part(0).kv("general.name", Kv::text("first"));
    let folder = folder_with(0, &first);
    for no in 0..3 {
        let gguf = Gguf::open(path(&folder, no)).unwrap();
        assert_eq!(gguf.name(), "m-00001-of-00003.gguf");
        assert_eq!(gguf.part_names().len(), 3);
        assert_eq!(gguf.require::<String>("general.name").unwrap(), "first");
        let names: Vec<&str> = gguf.tensors().iter().map(|tensor| tensor.name()).collect();
        assert_eq!(names, ["t0", "t1", "t2"]);
        for (part, tensor) in gguf.tensors().iter().enumerate() {
            let bytes = gguf.tensor_bytes(tensor);
            assert_eq!(bytes, (part as f32).to_le_bytes().repeat(4));
            assert_eq!(tensor.part(), part);
        }
        assert_eq!(
            gguf.place_of_tensor("t2"),
            "m-00003-of-00003.gguf: tensor `t2`"
        );
    }
}

#[test]
fn a_part_may_hold_no_tensor() {
    let folder = tempfile::tempdir().unwrap();
    write(&path(&folder, 0), &claiming(0, 3, 2));
    write(&path(&folder, 1), &part(1));
    write(&path(&folder, 2), &part(2));
    assert_eq!(Gguf::open(path(&folder, 1)).unwrap().tensors().len(), 2);
}

#[test]
fn a_set_of_one_needs_no_special_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.gguf");
    write(&path, &claiming(0, 1, 0));
    assert!(Gguf::open(&path).is_ok());
}

#[test]
fn a_missing_part_is_named() {
    let folder = folder_with(0, &part(0));
    std::fs::remove_file(path(&folder, 1)).unwrap();
    for no in [0, 2] {
        assert!(error_of(&folder, no).contains("m-00002-of-00003.gguf: "));
    }
}

#[test]
fn parts_that_disagree_are_named() {
    for (part, expected) in [
        (
            part(2),
            "m-00002-of-00003.gguf: key `split.no`: expected 1, found 2",
        ),
        (
            claiming(1, 4, 3),
            "m-00002-of-00003.gguf: key `split.count`: expected 3, found 4",
        ),
        (
            GgufWriter::new(),
            "m-00002-of-00003.gguf: key `split.no`: expected 1, found no such key",
        ),
        (
            claiming(1, 3, 3).f32_tensor("t0", &[1], &[0.0]),
            "m-00002-of-00003.gguf: tensor `t0`: expected unique names",
        ),
        (
            claiming(1, 3, 3),
            "m-00001-of-00003.gguf: key `split.tensors.count`: expected 3 tensors, \
             found 2 in all parts",
        ),
    ] {
        let error = error_of(&folder_with(1, &part), 0);
        assert!(error.contains(expected), "{expected:?} not in {error:?}");
    }
}

#[test]
fn names_of_no_set_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "model.gguf",
        "m-1-of-00003.gguf",
        "m-00001-of-00004.gguf",
        "00001-of-00003.gguf",
    ] {
        let path = folder.path().join(name);
        write(&path, &part(0));
        let error = Gguf::open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!(
            "{name}: file name: expected the name of one part of 3"
        )));
    }
}

#[test]
fn hostile_counts_are_refused() {
    let folder = folder_with(0, &claiming(0, u16::MAX, 0));
    assert!(error_of(&folder, 0).contains("key `split.count`: 65535 exceeds the limit of 1024"));
    let text = GgufWriter::new().kv("split.count", Kv::text("3"));
    assert!(error_of(&folder_with(0, &text), 0).contains("key `split.count`: expected an integer"));
}

#[test]
fn one_part_in_memory_is_not_a_model() {
    let error = Gguf::from_bytes(part(0).build()).unwrap_err().to_string();
    assert!(
        error.contains("`split.count`: one part of 3 from memory is not supported"),
        "{error}"
    );
}
