//! The strictest reader there is, written without looking at the gateway's: heads as RFC 9112 has them, no leniency.

/// A head as it must be read.
pub(crate) struct Head {
    pub(crate) first_line: String,
    /// Names in lower case, values without the white space around them.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The values of the fields called `name`.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Reads a whole head as an endpoint behind CGI or WSGI does, to which `_` and `-` in a name are the same.
/// Panics where two readers could disagree.
pub(crate) fn read(head: &[u8]) -> Head {
    let mut head = read_as_written(head);
    for (name, _) in &mut head.fields {
        *name = name.replace('_', "-");
    }
    head
}

/// Reads a whole head. Panics where two readers could disagree.
pub(crate) fn read_as_written(head: &[u8]) -> Head {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let body = text.strip_suffix("\r\n\r\n").expect("a head ends with an empty line");
    assert!(!body.contains("\r\n\r\n"), "an empty line within a head");
    let mut lines = body.split("\r\n");
    let first_line = lines.next().expect("there is a first line").to_owned();
    let no_controls =
        |text: &str| text.chars().all(|letter| letter == '\t' || letter >= ' ' && letter != '\u{7f}');
    assert!(no_controls(&first_line), "a control byte in {first_line:?}");
    let fields = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no colon in {line:?}"));
        assert!(!name.is_empty() && name.bytes().all(is_token), "the name of {line:?}");
        assert!(no_controls(value), "a control byte in {line:?}");
        (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
    });
    Head { first_line, fields: fields.collect() }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Fields that belong to one hop and must not be seen on the next.
pub(crate) const HOP_BY_HOP: [&str; 6] =
    ["keep-alive", "te", "upgrade", "proxy-connection", "proxy-authenticate", "proxy-authorization"];

/// The one way in which the body is framed: its length, or `None` for chunks. Panics if there are two.
pub(crate) fn framing(head: &Head) -> Option<u64> {
    match (head.all("content-length").as_slice(), head.all("transfer-encoding").as_slice()) {
        ([], []) => Some(0),
        ([digits], []) => {
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "a length of {digits:?}");
            Some(digits.parse().expect("a length fits"))
        }
        ([], ["chunked"]) => None,
        other => panic!("framed in two ways, or in none: {other:?}"),
    }
}
