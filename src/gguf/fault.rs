//! What the parser found wrong, before it is known to which key or tensor it belongs.

use crate::Error;

/// An [`Error`] without its place.
#[derive(Debug)]
pub(super) enum Fault {
    Malformed { expected: String, found: String },
    Unsupported { what: String, supported: String },
    Limit { limit: u64, found: u64 },
}

/// A result whose error has no place yet.
pub(super) type Parsed<T> = Result<T, Fault>;

impl Fault {
    pub(super) fn malformed(expected: impl Into<String>, found: impl Into<String>) -> Fault {
        Fault::Malformed {
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(super) fn unsupported(what: impl Into<String>, supported: impl Into<String>) -> Fault {
        Fault::Unsupported {
            what: what.into(),
            supported: supported.into(),
        }
    }

    /// Fails with [`Fault::Limit`] if `found` is above `limit`.
    pub(super) fn check_limit(found: u64, limit: u64) -> Parsed<()> {
        if found > limit {
            Err(Fault::Limit { limit, found })
        } else {
            Ok(())
        }
    }

    fn at(self, place: String) -> Error {
        match self {
            Fault::Malformed { expected, found } => Error::Malformed {
                place,
                expected,
                found,
            },
            Fault::Unsupported { what, supported } => Error::Unsupported {
                place,
                what,
                supported,
            },
            Fault::Limit { limit, found } => Error::Limit {
                place,
                limit,
                found,
            },
        }
    }
}

/// Gives a fault its place.
pub(super) trait At<T> {
    fn at(self, place: impl FnOnce() -> String) -> crate::Result<T>;
}

impl<T> At<T> for Parsed<T> {
    fn at(self, place: impl FnOnce() -> String) -> crate::Result<T> {
        self.map_err(|fault| fault.at(place()))
    }
}

/// A name from a file, fit to be shown: control characters escaped, length bounded, in backticks.
///
/// A file's author must not be able to drive the terminal that an error is printed on.
pub(super) fn quoted(name: &str) -> String {
    const SHOWN: usize = 120;
    let mut shown: String = name
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn shown_names_are_harmless() {
        assert_eq!(quoted("blk.0.attn_q.weight"), "`blk.0.attn_q.weight`");
        assert_eq!(quoted("a\u{1b}[2J\n\0"), "`a\\u{1b}[2J\\n\\0`");
        assert_eq!(quoted(&"k".repeat(70_000)).chars().count(), 120 + 3);
    }
}
