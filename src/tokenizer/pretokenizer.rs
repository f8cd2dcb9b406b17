//! How a text is cut into pieces before byte-pair encoding: one row for every known
//! `tokenizer.ggml.pre`.
//!
//! The regexes are those of the models' published tokenizers, as llama.cpp has them where the two
//! differ only in spelling (case-insensitive contractions are written out). They are applied one
//! after the other: each cuts the pieces that the one before left; its matches and what lies
//! between them become pieces.

use std::ops::Range;
use std::sync::OnceLock;

use fancy_regex::Regex;

use crate::gguf::Gguf;
use crate::{Error, Result};

use super::scanner::Scanner;

const PRE: &str = "tokenizer.ggml.pre";

/// A row of the table.
#[derive(Debug)]
struct Row {
    names: &'static [&'static str],
    regexes: &'static [&'static str],
    flags: u8,
}

/// BOS is added unless the file says otherwise.
const BOS: u8 = 1;
/// A piece that is a token is taken whole, without looking at the merges.
const WHOLE: u8 = 2;
/// Decoding a whole text removes the space before punctuation, if asked for.
const CLEAN: u8 = 4;
/// Merges run on characters, with `▁` for a space; the others run on bytes.
const CHARACTERS: u8 = 8;
/// BOS is added whatever the file says, and a run of newlines that is a token is taken whole.
const GEMMA: u8 = 16;

macro_rules! contraction {
    () => {
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    };
}

/// The common end of most regexes: newlines, then spaces without the one before a word.
macro_rules! spaces {
    () => {
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    };
}

/// Words, cut where a capital follows a small letter; each may end with the contraction.
macro_rules! cased_words {
    ($contraction:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $contraction,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $contraction,
        )
    };
}

pub(super) const EACH_NUMBER: &str = r"\p{N}";

pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

pub(super) const LLAMA3: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    spaces!()
);

pub(super) const QWEN2: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    spaces!()
);

pub(super) const QWEN35: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    spaces!()
);

const JAIS2: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)",
    r"|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"
);

const NEWLINE: &str = r"[\r\n]";

/// Letters of the Latin, Greek, Cyrillic and a few other scripts.
#[rustfmt::skip]
const DEEPSEEK_LETTERS: &str = concat!(
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ",
    "Ḁ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿ",
    "ⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
);

const DEEPSEEK_PUNCTUATION: &str = "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+";

const DEEPSEEK_HAN: &str = "[一-龥ࠀ-一가-\u{d7ff}]+";

const DEEPSEEK3_HAN: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";

const DEEPSEEK3_WORDS: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*",
    spaces!()
);

const SPARK_WORDS: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"
);

const YOUTU_HAN: &str = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";

const YOUTU_WORDS: &str = concat!(
    cased_words!(concat!(contraction!(), "?")),
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    spaces!()
);

const GPT4O: &str = concat!(
    cased_words!(concat!(contraction!(), "?")),
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    spaces!()
);

const TEKKEN: &str = concat!(
    cased_words!(""),
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    spaces!()
);

const GRANITE_97M: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?((?=[\p{L}\p{M}])([^a-z]))*((?=[\p{L}\p{M}])([^A-Z]))+",
    concat!(contraction!(), "?"),
    r"|[^\r\n\p{L}\p{N}]?((?=[\p{L}\p{M}])([^a-z]))+((?=[\p{L}\p{M}])([^A-Z]))*",
    concat!(contraction!(), "?"),
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    spaces!()
);

const BLOOM: &str = " ?[^(\\s|.,!?…。，、।۔،)]+";

const BAILING: &str = concat!(
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
);

const SEED_CODER: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+",
    spaces!()
);

const UFAKZEKA: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    spaces!()
);

const EXAONE_MOE: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
);

const MINICPM5: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*",
    spaces!()
);

const LINES: &str = r"[^\n]+|[\n]+";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row {
        names: &[
            "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
            "lfm2", "jina-v5-nano",
        ],
        regexes: &[LLAMA3],
        flags: BOS | WHOLE | CLEAN,
    },
    Row { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], regexes: &[LLAMA3], flags: CLEAN },
    Row { names: &["glm4", "glm5"], regexes: &[LLAMA3], flags: WHOLE | CLEAN },
    Row { names: &["jais-2"], regexes: &[JAIS2], flags: CLEAN },
    Row {
        names: &["deepseek-llm"],
        regexes: &[
            NEWLINE, DEEPSEEK_LETTERS, DEEPSEEK_PUNCTUATION, r"\s+$", DEEPSEEK_HAN, r"\p{N}+",
        ],
        flags: 0,
    },
    Row {
        names: &["deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"],
        regexes: &[r"\p{N}{1,3}", DEEPSEEK3_HAN, DEEPSEEK3_WORDS],
        flags: 0,
    },
    Row {
        names: &["spark2_5"],
        regexes: &[r"\p{N}{1,3}", DEEPSEEK3_HAN, SPARK_WORDS, EACH_NUMBER],
        flags: 0,
    },
    Row { names: &["youtu"], regexes: &[YOUTU_HAN, YOUTU_WORDS], flags: WHOLE },
    Row {
        names: &["deepseek-coder"],
        regexes: &[NEWLINE, r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_HAN, EACH_NUMBER],
        flags: 0,
    },
    Row {
        names: &["falcon"],
        regexes: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
        flags: CLEAN,
    },
    Row {
        names: &["starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"],
        regexes: &[EACH_NUMBER, GPT2],
        flags: CLEAN,
    },
    Row { names: &["command-r", "smollm"], regexes: &[EACH_NUMBER, GPT2], flags: 0 },
    Row {
        names: &[
            "mpt", "gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de",
            "a.x-4.0", "mellum", "modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe", "olmo",
            "jais", "exaone4",
        ],
        regexes: &[GPT2],
        flags: CLEAN,
    },
    Row { names: &["trillion", "granite-docling"], regexes: &[GPT2], flags: 0 },
    Row {
        names: &[
            "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "hunyuan", "grok-2", "solar-open",
        ],
        regexes: &[QWEN2],
        flags: 0,
    },
    Row { names: &["stablelm2", "megrez"], regexes: &[QWEN2], flags: CLEAN },
    Row { names: &["qwen35"], regexes: &[QWEN35], flags: 0 },
    Row { names: &["poro-chat"], regexes: &[BLOOM], flags: 0 },
    Row { names: &["bloom", "gpt3-finnish"], regexes: &[BLOOM], flags: CLEAN },
    Row { names: &["viking"], regexes: &[BLOOM, EACH_NUMBER], flags: 0 },
    Row { names: &["tekken"], regexes: &[TEKKEN], flags: BOS | WHOLE },
    Row {
        names: &["chameleon"],
        regexes: &[
            "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )",
            EACH_NUMBER, r"[\p{P}!-/:-@\[-`{-~]", GPT2,
        ],
        flags: BOS,
    },
    Row {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        regexes: &[GPT4O],
        flags: 0,
    },
    Row { names: &["granite-embed-multi-97m"], regexes: &[GRANITE_97M], flags: WHOLE },
    Row { names: &["bailingmoe", "bailingmoe2", "llada-moe"], regexes: &[BAILING], flags: 0 },
    Row { names: &["seed-coder"], regexes: &[SEED_CODER], flags: 0 },
    Row { names: &["ufakzeka"], regexes: &[UFAKZEKA], flags: 0 },
    Row { names: &["laguna"], regexes: &[LINES, QWEN2], flags: 0 },
    Row { names: &["exaone-moe"], regexes: &[EXAONE_MOE], flags: CLEAN },
    Row {
        names: &["gemma4", "granite-embed-multi-311m"],
        regexes: &[LINES],
        flags: CLEAN | CHARACTERS | GEMMA,
    },
    Row { names: &["sarvam-moe"], regexes: &[LINES], flags: CHARACTERS },
    Row { names: &["minicpm5"], regexes: &[r"\p{N}{1,3}", MINICPM5], flags: WHOLE | CLEAN },
    Row {
        names: &["", "default"],
        regexes: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        flags: CLEAN,
    },
];

/// The pre-tokenizer of a file.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    row: &'static Row,
    splitters: Vec<Splitter>,
}

impl PreTokenizer {
    /// The one that the file names; `default_name` if it has no such key.
    pub(super) fn from_gguf(gguf: &Gguf, default_name: &str) -> Result<PreTokenizer> {
        let name: Option<String> = gguf.optional(PRE)?;
        let name = name.as_deref().unwrap_or(default_name);
        PreTokenizer::by_name(name).ok_or_else(|| Error::Unsupported {
            place: gguf.place_of_key(PRE),
            what: format!("pre-tokenizer {}", super::vocab::shown(name.as_bytes())),
            supported: names().collect::<Vec<_>>().join(", "),
        })
    }

    fn by_name(name: &str) -> Option<PreTokenizer> {
        let row = ROWS.iter().find(|row| row.names.contains(&name))?;
        Some(PreTokenizer {
            row,
            splitters: row.regexes.iter().map(|r| Splitter::new(r)).collect(),
        })
    }

    /// Whether BOS is added, given what the file says.
    pub(super) fn adds_bos(&self, in_file: Option<bool>) -> bool {
        self.has(GEMMA) || in_file.unwrap_or(self.has(BOS))
    }

    pub(super) fn byte_encode(&self) -> bool {
        !self.has(CHARACTERS)
    }

    pub(super) fn escapes_spaces(&self) -> bool {
        self.has(CHARACTERS)
    }

    pub(super) fn cleans_spaces(&self) -> bool {
        self.has(CLEAN)
    }

    /// Whether a piece that is a token is taken whole.
    pub(super) fn takes_whole(&self, piece: &str) -> bool {
        self.has(WHOLE) || (self.has(GEMMA) && piece.starts_with('\n'))
    }

    fn has(&self, flag: u8) -> bool {
        self.row.flags & flag != 0
    }

    /// Cuts a range of the text into pieces, which cover it without gaps.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if a regex gives up: a text can make it backtrack without end.
    pub(super) fn split(
        &self,
        text: &str,
        range: Range<usize>,
        pieces: &mut Vec<Range<usize>>,
    ) -> Result<()> {
        pieces.clear();
        if !range.is_empty() {
            pieces.push(range);
        }
        let mut finer = Vec::new();
        for splitter in &self.splitters {
            finer.clear();
            for piece in pieces.drain(..) {
                splitter.split(text, piece, &mut finer)?;
            }
            std::mem::swap(pieces, &mut finer);
        }
        Ok(())
    }
}

/// All names of the table.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter()
        .flat_map(|row| row.names)
        .copied()
        .filter(|name| !name.is_empty())
}

/// One regex.
#[derive(Debug)]
enum Splitter {
    Scanner(Scanner),
    /// Compiled when first needed: that takes milliseconds.
    Regex {
        source: &'static str,
        compiled: OnceLock<std::result::Result<Regex, String>>,
    },
}

impl Splitter {
    fn new(source: &'static str) -> Splitter {
        match Scanner::for_regex(source) {
            Some(scanner) => Splitter::Scanner(scanner),
            None => Splitter::Regex {
                source,
                compiled: OnceLock::new(),
            },
        }
    }

    fn split(&self, text: &str, piece: Range<usize>, finer: &mut Vec<Range<usize>>) -> Result<()> {
        match self {
            Splitter::Scanner(scanner) => scanner.split(text, piece, finer),
            Splitter::Regex { source, compiled } => {
                let compile = || Regex::new(source).map_err(|error| error.to_string());
                let regex = compiled
                    .get_or_init(compile)
                    .as_ref()
                    .map_err(String::clone);
                regex
                    .and_then(|regex| {
                        split_by_regex(regex, &text[piece.clone()], piece.start, finer)
                    })
                    .map_err(|found| Error::Argument {
                        name: "text",
                        expected: format!("a text that `{source}` can cut"),
                        found,
                    })?;
            }
        }
        Ok(())
    }
}

/// Cuts at the matches; `start` is where the piece begins in the text. Fails with what the regex
/// engine said.
fn split_by_regex(
    regex: &Regex,
    piece: &str,
    start: usize,
    finer: &mut Vec<Range<usize>>,
) -> std::result::Result<(), String> {
    let mut done = 0;
    for found in regex.find_iter(piece) {
        let found = found.map_err(|error| error.to_string())?.range();
        if done < found.start {
            finer.push(start + done..start + found.start);
        }
        if !found.is_empty() {
            finer.push(start + found.start..start + found.end);
        }
        done = found.end;
    }
    if done < piece.len() {
        finer.push(start + done..start + piece.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    fn pieces<'t>(splitter: &Splitter, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        if !text.is_empty() {
            splitter.split(text, 0..text.len(), &mut pieces).unwrap();
        }
        pieces.into_iter().map(|piece| &text[piece]).collect()
    }

    /// Texts of the kinds of characters between which the regexes tell a difference.
    fn texts() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "[ \n\r\t\u{a0}\u{3000}\u{85}\u{b}]{1,4}",
            "[a-zA-Zéß中ªⅧ½9١_.!'¨\u{301}\u{94d}😀€]{1,5}",
            "'(s|S|t|re|VE|m|lL|d|x|l)?",
            any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn scanners_agree_with_the_regexes(text in texts()) {
            for source in [EACH_NUMBER, GPT2, LLAMA3, QWEN2, QWEN35] {
                let scanner = Splitter::new(source);
                prop_assert!(matches!(scanner, Splitter::Scanner(_)));
                let regex = Splitter::Regex { source, compiled: OnceLock::new() };
                prop_assert_eq!(pieces(&scanner, &text), pieces(&regex, &text), "{}", source);
            }
        }
    }

    #[test]
    fn pieces_of_every_row_cover_the_text() {
        let text = "Hello, it's  99 1234567 LOUDWords\r\n\n  中文 \u{301}é ÀÉ ـــ 😀!?  \t";
        for row in ROWS {
            let pre = PreTokenizer::by_name(row.names[0]).unwrap();
            let mut pieces = Vec::new();
            pre.split(text, 0..text.len(), &mut pieces).unwrap();
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            let joined: String = pieces.iter().map(|piece| &text[piece.clone()]).collect();
            assert_eq!(joined, text, "{}", row.names[0]);
            pre.split("", 0..0, &mut pieces).unwrap();
            assert!(pieces.is_empty());
        }
    }

    #[test]
    fn every_name_is_in_one_row() {
        let mut all: Vec<_> = names().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[derive(Deserialize)]
    struct Known {
        groups: Vec<Group>,
        pre: HashMap<String, Flags>,
    }

    #[derive(Deserialize)]
    struct Group {
        regexes: Vec<String>,
        as_published_in_tokenizer_json: Option<Vec<String>>,
    }

    #[derive(Deserialize)]
    struct Flags {
        group: usize,
        add_bos: bool,
        ignore_merges: bool,
        clean_spaces: bool,
        escape_whitespaces: bool,
    }

    /// The table against a list of what llama.cpp does; see `tests/tokenizer_golden.rs` for where
    /// that is looked for.
    #[test]
    fn rows_agree_with_the_known_ones() {
        let beside = || {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../shared")
                .into()
        };
        let folder = std::env::var_os("GRISTMILL_ORACLE").unwrap_or_else(beside);
        let Ok(known) = std::fs::read(Path::new(&folder).join("tok/pretokenizers.json")) else {
            return println!("skipped: no list of pre-tokenizers");
        };
        let known: Known = serde_json::from_slice(&known).unwrap();
        for name in names().chain([""]) {
            let row = ROWS.iter().find(|row| row.names.contains(&name)).unwrap();
            let flags = &known.pre[name];
            let group = &known.groups[flags.group];
            let has = |flag| row.flags & flag != 0;
            assert_eq!(has(BOS), flags.add_bos, "{name}");
            assert_eq!(has(WHOLE), flags.ignore_merges, "{name}");
            assert_eq!(has(CLEAN), flags.clean_spaces, "{name}");
            assert_eq!(has(CHARACTERS), flags.escape_whitespaces, "{name}");
            let spelt = |regexes: &[String]| -> Vec<String> {
                let explicit = concat!(contraction!(), "?");
                let spell = |r: &String| {
                    r.replace('\r', "\\r")
                        .replace('\n', "\\n")
                        .replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", explicit)
                };
                regexes.iter().map(spell).collect()
            };
            let published = group
                .as_published_in_tokenizer_json
                .as_deref()
                .unwrap_or_default();
            assert!(
                row.regexes == spelt(&group.regexes) || row.regexes == spelt(published),
                "{name}: {:?}",
                row.regexes
            );
        }
    }
}
