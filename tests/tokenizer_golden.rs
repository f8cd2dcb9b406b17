//! Tokenizers against golden data: the ids, pieces and texts that llama.cpp gives for real
//! vocabularies.
//!
//! The data is not part of the project, since the vocabularies are other people's files. It is
//! looked for in the folder that `GRISTMILL_ORACLE` names (`../shared` beside the workspace if it
//! is not set), and models in the one that `GRISTMILL_MODELS` names (`~/.cache/gristmill`).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use gristmill::gguf::Gguf;
use gristmill::tokenizer::{DecodeOptions, EncodeOptions, SpecialToken, StreamDecoder, Tokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    properties: Properties,
    cases: Vec<Case>,
}

/// Absent ids are -1.
#[derive(Deserialize)]
struct Properties {
    n_vocab: usize,
    add_bos: u8,
    add_eos: u8,
    bos: i64,
    eos: i64,
    pad: i64,
    fim_pre: i64,
    fim_suf: i64,
    fim_mid: i64,
    eog: Vec<u32>,
}

#[derive(Deserialize)]
struct Case {
    category: String,
    text: String,
    parse_special: bool,
    add_special: bool,
    ids: Vec<u32>,
    pieces_hex: Option<Vec<String>>,
    /// All tokens shown; `_hex` if it is not UTF-8.
    detok: Option<String>,
    detok_hex: Option<String>,
    /// Special tokens left out; only where that differs.
    detok_plain: Option<String>,
    detok_plain_hex: Option<String>,
}

fn oracle() -> PathBuf {
    env::var_os("GRISTMILL_ORACLE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    )
}

fn models() -> Option<PathBuf> {
    let cache = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache/gristmill"));
    env::var_os("GRISTMILL_MODELS")
        .map(PathBuf::from)
        .or_else(cache)
}

/// The vocabulary's file: one with metadata only, or a whole model.
fn vocabulary(name: &str) -> Option<PathBuf> {
    let folder = oracle().join("tok/vocab");
    let candidates = [
        Some(folder.join(format!("ggml-vocab-{name}.gguf"))),
        Some(folder.join(format!("{}-vocab.gguf", name.trim_end_matches("-instruct")))),
        models().map(|folder| folder.join(format!("{name}.gguf"))),
    ];
    candidates.into_iter().flatten().find(|path| path.is_file())
}

fn check(name: &str) {
    let golden = oracle().join(format!("tok/{name}.json"));
    let (Ok(golden), Some(path)) = (fs::read(&golden), vocabulary(name)) else {
        return println!("skipped: no golden data or no vocabulary for {name}");
    };
    let golden: Golden = serde_json::from_slice(&golden).unwrap();
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(path).unwrap()).unwrap();

    check_properties(&tokenizer, &golden.properties);
    let mut wrong = 0;
    for (number, case) in golden.cases.iter().enumerate() {
        for complaint in check_case(&tokenizer, case) {
            println!("{name}, case {number} ({}): {complaint}", case.category);
            wrong += 1;
        }
    }
    assert_eq!(
        wrong,
        0,
        "{name}: complaints about {} cases, see above",
        golden.cases.len()
    );
    println!("{name}: all {} cases agree", golden.cases.len());
}

fn check_properties(tokenizer: &Tokenizer, golden: &Properties) {
    let id = |id: i64| u32::try_from(id).ok();
    assert_eq!(tokenizer.vocab_size(), Some(golden.n_vocab));
    assert_eq!(tokenizer.adds_bos(), golden.add_bos == 1);
    assert_eq!(tokenizer.adds_eos(), golden.add_eos == 1);
    assert_eq!(tokenizer.bos(), id(golden.bos));
    assert_eq!(tokenizer.eos(), id(golden.eos));
    assert_eq!(tokenizer.special(SpecialToken::Padding), id(golden.pad));
    assert_eq!(
        tokenizer.special(SpecialToken::FimPrefix),
        id(golden.fim_pre)
    );
    assert_eq!(
        tokenizer.special(SpecialToken::FimSuffix),
        id(golden.fim_suf)
    );
    assert_eq!(
        tokenizer.special(SpecialToken::FimMiddle),
        id(golden.fim_mid)
    );
    assert_eq!(tokenizer.end_of_generation(), golden.eog);
}

fn check_case(tokenizer: &Tokenizer, case: &Case) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut compare = |what: &str, found: String, expected: String| {
        if found != expected {
            let text = case.text.chars().take(60).collect::<String>();
            complaints.push(format!(
                "{what} of {text:?}\n  is {found}\n  not {expected}"
            ));
        }
    };
    let options = EncodeOptions {
        add_special: case.add_special,
        parse_special: case.parse_special,
    };
    let ids = tokenizer.encode(&case.text, options).unwrap();
    compare("ids", format!("{ids:?}"), format!("{:?}", case.ids));

    if let Some(pieces) = &case.pieces_hex {
        let found: Vec<String> = case
            .ids
            .iter()
            .map(|&id| hex(&tokenizer.token_bytes(id).unwrap()))
            .collect();
        compare("pieces", found.join(" "), pieces.join(" "));
    }
    let decode = |render_special| {
        let options = DecodeOptions {
            render_special,
            clean_up_spaces: true,
        };
        hex(&tokenizer.decode_bytes(&case.ids, options).unwrap())
    };
    let detok = text_or_hex(&case.detok, &case.detok_hex).unwrap();
    let plain = text_or_hex(&case.detok_plain, &case.detok_plain_hex);
    compare(
        "plain text",
        decode(false),
        plain.unwrap_or_else(|| detok.clone()),
    );
    compare("text", decode(true), detok);

    let streamed = stream(tokenizer, &case.ids);
    let pieces: Vec<u8> = case
        .ids
        .iter()
        .flat_map(|&id| tokenizer.token_bytes(id).unwrap().into_owned())
        .collect();
    compare(
        "stream",
        streamed,
        String::from_utf8_lossy(&pieces).into_owned(),
    );
    complaints
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut decoder = StreamDecoder::new(tokenizer, true);
    let mut text = String::new();
    for &id in ids {
        text.push_str(decoder.push(id).unwrap());
    }
    text + decoder.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text_or_hex(text: &Option<String>, as_hex: &Option<String>) -> Option<String> {
    text.as_ref()
        .map(|text| hex(text.as_bytes()))
        .or_else(|| as_hex.clone())
}

macro_rules! vocabularies {
    ($($test:ident $name:literal;)*) => {$(
        #[test]
        fn $test() {
            check($name);
        }
    )*};
}

vocabularies! {
    aquila "aquila";
    baichuan "baichuan";
    bert "bert-bge";
    command_r "command-r";
    deepseek_coder "deepseek-coder";
    deepseek_llm "deepseek-llm";
    falcon "falcon";
    gemma_4 "gemma-4";
    gemma3 "gemma3-270m";
    gpt2 "gpt-2";
    gpt_neox "gpt-neox";
    llama_bpe "llama-bpe";
    llama_spm "llama-spm";
    mpt "mpt";
    nomic_bert "nomic-bert-moe";
    phi3 "phi-3";
    qwen2 "qwen2";
    qwen2_coder "qwen2.5-coder-0.5b";
    qwen35 "qwen35";
    refact "refact";
    smollm2 "smollm2-135m-instruct";
    starcoder "starcoder";
}
