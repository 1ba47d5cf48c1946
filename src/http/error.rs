//! What can be wrong with a head: one variant per rule broken.
//!
//! `HeadError` is the downstream's fault and becomes a refusal; `AnswerError` is the endpoint's fault and
//! becomes a failure of the attempt. Both carry words for the log, never for the peer.

/// Why a request head was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// It breaks the grammar; the text names the rule.
    Malformed(&'static str),
    /// Where its body ends could be read in two ways (RFC 9112 section 6.3).
    FramingAmbiguous(&'static str),
    /// The request line alone is longer than a head may be.
    TargetTooLong,
    /// The whole head is longer than `head_bytes_max`, or has more than `headers_max` fields.
    HeadTooLarge(&'static str),
    /// A transfer coding or a method this gateway does not implement.
    NotImplemented(&'static str),
    /// An HTTP version other than 1.0 and 1.1.
    VersionNotSupported,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
}

/// Why an endpoint's answer was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerError(pub &'static str);
