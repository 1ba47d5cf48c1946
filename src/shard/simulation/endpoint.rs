//! An endpoint's end of one connection: reads requests, answers them well or badly, and keeps a record of each.
//!
//! Whatever bytes the shard hands to the kernel for it count as seen, also those that it never reads.

use fastrand::Rng;

use super::{
    link::{Heard, Link},
    message::{Event, Message, Parser, Side},
    script::{self, Parting, Reply},
};

/// A connection that the shard made.
pub(super) struct Upstream {
    pub(super) number: usize,
    /// Whether it does what it should.
    pub(super) is_honest: bool,
    /// Whether it is of the cluster that only gets copies.
    pub(super) is_shadow: bool,
    link: Option<Link>,
    parser: Parser,
    /// The most it reads, and writes, at a time.
    bytes_at_once: [usize; 2],
    /// What is to be written.
    outbox: Vec<u8>,
    /// The answer to the request being read.
    reply: Option<Reply>,
    /// What follows what is to be written.
    parting: Option<Parting>,
    kept_back: Vec<u8>,
    /// Whether the connection closes behind what is kept back.
    closes: bool,
    /// Whether it has said more than it was asked: nobody may ask it anything again.
    is_spoiled: bool,
    /// Heads of requests, in order; whether their bodies were read to the end.
    pub(super) seen: Vec<Message>,
    /// How the connection ended, as the endpoint saw it.
    pub(super) end: Option<Heard>,
}

impl Upstream {
    pub(super) fn new(number: usize, is_honest: bool, is_shadow: bool, link: Link, rng: &mut Rng) -> Self {
        Self {
            number,
            is_honest,
            is_shadow,
            link: Some(link),
            parser: Parser::new(Side::Requests),
            bytes_at_once: [script::at_once(rng), script::at_once(rng)],
            outbox: Vec::new(),
            reply: None,
            parting: None,
            kept_back: Vec::new(),
            closes: false,
            is_spoiled: false,
            seen: Vec::new(),
            end: None,
        }
    }

    /// Path and id of the request whose beginning has come and was not understood yet, if enough of it has.
    pub(super) fn next_request(&self) -> Option<(String, String)> {
        let link = self.link.as_ref()?;
        let is_new = self.parser.is_between() || !self.parser.beginning().is_empty();
        let bytes = [self.parser.beginning(), &link.next_unread()].concat();
        let line =
            bytes.split(|&byte| byte == b'\r').next().filter(|line| is_new && line.len() < bytes.len())?;
        let line = String::from_utf8_lossy(line);
        Some((line.split(' ').nth(1)?.to_owned(), id_in(&line).to_owned()))
    }

    /// Whether there is a connection still.
    pub(super) fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// Whether it waits for a request.
    pub(super) fn is_idle(&self) -> bool {
        self.is_open()
            && self.parser.is_between()
            && self.outbox.is_empty()
            && self.reply.is_none()
            && self.parting.is_none()
            && self.link.as_ref().is_some_and(|link| link.unread().is_empty())
    }

    /// From now on it does what it should, beginning with what it kept back.
    pub(super) fn recover(&mut self) {
        self.is_honest = true;
        self.bytes_at_once = [1 << 20; 2];
        if self.parting == Some(Parting::Silence) {
            self.parting = self.closes.then_some(Parting::Close);
            self.outbox.append(&mut self.kept_back);
        }
        if let Some(reply) = &mut self.reply
            && reply.parting == Some(Parting::Silence)
        {
            reply.parting = reply.closes.then_some(Parting::Close);
            reply.bytes.append(&mut reply.kept_back);
        }
    }

    /// Reads a piece; whether there was anything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(&mut self, rng: &mut Rng) -> Result<bool, String> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let mut bytes = vec![0; self.bytes_at_once[0].min(1 << 16)];
        match link.read(&mut bytes) {
            Heard::Nothing => return Ok(false),
            Heard::Bytes(read) => {
                self.parser.push(&bytes[..read]);
                self.parse(rng)?;
            }
            end => {
                self.end = Some(end);
                self.note_beginning(&[]);
                self.link = None;
            }
        }
        Ok(true)
    }

    fn parse(&mut self, rng: &mut Rng) -> Result<(), String> {
        loop {
            let event =
                self.parser.next(false).map_err(|error| format!("upstream {}: {error}", self.number))?;
            match event {
                Some(Event::Head) => {
                    let message = self.parser.message.clone();
                    if self.is_spoiled {
                        let (number, line) = (self.number, message.start_line);
                        return Err(format!("upstream {number} had said too much, and was asked {line}"));
                    }
                    let method = message.start_line.split(' ').next().unwrap_or_default();
                    let id = message.field("X-Request-Id").unwrap_or_default();
                    let reply = match self.is_honest {
                        true => script::honest_reply(rng, id, method),
                        false => script::reply(rng, id, method),
                    };
                    self.seen.push(message);
                    if reply.is_early { self.release(reply) } else { self.reply = Some(reply) }
                }
                Some(Event::End) => {
                    if let Some(seen) = self.seen.last_mut() {
                        seen.clone_from(&self.parser.message);
                    }
                    if let Some(reply) = self.reply.take() {
                        self.release(reply);
                    }
                }
                None => {
                    if !self.parser.is_between()
                        && self.parser.beginning().is_empty()
                        && let Some(seen) = self.seen.last_mut()
                    {
                        seen.body.clone_from(&self.parser.message.body);
                    }
                    return Ok(());
                }
            }
        }
    }

    fn release(&mut self, reply: Reply) {
        if self.parting.is_none() {
            self.outbox.extend(reply.bytes);
            self.kept_back = reply.kept_back;
            self.closes = reply.closes;
            self.parting = reply.parting;
        }
    }

    /// Writes a piece of its answer, or does what follows it; whether there was anything to do.
    pub(super) fn write(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        if !self.outbox.is_empty() {
            let mut piece = self.outbox.len().min(self.bytes_at_once[1]);
            // What nobody asked for comes at once with the answer: later, it could be the answer to the next
            // request for all that anybody can tell.
            let surplus = if self.outbox.ends_with(script::UNASKED) { script::UNASKED.len() } else { 0 };
            if self.outbox.len() - piece <= surplus {
                piece = self.outbox.len();
            }
            return match link.write(&self.outbox[..piece]) {
                Some(written) => {
                    self.outbox.drain(..written);
                    if self.outbox.len() <= surplus {
                        self.is_spoiled = surplus > 0;
                        self.outbox.clear();
                    }
                    written > 0
                }
                None => {
                    self.outbox.clear();
                    true
                }
            };
        }
        match self.parting {
            None | Some(Parting::Silence) => false,
            Some(parting) => {
                self.part(parting);
                true
            }
        }
    }

    /// Says something that nobody asked for.
    pub(super) fn blurt(&mut self) {
        if let Some(link) = &mut self.link {
            let _ = link.write(script::UNASKED);
            self.is_spoiled = true;
        }
    }

    /// Breaks off.
    pub(super) fn part(&mut self, parting: Parting) {
        let Some(link) = self.link.take() else { return };
        self.note_beginning(&link.unread());
        if parting == Parting::Reset {
            link.reset();
        }
    }

    /// Whatever is left unread was seen all the same.
    fn note_beginning(&mut self, unread: &[u8]) {
        self.parser.push(unread);
        loop {
            match self.parser.next(false) {
                Ok(Some(Event::Head)) => self.seen.push(self.parser.message.clone()),
                Ok(Some(Event::End)) => {
                    if let Some(seen) = self.seen.last_mut() {
                        seen.clone_from(&self.parser.message);
                    }
                }
                _ => break,
            }
        }
        let beginning = String::from_utf8_lossy(self.parser.beginning()).into_owned();
        if !beginning.is_empty() {
            let start_line = beginning.lines().next().unwrap_or_default().to_owned();
            self.seen.push(Message { start_line, ..Message::default() });
        }
    }
}

/// The id in the path of a request line.
pub(super) fn id_in(start_line: &str) -> &str {
    start_line.split(' ').nth(1).and_then(|path| path.split('/').nth(2)).unwrap_or_default()
}
