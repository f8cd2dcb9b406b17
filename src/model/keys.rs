//! Metadata of an architecture, checked as it is read.

use std::ops::RangeInclusive;

use crate::gguf::{FromValue, Gguf};
use crate::{Error, Result};

/// The metadata of one architecture: keys are given without its prefix.
pub(crate) struct Keys<'a> {
    gguf: &'a Gguf,
    prefix: &'a str,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(gguf: &'a Gguf, prefix: &'a str) -> Self {
        Keys { gguf, prefix }
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
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
        let expected = format!("a number from {} to {}", range.start(), range.end());
        Err(self.malformed(key, expected, value))
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
