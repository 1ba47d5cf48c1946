//! The log's lists: which fields and query parameters an exchange's line shows. Whatever is on none of them stays
//! out of the log.

use crate::shared::listed::List;

/// The names on each list, as the configuration spells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Fields of requests.
    pub headers: Box<[Box<str>]>,
    /// Fields of endpoints' answers.
    pub response_headers: Box<[Box<str>]>,
    /// Parameters of queries.
    pub query: Box<[Box<str>]>,
}

impl Lists {
    /// Whether nothing is shown.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.response_headers.is_empty() && self.query.is_empty()
    }

    /// The names of one list.
    pub fn names(&self, list: List) -> &[Box<str>] {
        match list {
            List::Headers => &self.headers,
            List::ResponseHeaders => &self.response_headers,
            List::Query => &self.query,
        }
    }
}

/// The first value that `name` has in `query`, as it was sent.
pub fn parameter<'q>(query: &'q [u8], name: &str) -> Option<&'q [u8]> {
    query.split(|&byte| byte == b'&').find_map(|pair| match pair.strip_prefix(name.as_bytes())? {
        [] => Some(&b""[..]),
        [b'=', value @ ..] => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_has_its_whole_name() {
        let query = b"pages=1&page=2&page=3&x&pag%65=4&empty=";
        for (name, value) in [
            ("page", Some("2")),
            ("pages", Some("1")),
            ("x", Some("")),
            ("empty", Some("")),
            ("pag", None),
            ("Page", None),
            ("2", None),
        ] {
            assert_eq!(parameter(query, name), value.map(str::as_bytes), "{name}");
        }
    }
}
