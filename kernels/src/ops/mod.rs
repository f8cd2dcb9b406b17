//! The small operations of a transformer: norms, rotary embedding, activation, softmax, attention.
//!
//! Each takes the [`Level`](crate::Level) to run at and works on one thread's part of the data.

mod attention;
mod elementwise;
mod kv;
mod norm;
mod rope;

pub use attention::{Attention, AttentionScratch, attend};
pub use elementwise::{add_to, silu_mul, softmax, to_f16};
pub use kv::{CacheType, HeadLayout, Side, UnknownCacheType};
pub use norm::rms_norm;
pub use rope::{Pairing, rotate};

#[cfg(test)]
mod tests;
