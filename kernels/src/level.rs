//! Which instruction set the kernels use, decided at run time.

use std::fmt;
use std::str::FromStr;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use crate::simd::Simd128;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, AvxVnni};
#[cfg(target_arch = "aarch64")]
use crate::simd::{Dotprod, Neon};
use crate::simd::{Kernel, Scalar, Simd};

/// An instruction-set level. A value other than [`Level::Scalar`] holds a token that is made only
/// where the CPU has the instructions and the operating system enables their registers, so having
/// the value is the proof that they may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// Portable Rust without explicit SIMD.
    Scalar(Scalar),
    /// 256-bit vectors: AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 256-bit vectors with int8 dot products: AVX-VNNI beside AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    /// 512-bit vectors with int8 dot products: AVX-512 F, BW, DQ, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// 128-bit vectors of 64-bit ARM.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// 128-bit vectors of 64-bit ARM with int8 dot products.
    #[cfg(target_arch = "aarch64")]
    Dotprod(Dotprod),
    /// 128-bit vectors of WebAssembly. A module either needs them or has none, so this level is there
    /// if, and only if, `simd128` is among the target features that the crate is compiled with.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128(Simd128),
}

impl Level {
    /// The highest level of this machine.
    #[must_use]
    pub fn detect() -> Level {
        Self::available().next().unwrap_or(Level::Scalar(Scalar))
    }

    /// Every level that this machine can run, the highest first. The scalar level is always there.
    pub fn available() -> impl Iterator<Item = Level> {
        [
            #[cfg(target_arch = "x86_64")]
            Avx512::new().map(Level::Avx512),
            #[cfg(target_arch = "x86_64")]
            AvxVnni::new().map(Level::AvxVnni),
            #[cfg(target_arch = "x86_64")]
            Avx2::new().map(Level::Avx2),
            #[cfg(target_arch = "aarch64")]
            Dotprod::new().map(Level::Dotprod),
            #[cfg(target_arch = "aarch64")]
            Neon::new().map(Level::Neon),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Some(Level::Simd128(Simd128)),
            Some(Level::Scalar(Scalar)),
        ]
        .into_iter()
        .flatten()
    }

    /// The name that [`Level::from_str`] takes: `scalar`, `avx2`, `avxvnni`, `avx512`, `neon`, `dotprod`,
    /// `simd128`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar(_) => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni(_) => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Level::Dotprod(_) => "dotprod",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Level::Simd128(_) => "simd128",
        }
    }

    /// Runs `kernel` compiled for this level. Called once per matrix, never per block.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Level::Scalar(isa) => isa.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(isa) => isa.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni(isa) => isa.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(isa) => isa.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Level::Neon(isa) => isa.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Level::Dotprod(isa) => isa.run(kernel),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Level::Simd128(isa) => isa.run(kernel),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The level asked for is not one of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLevel {
    /// The name asked for.
    pub name: String,
    /// The names that this machine can run, separated by commas.
    pub available: String,
}

impl fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "level {:?} is not available on this machine; available: {}",
            self.name, self.available
        )
    }
}

impl std::error::Error for UnknownLevel {}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::available()
            .find(|level| level.name() == name)
            .ok_or_else(|| UnknownLevel {
                name: name.to_owned(),
                available: Self::available()
                    .map(Level::name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_level_is_found_by_its_name() {
        for level in Level::available() {
            assert_eq!(level.name().parse(), Ok(level));
        }
        assert!(
            Level::available().any(|level| level.name() == "scalar"),
            "scalar is everywhere"
        );
    }

    #[test]
    fn an_unknown_level_lists_what_there_is() {
        let error = "avx1024".parse::<Level>().expect_err("no such level");
        assert!(
            error.to_string().contains("avx1024") && error.to_string().contains("scalar"),
            "{error}"
        );
    }
}
