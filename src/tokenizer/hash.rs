//! A fast hash with a secret of this process.
//!
//! The keys come from the file, so a hash without a secret would let a file's author make every
//! lookup slow. Folded multiplication is the mixing step of wyhash; the standard library's hasher
//! has the same purpose but takes several times as long for keys of a few bytes.

use std::hash::{BuildHasher, Hasher, RandomState};

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The secret, and with it the hash function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secret {
    start: u64,
    factor: u64,
}

impl Secret {
    pub(super) fn new() -> Secret {
        let random = RandomState::new();
        Secret {
            start: random.hash_one(0_u8),
            factor: random.hash_one(1_u8) | 1,
        }
    }

    pub(super) fn hash_bytes(self, bytes: &[u8]) -> u64 {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut hash = self.start ^ bytes.len() as u64;
        for word in words {
            hash = fold(hash ^ u64::from_le_bytes(*word), self.factor);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        fold(fold(hash ^ u64::from_le_bytes(last), self.factor), ODD)
    }
}

/// Both halves of the 128-bit product, xored.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// For maps whose keys are one `u64`.
impl BuildHasher for Secret {
    type Hasher = WordHasher;

    fn build_hasher(&self) -> WordHasher {
        WordHasher {
            hash: self.start,
            factor: self.factor,
        }
    }
}

/// Hashes `u64` keys; see [`Secret`].
#[derive(Debug)]
pub(super) struct WordHasher {
    hash: u64,
    factor: u64,
}

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        let secret = Secret {
            start: self.hash,
            factor: self.factor,
        };
        self.hash = secret.hash_bytes(bytes);
    }

    fn write_u64(&mut self, word: u64) {
        self.hash = fold(fold(self.hash ^ word, self.factor), ODD);
    }
}
