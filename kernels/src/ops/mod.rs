//! The small operations of a transformer.
