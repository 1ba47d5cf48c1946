//! The wire language: bytes in, meaning out (RFC 9110, RFC 9112).
//!
//! Owns the rules of HTTP/1.1 framing and fields. Does no I/O, reads no clock, allocates nothing per
//! message. Where two readings of a message are possible it is refused, and what is forwarded is encoded
//! anew, so that it has exactly one.

pub mod answer;
pub mod body;
pub mod chunked;
pub mod encode;
mod error;
pub mod field;
pub mod framing;
pub mod head;
pub mod preface;
pub mod scan;
pub mod target;

pub use error::{AnswerError, HeadError};

/// The protocol versions spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, closes by default.
    Http10,
    /// HTTP/1.1.
    Http11,
}
