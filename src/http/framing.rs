//! Where a body ends (RFC 9112 section 6): the one decision that request smuggling lives on.
//!
//! Pure: fields in, a framing or an error out. Every message that two readers could cut differently is
//! refused here; nothing is repaired.

use super::{AnswerError, HeadError, Version, field::tokens};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// Exactly so many bytes follow; never zero.
    Length(u64),
    /// Chunks follow (RFC 9112 section 7.1).
    Chunked,
    /// All bytes until the connection closes; answers only.
    Close,
}

/// The framing fields of a head, collected while its fields are walked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FramingFields<'b> {
    length: Seen<'b>,
    coding: Seen<'b>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Seen<'b> {
    #[default]
    Never,
    Once(&'b [u8]),
    Repeated,
}

impl<'b> Seen<'b> {
    fn note(&mut self, value: &'b [u8]) {
        *self = match self {
            Self::Never => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }
}

impl<'b> FramingFields<'b> {
    pub(super) fn note_length(&mut self, value: &'b [u8]) {
        self.length.note(value);
    }

    pub(super) fn note_coding(&mut self, value: &'b [u8]) {
        self.coding.note(value);
    }

    /// The framing of a request with these fields.
    pub(super) fn of_request(self, version: Version) -> Result<Framing, HeadError> {
        use HeadError::FramingAmbiguous as Ambiguous;
        match (self.coding, self.length) {
            (Seen::Never, Seen::Never) => Ok(Framing::Empty),
            (Seen::Never, Seen::Once(digits)) => match parse_length(digits) {
                Some(0) => Ok(Framing::Empty),
                Some(length) => Ok(Framing::Length(length)),
                None => Err(Ambiguous("Content-Length is not a plain number")),
            },
            // Repeated lengths are refused even when they agree: a reader behind us may take another one.
            (Seen::Never, Seen::Repeated) => Err(Ambiguous("several Content-Length fields")),
            (Seen::Repeated, _) => Err(Ambiguous("several Transfer-Encoding fields")),
            (Seen::Once(_), Seen::Once(_) | Seen::Repeated) => {
                Err(Ambiguous("both Transfer-Encoding and Content-Length"))
            }
            (Seen::Once(_), Seen::Never) if version == Version::Http10 => {
                Err(Ambiguous("Transfer-Encoding in HTTP/1.0"))
            }
            (Seen::Once(coding), Seen::Never) => match read_coding(coding) {
                Coding::Chunked => Ok(Framing::Chunked),
                Coding::Unknown => Err(HeadError::NotImplemented("transfer coding")),
                Coding::Ambiguous => {
                    Err(Ambiguous("Transfer-Encoding where chunked is not last, once and plain"))
                }
            },
        }
    }

    /// The framing of an answer with these fields, where the status and the method allow a body.
    pub(super) fn of_answer(self, version: Version) -> Result<Framing, AnswerError> {
        match (self.coding, self.length) {
            (Seen::Never, Seen::Never) => Ok(Framing::Close),
            (Seen::Never, Seen::Once(digits)) => match parse_length(digits) {
                Some(0) => Ok(Framing::Empty),
                Some(length) => Ok(Framing::Length(length)),
                None => Err(AnswerError("Content-Length is not a plain number")),
            },
            (Seen::Never, Seen::Repeated) => Err(AnswerError("several Content-Length fields")),
            (Seen::Once(coding), Seen::Never)
                if version == Version::Http11 && matches!(read_coding(coding), Coding::Chunked) =>
            {
                Ok(Framing::Chunked)
            }
            (Seen::Once(_) | Seen::Repeated, _) => {
                Err(AnswerError("a Transfer-Encoding that is not just chunked"))
            }
        }
    }

    /// The length a bodiless answer (to HEAD, or 304) announces, to be passed on.
    pub(super) fn announced_length(self) -> Result<Option<u64>, AnswerError> {
        match self.length {
            Seen::Never => Ok(None),
            Seen::Once(digits) => {
                parse_length(digits).map(Some).ok_or(AnswerError("Content-Length is not a plain number"))
            }
            Seen::Repeated => Err(AnswerError("several Content-Length fields")),
        }
    }
}

/// A Content-Length value: digits only, within 63 bits. No sign, no list, no white space inside.
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |length, &digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        length
            .checked_mul(10)?
            .checked_add(u64::from(digit))
            .filter(|&length| length <= i64::MAX.unsigned_abs())
    })
}

enum Coding {
    Chunked,
    Unknown,
    Ambiguous,
}

fn read_coding(value: &[u8]) -> Coding {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let chunked = |token: &[u8]| {
        // "chunked;q=1" and the like: some readers would take it for chunked.
        token.len() >= 7 && token[..7].eq_ignore_ascii_case(b"chunked") && !token[7..].starts_with(b"-")
    };
    let count = tokens(value).count();
    let mut verdict = Coding::Unknown;
    for (index, token) in tokens(value).enumerate() {
        let plain_last = index + 1 == count && token.eq_ignore_ascii_case(b"chunked");
        // No token has a quote in it; a lenient reader takes it off.
        if token.is_empty() || token.contains(&b'"') || (chunked(token) && !plain_last) {
            verdict = Coding::Ambiguous;
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(fields: &[(&str, &'static str)]) -> Result<Framing, HeadError> {
        collect(fields).of_request(Version::Http11)
    }

    fn collect(fields: &[(&str, &'static str)]) -> FramingFields<'static> {
        let mut collected = FramingFields::default();
        for &(name, value) in fields {
            match name {
                "cl" => collected.note_length(value.as_bytes()),
                _ => collected.note_coding(value.as_bytes()),
            }
        }
        collected
    }

    fn ambiguous(fields: &[(&str, &'static str)]) -> bool {
        matches!(request(fields), Err(HeadError::FramingAmbiguous(_)))
    }

    #[test]
    fn plain_requests() {
        assert_eq!(request(&[]), Ok(Framing::Empty));
        assert_eq!(request(&[("cl", "0")]), Ok(Framing::Empty));
        assert_eq!(request(&[("cl", "17")]), Ok(Framing::Length(17)));
        assert_eq!(request(&[("te", "chunked")]), Ok(Framing::Chunked));
        assert_eq!(request(&[("te", "CHUNKED")]), Ok(Framing::Chunked));
    }

    #[test]
    fn ambiguous_requests() {
        assert!(ambiguous(&[("cl", "5"), ("te", "chunked")]));
        assert!(ambiguous(&[("cl", "5"), ("cl", "5")]));
        assert!(ambiguous(&[("te", "chunked"), ("te", "chunked")]));
        for length in ["+5", "-5", "5,5", "5 5", "", "0x5", "5.0", "٥", "9223372036854775808"] {
            assert!(ambiguous(&[("cl", length)]), "{length}");
        }
        for coding in
            ["chunked,", ",chunked", "chunked, chunked", "chunked, gzip", "chunked;q=1", "", "chunkedx"]
        {
            assert!(ambiguous(&[("te", coding)]), "{coding}");
        }
        let in_http10 = collect(&[("te", "chunked")]).of_request(Version::Http10);
        assert!(matches!(in_http10, Err(HeadError::FramingAmbiguous(_))));
    }

    #[test]
    fn codings_we_do_not_speak() {
        for coding in ["gzip", "gzip, chunked", "identity", "xchunked", "chunked-plus"] {
            assert!(matches!(request(&[("te", coding)]), Err(HeadError::NotImplemented(_))), "{coding}");
        }
    }

    #[test]
    fn answers() {
        let answer = |fields| collect(fields).of_answer(Version::Http11);
        assert_eq!(answer(&[]), Ok(Framing::Close));
        assert_eq!(answer(&[("cl", "3")]), Ok(Framing::Length(3)));
        assert_eq!(answer(&[("te", "chunked")]), Ok(Framing::Chunked));
        assert!(answer(&[("te", "gzip")]).is_err());
        assert!(answer(&[("te", "chunked"), ("cl", "3")]).is_err());
        assert!(answer(&[("cl", "3"), ("cl", "3")]).is_err());
        assert!(collect(&[("te", "chunked")]).of_answer(Version::Http10).is_err());
        assert_eq!(collect(&[("cl", "3")]).announced_length(), Ok(Some(3)));
    }

    proptest! {
        /// A length is accepted exactly when it is what Rust's own parser reads and it is all digits.
        #[test]
        fn lengths_agree_with_std(text in "[0-9+ ,x]{0,22}") {
            let plain = !text.is_empty() && text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit());
            let expected = text.parse::<u64>().ok().filter(|&length| plain && length <= i64::MAX as u64);
            prop_assert_eq!(parse_length(text.as_bytes()), expected);
        }
    }
}
