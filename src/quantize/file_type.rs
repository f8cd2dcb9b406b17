//! The kinds of quantised files, as llama.cpp names and numbers them.

use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::gguf::GgmlType;

/// The table of file types: name, `general.file_type`, the type of most tensors.
macro_rules! file_types {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $base:ident;)+) => {
        /// What a quantised file is called: the type of most of its tensors, and for the K-quants how
        /// many of the others have more bits (`S`, `M`, `L`).
        ///
        /// Names and numbers (`general.file_type`) are those of llama.cpp's `llama_ftype`.
        #[allow(non_camel_case_types, reason = "the names in the field")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum FileType {
            $($(#[$doc])* $variant,)+
        }

        impl FileType {
            /// Every file type.
            pub const ALL: &[FileType] = &[$(FileType::$variant),+];

            /// The name, such as `Q4_K_M`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(FileType::$variant => stringify!($variant),)+ }
            }

            /// The number that stands for it in a file, under `general.file_type`.
            #[must_use]
            pub fn number(self) -> u32 {
                match self { $(FileType::$variant => $number,)+ }
            }

            /// The type of most tensors.
            #[must_use]
            pub fn base(self) -> GgmlType {
                match self { $(FileType::$variant => GgmlType::$base,)+ }
            }
        }
    };
}

file_types! {
    /// 32-bit floats.
    F32 = 0, F32;
    /// 16-bit floats.
    F16 = 1, F16;
    /// 16-bit floats with the range of 32-bit ones.
    BF16 = 32, BF16;
    /// 4.5 bits.
    Q4_0 = 2, Q4_0;
    /// 5 bits.
    Q4_1 = 3, Q4_1;
    /// 5.5 bits.
    Q5_0 = 8, Q5_0;
    /// 6 bits.
    Q5_1 = 9, Q5_1;
    /// 8.5 bits.
    Q8_0 = 7, Q8_0;
    /// 2.6 bits, more for values, outputs of attention and `ffn_down`.
    Q2_K = 10, Q2_K;
    /// 3.4 bits.
    Q3_K_S = 11, Q3_K;
    /// 3.4 bits, more for values, outputs of attention and `ffn_down`.
    Q3_K_M = 12, Q3_K;
    /// 3.4 bits, still more for values, outputs of attention and `ffn_down`.
    Q3_K_L = 13, Q3_K;
    /// 4.5 bits, more in the first layers.
    Q4_K_S = 14, Q4_K;
    /// 4.5 bits, more for half of the values and of `ffn_down`.
    Q4_K_M = 15, Q4_K;
    /// 5.5 bits.
    Q5_K_S = 16, Q5_K;
    /// 5.5 bits, more for half of the values and of `ffn_down`.
    Q5_K_M = 17, Q5_K;
    /// 6.6 bits.
    Q6_K = 18, Q6_K;
}

/// Other names, which llama.cpp's tool knows too.
const ALIASES: &[(&str, FileType)] = &[
    ("Q3_K", FileType::Q3_K_M),
    ("Q4_K", FileType::Q4_K_M),
    ("Q5_K", FileType::Q5_K_M),
];

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FileType {
    type Err = Error;

    /// By name, in capitals or not; `Q3_K`, `Q4_K` and `Q5_K` are the `M` of their kind.
    fn from_str(name: &str) -> Result<FileType, Error> {
        let named = FileType::ALL.iter().map(|&kind| (kind.name(), kind));
        named
            .chain(ALIASES.iter().copied())
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, kind)| kind)
            .ok_or_else(|| {
                let names: Vec<_> = FileType::ALL.iter().map(|kind| kind.name()).collect();
                Error::Argument {
                    name: "type",
                    expected: names.join(", "),
                    found: name.escape_debug().to_string(),
                }
            })
    }
}
