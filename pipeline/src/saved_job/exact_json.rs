//! JSON whose floats come back with the same bits.
//!
//! The parser reads a float of 16 digits and more with an error of its last bit, so floats are written as
//! `{"f64": "0.1"}`: the standard library reads the digits exactly.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

const FLOAT: &str = "f64";

/// A value as text.
///
/// # Errors
/// It has no form in JSON.
pub fn to_text(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(&written(serde_json::to_value(value)?))
}

/// The value of a text.
///
/// # Errors
/// It is not such a text, or of another type.
pub fn from_text<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_value(read(serde_json::from_str(text)?))
}

fn written(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => {
                Value::Object(Map::from_iter([(FLOAT.into(), float.to_string().into())]))
            }
            None => Value::Number(number),
        },
        other => mapped(other, written),
    }
}

fn read(value: Value) -> Value {
    match float_in(&value) {
        Some(number) => Value::Number(number),
        None => mapped(value, read),
    }
}

fn float_in(value: &Value) -> Option<Number> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    Number::from_f64(object.get(FLOAT)?.as_str()?.parse().ok()?)
}

fn mapped(value: Value, change: fn(Value) -> Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(change).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, change(value))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn floats_keep_their_bits() {
        // Numbers with many digits: many of them do not survive JSON as it is.
        let floats: Vec<f64> = (1..2000).map(|n| f64::from(n).sqrt() / 977.0).collect();
        let read: Vec<f64> = from_text(&to_text(&floats).unwrap()).unwrap();
        assert_eq!(read, floats);
        let plain: Vec<f64> =
            serde_json::from_str(&serde_json::to_string(&floats).unwrap()).unwrap();
        assert_ne!(plain, floats, "this file has become needless");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let value = serde_json::json!({
            "f64": 1, "text": "{\"f64\": \"1\"}", "list": [u64::MAX, -1, null, true, {"f64": "x"}],
        });
        assert_eq!(from_text::<Value>(&to_text(&value).unwrap()).unwrap(), value);
    }
}
