//! Reading typed fields of a JSON object so that every refusal names the field.

use serde_json::{Map, Value};

use crate::FieldError;

type Result<T> = std::result::Result<T, FieldError>;

/// A JSON object and the path that leads to it.
pub(crate) struct Object<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

/// Parses a document whose top level must be an object.
pub(crate) fn document(bytes: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(FieldError::new("document", expected("an object", &other))),
        Err(error) => Err(FieldError::new("document", format!("not valid JSON: {error}"))),
    }
}

fn expected(what: &str, found: &Value) -> String {
    const SHOWN: usize = 60;
    let text = found.to_string();
    let shown: String = text.chars().take(SHOWN).collect();
    let dots = if shown.len() < text.len() { "..." } else { "" };
    format!("expected {what}, found {shown}{dots}")
}

impl<'a> Object<'a> {
    pub(crate) fn root(map: &'a Map<String, Value>) -> Self {
        Self { path: String::new(), map }
    }

    /// The full name of `key`, for messages.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    pub(crate) fn error(&self, key: &str, reason: impl Into<String>) -> FieldError {
        FieldError::new(self.name(key), reason)
    }

    fn wrong(&self, key: &str, what: &str, found: &Value) -> FieldError {
        self.error(key, expected(what, found))
    }

    /// The value of `key`; a JSON `null` counts as absent, as it does in Python's configuration classes.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        self.get(key).map_or(Ok(default), |v| v.as_bool().ok_or_else(|| self.wrong(key, "true or false", v)))
    }

    pub(crate) fn str(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key).map(|v| v.as_str().ok_or_else(|| self.wrong(key, "a string", v))).transpose()
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>> {
        self.get(key).map(|v| v.as_f64().ok_or_else(|| self.wrong(key, "a number", v))).transpose()
    }

    /// A whole number; the caller bounds it.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>> {
        self.get(key).map(|v| self.as_count(key, v)).transpose()
    }

    fn as_count(&self, key: &str, value: &Value) -> Result<usize> {
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
        count.ok_or_else(|| self.wrong(key, "a whole number", value))
    }

    /// One whole number for both, or the pair `[height, width]`.
    pub(crate) fn pair(&self, key: &str) -> Result<Option<(usize, usize)>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_array().map(Vec::as_slice) {
            Some([height, width]) => Ok(Some((self.as_count(key, height)?, self.as_count(key, width)?))),
            Some(_) => Err(self.wrong(key, "a whole number or [height, width]", value)),
            None => self.as_count(key, value).map(|side| Some((side, side))),
        }
    }

    /// Three finite numbers.
    pub(crate) fn triple(&self, key: &str) -> Result<Option<[f64; 3]>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let numbers: Option<Vec<f64>> =
            value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        numbers
            .and_then(|list| <[f64; 3]>::try_from(list).ok())
            .map(Some)
            .ok_or_else(|| self.wrong(key, "three numbers", value))
    }

    pub(crate) fn object(&self, key: &str) -> Result<Option<Object<'a>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.wrong(key, "an object", value))?;
        Ok(Some(Object { path: format!("{}{key}.", self.path), map }))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.map.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str())
    }
}
