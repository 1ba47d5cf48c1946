//! The offenders: thousands of connections in one thread, around one readiness set.
//!
//! Each is opened anew when it ends, so that their number holds. On loopback they come from many addresses:
//! one has too few ports for a flood.

use std::{
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    findings::Findings,
    offender::{Kind, More, Reads, Script},
};
use crate::{exit::SetUp, target::Target};

/// Connections opened per turn: the target's backlog must not overflow by our haste alone.
const OPENED_PER_TURN: usize = 256;
/// A connection that takes longer counts as refused.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at the clock.
const TURN: Duration = Duration::from_millis(20);
const NEWS_MAX: usize = 1024;
/// Bytes of `HTTP/1.1 200`.
const STATUS_END: usize = 12;
/// What a client that never reads lets the kernel hold for it.
const SMALL_BUFFER: usize = 4096;

/// A crowd at work.
pub(crate) struct Crowd {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Findings>,
}

impl Crowd {
    /// Sends `offenders` of `kind` to `path` at `target`.
    ///
    /// # Errors
    /// A header that is none, or no readiness set.
    pub(crate) fn start(
        kind: Kind,
        target: &Target,
        path: &str,
        headers: &[String],
        offenders: usize,
        every: Duration,
    ) -> Result<Self, SetUp> {
        if offenders == 0 || every.is_zero() {
            return Err(SetUp::new("--offenders and --every must be more than nothing"));
        }
        let mut head = format!("Host: {}\r\n", target.authority);
        for header in headers {
            let (name, value) = header
                .split_once(':')
                .filter(|(name, _)| crate::workload::mix::is_token(name))
                .ok_or_else(|| SetUp::new(format!("--attack-header {header:?} is not Name: value")))?;
            head.push_str(&format!("{name}: {}\r\n", value.trim()));
        }
        let scripts = [0, 1].map(|number| kind.script(number, path, &head, every));
        let set = epoll::create(CreateFlags::CLOEXEC)
            .map_err(|error| SetUp::new(format!("no readiness set can be made: {error}")))?;
        let over = Arc::new(AtomicBool::new(false));
        let mut work = Work {
            set,
            address: target.address,
            scripts,
            places: (0..offenders).map(|_| None).collect(),
            source: 0,
            findings: Findings::default(),
            over: Arc::clone(&over),
        };
        let thread = thread::Builder::new()
            .name("offenders".into())
            .spawn(move || {
                work.run();
                work.findings
            })
            .map_err(|error| SetUp::new(format!("no thread can be started: {error}")))?;
        Ok(Self { over, thread })
    }

    /// Ends the attack; what came of it.
    pub(crate) fn finish(self) -> Findings {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

struct Work {
    set: OwnedFd,
    address: SocketAddr,
    /// Of offenders with even and with odd numbers.
    scripts: [Script; 2],
    places: Vec<Option<Offender>>,
    /// Sources used so far.
    source: u32,
    findings: Findings,
    over: Arc<AtomicBool>,
}

struct Offender {
    stream: TcpStream,
    phase: Phase,
    since: Instant,
    /// Bytes of the opening or the flow sent so far.
    sent: usize,
    /// When the next slow byte is due.
    next: Instant,
    /// The first bytes of what it was answered, as far as its status.
    answer: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Opening,
    More,
}

/// What became of an offender in a turn.
enum Fate {
    Stays,
    /// The target ended it.
    Cut,
    /// It went away by itself.
    Left,
    /// It was never connected.
    Unconnected,
}

impl Work {
    fn run(&mut self) {
        let mut news = Vec::with_capacity(NEWS_MAX);
        while !self.over.load(Ordering::Relaxed) {
            let mut opened = 0;
            for place in 0..self.places.len() {
                if self.places[place].is_none() && opened < OPENED_PER_TURN {
                    opened += 1;
                    self.open(place);
                }
            }
            let pause = if opened == OPENED_PER_TURN { Duration::ZERO } else { TURN };
            for place in self.ready(&mut news, pause) {
                self.turn(place);
            }
            self.dribble();
        }
        self.findings.left =
            self.places.iter().flatten().filter(|offender| offender.phase != Phase::Connecting).count()
                as u64;
    }

    /// The places with news.
    fn ready(&self, news: &mut Vec<Event>, pause: Duration) -> Vec<usize> {
        let pause = Timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() };
        news.clear();
        match epoll::wait(&self.set, rustix::buffer::spare_capacity(news), Some(&pause)) {
            Ok(_) | Err(Errno::INTR) => {}
            // A set that fails ends the attack; the honest load says the rest.
            Err(_) => self.over.store(true, Ordering::Relaxed),
        }
        news.iter().map(|event| usize::try_from(event.data.u64()).unwrap_or(usize::MAX)).collect()
    }

    fn open(&mut self, place: usize) {
        let Ok(stream) = self.connect(self.scripts[place % 2].reads) else {
            self.findings.unconnected += 1;
            return;
        };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if epoll::add(&self.set, &stream, EventData::new_u64(place as u64), flags).is_err() {
            self.findings.unconnected += 1;
            return;
        }
        let now = Instant::now();
        self.places[place] = Some(Offender {
            stream,
            phase: Phase::Connecting,
            since: now,
            sent: 0,
            next: now,
            answer: Vec::new(),
        });
    }

    fn connect(&mut self, reads: Reads) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if reads == Reads::Never {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        if self.address.is_ipv4() && self.address.ip().is_loopback() {
            self.source = self.source.wrapping_add(1);
            let [_, _, high, low] = (self.source % 1000 + 256).to_be_bytes();
            socket.bind(&SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, high, low), 0)).into())?;
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(socket.into())
    }

    /// Lets the offender at `place` go on.
    fn turn(&mut self, place: usize) {
        let script = &self.scripts[place % 2];
        let Some(offender) = self.places.get_mut(place).and_then(Option::as_mut) else { return };
        let fate = offender.advance(script, &mut self.findings);
        let since = offender.since;
        match fate {
            Fate::Stays => return,
            Fate::Cut => {
                self.findings.cut += 1;
                self.findings.cut_after.record(since.elapsed());
            }
            Fate::Left => {}
            Fate::Unconnected => self.findings.unconnected += 1,
        }
        self.places[place] = None;
    }

    /// Sends the bytes that are due without any news, and gives up on connections that are not made.
    fn dribble(&mut self) {
        let now = Instant::now();
        for place in 0..self.places.len() {
            let script = &self.scripts[place % 2];
            let Some(offender) = &mut self.places[place] else { continue };
            // A flow that stopped for the others' sake has no news to go on by.
            if matches!(script.more, More::Flow(_)) && offender.phase == Phase::More {
                self.turn(place);
                continue;
            }
            match (&script.more, offender.phase) {
                (_, Phase::Connecting) if now.duration_since(offender.since) > CONNECT_TIMEOUT => {
                    self.findings.unconnected += 1;
                    self.places[place] = None;
                }
                (More::Byte(byte, every), Phase::More) if now >= offender.next => {
                    offender.next = now + *every;
                    // What comes of it is news.
                    let _ = offender.stream.write(&[*byte]);
                }
                _ => {}
            }
        }
    }
}

impl Offender {
    fn advance(&mut self, script: &Script, findings: &mut Findings) -> Fate {
        if self.phase == Phase::Connecting {
            match (self.stream.take_error(), self.stream.peer_addr()) {
                (Ok(None), Ok(_)) => {}
                (Ok(None), Err(_)) => return Fate::Stays,
                _ => return Fate::Unconnected,
            }
            findings.connected += 1;
            self.phase = Phase::Opening;
            self.since = Instant::now();
        }
        if self.phase == Phase::Opening {
            match self.send(&script.opening) {
                Err(_) => return Fate::Cut,
                Ok(false) => {}
                Ok(true) if script.leaves => {
                    let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                    return Fate::Left;
                }
                Ok(true) => self.phase = Phase::More,
            }
        }
        if let (More::Flow(flow), Phase::More) = (&script.more, self.phase)
            && self.flow(flow).is_err()
        {
            return Fate::Cut;
        }
        match script.reads {
            Reads::Always => self.read(findings),
            Reads::Never => self.look(),
        }
    }

    /// Sends the rest of `bytes`; whether all of it is sent.
    fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        while self.sent < bytes.len() {
            match self.stream.write(&bytes[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        Ok(true)
    }

    /// Sends `bytes` a few times over, as long as there is room; the others want their turn too.
    fn flow(&mut self, bytes: &[u8]) -> io::Result<()> {
        for _ in 0..4 {
            if !self.send(bytes)? {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, findings: &mut Findings) -> Fate {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Fate::Cut,
                Ok(count) => {
                    if self.answer.is_empty() {
                        findings.answered_after.record(self.since.elapsed());
                    }
                    let missing = STATUS_END - self.answer.len();
                    if missing > 0 {
                        self.answer.extend_from_slice(&bytes[..count.min(missing)]);
                        if self.answer.len() == STATUS_END {
                            *findings.statuses.entry(self.status()).or_default() += 1;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Fate::Stays,
                Err(_) => return Fate::Cut,
            }
        }
    }

    /// The status in its answer; 0 if that is none of HTTP.
    fn status(&self) -> u16 {
        let digits = std::str::from_utf8(&self.answer[STATUS_END - 3..]).ok();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// Whether it was cut, without taking a byte.
    fn look(&self) -> Fate {
        let mut byte = [MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        match (self.stream.take_error(), SockRef::from(&self.stream).recv_with_flags(&mut byte, flags)) {
            (Ok(None), Ok(1..)) => Fate::Stays,
            (Ok(None), Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Fate::Stays,
            _ => Fate::Cut,
        }
    }
}
