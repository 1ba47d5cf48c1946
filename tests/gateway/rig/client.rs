//! A client that sends exactly the bytes it is told to and reads answers by RFC 9112's letter.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

use serde_json::Value;

use super::wait::PATIENCE;

/// A client connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Read and not yet part of an answer.
    behind: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the fields, as they came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Field lines after a chunked body.
    pub(crate) trailers: String,
    /// Whether the body came to its end as its framing has it.
    pub(crate) complete: bool,
}

impl Answer {
    /// The values of a field, in order.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        self.head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// The value of a field that must not be there twice.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.fields(name);
        assert!(values.len() <= 1, "{name} stands {} times in {}", values.len(), self.head);
        values.first().copied()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The `code` of one of the gateway's own answers; empty if it is none.
    pub(crate) fn code(&self) -> String {
        let problem = self.field("content-type") == Some("application/problem+json");
        if !problem {
            return String::new();
        }
        // An answer to HEAD has no body.
        serde_json::from_slice::<Value>(&self.body)
            .ok()
            .and_then(|body| body["code"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    /// Over a connection that was made in some other way.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, behind: Vec::new() }
    }

    /// Sends these bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends these bytes; whether they all went out.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends nothing more.
    pub(crate) fn finish(&mut self) -> &mut Self {
        self.stream.shutdown(Shutdown::Write).unwrap();
        self
    }

    /// `GET path` with further field lines (each ended by CRLF), and its answer.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str, fields: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: gateway.example\r\n{fields}\r\n"));
        self.answer()
    }

    /// `POST path` with a body and further field lines, and its answer.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, fields: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: gateway.example\r\nContent-Length: {}\r\n{fields}\r\n",
            body.len()
        );
        self.send([head.as_bytes(), body].concat());
        self.answer()
    }

    /// The next answer to anything but HEAD.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer(false).expect("an answer, not a close")
    }

    /// The next answer, to HEAD.
    #[track_caller]
    pub(crate) fn answer_to_head(&mut self) -> Answer {
        self.try_answer(true).expect("an answer, not a close")
    }

    /// The next answer, interim ones included; `None` if the connection ends before one begins.
    #[track_caller]
    pub(crate) fn try_answer(&mut self, to_head: bool) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = find(&self.behind, b"\r\n\r\n") {
                break at;
            }
            if !self.read_some() {
                assert!(self.behind.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.behind));
                return None;
            }
        };
        let rest = self.behind.split_off(head_end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.behind, rest)).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new(), trailers: String::new(), complete: true };
        if to_head || status < 200 || status == 204 || status == 304 {
            return Some(answer);
        }
        if let Some(coding) = answer.field("transfer-encoding") {
            assert_eq!(coding, "chunked");
            assert_eq!(answer.field("content-length"), None, "one framing only");
            self.chunks(&mut answer);
        } else if let Some(length) = answer.field("content-length") {
            let length: usize = length.parse().unwrap();
            while self.behind.len() < length && self.read_some() {}
            answer.complete = self.behind.len() >= length;
            let rest = self.behind.split_off(length.min(self.behind.len()));
            answer.body = std::mem::replace(&mut self.behind, rest);
        } else {
            while self.read_some() {}
            answer.body = std::mem::take(&mut self.behind);
        }
        Some(answer)
    }

    fn chunks(&mut self, answer: &mut Answer) {
        answer.complete = false;
        loop {
            let Some(line) = self.line() else { return };
            let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
            if size == 0 {
                break;
            }
            while self.behind.len() < size + 2 {
                if !self.read_some() {
                    answer.body.append(&mut self.behind);
                    return;
                }
            }
            answer.body.extend(self.behind.drain(..size));
            assert_eq!(self.behind.drain(..2).as_slice(), b"\r\n");
        }
        loop {
            match self.line() {
                Some(line) if line.is_empty() => break,
                Some(line) => answer.trailers.push_str(&format!("{line}\r\n")),
                None => return,
            }
        }
        answer.complete = true;
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.behind, b"\r\n") {
                let line = String::from_utf8(self.behind.drain(..at).collect()).unwrap();
                self.behind.drain(..2);
                return Some(line);
            }
            if !self.read_some() {
                return None;
            }
        }
    }

    /// Whether the gateway has ended the connection, after everything it said was read. Waits for it.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) -> bool {
        assert!(self.behind.is_empty(), "more was said: {:?}", String::from_utf8_lossy(&self.behind));
        !self.read_some() && self.behind.is_empty()
    }

    /// Whether the gateway has said anything that was not read, or has ended the connection.
    pub(crate) fn has_answer(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Reads something and forgets it; `false` at the end, or when nothing came in time.
    pub(crate) fn try_rest(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        matches!(self.stream.read(&mut buffer), Ok(1..))
    }

    /// Everything up to the close.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.read_some() {}
        std::mem::take(&mut self.behind)
    }

    /// Reads something; `false` at the end, however it came.
    #[track_caller]
    fn read_some(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.behind.extend_from_slice(&buffer[..read]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => self.read_some(),
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
