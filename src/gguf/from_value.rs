//! Metadata as Rust types.

use super::array::Array;
use super::limits::MAX_LIST;
use super::value::{Value, ValueType};

/// Rust types that a metadata value can be read as.
///
/// Integers convert between widths when the value fits; nothing else converts, except `f64` to
/// the nearest `f32`. Lists are limited to 2^24 elements.
pub trait FromValue: Sized {
    /// What an error says was expected.
    const EXPECTED: &'static str;

    /// The value as this type, or `None` if it is of another type or does not fit.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_integer {
    ($($rust:ident $expected:literal $list:literal;)*) => {$(
        impl FromValue for $rust {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &Value) -> Option<$rust> {
                value.integer()?.try_into().ok()
            }
        }

        impl FromValue for Vec<$rust> {
            const EXPECTED: &'static str = $list;

            fn from_value(value: &Value) -> Option<Vec<$rust>> {
                list(value)
            }
        }
    )*};
}

from_integer! {
    u32 "an integer that fits u32" "an array of integers that fit u32";
    u64 "an integer that fits u64" "an array of integers that fit u64";
    i32 "an integer that fits i32" "an array of integers that fit i32";
    i64 "an integer that fits i64" "an array of integers that fit i64";
    usize "an integer that fits usize" "an array of integers that fit usize";
}

impl FromValue for f32 {
    const EXPECTED: &'static str = "a floating-point number";

    fn from_value(value: &Value) -> Option<f32> {
        match *value {
            Value::F32(number) => Some(number),
            Value::F64(number) => Some(number as f32),
            _ => None,
        }
    }
}

impl FromValue for Vec<f32> {
    const EXPECTED: &'static str = "an array of floating-point numbers";

    fn from_value(value: &Value) -> Option<Vec<f32>> {
        list(value)
    }
}

impl FromValue for bool {
    const EXPECTED: &'static str = "a bool";

    fn from_value(value: &Value) -> Option<bool> {
        match *value {
            Value::Bool(truth) => Some(truth),
            _ => None,
        }
    }
}

impl FromValue for Vec<bool> {
    const EXPECTED: &'static str = "an array of bools";

    fn from_value(value: &Value) -> Option<Vec<bool>> {
        list(value)
    }
}

impl FromValue for String {
    const EXPECTED: &'static str = "a string";

    fn from_value(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.to_str_lossy().into_owned()),
            _ => None,
        }
    }
}

impl FromValue for Array {
    const EXPECTED: &'static str = "an array";

    fn from_value(value: &Value) -> Option<Array> {
        match value {
            Value::Array(array) => Some(array.clone()),
            _ => None,
        }
    }
}

/// Every element of an array of plain values as `T`.
fn list<T: FromValue>(value: &Value) -> Option<Vec<T>> {
    let Value::Array(array) = value else {
        return None;
    };
    let plain = !matches!(array.element_type(), ValueType::String | ValueType::Array);
    if !plain || array.len() > MAX_LIST {
        return None;
    }
    array
        .values()
        .map(|element| T::from_value(&element))
        .collect()
}
