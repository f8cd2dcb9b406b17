//! Small vocabularies made by hand, naive versions to compare with, and hostile files.

use proptest::prelude::*;

use crate::gguf::Gguf;

use super::*;

/// A metadata value to be written.
#[derive(Clone)]
enum V {
    U32(u32),
    Bool(bool),
    Text(&'static str),
    Texts(Vec<Vec<u8>>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
    U8s(Vec<u8>),
}

/// A GGUF file with metadata only.
fn gguf(entries: &[(&str, V)]) -> Gguf {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(0_u64.to_le_bytes());
    file.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        push_text(&mut file, key.as_bytes());
        push_value(&mut file, value);
    }
    Gguf::from_bytes(file).unwrap()
}

fn push_text(file: &mut Vec<u8>, text: &[u8]) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text);
}

fn push_value(file: &mut Vec<u8>, value: &V) {
    let mut head = |numbers: &[u32], len: Option<usize>| {
        numbers.iter().for_each(|n| file.extend(n.to_le_bytes()));
        len.iter()
            .for_each(|len| file.extend((*len as u64).to_le_bytes()));
    };
    match value {
        V::U32(number) => head(&[4, *number], None),
        V::Bool(_) => head(&[7], None),
        V::Text(_) => head(&[8], None),
        V::Texts(texts) => head(&[9, 8], Some(texts.len())),
        V::F32s(numbers) => head(&[9, 6], Some(numbers.len())),
        V::I32s(numbers) => head(&[9, 5], Some(numbers.len())),
        V::U8s(numbers) => head(&[9, 0], Some(numbers.len())),
    }
    match value {
        V::U32(_) => {}
        V::Bool(bool) => file.push((*bool).into()),
        V::Text(text) => push_text(file, text.as_bytes()),
        V::Texts(texts) => texts.iter().for_each(|text| push_text(file, text)),
        V::F32s(numbers) => numbers.iter().for_each(|n| file.extend(n.to_le_bytes())),
        V::I32s(numbers) => numbers.iter().for_each(|n| file.extend(n.to_le_bytes())),
        V::U8s(numbers) => file.extend(numbers),
    }
}

fn texts<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> V {
    V::Texts(
        texts
            .into_iter()
            .map(|text| text.as_ref().to_vec())
            .collect(),
    )
}

/// Every byte, then merged ones, then four special tokens.
fn bpe_entries(pre: &'static str, merges: &[(&str, &str)]) -> Vec<(&'static str, V)> {
    let bytes = (0..=255).map(|byte| stand_in::stand_in(byte).to_string());
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let special = ["<|endoftext|>", "<|im_start|>", "<added>", "<add"].map(String::from);
    let tokens: Vec<_> = bytes.chain(merged).chain(special).collect();
    let mut kinds = vec![1; tokens.len() - 4];
    kinds.extend([3, 3, 4, 4]);
    vec![
        ("tokenizer.ggml.model", V::Text("gpt2")),
        ("tokenizer.ggml.pre", V::Text(pre)),
        ("tokenizer.ggml.tokens", texts(tokens)),
        ("tokenizer.ggml.token_type", V::I32s(kinds)),
        (
            "tokenizer.ggml.merges",
            texts(merges.iter().map(|(a, b)| format!("{a} {b}"))),
        ),
    ]
}

/// `<unk>`, `<s>`, `</s>`, the bytes, then the given ones with their scores.
fn spm_entries(tokens: &[(&str, f32)]) -> Vec<(&'static str, V)> {
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let given = tokens.iter().map(|(text, _)| text.to_string());
    let names = ["<unk>", "<s>", "</s>"].map(String::from);
    let mut kinds = vec![2, 3, 3];
    kinds.extend([6; 256]);
    kinds.resize(259 + tokens.len(), 1);
    let mut scores = vec![0.0; 259];
    scores.extend(tokens.iter().map(|(_, score)| score));
    vec![
        ("tokenizer.ggml.model", V::Text("llama")),
        (
            "tokenizer.ggml.tokens",
            texts(names.into_iter().chain(bytes).chain(given)),
        ),
        ("tokenizer.ggml.token_type", V::I32s(kinds)),
        ("tokenizer.ggml.scores", V::F32s(scores)),
    ]
}

fn build(entries: &[(&str, V)]) -> Result<Tokenizer> {
    Tokenizer::from_gguf(&gguf(entries))
}

/// The tokens of a text taken literally, as texts.
fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let options = EncodeOptions {
        add_special: false,
        parse_special: false,
    };
    let ids = tokenizer.encode(text, options).unwrap();
    ids.iter()
        .map(|&id| tokenizer.token_text(id).unwrap().into_owned())
        .collect()
}

const MERGES: &[(&str, &str)] = &[
    ("l", "o"),
    ("lo", "w"),
    ("e", "r"),
    ("Ġ", "low"),
    ("o", "o"),
];

#[test]
fn bpe_merges_by_rank_from_the_left() {
    let tokenizer = build(&bpe_entries("gpt-2", MERGES)).unwrap();
    assert_eq!(tokens(&tokenizer, "lower low"), ["low", "er", "Ġlow"]);
    assert_eq!(tokens(&tokenizer, "ooo"), ["oo", "o"]);
    assert_eq!(tokens(&tokenizer, "looo"), ["lo", "oo"]);
    assert_eq!(tokens(&tokenizer, "é\n"), ["Ã", "©", "Ċ"]);
    assert_eq!(tokens(&tokenizer, ""), [""; 0]);
}

/// A pair that is gone takes its rank with it, even if the new neighbours have a rank, too.
#[test]
fn bpe_forgets_pairs_that_are_gone() {
    let merges = [("b", "c"), ("a", "b"), ("bc", "c"), ("a", "bc")];
    let tokenizer = build(&bpe_entries("gpt-2", &merges)).unwrap();
    assert_eq!(tokens(&tokenizer, "abcc"), ["a", "bcc"]);
}

/// A merge may lead through a text that is no token, and a repeated one keeps its first rank.
#[test]
fn bpe_merges_may_name_missing_tokens() {
    let mut entries = bpe_entries("gpt-2", MERGES);
    entries[4].1 = texts(["a b", "x y", "ab c", "x y", "y z"]);
    let V::Texts(names) = &mut entries[2].1 else {
        panic!()
    };
    names[256] = b"abc".to_vec();
    let tokenizer = build(&entries).unwrap();
    assert_eq!(tokens(&tokenizer, "abcab"), ["abc", "a", "b"]);
    assert_eq!(tokens(&tokenizer, "xyz"), ["x", "y", "z"]);
}

#[test]
fn special_tokens_are_cut_out_first() {
    let tokenizer = build(&bpe_entries("qwen2", MERGES)).unwrap();
    assert_eq!(tokens(&tokenizer, "a<added><add"), ["a", "<added>", "<add"]);
    assert_eq!(tokens(&tokenizer, "<|im_start|>")[0], "<");
    let options = EncodeOptions {
        parse_special: true,
        ..EncodeOptions::default()
    };
    let ids = tokenizer
        .encode("<|im_start|><|endoftext|>", options)
        .unwrap();
    assert_eq!(ids, [262, 261]);
    assert_eq!(tokenizer.end_of_generation(), [261]);
    assert!(tokenizer.is_end_of_generation(261) && !tokenizer.is_end_of_generation(262));
    let shown = DecodeOptions {
        render_special: true,
        ..DecodeOptions::default()
    };
    assert_eq!(
        tokenizer.decode(&[262, 261, 263], shown).unwrap(),
        "<|im_start|><|endoftext|><added>"
    );
    assert_eq!(
        tokenizer
            .decode(&[262, 261, 263], DecodeOptions::default())
            .unwrap(),
        "<added>"
    );
    assert!(matches!(
        tokenizer.decode(&[999], shown),
        Err(Error::Argument { .. })
    ));
}

#[test]
fn spm_joins_by_score_and_spells_the_rest() {
    let entries = spm_entries(&[
        ("▁", -1.0),
        ("a", -2.0),
        ("b", -3.0),
        ("ab", -4.0),
        ("▁a", -5.0),
        ("ba", -3.5),
    ]);
    let tokenizer = build(&entries).unwrap();
    assert_eq!(tokens(&tokenizer, "ab"), ["▁", "ab"]);
    assert_eq!(tokens(&tokenizer, "aba"), ["▁a", "ba"]);
    assert_eq!(tokens(&tokenizer, "é a"), ["▁", "<0xC3>", "<0xA9>", "▁a"]);
    assert_eq!(tokens(&tokenizer, ""), [""; 0]);
    let ids = tokenizer.encode("a", EncodeOptions::default()).unwrap();
    assert_eq!(ids, [1, 263]);
    assert_eq!(
        tokenizer
            .decode(&ids[1..], DecodeOptions::default())
            .unwrap(),
        "a"
    );
    assert_eq!(
        tokenizer.decode(&ids, DecodeOptions::default()).unwrap(),
        " a"
    );
}

/// Merging as the definition says it: again and again over the whole piece.
fn merge_naively(text: &str, merges: &[(&str, &str)]) -> Vec<String> {
    let mut parts: Vec<String> = text
        .bytes()
        .map(|b| stand_in::stand_in(b).to_string())
        .collect();
    let rank = |pair: &[String]| merges.iter().position(|m| m.0 == pair[0] && m.1 == pair[1]);
    while let Some((_, at)) = parts
        .windows(2)
        .enumerate()
        .filter_map(|(at, pair)| Some((rank(pair)?, at)))
        .min()
    {
        let right = parts.remove(at + 1);
        parts[at].push_str(&right);
    }
    parts
}

/// Joining as the definition says it.
fn join_naively(text: &str, tokens: &[(&str, f32)]) -> Vec<String> {
    let mut parts: Vec<String> = text.chars().map(String::from).collect();
    let score = |pair: &[String]| {
        tokens
            .iter()
            .find(|token| token.0 == pair.concat())
            .map(|token| token.1)
    };
    loop {
        let mut best: Option<(usize, f32)> = None;
        for (at, pair) in parts.windows(2).enumerate() {
            if let Some(score) = score(pair).filter(|&s| best.is_none_or(|best| s > best.1)) {
                best = Some((at, score));
            }
        }
        let Some((at, _)) = best else { return parts };
        let right = parts.remove(at + 1);
        parts[at].push_str(&right);
    }
}

/// Cutting as the definition says it: each token over all that is left, the longest first.
fn cut_naively(text: &str, tokens: &[&'static str]) -> Vec<(bool, String)> {
    let mut longest_first = tokens.to_vec();
    longest_first.sort_by_key(|token| (std::cmp::Reverse(token.len()), *token));
    let mut fragments = vec![(false, text.to_owned())];
    for token in longest_first {
        let mut finer = Vec::new();
        for (special, text) in fragments {
            if special {
                finer.push((true, text));
                continue;
            }
            for (number, part) in text.split(token).enumerate() {
                finer.extend((number > 0).then(|| (true, token.to_owned())));
                finer.extend((!part.is_empty()).then(|| (false, part.to_owned())));
            }
        }
        fragments = finer;
    }
    fragments
}

/// Of different lengths: for equal ones the order is not defined.
const CUT: &[&str] = &["a", "ab", "abc", "abab", "é", "bbabb", "caébb", "aaaaaaa"];

/// Parts of texts in which those overlap.
const CUT_FROM: &[&str] = &[
    "a", "b", "c", "é", "aaa", "abc", "bab", "aébb", "caébb", "abab",
];

proptest! {
    #[test]
    fn bpe_agrees_with_the_naive_version(
        text in "[abc]{0,24}",
        merges in prop::collection::vec(("[abc]{1,2}", "[abc]{1,2}"), 0..24),
    ) {
        let merges: Vec<_> = merges.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let tokenizer = build(&bpe_entries("gpt-2", &merges)).unwrap();
        prop_assert_eq!(tokens(&tokenizer, &text), merge_naively(&text, &merges));
    }

    #[test]
    fn words_that_come_again_are_encoded_alike(
        words in prop::collection::vec(" [abc]{1,4}", 0..40),
        merges in prop::collection::vec(("[abc]{1,2}", "[abc]{1,2}"), 0..12),
    ) {
        let merges: Vec<_> = merges.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let tokenizer = build(&bpe_entries("gpt-2", &merges)).unwrap();
        let each: Vec<_> = words.iter().flat_map(|word| merge_naively(word, &merges)).collect();
        prop_assert_eq!(tokens(&tokenizer, &words.concat()), each);
    }

    #[test]
    fn spm_agrees_with_the_naive_version(
        half in "[abcé ]{0,24}",
        times in 1..3_usize,
        space_prefix: bool,
    ) {
        let vocabulary = [
            ("a", -9.0), ("b", -9.0), ("c", -9.0), ("é", -9.0), ("ab", -1.0), ("ba", -1.0),
            ("abc", -3.0), ("cc", -2.0), ("bab", -0.5), ("aab", -4.0), ("ccab", -0.1), ("▁", -9.0),
            ("▁▁", -0.6), ("▁a", -0.7), ("▁ab", -0.2), ("b▁", -0.3), ("éb", -1.0), ("▁é", -5.0),
        ];
        let mut entries = spm_entries(&vocabulary);
        entries.push(("tokenizer.ggml.add_space_prefix", V::Bool(space_prefix)));
        let tokenizer = build(&entries).unwrap();
        let text = half.repeat(times);
        let prefix = if space_prefix && !text.is_empty() { "▁" } else { "" };
        let escaped = format!("{prefix}{}", text.replace(' ', "▁"));
        prop_assert_eq!(tokens(&tokenizer, &text), join_naively(&escaped, &vocabulary));
    }

    #[test]
    fn cutting_agrees_with_the_naive_version(
        parts in prop::collection::vec(prop::sample::select(CUT_FROM), 0..12),
    ) {
        let text = parts.concat();
        let mut entries = bpe_entries("gpt-2", &[]);
        entries[2].1 = texts(CUT);
        entries[3].1 = V::I32s(vec![4; CUT.len()]);
        let vocab = Vocab::from_gguf(&gguf(&entries)).unwrap();
        let cutter = Cutter::new(&vocab, vocab.ids().map(|id| (id, cut::Strip::default())));
        let found: Vec<_> = cutter
            .cut(&vocab, &text, &[])
            .into_iter()
            .map(|fragment| match fragment {
                Fragment::Text(range) => (false, text[range].to_owned()),
                Fragment::Special(id) => (true, CUT[id as usize].to_owned()),
            })
            .collect();
        prop_assert_eq!(found, cut_naively(&text, CUT));
    }

    /// Byte-level BPE loses nothing, whatever the pre-tokenizer.
    #[test]
    fn decoding_gives_back_what_was_encoded(text in any::<String>(), row in 0..4_usize) {
        let pre = ["qwen2", "llama-bpe", "smollm", "gpt-2"][row];
        let tokenizer = build(&bpe_entries(pre, MERGES)).unwrap();
        for parse_special in [false, true] {
            let options = EncodeOptions { add_special: false, parse_special };
            let ids = tokenizer.encode(&text, options).unwrap();
            let shown = DecodeOptions { render_special: true, clean_up_spaces: false };
            prop_assert_eq!(&tokenizer.decode(&ids, shown).unwrap(), &text);
            let mut decoder = StreamDecoder::new(&tokenizer, true);
            let streamed: String =
                ids.iter().map(|&id| decoder.push(id).unwrap().to_owned()).collect();
            prop_assert_eq!(streamed + decoder.finish(), text.clone());
        }
    }
}

#[test]
fn literal_ranges_hide_control_tokens() {
    let mut entries = bpe_entries("gpt-2", &[]);
    let V::Texts(names) = &mut entries[2].1 else {
        panic!()
    };
    // Control in the file, but llama.cpp takes it for user-defined.
    names[257] = b"<|start|>".to_vec();
    let tokenizer = build(&entries).unwrap();
    assert_eq!(tokenizer.token_kind(257), Some(TokenKind::UserDefined));
    let text = "a<|start|><added><|endoftext|>";
    let special = |literal: &[Range<usize>], parse_special| -> Vec<u32> {
        let options = EncodeOptions {
            add_special: false,
            parse_special,
        };
        let ids = tokenizer.encode_with_literals(text, literal, options);
        let ids = ids.unwrap();
        let shown = DecodeOptions {
            render_special: true,
            clean_up_spaces: false,
        };
        assert_eq!(tokenizer.decode(&ids, shown).unwrap(), text);
        ids.into_iter().filter(|&id| id >= 256).collect()
    };
    let all = text.len();
    let borders = [0..1, 10..17];
    assert_eq!(special(&[], true), [257, 258, 256]);
    assert_eq!(special(&borders, true), [257, 258, 256]);
    assert_eq!(special(std::slice::from_ref(&(0..all)), true), [258]);
    assert_eq!(special(&[0..2, 29..30], true), [258]);
    assert_eq!(special(&[9..10, 10..11, 16..17], true), [258, 256]);
    assert_eq!(special(std::slice::from_ref(&(17..18)), true), [257, 258]);
    // Nothing changes where control tokens are not looked for.
    assert_eq!(special(&[], false), [257, 258]);
    assert_eq!(special(std::slice::from_ref(&(0..all)), false), [258]);
    // Ranges that are no ranges of the text, or out of order, do no harm.
    special(&[50..60, 0..1], true);
}

/// Whitespace beside a token belongs to it on the sides that are stripped.
#[test]
fn tokens_may_swallow_whitespace() {
    let mut entries = spm_entries(&[("▁", -1.0), ("a", -1.0), ("▁a", -0.5)]);
    entries.push(("general.name", V::Text("My Phi-3 model")));
    let V::Texts(names) = &mut entries[1].1 else {
        panic!()
    };
    names.push(b"<|end|>".to_vec());
    let V::I32s(kinds) = &mut entries[2].1 else {
        panic!()
    };
    kinds.push(3);
    let V::F32s(scores) = &mut entries[3].1 else {
        panic!()
    };
    scores.push(0.0);
    let tokenizer = build(&entries).unwrap();
    let options = EncodeOptions {
        add_special: false,
        parse_special: true,
    };
    let found = |text| tokenizer.encode(text, options).unwrap();
    assert_eq!(found("a<|end|> \n\x0b a"), [261, 262, 261]);
    assert_eq!(found("<|end|>\u{a0}")[..2], [262, 259]); // only ASCII whitespace
    assert_eq!(found("<s> a"), [1, 259, 261]);
}

#[test]
fn streams_never_cut_a_character() {
    let tokenizer = build(&bpe_entries("gpt-2", &[])).unwrap();
    let mut decoder = StreamDecoder::new(&tokenizer, false);
    let mut push = |bytes: &[u8]| -> Vec<String> {
        bytes
            .iter()
            .map(|&byte| decoder.push(byte.into()).unwrap().to_owned())
            .collect()
    };
    assert_eq!(push("aé€".as_bytes()), ["a", "", "é", "", "", "€"]);
    // Overlong, a surrogate's beginning, a lone continuation: replaced as soon as it is certain.
    assert_eq!(
        push(&[0xc0, b'x', 0xed, 0xa0]),
        ["\u{fffd}", "x", "", "\u{fffd}\u{fffd}"]
    );
    assert_eq!(push(&[0x80]), ["\u{fffd}"]);
    assert_eq!(push(&[0xf0, 0x9f, b'!']), ["", "", "\u{fffd}!"]);
    assert_eq!(push(&[0xf0, 0x9f, 0x98]), ["", "", ""]);
    assert_eq!(decoder.finish(), "\u{fffd}");
    assert_eq!(decoder.finish(), "");
    assert!(decoder.push(u32::MAX).is_err());
    assert_eq!(decoder.push(b'a'.into()).unwrap(), "a");
}

#[test]
fn a_tokenizer_can_be_shared_between_threads() {
    fn is_shareable<T: Send + Sync + Clone>() {}
    is_shareable::<Tokenizer>();
    is_shareable::<StreamDecoder>();
}

#[test]
fn a_model_without_vocabulary_takes_no_text() {
    let tokenizer = build(&[("tokenizer.ggml.model", V::Text("none"))]).unwrap();
    assert_eq!(tokenizer.vocab_size(), None);
    assert_eq!(tokenizer.bos(), None);
    assert!(!tokenizer.adds_bos());
    let error = tokenizer.encode("a", EncodeOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("without a vocabulary"),
        "{error}"
    );
    assert!(tokenizer.decode(&[0], DecodeOptions::default()).is_err());
}

#[test]
fn ends_of_generation_are_known_by_key_and_by_name() {
    let mut entries = spm_entries(&[("<end_of_turn>", 0.0), ("<PAD>", 0.0), ("x", 0.0)]);
    entries.push(("tokenizer.ggml.eot_token_id", V::U32(261)));
    let tokenizer = build(&entries).unwrap();
    assert_eq!(tokenizer.end_of_generation(), [2, 259, 260, 261]);
    assert_eq!(tokenizer.token_kind(259), Some(TokenKind::Control));
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert_eq!(tokenizer.special(SpecialToken::EndOfTurn), Some(261));
    assert_eq!(tokenizer.special(SpecialToken::FimPadding), Some(260));
    assert_eq!(tokenizer.special(SpecialToken::Mask), None);
}

/// Tokenizers that a file must not be able to break; the rows of known attacks are among them.
#[test]
fn hostile_vocabularies_end_in_errors() {
    let cases: Vec<(&str, V, &str)> = vec![
        (
            "model",
            V::Text("rwkv"),
            "tokenizer `rwkv` is not supported",
        ),
        ("model", V::Text("\u{1b}[2J"), "tokenizer.ggml.model"),
        ("model", V::U32(1), "tokenizer.ggml.model"),
        (
            "pre",
            V::Text("gpt-99"),
            "pre-tokenizer `gpt-99` is not supported",
        ),
        ("pre", V::U32(1), "tokenizer.ggml.pre"),
        ("tokens", V::I32s(vec![1, 2]), "tokenizer.ggml.tokens"),
        ("tokens", texts([""; 0]), "at least one token"),
        ("tokens", V::Text("abc"), "tokenizer.ggml.tokens"),
        ("scores", V::U8s(vec![0; 261]), "tokenizer.ggml.scores"),
        ("scores", V::F32s(vec![0.0; 9]), "one for each token"),
        (
            "token_type",
            V::F32s(vec![1.0; 265]),
            "tokenizer.ggml.token_type",
        ),
        ("token_type", V::I32s(vec![1; 264]), "one for each token"),
        (
            "token_type",
            V::I32s(vec![7; 265]),
            "token types from 0 to 6",
        ),
        (
            "token_type",
            V::I32s(vec![-1; 265]),
            "token types from 0 to 6",
        ),
        ("merges", V::F32s(vec![1.0]), "tokenizer.ggml.merges"),
        ("merges", texts(["ab"]), "two texts with a space"),
        ("merges", texts(["a "]), "two texts with a space"),
        ("merges", texts([" "]), "two texts with a space"),
        ("merges", texts([""]), "two texts with a space"),
        ("bos_token_id", V::U32(265), "a token id below 265"),
        ("eos_token_id", V::U32(u32::MAX), "a token id below 265"),
        ("fim_pre_token_id", V::U32(1 << 31), "a token id below 265"),
        (
            "padding_token_id",
            V::Text("0"),
            "tokenizer.ggml.padding_token_id",
        ),
        ("add_bos_token", V::U32(1), "tokenizer.ggml.add_bos_token"),
    ];
    for (key, value, expected) in cases {
        let key = format!("tokenizer.ggml.{key}");
        let mut entries = bpe_entries("gpt-2", MERGES);
        entries.retain(|(name, _)| *name != key);
        entries.push((&key, value));
        let error = build(&entries).expect_err(expected).to_string();
        assert!(
            error.contains(&key) && error.contains(expected),
            "{key}: {error}"
        );
        assert!(!error.contains('\u{1b}'), "{error}");
    }
    for missing in ["model", "tokens", "merges"] {
        let key = format!("tokenizer.ggml.{missing}");
        let mut entries = bpe_entries("gpt-2", MERGES);
        entries.retain(|(name, _)| *name != key);
        assert!(build(&entries).unwrap_err().to_string().contains(&key));
    }
}

#[test]
fn byte_tokens_must_name_a_byte() {
    for bad in [
        "<0x-1>", "<0xZZ>", "<0x100>", "<0x+1>", "0x41", "<0x4>", "a",
    ] {
        let mut entries = spm_entries(&[]);
        let V::Texts(names) = &mut entries[1].1 else {
            panic!()
        };
        names[3] = bad.as_bytes().to_vec();
        let error = build(&entries).unwrap_err().to_string();
        assert!(
            error.contains("byte token 3") && error.contains(bad),
            "{error}"
        );
    }
}

/// Odd vocabularies that are no errors: they work as far as they can.
#[test]
fn odd_vocabularies_do_no_harm() {
    // Empty and equal texts, broken UTF-8 in a special token, a special token that is one byte.
    let mut entries = bpe_entries("gpt-2", &[]);
    let names: Vec<&[u8]> = vec![b"", b"a", b"a", b"\xa9", b"\xff\xfe", b"a", b"b"];
    entries[2].1 = texts(&names);
    entries[3].1 = V::I32s(vec![1, 1, 1, 4, 4, 1, 4]);
    let tokenizer = build(&entries).unwrap();
    let options = EncodeOptions::default();
    assert_eq!(tokenizer.encode("éab", options).unwrap(), [5, 6]);
    assert_eq!(tokenizer.token_text(0).unwrap(), "[EMPTY_0]");
    assert_eq!(tokenizer.token_bytes(4).unwrap(), &b"\xff\xfe"[..]);
    assert_eq!(
        tokenizer.decode(&[4], DecodeOptions::default()).unwrap(),
        "\u{fffd}\u{fffd}"
    );

    // Scores that are no numbers, and no byte tokens: the unknown token takes their place.
    let entries = [
        ("tokenizer.ggml.model", V::Text("llama")),
        ("tokenizer.ggml.tokens", texts(["<unk>", "a", "aa", "aaa"])),
        ("tokenizer.ggml.token_type", V::I32s(vec![2, 1, 1, 1])),
        (
            "tokenizer.ggml.scores",
            V::F32s(vec![f32::NAN, f32::INFINITY, -f32::NAN, f32::NAN]),
        ),
        ("tokenizer.ggml.add_space_prefix", V::Bool(false)),
    ];
    let tokenizer = build(&entries).unwrap();
    assert_eq!(tokens(&tokenizer, "éaaa").last().unwrap(), "aaa");
    assert_eq!(tokenizer.encode("é", options).unwrap(), [0, 0]);
    assert!(!tokenizer.adds_bos());
}

/// Long texts of one kind: merging is not quadratic, and nothing overflows a stack.
#[test]
fn long_texts_are_no_problem() {
    let bpe = build(&bpe_entries(
        "llama-bpe",
        &[("a", "a"), ("aa", "aa"), ("Ġ", "Ġ")],
    ))
    .unwrap();
    let spm = build(&spm_entries(&[
        ("a", -1.0),
        ("aa", -0.5),
        ("▁▁", -0.1),
        ("▁", -9.0),
    ]))
    .unwrap();
    for text in ["a", " ", "\n", "é", "<added>", "<add", "1", "'"] {
        let text = text.repeat(100_000);
        for tokenizer in [&bpe, &spm] {
            let options = EncodeOptions {
                add_special: false,
                parse_special: true,
            };
            let ids = tokenizer.encode(&text, options).unwrap();
            assert_eq!(
                tokenizer.decode(&ids, DecodeOptions::default()).unwrap(),
                text
            );
        }
    }
}

/// A token as long as a word must not be tried at each place of it, in every length.
#[test]
fn a_long_token_does_not_make_words_slow() {
    let long = "a".repeat(20_000);
    let tokens = ["[UNK]", "▁a", "a", &long, "▁b", "b"];
    let wordpiece = build(&[
        ("tokenizer.ggml.model", V::Text("bert")),
        ("tokenizer.ggml.tokens", texts(tokens)),
    ])
    .unwrap();
    let mut expected = vec!["▁b"];
    expected.resize(1 + long.len(), "a");
    assert_eq!(self::tokens(&wordpiece, &format!("b{long}")), expected);
    let twice = [&expected[..], &["▁a"], &expected[..]].concat();
    let text = format!(" b{long} a  b{long}\n");
    assert_eq!(self::tokens(&wordpiece, &text), twice);
}

#[test]
fn spaces_are_cleaned_by_gpt2s_rules() {
    let clean = |text: &str| String::from_utf8(decode::clean_spaces(text.as_bytes())).unwrap();
    assert_eq!(clean("Hi , you ! Why ? So ."), "Hi, you! Why? So.");
    assert_eq!(
        clean("it 's I 'm we 've they 're he 'd ' a"),
        "it's I'm we've they're he 'd'a"
    );
    assert_eq!(clean(" . a"), ". a");
    assert_eq!(clean("a '"), "a '");
}
