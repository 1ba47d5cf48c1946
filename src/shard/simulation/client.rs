//! A client of the world: sends what its visit says, reads what comes, and keeps both for the verdict.
//!
//! Acts only when the world lets it, a piece at a time. Judges nothing but the form of what it reads.

use std::net::{IpAddr, Ipv4Addr};

use rustix::event::PollFd;

use super::{
    link::{Heard, Link},
    message::{Event, Message, Parser, Side},
    script::{Parting, Visit},
    setting::BLOCK_BYTES,
    world::Instant,
};

/// A client.
pub(super) struct Client {
    pub(super) number: usize,
    pub(super) visit: Visit,
    link: Option<Link>,
    /// Bytes sent.
    sent: usize,
    /// Bytes of answers read.
    heard: usize,
    parser: Parser,
    is_in_answer: bool,
    /// Final answers, the last of which may be incomplete.
    pub(super) answers: Vec<Message>,
    /// When the last byte of each head went out.
    pub(super) head_sent: Vec<Instant>,
    /// When as much of each request was out as the gateway waits for before it decides.
    pub(super) ready: Vec<Instant>,
    /// How the connection ended, as the client saw it.
    pub(super) end: Option<Heard>,
    /// When the gateway closed it.
    pub(super) closed_us: Option<u64>,
    /// Whether the client itself broke off.
    pub(super) has_parted: bool,
    /// Whether the gateway takes nothing more from it.
    is_unheard: bool,
    /// Whether the gateway had no room for it.
    pub(super) is_one_too_many: bool,
}

impl Client {
    pub(super) fn new(number: usize, visit: Visit, link: Link, is_one_too_many: bool) -> Self {
        Self {
            number,
            visit,
            link: Some(link),
            sent: 0,
            heard: 0,
            parser: Parser::new(Side::Answers),
            is_in_answer: false,
            answers: Vec::new(),
            head_sent: Vec::new(),
            ready: Vec::new(),
            end: None,
            closed_us: None,
            has_parted: false,
            is_unheard: false,
            is_one_too_many,
        }
    }

    /// The address of the client with this number.
    pub(super) fn address(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).expect("few clients")))
    }

    /// Whether it has a connection still.
    pub(super) fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// What tells whether the gateway has closed, as long as that is not known.
    pub(super) fn hang_up(&self) -> Option<PollFd<'_>> {
        self.link.as_ref().filter(|_| self.closed_us.is_none()).map(Link::hang_up)
    }

    /// Complete answers so far.
    pub(super) fn answered(&self) -> usize {
        self.answers.iter().filter(|answer| answer.complete).count()
    }

    /// Whether nothing is left that it wants.
    pub(super) fn is_satisfied(&self) -> bool {
        self.answered() == self.visit.asked.len()
    }

    /// Forgets that it wanted to fall silent or to read no further.
    pub(super) fn recover(&mut self) {
        if let Some((_, Parting::Silence)) = self.visit.parting {
            self.visit.parting = None;
        }
        self.visit.appetite = usize::MAX;
        self.visit.bytes_at_once = [1 << 20; 2];
    }

    /// Sends a piece of what it may send now; how much.
    pub(super) fn send(&mut self, now: Instant) -> usize {
        let Some(link) = &mut self.link else { return 0 };
        if let Some((at, parting)) = self.visit.parting
            && self.sent >= at
        {
            if !self.has_parted && parting != Parting::Silence {
                self.has_parted = true;
                match (parting, self.link.take()) {
                    (Parting::HalfClose, Some(link)) => {
                        link.finish_sending();
                        self.link = Some(link);
                    }
                    (Parting::Reset, Some(link)) => link.reset(),
                    _ => {}
                }
                return 1;
            }
            return 0;
        }
        if self.is_unheard {
            return 0;
        }
        let mut may_send = 0;
        let mut wanted: Vec<u8> = Vec::new();
        for (place, asked) in self.visit.asked.iter().enumerate() {
            let complete = self.answers.iter().filter(|answer| answer.complete).count();
            let said_close = self.answers.iter().any(says_close);
            if !self.visit.is_pipelined && (place > complete || place == complete && said_close) {
                break;
            }
            let start = may_send;
            may_send += asked.bytes.len();
            if self.sent < may_send {
                wanted.extend_from_slice(&asked.bytes[self.sent.max(start) - start..]);
            }
        }
        if let Some((at, _)) = self.visit.parting {
            wanted.truncate(at - self.sent);
        }
        wanted.truncate(self.visit.bytes_at_once[0]);
        if wanted.is_empty() {
            return 0;
        }
        let Some(sent) = link.write(&wanted) else {
            self.is_unheard = true;
            return 0;
        };
        self.sent += sent;
        let mut end = 0;
        for (place, asked) in self.visit.asked.iter().enumerate() {
            if self.sent >= end + asked.head_bytes && self.head_sent.len() == place {
                self.head_sent.push(now);
            }
            if self.sent >= end + asked.bytes.len().min(BLOCK_BYTES) && self.ready.len() == place {
                self.ready.push(now);
            }
            end += asked.bytes.len();
        }
        sent
    }

    /// Reads a piece of what has come; whether there was anything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(&mut self) -> Result<bool, String> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let room = self.visit.bytes_at_once[1].min(self.visit.appetite.saturating_sub(self.heard));
        if room == 0 {
            return Ok(false);
        }
        let mut bytes = vec![0; room.min(1 << 16)];
        match link.read(&mut bytes) {
            Heard::Nothing => return Ok(false),
            Heard::Bytes(read) => {
                self.heard += read;
                self.parser.push(&bytes[..read]);
                self.parse()?;
            }
            end => {
                self.end = Some(end);
                self.link = None;
                if end == Heard::End && self.is_in_answer && self.parser.closed() {
                    self.take_answer();
                }
            }
        }
        Ok(true)
    }

    fn parse(&mut self) -> Result<(), String> {
        loop {
            let asked = self.visit.asked.get(self.answered());
            let bodiless = asked.is_some_and(|asked| asked.method == "HEAD" && asked.is_readable);
            let event =
                self.parser.next(bodiless).map_err(|error| format!("client {}: {error}", self.number))?;
            let is_final = self.parser.message.status() >= 200;
            match event {
                Some(Event::Head) if is_final => {
                    self.answers.push(Message::default());
                    self.is_in_answer = true;
                    self.take_answer();
                }
                Some(Event::End) if is_final => self.take_answer(),
                Some(_) => {}
                None => {
                    if self.is_in_answer {
                        self.take_answer();
                    }
                    return Ok(());
                }
            }
        }
    }

    fn take_answer(&mut self) {
        if let Some(answer) = self.answers.last_mut() {
            answer.clone_from(&self.parser.message);
            self.is_in_answer = !answer.complete;
        }
    }

    /// Closes, if all is said and the client cares to.
    pub(super) fn leave(&mut self) {
        self.has_parted = true;
        self.link = None;
    }
}

/// Whether an answer announces the end of its connection.
pub(super) fn says_close(answer: &Message) -> bool {
    answer.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}
