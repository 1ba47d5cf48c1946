//! Log lines of the operator's own making: text with `{field}` in it, compiled when the configuration is read.
//!
//! Knows which fields there are and refuses every other; never what their values are. A template is one line:
//! without a control character in it, since lines are counted by their ends.

use std::sync::Arc;

use crate::{shared::listed::List, stage::listed::Lists};

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Arc<[Piece]>);

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it stands.
    Text(Box<str>),
    /// A value of the record.
    Value(Value),
    /// What goes by this name of this list.
    Listed(List, usize),
}

/// What can stand between braces: the keys of a JSON line, and what `combined` shows besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Ts,
    Shard,
    RequestId,
    TraceId,
    ClientIp,
    Consumer,
    Method,
    Path,
    Route,
    Version,
    Status,
    Code,
    Reason,
    Cluster,
    Endpoint,
    Attempts,
    Delivery,
    BytesIn,
    BytesOut,
    DurationUs,
    UpstreamUs,
    Termination,
    Protocol,
    Referer,
    UserAgent,
}

/// The words for them.
const VALUES: [(&str, Value); 25] = [
    ("ts", Value::Ts),
    ("shard", Value::Shard),
    ("request_id", Value::RequestId),
    ("trace_id", Value::TraceId),
    ("client_ip", Value::ClientIp),
    ("consumer", Value::Consumer),
    ("method", Value::Method),
    ("path", Value::Path),
    ("route", Value::Route),
    ("version", Value::Version),
    ("status", Value::Status),
    ("code", Value::Code),
    ("reason", Value::Reason),
    ("cluster", Value::Cluster),
    ("endpoint", Value::Endpoint),
    ("attempts", Value::Attempts),
    ("delivery", Value::Delivery),
    ("bytes_in", Value::BytesIn),
    ("bytes_out", Value::BytesOut),
    ("duration_us", Value::DurationUs),
    ("upstream_us", Value::UpstreamUs),
    ("termination", Value::Termination),
    ("protocol", Value::Protocol),
    ("referer", Value::Referer),
    ("user_agent", Value::UserAgent),
];

impl Template {
    /// Compiles `text`; `{{` and `}}` stand for single braces. Of fields and parameters it can show those on `lists`.
    ///
    /// # Errors
    /// What is wrong with it, for the one who wrote it.
    pub fn parse(text: &str, lists: &Lists) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            return Err("a log line is one line: no control characters in its template".to_owned());
        }
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = behind;
                continue;
            }
            let (name, behind) = rest.split_once('}').filter(|_| brace == "{").ok_or_else(|| {
                format!("a \"{brace}\" has no partner; write \"{brace}{brace}\" for the character")
            })?;
            let piece = match VALUES.iter().find(|(word, _)| *word == name) {
                Some(&(_, value)) => Piece::Value(value),
                None => listed(name, lists)?,
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(piece);
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self(pieces.into()))
    }

    /// The line, from left to right.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether it shows `Referer` or `User-Agent`.
    pub fn shows_agents(&self) -> bool {
        let shown = |value| self.0.contains(&Piece::Value(value));
        shown(Value::Referer) || shown(Value::UserAgent)
    }
}

/// What `header:NAME` and the like stand for.
fn listed(field: &str, lists: &Lists) -> Result<Piece, String> {
    let Some((kind, name)) = field.split_once(':') else { return Err(unknown(field)) };
    let (list, key) = match kind {
        "header" => (List::Headers, "log.headers"),
        "response_header" => (List::ResponseHeaders, "log.response_headers"),
        "query" => (List::Query, "log.query"),
        _ => return Err(unknown(field)),
    };
    let is_it = |listed: &str| match list {
        List::Query => listed == name,
        List::Headers | List::ResponseHeaders => listed.eq_ignore_ascii_case(name),
    };
    let place = lists.names(list).iter().position(|listed| is_it(listed));
    place.map(|place| Piece::Listed(list, place)).ok_or_else(|| {
        format!("{{{field}}} shows what {key} does not list; only what is listed reaches the log")
    })
}

fn unknown(name: &str) -> String {
    let nearest = VALUES
        .iter()
        .map(|(word, _)| (strsim::damerau_levenshtein(word, name), *word))
        .min()
        .filter(|&(distance, _)| distance <= 3);
    match nearest {
        Some((_, nearest)) => format!("there is no field {{{name}}}; did you mean {{{nearest}}}?"),
        None => {
            let known: Vec<&str> = VALUES.iter().map(|(word, _)| *word).collect();
            let others = "header:NAME, response_header:NAME, query:NAME";
            format!("there is no field {{{name}}}; there are: {}, {others}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_fields_alternate() {
        let template = Template::parse("{status} {{as}} {path}!", &Lists::default()).unwrap();
        assert_eq!(
            template.pieces(),
            [
                Piece::Value(Value::Status),
                Piece::Text(" {as} ".into()),
                Piece::Value(Value::Path),
                Piece::Text("!".into()),
            ]
        );
        assert!(Template::parse("{user_agent}", &Lists::default()).unwrap().shows_agents());
        assert!(!template.shows_agents());
    }

    #[test]
    fn what_is_listed_can_be_shown() {
        let lists = Lists { headers: ["A".into(), "User-Agent".into()].into(), ..Lists::default() };
        let template = Template::parse("{header:user-agent}", &lists).unwrap();
        assert_eq!(template.pieces(), [Piece::Listed(List::Headers, 1)]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("{stauts}", "did you mean {status}?"),
            ("{authorization}", "there is no field {authorization}; there are: ts, shard"),
            ("{header:User-Agent}", "log.headers does not list"),
            ("{heador:User-Agent}", "there is no field"),
            ("{status", "\"{\" has no partner"),
            ("status}", "\"}\" has no partner"),
            ("{status}\n", "one line"),
        ] {
            let error = Template::parse(text, &Lists::default()).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
