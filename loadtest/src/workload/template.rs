//! Text with placeholders: `{{uuid}}`, `{{client}}`, `{{seq}}` and `{{random:LOW-HIGH}}`.

use rand::{RngExt, rngs::StdRng};
use uuid::{Builder, Uuid};

/// Parsed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Uuid,
    Client,
    Sequence,
    Random { low: u64, high: u64 },
}

/// What placeholders stand for in one request.
pub(crate) struct Values<'a> {
    pub(crate) client: u32,
    /// Different for every request of a run.
    pub(crate) sequence: u64,
    pub(crate) random: &'a mut StdRng,
}

impl Template {
    /// Text that has no placeholders, whatever it holds.
    pub(crate) fn verbatim(text: Vec<u8>) -> Self {
        Self(vec![Part::Text(text)])
    }

    /// Parses text.
    ///
    /// # Errors
    /// On a placeholder that is unknown or has no end.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            let (before, after) = rest.split_at(start);
            let end = after.find("}}").ok_or("a placeholder has no closing }}")?;
            if !before.is_empty() {
                parts.push(Part::Text(before.as_bytes().to_vec()));
            }
            parts.push(placeholder(after[2..end].trim())?);
            rest = &after[end + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.as_bytes().to_vec()));
        }
        Ok(Self(parts))
    }

    /// Whether every request gets the same text.
    pub(crate) fn constant(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Appends the text for one request.
    pub(crate) fn render(&self, values: &mut Values<'_>, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Uuid => push_uuid(values.random, out),
                Part::Client => push_client(values.client, out),
                Part::Sequence => push_number(values.sequence, out),
                Part::Random { low, high } => push_number(values.random.random_range(*low..=*high), out),
            }
        }
    }
}

/// Appends a random UUID (version 4).
pub(crate) fn push_uuid(random: &mut StdRng, out: &mut Vec<u8>) {
    let uuid = Builder::from_random_bytes(random.random()).into_uuid();
    out.extend_from_slice(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
}

/// Appends a client's name, which is also its token's `sub`.
pub(crate) fn push_client(client: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"client-");
    push_number(u64::from(client), out);
}

/// Appends a number.
pub(crate) fn push_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn placeholder(name: &str) -> Result<Part, String> {
    match name {
        "uuid" => Ok(Part::Uuid),
        "client" => Ok(Part::Client),
        "seq" => Ok(Part::Sequence),
        _ => {
            let range = name.strip_prefix("random:").and_then(|range| range.split_once('-'));
            match range.map(|(low, high)| (low.parse(), high.parse())) {
                Some((Ok(low), Ok(high))) if low <= high => Ok(Part::Random { low, high }),
                _ => Err(format!(
                    "{{{{{name}}}}} is not one of {{{{uuid}}}}, {{{{client}}}}, {{{{seq}}}}, {{{{random:1-100}}}}"
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn render(text: &str, client: u32, sequence: u64) -> String {
        let mut random = StdRng::seed_from_u64(1);
        let mut out = Vec::new();
        let template = Template::parse(text).expect("a template");
        template.render(&mut Values { client, sequence, random: &mut random }, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn fills_placeholders() {
        assert_eq!(render("a {{ client }} {{seq}} } {x} b", 7, 42), "a client-7 42 } {x} b");
        assert_eq!(render("", 0, 0), "");
        let uuid = render("{{uuid}}", 0, 0);
        assert!(Uuid::parse_str(&uuid).is_ok_and(|uuid| uuid.get_version_num() == 4), "{uuid}");
        let number: u64 = render("{{random:5-6}}", 0, 0).parse().expect("a number");
        assert!((5..=6).contains(&number));
    }

    #[test]
    fn knows_what_is_constant() {
        assert!(Template::parse("text }} {").is_ok_and(|template| template.constant()));
        assert!(Template::parse("{{seq}}").is_ok_and(|template| !template.constant()));
    }

    #[test]
    fn refuses_unknown_placeholders() {
        for text in ["{{", "{{user}}", "{{random:5}}", "{{random:6-5}}", "{{random:a-b}}", "{{uuid}"] {
            assert!(Template::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
