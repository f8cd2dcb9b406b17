//! How the numbers of a tensor are stored: the ggml types.
//!
//! Numbers and sizes are those of `enum ggml_type` and the block structures in the ggml repository.

use super::fault::{Fault, Parsed};

/// Declares [`GgmlType`] and everything known about each type from one table.
macro_rules! ggml_types {
    ($($variant:ident = $number:literal, $elements:literal elements in $bytes:literal bytes;)*) => {
        /// A storage format of tensors.
        ///
        /// Rows are stored in blocks of [`block_elements`](GgmlType::block_elements) consecutive
        /// numbers; a block takes [`block_bytes`](GgmlType::block_bytes).
        #[allow(non_camel_case_types, reason = "the field's own names")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum GgmlType {
            $(
                #[doc = concat!("Number ", $number, ": ", $elements, " elements in ", $bytes, " bytes.")]
                $variant,
            )*
        }

        impl GgmlType {
            /// Every type, by rising number.
            pub const ALL: &[GgmlType] = &[$(GgmlType::$variant),*];

            fn row(self) -> Row {
                match self {
                    $(GgmlType::$variant => Row {
                        number: $number,
                        name: stringify!($variant),
                        block_elements: $elements,
                        block_bytes: $bytes,
                    },)*
                }
            }
        }
    };
}

ggml_types! {
    F32 = 0, 1 elements in 4 bytes;
    F16 = 1, 1 elements in 2 bytes;
    Q4_0 = 2, 32 elements in 18 bytes;
    Q4_1 = 3, 32 elements in 20 bytes;
    Q5_0 = 6, 32 elements in 22 bytes;
    Q5_1 = 7, 32 elements in 24 bytes;
    Q8_0 = 8, 32 elements in 34 bytes;
    Q8_1 = 9, 32 elements in 36 bytes;
    Q2_K = 10, 256 elements in 84 bytes;
    Q3_K = 11, 256 elements in 110 bytes;
    Q4_K = 12, 256 elements in 144 bytes;
    Q5_K = 13, 256 elements in 176 bytes;
    Q6_K = 14, 256 elements in 210 bytes;
    Q8_K = 15, 256 elements in 292 bytes;
    IQ2_XXS = 16, 256 elements in 66 bytes;
    IQ2_XS = 17, 256 elements in 74 bytes;
    IQ3_XXS = 18, 256 elements in 98 bytes;
    IQ1_S = 19, 256 elements in 50 bytes;
    IQ4_NL = 20, 32 elements in 18 bytes;
    IQ3_S = 21, 256 elements in 110 bytes;
    IQ2_S = 22, 256 elements in 82 bytes;
    IQ4_XS = 23, 256 elements in 136 bytes;
    I8 = 24, 1 elements in 1 bytes;
    I16 = 25, 1 elements in 2 bytes;
    I32 = 26, 1 elements in 4 bytes;
    I64 = 27, 1 elements in 8 bytes;
    F64 = 28, 1 elements in 8 bytes;
    IQ1_M = 29, 256 elements in 56 bytes;
    BF16 = 30, 1 elements in 2 bytes;
    TQ1_0 = 34, 256 elements in 54 bytes;
    TQ2_0 = 35, 256 elements in 66 bytes;
    MXFP4 = 39, 32 elements in 17 bytes;
    NVFP4 = 40, 64 elements in 36 bytes;
    Q1_0 = 41, 128 elements in 18 bytes;
    Q2_0 = 42, 64 elements in 18 bytes;
}

/// Types that once had a number and were removed from ggml; their files must be converted anew.
const REMOVED: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

struct Row {
    number: u32,
    name: &'static str,
    block_elements: u32,
    block_bytes: u32,
}

impl GgmlType {
    /// The type with this number in a file, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<GgmlType> {
        GgmlType::ALL
            .iter()
            .copied()
            .find(|ggml_type| ggml_type.number() == number)
    }

    /// The number that stands for the type in a file.
    #[must_use]
    pub fn number(self) -> u32 {
        self.row().number
    }

    /// The name as ggml spells it, such as `Q4_K`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Elements of a block; 1 for plain numbers.
    #[must_use]
    pub fn block_elements(self) -> usize {
        self.row().block_elements as usize
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.row().block_bytes as usize
    }

    /// Like [`from_number`](GgmlType::from_number), with the reason why not.
    pub(super) fn known(number: u32) -> Parsed<GgmlType> {
        GgmlType::from_number(number).ok_or_else(|| {
            let removed = REMOVED.iter().find(|(old, _)| *old == number);
            let what = match removed {
                Some((_, name)) => format!("ggml type {number} ({name}, removed from ggml)"),
                None => format!("ggml type {number} (unknown, perhaps from the future)"),
            };
            Fault::unsupported(what, "the types of ggml up to number 42")
        })
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_up_to_the_last_is_known_or_removed() {
        for number in 0..=42 {
            let removed = REMOVED.iter().any(|(old, _)| *old == number);
            assert_eq!(GgmlType::from_number(number).is_none(), removed, "{number}");
        }
        assert!(GgmlType::from_number(43).is_none());
    }

    #[test]
    fn sizes_equal_the_sums_of_ggmls_block_fields() {
        // f16 scales and mins, then scale bytes, then quants: as ggml's structures list them.
        for (ggml_type, bytes) in [
            (GgmlType::Q4_0, 2 + 16),
            (GgmlType::Q4_1, 2 + 2 + 16),
            (GgmlType::Q5_0, 2 + 4 + 16),
            (GgmlType::Q5_1, 2 + 2 + 4 + 16),
            (GgmlType::Q8_0, 2 + 32),
            (GgmlType::Q8_1, 2 + 2 + 32),
            (GgmlType::Q2_K, 16 + 64 + 2 + 2),
            (GgmlType::Q3_K, 32 + 64 + 12 + 2),
            (GgmlType::Q4_K, 2 + 2 + 12 + 128),
            (GgmlType::Q5_K, 2 + 2 + 12 + 32 + 128),
            (GgmlType::Q6_K, 128 + 64 + 16 + 2),
            (GgmlType::Q8_K, 4 + 256 + 32),
            (GgmlType::IQ4_XS, 2 + 2 + 4 + 128),
            (GgmlType::TQ1_0, 48 + 4 + 2),
            (GgmlType::MXFP4, 1 + 16),
            (GgmlType::NVFP4, 4 + 32),
        ] {
            assert_eq!(ggml_type.block_bytes(), bytes, "{ggml_type}");
        }
    }

    #[test]
    fn removed_and_unknown_numbers_are_named() {
        let text = |number| format!("{:?}", GgmlType::known(number).unwrap_err());
        assert!(text(31).contains("31 (Q4_0_4_4, removed"));
        assert!(text(1000).contains("1000 (unknown"));
    }
}
