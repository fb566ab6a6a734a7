//! Typed values out of a body's fields. Forms know text alone, so numbers and switches come as text, too.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};

/// Most entries of metadata, and the longest names and values: as elsewhere in this API.
const METADATA_ENTRIES: usize = 16;
const METADATA_NAME_CHARS: usize = 64;
const METADATA_VALUE_CHARS: usize = 512;

/// A body's fields, which are taken out one by one; what is left is not known.
pub(super) struct Fields {
    fields: Map<String, Value>,
}

impl Fields {
    pub(super) fn new(fields: Map<String, Value>) -> Self {
        Self { fields }
    }

    /// A field as it is; JSON's `null` is the same as nothing.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// Text; a number is taken as its text.
    pub(super) fn text(&mut self, name: &str) -> ApiResult<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(ApiError::invalid(name, format!("`{name}` must be text."))),
        }
    }

    /// A value that is written as text or as a number.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> ApiResult<Option<T>> {
        let text = self.text(name)?;
        text.map(|text| parse(name, &text)).transpose()
    }

    /// A value that is written as text, a number, or a switch, which means one of two texts.
    pub(super) fn switched<T: FromStr<Err: Display>>(
        &mut self,
        name: &str,
        off: &str,
        on: &str,
    ) -> ApiResult<Option<T>> {
        let switch = |is_on: bool| if is_on { on } else { off };
        if let Some(is_on) = self.fields.get(name).and_then(Value::as_bool) {
            self.fields.remove(name);
            return parse(name, switch(is_on)).map(Some);
        }
        let text = self.text(name)?;
        let text = text.map(|text| match text.as_str() {
            "true" => on.to_string(),
            "false" => off.to_string(),
            _ => text,
        });
        text.map(|text| parse(name, &text)).transpose()
    }

    /// Names with texts.
    pub(super) fn metadata(&mut self, name: &str) -> ApiResult<Option<BTreeMap<String, String>>> {
        let refused = |message: String| Err(ApiError::invalid(name, message));
        let fields = match self.take(name) {
            None => return Ok(None),
            Some(Value::Object(fields)) => fields,
            Some(_) => return refused(format!("`{name}` must be an object of texts.")),
        };
        if fields.len() > METADATA_ENTRIES {
            return refused(format!("`{name}` has more than {METADATA_ENTRIES} entries."));
        }
        let mut metadata = BTreeMap::new();
        for (key, value) in fields {
            let Value::String(value) = value else {
                return refused(format!("`{name}[{key}]` must be text."));
            };
            if key.chars().count() > METADATA_NAME_CHARS
                || value.chars().count() > METADATA_VALUE_CHARS
            {
                return refused(format!(
                    "`{name}` takes names of {METADATA_NAME_CHARS} characters and texts of {METADATA_VALUE_CHARS}."
                ));
            }
            metadata.insert(key, value);
        }
        Ok(Some(metadata))
    }

    /// Refuses what is left: a misspelt setting must not be ignored.
    ///
    /// # Errors
    /// The first field that is not known.
    pub(super) fn finish(self) -> ApiResult<()> {
        match self.fields.into_iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("Unknown parameter: `{name}`.");
                let error = ApiError::invalid(&name, message);
                Err(error)
            }
        }
    }
}

fn parse<T: FromStr<Err: Display>>(name: &str, text: &str) -> ApiResult<T> {
    text.trim().parse().map_err(|cause: T::Err| {
        ApiError::invalid(name, format!("`{name}` cannot be used: {cause}."))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;
    use sora_models::rflow::{DynamicLeap, LeapRule};

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::new(value.as_object().unwrap().clone())
    }

    #[test]
    fn numbers_come_as_numbers_or_as_text() {
        let mut fields = fields(json!({"a": 42, "b": "42", "c": " 42 ", "d": null}));
        for name in ["a", "b", "c"] {
            assert_eq!(fields.parsed::<u64>(name).unwrap(), Some(42));
        }
        assert_eq!(fields.parsed::<u64>("d").unwrap(), None);
        fields.finish().unwrap();
        for bad in [json!("x"), json!(-1), json!(1.5), json!([1]), json!({"a": 1}), json!(true)] {
            let error = Fields::new(Map::from_iter([("a".to_string(), bad.clone())]))
                .parsed::<u64>("a")
                .unwrap_err();
            assert!(error.to_string().contains("`a`"), "{bad}: {error}");
        }
    }

    #[test]
    fn switches_come_as_switches_or_as_rules() {
        let dynamic = LeapRule::Dynamic(DynamicLeap::default());
        for (value, rule) in [
            (json!(true), dynamic),
            (json!("true"), dynamic),
            (json!("false"), LeapRule::Off),
            (json!("fixed:3"), LeapRule::Fixed(3)),
        ] {
            let mut fields = fields(json!({ "lpl": value }));
            assert_eq!(fields.switched("lpl", "off", "dynamic").unwrap(), Some(rule));
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let error = fields(json!({"step": 3})).finish().unwrap_err();
        assert!(error.to_string().contains("`step`"), "{error}");
        assert!(fields(json!({"step": null})).finish().is_ok());
    }

    #[test]
    fn metadata_is_bounded() {
        let read = |value: Value| fields(json!({ "m": value })).metadata("m");
        assert_eq!(read(json!({"a": "b"})).unwrap().unwrap().len(), 1);
        let many: Map<_, _> = (0..17).map(|n| (n.to_string(), json!("x"))).collect();
        for bad in [json!("x"), json!({"a": 1}), json!({"a": "x".repeat(513)}), Value::Object(many)]
        {
            assert!(read(bad).is_err());
        }
    }
}
