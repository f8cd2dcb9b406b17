//! Metadata values.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::source::Bytes;

use super::array::Array;
use super::fault::{Fault, Parsed};
use super::reader::Reader;

/// Declares the types of values from one table: number, variant, name, bytes (0: varies).
macro_rules! value_types {
    ($($number:literal $variant:ident $name:literal $bytes:literal;)*) => {
        /// The type of a metadata value or of an array's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ValueType {
            $(#[doc = concat!("`", $name, "`, number ", $number, ".")] $variant,)*
        }

        impl ValueType {
            /// The name, such as `u32` or `string`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(ValueType::$variant => $name,)* }
            }

            /// The number that stands for the type in a file.
            #[must_use]
            pub fn number(self) -> u32 {
                match self { $(ValueType::$variant => $number,)* }
            }

            /// Bytes of a value in the file; `None` for strings and arrays, whose size varies.
            #[must_use]
            pub fn fixed_bytes(self) -> Option<usize> {
                let bytes = match self { $(ValueType::$variant => $bytes,)* };
                (bytes != 0).then_some(bytes)
            }

            fn from_number(number: u32) -> Option<ValueType> {
                match number {
                    $($number => Some(ValueType::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

value_types! {
    0 U8 "u8" 1;
    1 I8 "i8" 1;
    2 U16 "u16" 2;
    3 I16 "i16" 2;
    4 U32 "u32" 4;
    5 I32 "i32" 4;
    6 F32 "f32" 4;
    7 Bool "bool" 1;
    8 String "string" 0;
    9 Array "array" 0;
    10 U64 "u64" 8;
    11 I64 "i64" 8;
    12 F64 "f64" 8;
}

impl ValueType {
    pub(super) fn read(reader: &mut Reader<'_>) -> Parsed<ValueType> {
        let number = reader.u32()?;
        ValueType::from_number(number)
            .ok_or_else(|| Fault::malformed("a value type from 0 to 12", number.to_string()))
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A metadata value. Strings and arrays are views into the file.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is the Rust type of its name")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(Text),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// The value's type.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// The value as an integer, if it is one of any width.
    pub(super) fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// What an error says was found: the type, and the value if it is a plain number.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::Array(array) => array.describe(),
            Value::String(text) => format!("a string of {} bytes", text.as_bytes().len()),
            Value::Bool(v) => format!("bool {v}"),
            Value::F32(v) => format!("f32 {v}"),
            Value::F64(v) => format!("f64 {v}"),
            integer => {
                format!(
                    "{} {}",
                    integer.value_type(),
                    integer.integer().unwrap_or_default()
                )
            }
        }
    }

    /// Reads a value of the given type with a reader over `bytes`; `place` is for the errors of
    /// an array that is used as what it is not.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        value_type: ValueType,
        bytes: &Bytes,
        place: &Arc<str>,
    ) -> Parsed<Value> {
        Ok(match value_type {
            ValueType::U8 => Value::U8(u8::from_le_bytes(reader.take_array()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(reader.take_array()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(reader.take_array()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(reader.take_array()?)),
            ValueType::U32 => Value::U32(reader.u32()?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(reader.take_array()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(reader.take_array()?)),
            ValueType::Bool => Value::Bool(check_bools(reader.take(1)?)? == [1]),
            ValueType::String => {
                let length = reader.string()?.len();
                let end = reader.position();
                Value::String(Text(view(bytes, end.saturating_sub(length)..end)?))
            }
            ValueType::Array => Value::Array(Array::read(reader, bytes, place)?),
            ValueType::U64 => Value::U64(reader.u64()?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(reader.take_array()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(reader.take_array()?)),
        })
    }
}

/// A value of each plain type from the Rust type.
macro_rules! from_rust {
    ($($rust:ty => $variant:ident;)*) => {$(
        impl From<$rust> for Value {
            fn from(value: $rust) -> Value {
                Value::$variant(value)
            }
        }
    )*};
}

from_rust! {
    u8 => U8; i8 => I8; u16 => U16; i16 => I16; u32 => U32; i32 => I32; u64 => U64; i64 => I64;
    f32 => F32; f64 => F64; bool => Bool; Text => String; Array => Array;
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.into())
    }
}

/// Bools as they are, if each is 0 or 1: the specification calls everything else invalid.
pub(super) fn check_bools(bytes: &[u8]) -> Parsed<&[u8]> {
    match bytes.iter().find(|&&byte| byte > 1) {
        Some(byte) => Err(Fault::malformed("0 or 1 for a bool", byte.to_string())),
        None => Ok(bytes),
    }
}

/// A range of `bytes` that a reader over them has just passed.
pub(super) fn view(bytes: &Bytes, range: Range<usize>) -> Parsed<Bytes> {
    let text = format!("bytes {} to {}", range.start, range.end);
    bytes
        .slice(range)
        .ok_or_else(|| Fault::malformed(text, "the end of the file"))
}

/// A string, as bytes: real files hold invalid UTF-8 and NULs in strings.
#[derive(Clone)]
pub struct Text(Bytes);

impl Text {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, with U+FFFD for what is not UTF-8.
    #[must_use]
    pub fn to_str_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(Bytes::from_memory(text.as_bytes()))
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_str_lossy(), f)
    }
}
