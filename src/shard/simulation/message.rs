//! HTTP/1.1 as the peers of the shard read it: strictly, simply, and with no line in common with `http/`.
//!
//! Takes bytes as they come and says when a head and when a whole message is there. Whatever it does not
//! understand is an error, because everything it reads was written by the shard.

/// A message as far as it has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) start_line: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether its end is there.
    pub(super) complete: bool,
}

impl Message {
    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The status of an answer.
    pub(super) fn status(&self) -> u16 {
        self.start_line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

/// Which kind of messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Requests,
    Answers,
}

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A head.
    Head,
    /// The end of the message.
    End,
}

/// Reads messages of one connection.
pub(super) struct Parser {
    side: Side,
    bytes: Vec<u8>,
    at: At,
    /// The message being read, or the one that has just ended.
    pub(super) message: Message,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head,
    Length(usize),
    ChunkSize,
    Chunk(usize),
    Trailers,
    /// Until the connection ends.
    Rest,
    /// The end was there; the next message may begin.
    End,
}

impl Parser {
    pub(super) fn new(side: Side) -> Self {
        Self { side, bytes: Vec::new(), at: At::Head, message: Message::default() }
    }

    /// Takes more bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What was taken and belongs to no message yet: the beginning of a head.
    pub(super) fn beginning(&self) -> &[u8] {
        match self.at {
            At::Head | At::End => &self.bytes,
            _ => &[],
        }
    }

    /// Whether it stands between two messages.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.at, At::Head | At::End) && self.bytes.is_empty()
    }

    /// The next event, if its bytes are there. `bodiless`: the answer is one to HEAD.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub(super) fn next(&mut self, bodiless: bool) -> Result<Option<Event>, String> {
        loop {
            match self.at {
                At::End | At::Head => {
                    let Some(end) = find(&self.bytes, b"\r\n\r\n") else { return Ok(None) };
                    let head: Vec<u8> = self.bytes.drain(..end + 4).collect();
                    self.read_head(&head, bodiless)?;
                    return Ok(Some(Event::Head));
                }
                At::Length(0) => return Ok(Some(self.end())),
                At::Length(left) => {
                    let taken = self.take_body(left);
                    self.at = At::Length(left - taken);
                    if taken == 0 {
                        return Ok(None);
                    }
                }
                At::ChunkSize => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    let size =
                        usize::from_str_radix(&line, 16).map_err(|_| format!("chunk size {line:?}"))?;
                    self.at = if size == 0 { At::Trailers } else { At::Chunk(size) };
                }
                At::Chunk(0) => match self.line()?.as_deref() {
                    Some("") => self.at = At::ChunkSize,
                    Some(line) => return Err(format!("{line:?} behind a chunk")),
                    None => return Ok(None),
                },
                At::Chunk(left) => {
                    let taken = self.take_body(left);
                    self.at = At::Chunk(left - taken);
                    if taken == 0 {
                        return Ok(None);
                    }
                }
                At::Trailers => match self.line()?.as_deref() {
                    Some("") => return Ok(Some(self.end())),
                    Some(_) => {}
                    None => return Ok(None),
                },
                At::Rest => {
                    self.take_body(usize::MAX);
                    return Ok(None);
                }
            }
        }
    }

    /// The connection has ended in good order. Whether that completes the message being read.
    pub(super) fn closed(&mut self) -> bool {
        self.at == At::Rest && self.end() == Event::End
    }

    fn read_head(&mut self, head: &[u8], bodiless: bool) -> Result<(), String> {
        let text = String::from_utf8(head.to_vec()).map_err(|_| format!("head {head:?}"))?;
        let mut lines = text.split("\r\n");
        let start_line = lines.next().unwrap_or_default().to_owned();
        let mut fields = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").ok_or_else(|| format!("field line {line:?}"))?;
            fields.push((name.to_owned(), value.to_owned()));
        }
        self.message = Message { start_line, fields, body: Vec::new(), complete: false };
        let length = match self.message.field("Content-Length") {
            Some(digits) => Some(digits.parse().map_err(|_| format!("length {digits:?}"))?),
            None => None,
        };
        let chunked = self.message.field("Transfer-Encoding").is_some();
        let status = self.message.status();
        self.at = match (self.side, length, chunked) {
            (_, Some(_), true) => return Err(format!("two framings: {text:?}")),
            (Side::Answers, ..) if bodiless || status < 200 || status == 204 || status == 304 => {
                At::Length(0)
            }
            (_, Some(length), false) => At::Length(length),
            (_, None, true) => At::ChunkSize,
            (Side::Requests, None, false) => At::Length(0),
            (Side::Answers, None, false) => At::Rest,
        };
        Ok(())
    }

    fn take_body(&mut self, left: usize) -> usize {
        let taken = left.min(self.bytes.len());
        self.message.body.extend(self.bytes.drain(..taken));
        taken
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        let Some(end) = find(&self.bytes, b"\r\n") else { return Ok(None) };
        let line: Vec<u8> = self.bytes.drain(..end + 2).collect();
        String::from_utf8(line[..end].to_vec()).map(Some).map_err(|_| format!("line {line:?}"))
    }

    fn end(&mut self) -> Event {
        self.at = At::End;
        self.message.complete = true;
        Event::End
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

/// The body that belongs to `id`, from its beginning: every byte tells whose it is.
pub(super) fn body_of(id: &str, bytes: usize) -> Vec<u8> {
    id.bytes().chain(*b" ").cycle().take(bytes).collect()
}
