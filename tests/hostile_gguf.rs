//! Damaged and hostile GGUF files: each must end in an error that names the place, with hardly any
//! memory taken, and never in a panic.
//!
//! The identifiers are those of published weaknesses of GGUF readers that the case stands for.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::gguf_writer::{GgufWriter, Kv, string};
use gristmill::gguf::{Array, Gguf};
use proptest::prelude::*;

/// The system's allocator, counting for each thread the bytes in use and their peak.
struct Counting;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    IN_USE.set(IN_USE.get() + bytes);
    PEAK.set(PEAK.get().max(IN_USE.get()));
}

// SAFETY: every request goes to the system's allocator unchanged; the counters are plain
// thread-local cells that neither allocate nor have a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps this function's contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above; the pointer came from `System.alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a call returns, and the most bytes it held at once.
fn peak_of<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.get();
    PEAK.set(before);
    let result = call();
    (result, (PEAK.get() - before).max(0) as usize)
}

/// Opens bytes that are in memory already; the peak does not count the file itself.
fn open(file: Vec<u8>) -> (gristmill::Result<Gguf>, usize) {
    let bytes: std::sync::Arc<[u8]> = file.into();
    peak_of(|| Gguf::from_bytes(bytes))
}

struct Case {
    /// What is wrong, and whose weakness it was.
    name: &'static str,
    file: Vec<u8>,
    /// What the error's text must contain: the place, then what was found there.
    expected: &'static [&'static str],
}

fn case(name: &'static str, file: Vec<u8>, expected: &'static [&'static str]) -> Case {
    Case {
        name,
        file,
        expected,
    }
}

fn new() -> GgufWriter {
    GgufWriter::new()
}

/// A file with one entry `k` of the given type and bytes.
fn raw(number: u32, payload: &[u8]) -> Vec<u8> {
    new().raw_kv(b"k", number, payload).build()
}

/// A file with one array `k` that claims a type and a count.
fn array(element: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    raw(
        9,
        &[&element.to_le_bytes()[..], &count.to_le_bytes(), elements].concat(),
    )
}

fn nested(depth: usize) -> Vec<u8> {
    let level = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
    raw(9, &[level.repeat(depth - 1), [0; 12].to_vec()].concat())
}

/// A file with one tensor `t` whose entry may lie, and 64 bytes of data.
fn tensor(shape: &[u64], ggml_type: u32, offset: u64) -> Vec<u8> {
    let mut file = new().raw_tensor("t", shape, ggml_type, offset).build();
    file.extend([0; 64]);
    file
}

fn header_cases() -> Vec<Case> {
    let version = |version| new().version(version).build();
    let magic = |magic: &[u8]| [magic, &[0; 60]].concat();
    vec![
        case(
            "nothing",
            vec![],
            &["<memory>: header", "4 bytes", "0 bytes before the end"],
        ),
        case("magic alone", b"GGUF".to_vec(), &["header", "at byte 4"]),
        case(
            "another magic",
            magic(b"\x7fELF"),
            &["header", "magic GGUF", "\\x7fELF"],
        ),
        case(
            "candle 3583: a legacy ggml file",
            magic(b"tjgg"),
            &["header", "before GGUF"],
        ),
        case(
            "a pointer file",
            magic(b"version https://git-lfs"),
            &["header", "Git LFS"],
        ),
        case(
            "version 0",
            version(0),
            &["header", "version 2 or 3", "found 0"],
        ),
        case(
            "version 1",
            version(1),
            &["header", "GGUF version 1 is not supported"],
        ),
        case(
            "version 4",
            version(4),
            &["header", "GGUF version 4 is not supported"],
        ),
        case(
            "big-endian",
            version(3 << 24),
            &["header", "big-endian GGUF (version 3)"],
        ),
        case(
            "CVE-2024-23496, CVE-2026-27940: number of tensors",
            new().build_claiming(u64::MAX, 0),
            &[
                "number of tensors",
                "18446744073709551615 exceeds the limit",
            ],
        ),
        case(
            "CVE-2024-23605: number of entries",
            new().build_claiming(0, u64::MAX / 8),
            &["number of metadata entries", "exceeds the limit"],
        ),
        case(
            "more tensors than there are",
            new().build_claiming(3, 0),
            &["name of tensor 0 of 3", "8 bytes at byte"],
        ),
        case(
            "more entries than there are",
            new().build_claiming(0, 9),
            &["entry 0 of 9"],
        ),
    ]
}

fn metadata_cases() -> Vec<Case> {
    let key = |key: &[u8]| new().raw_kv(key, 4, &[0; 4]).build();
    let claimed_key = |claim: u64| {
        let mut file = new().build_claiming(0, 1);
        file.truncate(24);
        file.extend(claim.to_le_bytes());
        file
    };
    vec![
        case(
            "empty key",
            key(b""),
            &["key of metadata entry 0", "a name"],
        ),
        case(
            "long key",
            key(&[b'k'; 70_000]),
            &["entry 0", "70000 exceeds the limit of 65535"],
        ),
        case(
            "CVE-2024-21836: key length wraps",
            claimed_key(u64::MAX),
            &["entry 0", "exceeds"],
        ),
        case(
            "key beyond the file",
            claimed_key(9),
            &["entry 0", "9 bytes at byte 32"],
        ),
        case(
            "duplicate key",
            new().kv("k", Kv::U8(1)).kv("k", Kv::U8(1)).build(),
            &["key `k`", "unique keys"],
        ),
        case(
            "keys that differ only in what is not UTF-8",
            new()
                .raw_kv(b"k\xff", 0, &[1])
                .raw_kv(b"k\xfe", 0, &[1])
                .build(),
            &["key `k\u{fffd}`", "unique keys"],
        ),
        case(
            "unknown type",
            raw(13, &[0; 64]),
            &["key `k`", "value type from 0 to 12", "13"],
        ),
        case("cut value", raw(10, &[0; 3]), &["key `k`", "8 bytes"]),
        case(
            "no bool",
            raw(7, &[2]),
            &["key `k`", "0 or 1 for a bool", "found 2"],
        ),
        case(
            "CVE-2024-21836: string length wraps",
            raw(8, &u64::MAX.to_le_bytes()),
            &["key `k`", "18446744073709551615 bytes at byte"],
        ),
        case(
            "ggml PR 1516: a GiB of string in a small file",
            raw(8, &(1u64 << 30).to_le_bytes()),
            &["key `k`", "1073741824 bytes at byte"],
        ),
        case(
            "control characters",
            new().raw_kv(b"\x1b[2J", 13, &[]).build(),
            &["`\\u{1b}[2J`"],
        ),
    ]
}

fn array_cases() -> Vec<Case> {
    vec![
        case(
            "unknown elements",
            array(77, 1, &[0; 8]),
            &["key `k`", "from 0 to 12", "77"],
        ),
        case(
            "CVE-2024-21825: count times size wraps",
            array(10, (1 << 61) + 1, &[0; 8]),
            &["key `k`", "2305843009213693953 u64"],
        ),
        case(
            "CVE-2025-66960: huge count in a small file",
            array(6, 1 << 40, &[0; 4]),
            &["key `k`", "4398046511104 bytes"],
        ),
        case(
            "endless strings",
            array(8, u64::MAX, &[0; 800]),
            &["key `k`", "8 bytes at byte"],
        ),
        case(
            "string in an array beyond the file",
            array(
                8,
                2,
                &[string(b"a"), (1u64 << 62).to_le_bytes().to_vec()].concat(),
            ),
            &["key `k`", "4611686018427387904 bytes"],
        ),
        case(
            "no bool in an array",
            array(7, 3, &[0, 1, 9]),
            &["key `k`", "bool", "found 9"],
        ),
        case(
            "five levels of arrays",
            nested(5),
            &["key `k`", "at most 4 arrays"],
        ),
        case(
            "gguf-py: stack exhaustion",
            nested(100_000),
            &["key `k`", "at most 4 arrays"],
        ),
        case(
            "endless arrays in an array",
            array(9, u64::MAX, &[0; 12].repeat(50)),
            &["key `k`", "before the end of the file"],
        ),
    ]
}

fn alignment_cases() -> Vec<Case> {
    let aligned = |value| new().kv("general.alignment", value).build();
    const PLACE: &str = "key `general.alignment`: expected a power of two from 8 to 65536";
    vec![
        case(
            "candle 3713: alignment 0",
            aligned(Kv::U32(0)),
            &[PLACE, "found u32 0"],
        ),
        case("alignment 4", aligned(Kv::U32(4)), &[PLACE, "found u32 4"]),
        case(
            "alignment 48",
            aligned(Kv::U32(48)),
            &[PLACE, "found u32 48"],
        ),
        case(
            "ggml PR 1516: 2^30",
            aligned(Kv::U32(1 << 30)),
            &[PLACE, "1073741824"],
        ),
        case(
            "llama.cpp PR 26318: wrong type",
            aligned(Kv::I32(32)),
            &[PLACE, "found i32 32"],
        ),
        case(
            "alignment as text",
            aligned(Kv::text("32")),
            &[PLACE, "a string of 2 bytes"],
        ),
        case(
            "alignment as array",
            aligned(Kv::Arr(vec![])),
            &[PLACE, "an array of 0 u32"],
        ),
    ]
}

fn tensor_cases() -> Vec<Case> {
    const PLACE: &str = "<memory>: tensor `t`";
    const ELEMENTS: &str = "a number of elements that memory can hold";
    vec![
        case(
            "no dimension",
            tensor(&[], 0, 0),
            &[PLACE, "1 to 4 dimensions", "found 0"],
        ),
        case(
            "CVE-2024-21802: dimensions",
            tensor(&[1; 5], 0, 0),
            &[PLACE, "found 5"],
        ),
        case(
            "zero dimension",
            tensor(&[4, 0], 0, 0),
            &[PLACE, "size 0", "[4, 0, 1, 1]"],
        ),
        case("zero row length", tensor(&[0], 0, 0), &[PLACE, "size 0"]),
        case(
            "elements wrap",
            tensor(&[1 << 32, 1 << 32], 24, 0),
            &[PLACE, ELEMENTS],
        ),
        case(
            "elements wrap to few",
            tensor(&[(1 << 42) + 1, 1 << 22], 24, 0),
            &[PLACE, ELEMENTS],
        ),
        case(
            "others wrap",
            tensor(&[1, 1 << 40, 1 << 40], 24, 0),
            &[PLACE, ELEMENTS],
        ),
        case("negative", tensor(&[u64::MAX, 2], 0, 0), &[PLACE, ELEMENTS]),
        case(
            "CVE-2026-33298: bytes wrap",
            tensor(&[1 << 62], 0, 0),
            &[
                PLACE,
                "a tensor that fits into memory",
                "[4611686018427387904] of F32",
            ],
        ),
        case(
            "CVE-2025-53630: padded sizes wrap",
            new()
                .raw_tensor("t", &[0x7fff_ffff_ffff_ffc0], 24, 0)
                .raw_tensor("u", &[0x7fff_ffff_ffff_ffc0], 24, 0x7fff_ffff_ffff_ffc0)
                .build(),
            &[PLACE, "9223372036854775744 bytes of data"],
        ),
        case(
            "part of a block",
            tensor(&[33], 8, 0),
            &[PLACE, "multiple of 32", "Q8_0", "of 33"],
        ),
        case(
            "removed type",
            tensor(&[32], 4, 0),
            &[PLACE, "ggml type 4 (Q4_2, removed"],
        ),
        case(
            "removed type",
            tensor(&[32], 38, 0),
            &[PLACE, "ggml type 38 (IQ4_NL_8_8"],
        ),
        case(
            "future type",
            tensor(&[32], 43, 0),
            &[PLACE, "ggml type 43 (unknown"],
        ),
        case(
            "negative type",
            tensor(&[32], u32::MAX, 0),
            &[PLACE, "ggml type 4294967295"],
        ),
        case(
            "offset not aligned",
            tensor(&[1], 0, 4),
            &[PLACE, "multiple of the alignment 32"],
        ),
        case(
            "CVE-2026-7482: end beyond the file",
            tensor(&[17], 0, 0),
            &[
                PLACE,
                "68 bytes of data at offset 0",
                "64 bytes of data in the file",
            ],
        ),
        case(
            "offset beyond the file",
            tensor(&[1], 0, 96),
            &[PLACE, "4 bytes of data at offset"],
        ),
        case(
            "offset wraps",
            tensor(&[1], 0, u64::MAX - 31),
            &[PLACE, "18446744073709551584"],
        ),
        case(
            "empty name",
            new().raw_tensor("", &[1], 0, 0).build(),
            &["name of tensor 0 of 1"],
        ),
        case(
            "long name",
            new().raw_tensor(&"t".repeat(300), &[1], 0, 0).build(),
            &["name of tensor 0 of 1", "300 exceeds the limit of 256"],
        ),
        case(
            "duplicate name",
            new()
                .tensor("t", &[1], 0, &[0; 4])
                .tensor("t", &[1], 0, &[0; 4])
                .build(),
            &[PLACE, "unique names"],
        ),
        case(
            "overlap",
            new()
                .tensor("t", &[16], 0, &[0; 64])
                .raw_tensor("u", &[1], 0, 32)
                .build(),
            &["tensor `u`", "bytes of its own", "bytes of tensor `t`"],
        ),
    ]
}

fn all_cases() -> Vec<Case> {
    [
        header_cases(),
        metadata_cases(),
        array_cases(),
        alignment_cases(),
        tensor_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn hostile_files_end_in_errors_that_name_the_place() {
    for Case {
        name,
        file,
        expected,
    } in all_cases()
    {
        let limit = 2 * file.len() + 8192;
        let (result, peak) = open(file);
        let text = match result {
            Ok(_) => panic!("{name}: opened"),
            Err(error) => error.to_string(),
        };
        for part in expected {
            assert!(text.contains(part), "{name}: {part:?} not in {text:?}");
        }
        assert!(text.len() < 1000, "{name}: {text}");
        assert!(peak < limit, "{name}: {peak} bytes taken");
    }
}

/// A sound file with a bit of everything.
fn sound() -> Vec<u8> {
    new()
        .kv("general.architecture", Kv::text("llama"))
        .alignment(64)
        .kv("tokens", Kv::texts(["a", "bc", "", "def"]))
        .kv(
            "scores",
            Kv::Arr((0..9).map(|i| Kv::F32(i as f32)).collect()),
        )
        .kv("flags", Kv::Arr(vec![Kv::Bool(true), Kv::Bool(false)]))
        .kv(
            "nested",
            Kv::Arr(vec![Kv::texts(["x"]), Kv::Arr(vec![Kv::U8(1), Kv::U8(2)])]),
        )
        .tensor("a", &[32, 2], 8, &[1; 68])
        .tensor("b", &[5, 3], 0, &[2; 60])
        .build()
}

#[test]
fn every_cut_of_a_sound_file_is_an_error() {
    let file = sound();
    // The padding after the last tensor may be missing: some writers leave it out.
    let needed = file.len() - 4;
    for length in 0..file.len() {
        let (result, _) = open(file[..length].to_vec());
        match result {
            Err(error) => assert!(error.to_string().contains("<memory>: "), "{error}"),
            Ok(_) => assert!(length >= needed, "opened with {length} of {needed} bytes"),
        }
    }
    open(file).0.unwrap();
}

/// Reads everything that a file offers.
fn read_all(gguf: &Gguf) -> usize {
    let shown: usize = gguf
        .metadata()
        .map(|(key, value)| format!("{key}{value:?}").len())
        .sum();
    let elements: usize = gguf
        .metadata()
        .filter_map(|(key, _)| gguf.require::<Array>(key).ok())
        .map(|array| array.values().count() + array.strings().map_or(0, Iterator::count))
        .sum();
    let bytes: usize = gguf
        .tensors()
        .iter()
        .map(|tensor| gguf.tensor_bytes(tensor).len())
        .sum();
    shown + elements + bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn flipped_bytes_open_or_fail_but_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
    ) {
        let mut file = sound();
        for (index, flip) in flips {
            let index = index.index(file.len());
            file[index] ^= flip;
        }
        let limit = 2 * file.len() + 8192;
        let (result, peak) = open(file);
        prop_assert!(peak < limit, "{peak} bytes taken");
        if let Ok(gguf) = result {
            read_all(&gguf);
        }
    }

    #[test]
    fn noise_behind_a_header_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = new().build_claiming(1, 3);
        file.truncate(24);
        file.extend(&noise);
        let (result, peak) = open(file);
        prop_assert!(peak < 10_000, "{peak} bytes taken");
        if let Ok(gguf) = result {
            read_all(&gguf);
        }
    }
}

#[test]
fn a_sound_file_takes_less_memory_than_it_has() {
    let tokens: Vec<String> = (0..50_000).map(|i| format!("token{i}")).collect();
    let file = new()
        .kv("tokens", Kv::texts(tokens.iter().map(String::as_str)))
        .build();
    let (result, peak) = open(file);
    assert_eq!(
        result.unwrap().require::<Array>("tokens").unwrap().len(),
        50_000
    );
    assert!(
        peak < 4096,
        "{peak} bytes taken for strings that are in the file"
    );
}

#[test]
fn the_largest_counts_take_bounded_memory() {
    let mut writer = new();
    for index in 0..1 << 14 {
        writer = writer.raw_kv(format!("{index:x}").as_bytes(), 0, &[0]);
    }
    for index in 0..1 << 16 {
        writer = writer.tensor(&format!("{index:x}"), &[1], 24, &[0]);
    }
    let (result, peak) = open(writer.build());
    assert_eq!(result.unwrap().tensors().len(), 1 << 16);
    assert!(peak < 40 << 20, "{peak} bytes taken");
    writer = writer.raw_kv(b"one more", 0, &[0]);
    assert!(
        open(writer.build())
            .0
            .unwrap_err()
            .to_string()
            .contains("limit of 16384")
    );
}

#[test]
fn values_used_as_another_type_are_errors() {
    let gguf = Gguf::from_bytes(
        new()
            .kv("block_count", Kv::text("12"))
            .kv("negative", Kv::I32(-1))
            .kv("large", Kv::U64(1 << 32))
            .kv("scores", Kv::Arr(vec![Kv::U8(7), Kv::U8(8)]))
            .build(),
    )
    .unwrap();
    let text = |result: gristmill::Result<u32>| result.unwrap_err().to_string();
    // GHSA-2xf2-gjm6-g2c6: a count of another type was read as 0 and divided by.
    assert_eq!(
        text(gguf.require("block_count")),
        "<memory>: key `block_count`: expected an integer that fits u32, \
         found a string of 2 bytes"
    );
    assert!(text(gguf.require("negative")).contains("found i32 -1"));
    assert!(text(gguf.require("large")).contains("found u64 4294967296"));
    assert!(text(gguf.require("absent")).contains("`absent`"));
    assert!(gguf.optional::<u32>("absent").unwrap().is_none());
    assert!(gguf.optional::<u32>("negative").is_err());
    // llama.cpp PR 26690: scores declared as u8 were read as f32, past their end.
    let scores = gguf.require::<Array>("scores").unwrap();
    let error = scores.numbers::<f32>().unwrap_err().to_string();
    assert!(error.contains("key `scores`: expected an array of f32, found an array of 2 u8"));
    assert!(gguf.require::<Vec<f32>>("scores").is_err());
    assert_eq!(gguf.require::<Vec<u32>>("scores").unwrap(), [7, 8]);
}
