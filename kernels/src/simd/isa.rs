//! What the files of the instruction sets share.

#![allow(
    unused_macros,
    unused_imports,
    reason = "each instruction set takes what it needs"
)]

use super::Kernel;

/// A token that enters its instruction set: the one function that carries its `#[target_feature]`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) trait Token: Copy {
    fn enter<K: Kernel>(self, kernel: K) -> K::Output;
}

// The macros ask the operating system too: x86's reads XCR0 as well as CPUID.
#[cfg(target_arch = "aarch64")]
pub(super) use std::arch::is_aarch64_feature_detected as is_detected;
#[cfg(target_arch = "x86_64")]
pub(super) use std::arch::is_x86_feature_detected as is_detected;

/// A token type whose features are named once: for detection and for entering.
macro_rules! isa_token {
    ($(#[$doc:meta])* $name:ident: $($feature:tt),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(());

        impl $name {
            /// The token, if the CPU has the instructions and the operating system enables them.
            #[must_use]
            pub fn new() -> Option<Self> {
                ($($crate::simd::isa::is_detected!($feature))&&+).then_some(Self(()))
            }
        }

        impl $crate::simd::isa::Token for $name {
            #[inline(always)]
            fn enter<K: $crate::simd::Kernel>(self, kernel: K) -> K::Output {
                $(#[target_feature(enable = $feature)])+
                fn inside<K: $crate::simd::Kernel>(isa: $name, kernel: K) -> K::Output {
                    kernel.run(isa)
                }
                // SAFETY: `self` exists only where `new` found every feature that `inside` enables.
                unsafe { inside(self, kernel) }
            }
        }
    };
}
/// Intrinsics inside a method of a token.
macro_rules! intrinsics {
    ($($body:tt)*) => {{
        #[allow(unused_unsafe, reason = "some are safe on some compilers")]
        // SAFETY: the method's `self` proves the instructions; loads and stores are unaligned ones
        // through references to arrays of exactly their width.
        unsafe { $($body)* }
    }};
}
/// 16 rows of 16 dwords as 16 columns, by squares of dwords that a function turns: a vector has so many
/// registers of so many dwords. A macro, as a function that is passed is called without the instructions.
macro_rules! transpose_by_squares {
    ($rows:expr, $parts:literal x $size:literal, $transpose:ident) => {{
        let rows = $rows;
        let mut columns = rows;
        for row_part in 0..$parts {
            for column_part in 0..$parts {
                let mut square = [rows[0][0]; $size];
                for i in 0..$size {
                    square[i] = rows[$size * row_part + i][column_part];
                }
                let square = $transpose(square);
                for i in 0..$size {
                    columns[$size * column_part + i][row_part] = square[i];
                }
            }
        }
        columns
    }};
}

/// An intrinsic, or an expression in which the number of the register is known, for each of the four
/// registers of a vector. Not `map`, see `both!` in `avx2.rs`.
macro_rules! four {
    ($register:ident => $body:expr) => {[
        { let $register = 0_usize; $body },
        { let $register = 1_usize; $body },
        { let $register = 2_usize; $body },
        { let $register = 3_usize; $body },
    ]};
    ($intrinsic:ident($($a:expr),+)) => {
        four!(register => $intrinsic($($a[register]),+))
    };
}
