//! What describes a version: an OpenAPI document, the operations it knows, and the answer that hands it out.

use std::sync::Arc;

use crate::{
    base::block::{Block, Full},
    http::encode::{self, Persistence},
};

use super::Operations;

/// An OpenAPI document and what it allows.
#[derive(Clone, Debug)]
pub struct Description {
    /// The operations it knows; all others are refused.
    pub operations: Operations,
    /// The document as it was read.
    pub document: Arc<Document>,
}

/// A document that is served as it is.
#[derive(Debug)]
pub struct Document {
    /// The path at which callers get it, in normal form; nowhere when absent.
    pub path: Option<Box<str>>,
    /// Its media type.
    pub media_type: &'static str,
    /// What it is.
    pub bytes: Box<[u8]>,
}

/// Writes the head of the answer that hands `document` out. `lines` are whole field lines.
///
/// # Errors
/// [`Full`] when it does not fit.
pub fn encode_head(
    document: &Document,
    request_id: &[u8],
    date: &[u8],
    lines: &[u8],
    persistence: Persistence,
    out: &mut Block,
) -> Result<(), Full> {
    encode::status_line(out, 200, b"OK")?;
    encode::field(out, b"Date", date)?;
    encode::field(out, b"Content-Type", document.media_type.as_bytes())?;
    encode::field(out, b"Content-Length", itoa::Buffer::new().format(document.bytes.len()).as_bytes())?;
    encode::field(out, b"X-Request-Id", request_id)?;
    out.put(lines)?;
    out.put(encode::persistence_line(persistence))?;
    out.put(b"\r\n")
}
