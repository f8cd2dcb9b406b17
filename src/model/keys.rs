//! Metadata of an architecture, checked as it is read.

use std::ops::RangeInclusive;

use super::architecture::Architecture;
use crate::gguf::{FromValue, Gguf, ValueType};
use crate::{Error, Result};

/// The metadata of one architecture: keys are given without its prefix.
pub(crate) struct Keys<'a> {
    gguf: &'a Gguf,
    pub(crate) architecture: &'static Architecture,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(gguf: &'a Gguf, architecture: &'static Architecture) -> Self {
        Keys { gguf, architecture }
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name)
    }

    pub(crate) fn optional<T: FromValue>(&self, key: &str) -> Result<Option<T>> {
        self.gguf.optional(&self.full(key))
    }

    pub(crate) fn malformed(
        &self,
        key: &str,
        expected: String,
        found: impl std::fmt::Display,
    ) -> Error {
        let place = self.gguf.place_of_key(&self.full(key));
        Error::Malformed {
            place,
            expected,
            found: found.to_string(),
        }
    }

    pub(crate) fn unsupported(&self, key: &str, what: String, supported: &str) -> Error {
        let place = self.gguf.place_of_key(&self.full(key));
        Error::Unsupported {
            place,
            what,
            supported: supported.to_owned(),
        }
    }

    /// The value of a key; `default` where it is missing, else an error.
    fn value<T: FromValue>(&self, key: &str, default: Option<T>) -> Result<T> {
        match default {
            Some(default) => Ok(self.optional(key)?.unwrap_or(default)),
            None => self.gguf.require(&self.full(key)),
        }
    }

    /// A size in `range`.
    pub(crate) fn size(
        &self,
        key: &str,
        default: Option<usize>,
        range: RangeInclusive<usize>,
    ) -> Result<usize> {
        let value = self.value(key, default)?;
        if range.contains(&value) {
            return Ok(value);
        }
        Err(self.outside(key, &range, &value))
    }

    fn outside(&self, key: &str, range: &RangeInclusive<usize>, value: &usize) -> Error {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.malformed(key, expected, value)
    }

    /// Whether the value of a key is an array.
    pub(crate) fn is_list(&self, key: &str) -> bool {
        let value = self.gguf.value(&self.full(key));
        value.is_some_and(|value| value.value_type() == ValueType::Array)
    }

    /// An array with an element for each block.
    pub(crate) fn per_block<T>(&self, key: &str, block_count: usize) -> Result<Vec<T>>
    where
        Vec<T>: FromValue,
    {
        let values: Vec<T> = self.value(key, None)?;
        if values.len() == block_count {
            return Ok(values);
        }
        let expected = format!("an element for each of {block_count} blocks");
        Err(self.malformed(key, expected, values.len()))
    }

    /// A size in `range`, given as a number or for each block.
    pub(crate) fn sizes(
        &self,
        key: &str,
        default: Option<usize>,
        range: RangeInclusive<usize>,
        block_count: usize,
    ) -> Result<Vec<usize>> {
        if !self.is_list(key) {
            return Ok(vec![self.size(key, default, range)?; block_count]);
        }
        let sizes: Vec<usize> = self.per_block(key, block_count)?;
        match sizes.iter().find(|size| !range.contains(size)) {
            None => Ok(sizes),
            Some(size) => Err(self.outside(key, &range, size)),
        }
    }

    /// As [`Keys::sizes`], of models whose blocks are alike.
    pub(crate) fn size_of_all(
        &self,
        key: &str,
        default: Option<usize>,
        range: RangeInclusive<usize>,
        block_count: usize,
    ) -> Result<usize> {
        let sizes = self.sizes(key, default, range, block_count)?;
        if sizes.iter().all(|size| *size == sizes[0]) {
            return Ok(sizes[0]);
        }
        Err(self.differs(key))
    }

    /// A key has an array of numbers that would have to be the same.
    pub(crate) fn differs(&self, key: &str) -> Error {
        let what = "values that differ from block to block".to_owned();
        self.unsupported(key, what, "the same value in all blocks")
    }

    /// A finite number above zero, where the key is there.
    pub(crate) fn optional_positive(&self, key: &str) -> Result<Option<f32>> {
        match self.optional::<f32>(key)? {
            None => Ok(None),
            Some(_) => self.positive(key, None).map(Some),
        }
    }

    /// A finite number above zero.
    pub(crate) fn positive(&self, key: &str, default: Option<f32>) -> Result<f32> {
        let value = self.value(key, default)?;
        if value.is_finite() && value > 0.0 {
            return Ok(value);
        }
        Err(self.malformed(key, "a finite number above 0".to_owned(), value))
    }
}
