//! The largest sizes that the parser accepts, and why.
//!
//! Whatever is not listed here is bounded by the file itself: arrays and strings stay in the file
//! and are only looked at, so a length that the file does not hold is refused before anything is
//! allocated for it.

/// Metadata entries of one file. Real files have 20 to 100. Each entry costs some 250 bytes here
/// but as few as 14 in the file, so without a limit a file could take many times its size.
pub(super) const MAX_METADATA_ENTRIES: u64 = 1 << 14;

/// Bytes of a key: the specification's own limit.
pub(super) const MAX_KEY_BYTES: u64 = (1 << 16) - 1;

/// Tensors of one file. Even a mixture of 256 experts in 61 layers, written expert by expert,
/// stays below. The reason is the same: some 300 bytes here, as few as 33 in the file.
pub(super) const MAX_TENSORS: u64 = 1 << 16;

/// Bytes of a tensor's name. The specification says 64; writers for image models exceed it.
pub(super) const MAX_TENSOR_NAME_BYTES: u64 = 256;

/// Dimensions of a tensor: ggml's own limit.
pub(super) const MAX_DIMENSIONS: u32 = 4;

/// Arrays within arrays. No known writer makes any; each level is a level of recursion here.
pub(super) const MAX_ARRAY_DEPTH: usize = 4;

/// The specification wants `general.alignment` to be a multiple of 8 ...
pub(super) const MIN_ALIGNMENT: u32 = 8;

/// ... and 64 KiB is the largest page of the processors supported: more serves no purpose, and
/// a huge value would only make sums wrap.
pub(super) const MAX_ALIGNMENT: u32 = 1 << 16;

/// `general.alignment` if the file does not say.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;

/// Files of a split set. The largest published models have about 200; each costs a mapping.
pub(super) const MAX_PARTS: u64 = 1024;

/// Elements of an array that is copied into a `Vec`. The longest that models have is one per
/// token of the vocabulary (some 260 000). A `u8` array would otherwise take eight times its size.
pub(super) const MAX_LIST: usize = 1 << 24;
