//! HTTP/1.1 framing, written for this crate: where a message ends, whatever arrives and however it is cut.
//!
//! Bodies are counted, never kept.

pub(crate) mod answer;
pub(crate) mod chunked;
pub(crate) mod head;
pub(crate) mod request;
