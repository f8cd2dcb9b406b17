//! Arrays of metadata values, read in place.

use std::marker::PhantomData;
use std::slice::ChunksExact;
use std::sync::Arc;

use crate::source::Bytes;
use crate::{Error, Result};

use super::fault::{Fault, Parsed};
use super::limits::MAX_ARRAY_DEPTH;
use super::reader::Reader;
use super::value::{Value, ValueType, check_bools, view};

/// An array of the file: its elements' type, their count, and a view of their bytes.
///
/// The bytes were walked once when the file was opened, so every length inside is right. Nothing
/// is copied or allocated for the elements.
#[derive(Clone, Debug)]
pub struct Array {
    /// The file and key, for errors.
    place: Arc<str>,
    element_type: ValueType,
    len: usize,
    bytes: Bytes,
}

impl Array {
    /// A new array of numbers or bools, for a file that is written.
    #[must_use]
    pub fn of_numbers<T: Number>(numbers: &[T]) -> Array {
        let mut bytes = Vec::new();
        for &number in numbers {
            number.extend_bytes(&mut bytes);
        }
        Array::new(T::TYPE, numbers.len(), &bytes)
    }

    /// A new array of strings, for a file that is written.
    #[must_use]
    pub fn of_strings<T: AsRef<[u8]>>(strings: &[T]) -> Array {
        let mut bytes = Vec::new();
        for string in strings {
            let string = string.as_ref();
            bytes.extend((string.len() as u64).to_le_bytes());
            bytes.extend(string);
        }
        Array::new(ValueType::String, strings.len(), &bytes)
    }

    fn new(element_type: ValueType, len: usize, bytes: &[u8]) -> Array {
        Array {
            place: "new array".into(),
            element_type,
            len,
            bytes: Bytes::from_memory(bytes),
        }
    }

    /// The type that the file declares for the elements.
    #[must_use]
    pub fn element_type(&self) -> ValueType {
        self.element_type
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as the file stores them, little-endian; not aligned.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements of an array of strings.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if the elements are declared to be something else.
    pub fn strings(&self) -> Result<Strings<'_>> {
        self.check_type(ValueType::String)?;
        Ok(Strings {
            reader: Reader::new(&self.bytes),
            left: self.len,
        })
    }

    /// The elements of an array of numbers or bools whose declared type is exactly `T`.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if the elements are declared to be something else.
    pub fn numbers<T: Number>(&self) -> Result<Numbers<'_, T>> {
        self.check_type(T::TYPE)?;
        Ok(Numbers {
            chunks: self.bytes.chunks_exact(size_of::<T>()),
            of: PhantomData,
        })
    }

    /// All elements, of any type, as values. Slower than the typed iterators.
    #[must_use]
    pub fn values(&self) -> Values<'_> {
        Values {
            array: self,
            reader: Reader::new(&self.bytes),
            left: self.len,
        }
    }

    fn check_type(&self, expected: ValueType) -> Result<()> {
        if self.element_type == expected {
            return Ok(());
        }
        Err(Error::Malformed {
            place: self.place.to_string(),
            expected: format!("an array of {expected}"),
            found: self.describe(),
        })
    }

    pub(super) fn describe(&self) -> String {
        format!("an array of {} {}", self.len, self.element_type)
    }

    pub(super) fn read(reader: &mut Reader<'_>, bytes: &Bytes, place: &Arc<str>) -> Parsed<Array> {
        let (element_type, len) = read_head(reader)?;
        let start = reader.position();
        skip_elements(reader, element_type, len, MAX_ARRAY_DEPTH)?;
        let bytes = view(bytes, start..reader.position())?;
        Ok(Array {
            place: place.clone(),
            element_type,
            len,
            bytes,
        })
    }
}

impl PartialEq for Array {
    fn eq(&self, other: &Array) -> bool {
        let key = |a: &Array| (a.element_type, a.len);
        key(self) == key(other) && self.as_bytes() == other.as_bytes()
    }
}

fn read_head(reader: &mut Reader<'_>) -> Parsed<(ValueType, usize)> {
    Ok((ValueType::read(reader)?, reader.length()?))
}

/// Walks over an array's elements and checks them; `depth` counts the levels still allowed.
fn skip_elements(
    reader: &mut Reader<'_>,
    element_type: ValueType,
    len: usize,
    depth: usize,
) -> Parsed<()> {
    let Some(inner) = depth.checked_sub(1) else {
        return Err(Fault::malformed(
            format!("at most {MAX_ARRAY_DEPTH} arrays inside each other"),
            "more",
        ));
    };
    match element_type {
        ValueType::String => (0..len).try_for_each(|_| reader.string().map(drop)),
        ValueType::Array => (0..len).try_for_each(|_| {
            let (element_type, len) = read_head(reader)?;
            skip_elements(reader, element_type, len, inner)
        }),
        number => {
            let size = number.fixed_bytes().unwrap_or(1);
            let bytes = len.checked_mul(size).ok_or_else(|| {
                Fault::malformed("an array that fits into memory", format!("{len} {number}"))
            })?;
            let bytes = reader.take(bytes)?;
            if number == ValueType::Bool {
                check_bools(bytes).map(drop)
            } else {
                Ok(())
            }
        }
    }
}

/// The strings of an [`Array`], as bytes.
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        // The lengths were checked when the file was opened. Should somebody have changed the
        // mapped file since, the iteration ends early.
        self.reader.string().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

/// The numbers of an [`Array`].
#[derive(Clone, Debug)]
pub struct Numbers<'a, T> {
    chunks: ChunksExact<'a, u8>,
    of: PhantomData<T>,
}

impl<T: Number> Iterator for Numbers<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        T::from_bytes(self.chunks.next()?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.chunks.size_hint()
    }
}

impl<T: Number> ExactSizeIterator for Numbers<'_, T> {}

/// The elements of an [`Array`] as values.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    array: &'a Array,
    reader: Reader<'a>,
    left: usize,
}

impl Iterator for Values<'_> {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        let Array {
            place,
            element_type,
            bytes,
            ..
        } = self.array;
        Value::read(&mut self.reader, *element_type, bytes, place).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Values<'_> {}

/// Rust types that an array can have as elements.
pub trait Number: Copy + sealed::AsBytes {
    /// The type as a file declares it.
    const TYPE: ValueType;
}

mod sealed {
    /// A number as its bytes, little-endian.
    pub trait AsBytes: Sized {
        /// From exactly its bytes.
        fn from_bytes(bytes: &[u8]) -> Option<Self>;
        fn extend_bytes(self, bytes: &mut Vec<u8>);
    }
}

macro_rules! numbers {
    ($($rust:ident $variant:ident;)*) => {$(
        impl Number for $rust {
            const TYPE: ValueType = ValueType::$variant;
        }
        impl sealed::AsBytes for $rust {
            fn from_bytes(bytes: &[u8]) -> Option<$rust> {
                bytes.try_into().ok().map($rust::from_le_bytes)
            }

            fn extend_bytes(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
        }
    )*};
}

numbers! {
    u8 U8; i8 I8; u16 U16; i16 I16; u32 U32; i32 I32; u64 U64; i64 I64; f32 F32; f64 F64;
}

impl Number for bool {
    const TYPE: ValueType = ValueType::Bool;
}

impl sealed::AsBytes for bool {
    fn from_bytes(bytes: &[u8]) -> Option<bool> {
        bytes.first().map(|&byte| byte != 0)
    }

    fn extend_bytes(self, bytes: &mut Vec<u8>) {
        bytes.push(self.into());
    }
}
