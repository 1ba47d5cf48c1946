//! What an operator sees: the access log, the metrics, the admin API.
//!
//! Numbers are compared with what went over the sockets and with each other, to the byte and to the
//! request; texts are read by parsers that share nothing with what wrote them.

mod admin;
mod lines;
mod metrics;
mod redaction;
mod tail;
mod writer;

use std::fs;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use crate::rig::{Gateway, until};

/// The keys of a line, in the order that is promised.
const KEYS: [&str; 22] = [
    "ts",
    "shard",
    "request_id",
    "trace_id",
    "client_ip",
    "consumer",
    "method",
    "path",
    "route",
    "version",
    "status",
    "code",
    "reason",
    "cluster",
    "endpoint",
    "attempts",
    "delivery",
    "bytes_in",
    "bytes_out",
    "duration_us",
    "upstream_us",
    "termination",
];

/// A JSON object as it was written: in order, and with whatever stands twice.
struct Line(Vec<(String, Value)>);

impl Line {
    /// One request's line: the promised keys, in order, with values of their types.
    #[track_caller]
    fn parse(text: &str) -> Self {
        let line: Self = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let keys: Vec<&str> = line.0.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, KEYS, "{text}");
        for (key, value) in &line.0 {
            let number = ["shard", "status", "attempts"].contains(&key.as_str())
                || key.starts_with("bytes_")
                || key.ends_with("_us");
            assert!(if number { value.is_u64() } else { value.is_string() }, "{key} in {text}");
            assert_ne!(value, "", "nothing is a dash, in {text}");
        }
        line
    }

    fn value(&self, key: &str) -> &Value {
        &self.0.iter().find(|(own, _)| own == key).unwrap().1
    }

    fn text(&self, key: &str) -> &str {
        self.value(key).as_str().unwrap()
    }

    fn number(&self, key: &str) -> u64 {
        self.value(key).as_u64().unwrap()
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Line;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Line(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The whole lines of a log file, once there are at least so many.
#[track_caller]
fn raw_lines(gateway: &Gateway, file: &str, lines: usize) -> Vec<String> {
    let path = gateway.directory().join(file);
    let mut read = Vec::new();
    until(&format!("{lines} lines in {file}"), || {
        let bytes = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8(bytes).expect("a log is UTF-8");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        read = whole.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect();
        read.len() >= lines
    });
    read
}

/// Ends the gateway and reads all there ever was in its log.
#[track_caller]
fn last_lines(gateway: &mut Gateway, file: &str) -> Vec<String> {
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.said().join("\n"));
    raw_lines(gateway, file, 0)
}
