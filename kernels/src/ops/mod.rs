//! The small operations of a transformer: norms, rotary embedding, activation, softmax, attention.
//!
//! Each takes the [`Level`](crate::Level) to run at and works on one thread's part of the data.

mod attention;
mod delta;
mod elementwise;
mod kv;
mod norm;
mod rope;

pub use attention::{Alibi, Attention, AttentionScratch, attend};
pub use delta::{DeltaStep, delta_step};
pub use elementwise::{
    Activation, activate, add_product, add_to, gate_mul, sigmoid_mul, soft_cap, softmax, to_f16,
};
pub use kv::{CacheType, HeadLayout, Side, UnknownCacheType};
pub use norm::{layer_norm, rms_norm, rms_scale};
pub use rope::{Pairing, rotate};

#[cfg(test)]
mod tests;
