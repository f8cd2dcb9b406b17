//! A cursor over the file's bytes whose only moves are checked ones.

use super::fault::{Fault, Parsed};

/// Reads little-endian fields from the front of some bytes.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// At most `bytes.len()`.
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let end = self.position.checked_add(count);
        match end.and_then(|end| Some((end, self.bytes.get(self.position..end)?))) {
            Some((end, taken)) => {
                self.position = end;
                Ok(taken)
            }
            None => Err(self.too_short(count)),
        }
    }

    /// The next `N` bytes.
    pub(super) fn take_array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let position = self.position;
        self.take(N)?.try_into().map_err(|_| {
            Fault::malformed(format!("{N} bytes at byte {position}"), "another number")
        })
    }

    pub(super) fn u32(&mut self) -> Parsed<u32> {
        self.take_array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Parsed<u64> {
        self.take_array().map(u64::from_le_bytes)
    }

    /// A count or length: a `u64` that the machine can address.
    pub(super) fn length(&mut self) -> Parsed<usize> {
        let length = self.u64()?;
        usize::try_from(length)
            .map_err(|_| Fault::malformed("a length that memory can hold", length.to_string()))
    }

    /// A string: its length, then its bytes, of any encoding.
    pub(super) fn string(&mut self) -> Parsed<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// A string of at most `limit` bytes.
    pub(super) fn short_string(&mut self, limit: u64) -> Parsed<&'a [u8]> {
        let length = self.clone().u64()?;
        Fault::check_limit(length, limit)?;
        self.string()
    }

    #[cold]
    fn too_short(&self, count: usize) -> Fault {
        let left = self.bytes.len().saturating_sub(self.position);
        Fault::malformed(
            format!("{count} bytes at byte {}", self.position),
            format!("{left} bytes before the end of the file"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_in_order() {
        let mut reader = Reader::new(b"\x01\x02\0\0\x02\0\0\0\0\0\0\0hi!");
        assert_eq!(reader.u32().unwrap(), 0x201);
        assert_eq!(reader.string().unwrap(), b"hi");
        assert_eq!(reader.position(), 14);
        assert_eq!(reader.take(1).unwrap(), b"!");
        assert!(reader.take(1).is_err());
        assert_eq!(reader.take(0).unwrap(), b"");
    }

    #[test]
    fn a_refused_read_does_not_move() {
        let mut reader = Reader::new(b"abc");
        assert!(reader.u64().is_err());
        assert!(reader.take(usize::MAX).is_err());
        assert_eq!(reader.take(3).unwrap(), b"abc");
    }

    #[test]
    fn lengths_are_checked_before_use() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend(b"abc");
        assert!(Reader::new(&bytes).string().is_err());
        assert!(matches!(
            Reader::new(&bytes).short_string(2),
            Err(Fault::Limit {
                limit: 2,
                found: u64::MAX
            })
        ));
    }
}
