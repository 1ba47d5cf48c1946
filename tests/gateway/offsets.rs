//! An endpoint that dies at every byte: within the request, within the answer, on a fresh connection or a used one.
//!
//! Whatever the offset, three things agree: what the endpoint's own record holds, what `Tollgate-Delivery` says,
//! and what the client got. And nothing that could pay twice arrives twice.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::rig::{Answer, Client, Gateway, Setup};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-A: b\r\n\r\nprocessed";

/// Where the next request meets its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is answered.
    Well,
    /// The endpoint closes after so many of its bytes.
    DiesReading(usize),
    /// The endpoint reads it and closes after so many bytes of the answer.
    DiesAnswering(usize),
}

/// An endpoint with a fate for the next request, after which all is well again.
struct Mortal {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    fate: Fate,
    /// Everything that came, by connection, since the last look.
    received: Vec<Vec<u8>>,
}

impl Mortal {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { fate: Fate::Well, received: Vec::new() }));
        let kept = Arc::clone(&state);
        // Ends with the process: the gateways of a test are gone before.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&kept);
                thread::spawn(move || while serve(&stream, &state) {});
            }
        });
        Self { address, state }
    }

    fn arm(&self, fate: Fate) {
        let mut state = self.state.lock().unwrap();
        state.fate = fate;
        state.received.clear();
    }

    /// How many connections have brought anything of a request since the fate was set.
    fn arrivals(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().received.clone()
    }
}

/// Serves one request; whether the connection lives on.
fn serve(mut stream: &TcpStream, state: &Mutex<State>) -> bool {
    let mut request = Vec::new();
    let mut byte = [0];
    // One byte at a time, so that whatever is left unread is left to the kernel's reset.
    if !matches!(stream.read(&mut byte), Ok(1)) {
        return false;
    }
    request.push(byte[0]);
    let (fate, index) = {
        let mut state = state.lock().unwrap();
        state.received.push(byte.to_vec());
        (std::mem::replace(&mut state.fate, Fate::Well), state.received.len() - 1)
    };
    while !is_whole(&request) {
        if fate == Fate::DiesReading(request.len()) {
            return false;
        }
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return false;
        }
        request.push(byte[0]);
        // A look in between may have cleared it.
        if let Some(received) = state.lock().unwrap().received.get_mut(index) {
            received.push(byte[0]);
        }
    }
    match fate {
        Fate::Well => stream.write_all(ANSWER).is_ok(),
        Fate::DiesReading(_) => false,
        Fate::DiesAnswering(bytes) => {
            let _ = stream.write_all(&ANSWER[..bytes]);
            false
        }
    }
}

/// Head and body of a request are there.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok()).unwrap_or(0);
    body.len() >= length
}

/// What is asked of the gateway.
#[derive(Clone, Copy, Debug)]
struct Asked {
    request: &'static str,
    /// Whether a second copy does no harm.
    harmless: bool,
}

const ASKED: [Asked; 3] = [
    Asked { request: "GET /pay HTTP/1.1\r\nHost: a\r\n\r\n", harmless: true },
    Asked {
        request: "POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfifty-euro",
        harmless: false,
    },
    Asked {
        request: "POST /pay HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k7\r\nContent-Length: 10\r\n\r\nfifty-euro",
        harmless: false,
    },
];

/// One case: a client of its own, a fresh or a used upstream connection, one fate.
#[track_caller]
fn case(gateway: &Gateway, endpoint: &Mortal, asked: Asked, reused: bool, fate: Fate) {
    let mut client = gateway.client();
    if reused {
        endpoint.arm(Fate::Well);
        assert_eq!(client.get("/warm", "").status, 200);
    }
    endpoint.arm(fate);
    client.send(asked.request);
    let answer = client.answer();
    judge(&answer, &endpoint.arrivals(), asked, reused, fate);
    if answer.complete && answer.field("connection") != Some("close") {
        // The client's connection is in step, whatever happened behind it.
        endpoint.arm(Fate::Well);
        assert_eq!(client.get("/after", "").text(), "processed", "{asked:?} {reused} {fate:?}");
    }
}

fn judge(answer: &Answer, arrivals: &[Vec<u8>], asked: Asked, reused: bool, fate: Fate) {
    let what =
        || format!("{asked:?}, reused: {reused}, {fate:?}: {}, {} arrivals", answer.head, arrivals.len());
    let whole = arrivals.iter().filter(|arrival| is_whole(arrival)).count();
    if !asked.harmless {
        assert!(arrivals.len() <= 1, "it arrived twice: {}", what());
    }
    assert!(arrivals.len() <= 2, "{}", what());
    match (answer.status, answer.field("tollgate-delivery")) {
        // A good answer is some endpoint's, to a request that was whole.
        (200, None) => {
            assert!(whole >= 1 && (!answer.complete || answer.text() == "processed"), "{}", what());
        }
        (502, Some("not-sent")) => assert_eq!(arrivals.len(), 0, "{}", what()),
        (502, Some("maybe-sent")) => {}
        _ => panic!("{}", what()),
    }
    // A cut answer was begun, so nothing was tried again.
    if !answer.complete {
        assert_eq!(arrivals.len(), 1, "{}", what());
    }
    let dies = fate != Fate::Well && fate != Fate::DiesAnswering(ANSWER.len());
    if dies && !asked.harmless {
        assert!(answer.status == 502 || !answer.complete, "an answer nobody gave: {}", what());
    }
    if dies && asked.harmless && reused && matches!(fate, Fate::DiesReading(_) | Fate::DiesAnswering(0)) {
        assert_eq!((answer.status, arrivals.len()), (200, 2), "once more, and then well: {}", what());
    }
}

/// How long the request is that the endpoint gets.
fn forwarded_bytes(gateway: &Gateway, endpoint: &Mortal, asked: Asked) -> usize {
    endpoint.arm(Fate::Well);
    let mut client: Client = gateway.client();
    client.send(asked.request);
    assert_eq!(client.answer().status, 200);
    endpoint.arrivals()[0].len()
}

#[test]
fn every_offset_of_the_request() {
    let endpoint = Mortal::new();
    for (asked, reused) in ASKED.iter().flat_map(|asked| [(*asked, false), (*asked, true)]) {
        // Without idle connections each one is fresh.
        let idle = if reused { "" } else { "idle_connections = 0" };
        let gateway =
            Setup::new().cluster("main", &[endpoint.address], idle).route("all", "/", "main", "").start();
        for bytes in 1..forwarded_bytes(&gateway, &endpoint, asked) {
            case(&gateway, &endpoint, asked, reused, Fate::DiesReading(bytes));
        }
    }
}

#[test]
fn every_offset_of_the_answer() {
    let endpoint = Mortal::new();
    for (asked, reused) in ASKED.iter().flat_map(|asked| [(*asked, false), (*asked, true)]) {
        let idle = if reused { "" } else { "idle_connections = 0" };
        let gateway =
            Setup::new().cluster("main", &[endpoint.address], idle).route("all", "/", "main", "").start();
        for bytes in 0..=ANSWER.len() {
            case(&gateway, &endpoint, asked, reused, Fate::DiesAnswering(bytes));
        }
    }
}
