//! An endpoint that says what it is told to and remembers every byte it was sent.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::IntoRawFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    client::find,
    wait::{Gate, PATIENCE, until},
};

/// Keeps endpoints that fail among those that are asked: lines of their cluster.
pub(crate) const ALL_STAY: &str = "ejection = { failures = 0, margin = \"0%\" }";
/// What [`Endpoint::busy`] answers.
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

/// A listening endpoint. Each connection is served by a thread that runs the script for every request head
/// that arrives on it. Dropping it stops accepting; connections end with their script.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    record: Arc<Record>,
}

#[derive(Default)]
struct Record {
    /// Request heads that came, those whose script still runs among them.
    arrived: AtomicUsize,
    /// Every request whose script has ended.
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    /// All bytes of each connection, in the order in which the connections were accepted.
    bytes: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
    stopped: AtomicBool,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Number of its connection, from 0.
    pub(crate) connection: usize,
    /// Request line and fields, as they came, but for bytes that are no UTF-8: see [`Endpoint::bytes`].
    pub(crate) head: String,
    /// The body, without its framing, if the script took it.
    pub(crate) body: Vec<u8>,
    /// Field lines after a chunked body.
    pub(crate) trailers: String,
}

impl Seen {
    /// The method.
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    /// The request target.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// The values of a field.
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
}

/// One side of a conversation with the gateway, in the hands of a script.
pub(crate) struct Talk {
    pub(crate) stream: TcpStream,
    /// Requests that came before on this connection.
    pub(crate) earlier: usize,
    behind: VecDeque<u8>,
    bytes: Arc<Mutex<Vec<u8>>>,
    closed: bool,
}

impl Endpoint {
    /// Answers every request, whose body it reads first, with 200 and this body.
    pub(crate) fn answering(body: &'static str) -> Self {
        Self::scripted(move |talk, seen| {
            talk.read_body(seen);
            talk.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        })
    }

    /// Reads every request and does `then`.
    pub(crate) fn always(then: impl Fn(&mut Talk) + Send + Sync + 'static) -> Self {
        Self::scripted(move |talk, seen| {
            talk.read_body(seen);
            then(talk);
        })
    }

    /// Answers every request with 503.
    pub(crate) fn busy() -> Self {
        Self::always(|talk| {
            talk.send(BUSY);
        })
    }

    /// Answers every request with 200 once `gate` is open.
    pub(crate) fn holding(gate: &Gate) -> Self {
        let gate = gate.clone();
        Self::scripted(move |talk, seen| {
            talk.read_body(seen);
            gate.pass();
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        })
    }

    /// Runs `script` for each request whose head has arrived. What it does not read of a body it must not
    /// leave on the wire, unless it closes.
    pub(crate) fn scripted(script: impl Fn(&mut Talk, &mut Seen) + Send + Sync + 'static) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// So many that answer their number, from 0, on 127.0.0.1, 127.0.0.2 … and one port.
    pub(crate) fn fleet(count: u8) -> Vec<Self> {
        loop {
            let first = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = first.local_addr().unwrap().port();
            let others =
                (2..=count).map(|last| TcpListener::bind(SocketAddr::from(([127, 0, 0, last], port))));
            // The port may be taken on one of them.
            let Ok(others) = others.collect::<Result<Vec<_>, _>>() else { continue };
            let numbered = std::iter::once(first).chain(others).enumerate();
            return numbered
                .map(|(number, listener)| {
                    Self::listening(listener, move |talk, seen| {
                        talk.read_body(seen);
                        talk.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"));
                    })
                })
                .collect();
        }
    }

    fn listening(
        listener: TcpListener,
        script: impl Fn(&mut Talk, &mut Seen) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let kept = Arc::clone(&record);
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if kept.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (kept, script) = (Arc::clone(&kept), Arc::clone(&script));
                let connection = kept.connections.fetch_add(1, Ordering::SeqCst);
                let bytes = Arc::new(Mutex::new(Vec::new()));
                kept.bytes.lock().unwrap().push(Arc::clone(&bytes));
                thread::spawn(move || {
                    stream.set_nodelay(true).unwrap();
                    let behind = VecDeque::new();
                    let mut talk = Talk { stream, earlier: 0, behind, bytes, closed: false };
                    talk.serve(connection, &kept, &*script);
                });
            }
        });
        Self { address, record }
    }

    /// An address where nobody listens. Its port stays taken until the process ends: given back, it could
    /// be the next endpoint's of another test.
    pub(crate) fn nowhere() -> SocketAddr {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let _kept = socket.into_raw_fd();
        address
    }

    /// The requests that came, once there are at least so many. A request counts when its script has ended.
    pub(crate) fn seen(&self, requests: usize) -> Vec<Seen> {
        until(&format!("{requests} requests at the endpoint"), || {
            self.record.seen.lock().unwrap().len() >= requests
        });
        self.record.seen.lock().unwrap().clone()
    }

    /// How many requests' heads have come by now: whoever has an answer finds its request counted.
    pub(crate) fn count(&self) -> usize {
        self.record.arrived.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// Every byte that came so far, connection after connection.
    pub(crate) fn bytes(&self) -> Vec<Vec<u8>> {
        self.record.bytes.lock().unwrap().iter().map(|bytes| bytes.lock().unwrap().clone()).collect()
    }
}

/// An address that takes no connections and turns none away either: nobody accepts, and the queue is full.
pub(crate) struct Deaf {
    pub(crate) address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<socket2::Socket>,
}

impl Deaf {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        socket2::SockRef::from(&listener).listen(0).unwrap();
        let queued = (0..4).map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        });
        Self { address, _queued: queued.collect(), _listener: listener }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.record.stopped.store(true, Ordering::SeqCst);
        // The accept loop looks up when somebody comes.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
    }
}

impl Talk {
    fn serve(&mut self, connection: usize, record: &Record, script: &(dyn Fn(&mut Self, &mut Seen) + Sync)) {
        while let Some(head) = self.read_head() {
            record.arrived.fetch_add(1, Ordering::SeqCst);
            let mut seen = Seen { connection, head, body: Vec::new(), trailers: String::new() };
            script(self, &mut seen);
            record.seen.lock().unwrap().push(seen);
            self.earlier += 1;
            if self.closed {
                return;
            }
        }
    }

    fn read_head(&mut self) -> Option<String> {
        loop {
            let bytes = self.behind.make_contiguous();
            if let Some(at) = find(bytes, b"\r\n\r\n") {
                let head: Vec<u8> = self.behind.drain(..at + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if !self.read_some() {
                return None;
            }
        }
    }

    /// Sends these bytes; a gateway that has gone away is no failure here.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads the request's body by its framing. `false` if it broke off.
    pub(crate) fn read_body(&mut self, seen: &mut Seen) -> bool {
        if let Some(length) = seen.field("content-length") {
            let length: usize = length.parse().unwrap();
            while seen.body.len() < length {
                if !self.take(length - seen.body.len(), &mut seen.body) {
                    return false;
                }
            }
        } else if seen
            .fields("transfer-encoding")
            .last()
            .is_some_and(|last| last.eq_ignore_ascii_case("chunked"))
        {
            loop {
                let Some(line) = self.line() else { return false };
                let size = usize::from_str_radix(&line, 16).unwrap();
                let wanted = seen.body.len() + size;
                if size == 0 {
                    break;
                }
                while seen.body.len() < wanted {
                    if !self.take(wanted - seen.body.len(), &mut seen.body) {
                        return false;
                    }
                }
                if self.line().as_deref() != Some("") {
                    return false;
                }
            }
            loop {
                match self.line() {
                    Some(line) if line.is_empty() => break,
                    Some(line) => seen.trailers.push_str(&format!("{line}\r\n")),
                    None => return false,
                }
            }
        }
        true
    }

    /// Reads at least so many bytes of a body and forgets them; `false` if it broke off before.
    pub(crate) fn forget(&mut self, bytes: usize) -> bool {
        let mut left = bytes;
        while left > 0 {
            if self.behind.is_empty() && !self.read_some() {
                return false;
            }
            let now = left.min(self.behind.len());
            self.behind.drain(..now);
            left -= now;
        }
        true
    }

    /// Waits until the gateway closes.
    pub(crate) fn wait_for_end(&mut self) {
        while self.read_some() {
            self.behind.clear();
        }
        self.closed = true;
    }

    /// Closes the connection.
    pub(crate) fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        self.closed = true;
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(&mut self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
        self.closed = true;
    }

    fn take(&mut self, most: usize, into: &mut Vec<u8>) -> bool {
        if self.behind.is_empty() && !self.read_some() {
            return false;
        }
        let now = most.min(self.behind.len());
        into.extend(self.behind.drain(..now));
        true
    }

    fn line(&mut self) -> Option<String> {
        loop {
            let bytes = self.behind.make_contiguous();
            if let Some(at) = find(bytes, b"\r\n") {
                let line = String::from_utf8(self.behind.drain(..at).collect()).unwrap();
                self.behind.drain(..2);
                return Some(line);
            }
            if !self.read_some() {
                return None;
            }
        }
    }

    /// Reads something; `false` at the end, however it came.
    fn read_some(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(read) => {
                    // A gigabyte is not worth remembering.
                    let mut bytes = self.bytes.lock().unwrap();
                    if bytes.len() < 4 << 20 {
                        bytes.extend_from_slice(&buffer[..read]);
                    }
                    self.behind.extend(&buffer[..read]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}
