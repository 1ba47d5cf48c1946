//! Collecting a message's head, and what its fields say about the message's end (RFC 9112 section 6).

/// Bytes of one head; more is malformed.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Fields of one head.
pub(crate) const FIELDS_MAX: usize = 128;

/// What is wrong with a message, in words for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The fields of a head that decide its message's end.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Fields {
    pub(crate) content_length: Option<u64>,
    pub(crate) chunked: bool,
    /// `Connection: close`.
    pub(crate) close: bool,
    /// `Connection: keep-alive`.
    pub(crate) keep_alive: bool,
    /// `Expect: 100-continue`.
    pub(crate) expect: bool,
}

impl Fields {
    /// Reads the fields; later ones must not contradict earlier ones.
    ///
    /// # Errors
    /// On a `Content-Length` that is not one number, or a transfer coding other than chunked.
    pub(crate) fn read(fields: &[httparse::Header<'_>]) -> Result<Self, Malformed> {
        let mut read = Self::default();
        for field in fields {
            // The lengths of the names of interest; nearly every other field ends here.
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    let length = number(field.value).ok_or(Malformed("Content-Length is not a number"))?;
                    if read.content_length.is_some_and(|earlier| earlier != length) {
                        return Err(Malformed("two different Content-Length fields"));
                    }
                    read.content_length = Some(length);
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                        return Err(Malformed("a transfer coding other than chunked"));
                    }
                    read.chunked = true;
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    for option in field.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                        read.close |= option.eq_ignore_ascii_case(b"close");
                        read.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                6 if field.name.eq_ignore_ascii_case("expect") => {
                    read.expect |= field.value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

/// The beginning of a head whose end has not arrived.
#[derive(Debug, Default)]
pub(crate) struct Beginning(Vec<u8>);

impl Beginning {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds bytes; the whole so far.
    ///
    /// # Errors
    /// When a head is longer than this crate reads.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<&[u8], Malformed> {
        if self.0.len() > HEAD_BYTES_MAX {
            return Err(Malformed("a head of more than 64 KiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(&self.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let digits = !text.is_empty() && text.len() <= 18 && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}
