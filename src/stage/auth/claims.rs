//! Reads the JSON of a token: strictly one object, no name twice.
//!
//! PyJWT keeps the last of two equal names; another reader may keep the first, and then two parties
//! disagree about what was signed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

/// The members of a JSON object whose names are all different.
#[derive(Debug)]
pub(super) struct Claims(Vec<(String, Value)>);

/// What can be wrong with the JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonFault {
    Malformed,
    Duplicate,
}

/// Members a header or payload may have; honest ones have a dozen.
const MEMBERS_MAX: usize = 256;
/// Our own error, passed through serde_json's.
const DUPLICATE: &str = "duplicate name";

impl Claims {
    /// Parses `json`, which must be an object and nothing else.
    pub(super) fn parse(json: &[u8]) -> Result<Self, JsonFault> {
        serde_json::from_slice(json).map_err(|error| match error.to_string().starts_with(DUPLICATE) {
            true => JsonFault::Duplicate,
            false => JsonFault::Malformed,
        })
    }

    /// The value of `name`, unless absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
            .filter(|value| !value.is_null())
    }

    /// Whether `name` is there, null or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Claims;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut members: Vec<(String, Value)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if members.len() == MEMBERS_MAX {
                return Err(A::Error::custom("too many members"));
            }
            if members.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(DUPLICATE));
            }
            members.push((name, value));
        }
        Ok(Claims(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_and_nothing_else() {
        let claims = Claims::parse(br#" {"a":1,"b":null,"c":{"a":2}} "#).unwrap();
        assert_eq!(claims.get("a"), Some(&Value::from(1)));
        assert!(claims.get("b").is_none() && claims.has("b") && !claims.has("d"));
        for json in [
            "",
            "[1]",
            "{",
            "{}{}",
            "{}x",
            "null",
            "{\"a\":1,}",
            "{\"a\":1e400}",
            "{\"a\":NaN}",
            "\u{feff}{}",
        ] {
            assert_eq!(Claims::parse(json.as_bytes()).unwrap_err(), JsonFault::Malformed, "{json}");
        }
    }

    #[test]
    fn a_name_twice_is_refused_however_it_is_spelt() {
        for json in [r#"{"exp":1,"exp":2}"#, r#"{"exp":1,"\u0065xp":2}"#] {
            assert_eq!(Claims::parse(json.as_bytes()).unwrap_err(), JsonFault::Duplicate, "{json}");
        }
    }
}
