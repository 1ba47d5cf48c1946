//! Starts the two endpoints and a peer before them, and makes sure with real requests that the peer does its job.
//!
//! Every start has a directory, ports and a peer of its own, so that no measurement inherits anything.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tempfile::TempDir;

use super::{
    child::{Child, own_binary, until},
    peer::{Found, Job, Peer},
    shape::Shape,
    template::render,
};
use crate::exit::SetUp;

/// How long a program may take until it answers, and to answer one request.
const READY: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(5);
/// Ports are chosen before they are used, so somebody else may come first.
const ATTEMPTS: usize = 2;
/// Bytes of an answer that are read at most.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
const LOG: &str = "access.log";

/// The CPUs of an experiment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpus {
    /// The peer's.
    pub(crate) peer: usize,
    /// The load's and the endpoints'.
    pub(crate) load: usize,
}

/// The tokens' secret, and tokens that tell whether a peer checks them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credentials<'a> {
    /// As text.
    pub(crate) secret: &'a str,
    pub(crate) good: &'a str,
    /// With a signature that is wrong.
    pub(crate) forged: &'a str,
    pub(crate) expired: &'a str,
}

/// A peer that does its job, with its endpoints. Everything is stopped and removed on drop.
#[derive(Debug)]
pub(crate) struct Running {
    // In the order in which they are dropped.
    pub(crate) peer: Child,
    _endpoints: Child,
    pub(crate) address: SocketAddr,
    dir: TempDir,
}

impl Running {
    /// Starts a peer and its endpoints for a shape and checks that good requests pass and others do not.
    ///
    /// # Errors
    /// Why the peer is not fit to be measured, with its own words.
    pub(crate) fn start(
        found: &Found,
        job: Job,
        shape: Shape,
        credentials: Credentials<'_>,
        cpus: Cpus,
    ) -> Result<Self, SetUp> {
        let mut attempt = 1;
        loop {
            match Self::try_start(found, job, shape, credentials, cpus) {
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
                Ok(running) => {
                    running
                        .check(found.peer, job, credentials)
                        .map_err(|fault| running.fault(found.peer, &fault))?;
                    return Ok(running);
                }
            }
        }
    }

    /// Stops the peer, so that its log is complete; the log's lines, if it writes one.
    pub(crate) fn stop_and_count_log(mut self) -> Option<u64> {
        self.peer.stop();
        let mut file = fs::File::open(self.dir.path().join(LOG)).ok()?;
        let (mut lines, mut chunk) = (0, vec![0; 64 * 1024]);
        loop {
            match file.read(&mut chunk).ok()? {
                0 => return Some(lines),
                read => lines += chunk[..read].iter().filter(|&&byte| byte == b'\n').count() as u64,
            }
        }
    }

    fn try_start(
        found: &Found,
        job: Job,
        shape: Shape,
        credentials: Credentials<'_>,
        cpus: Cpus,
    ) -> Result<Self, SetUp> {
        let dir = directory()?;
        let (endpoints, [port_a, port_b]) = endpoints(dir.path(), shape, cpus.load)?;
        let [port, admin_port] = free_ports()?;
        let values =
            values(dir.path(), [port, admin_port, port_a, port_b], credentials.secret, &found.modules);
        let write = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text)
                .map_err(|error| SetUp::new(format!("cannot write {name} of a peer: {error}")))
        };
        for (name, template) in found.peer.templates(job) {
            let text = render(template, &values).map_err(|error| SetUp::new(format!("{name}: {error}")))?;
            write(name, &text)?;
        }
        write("secret", credentials.secret)?;
        let arguments = found.peer.arguments(job, dir.path(), port, port_a);
        // What HAProxy logs is its standard output; nobody else writes there.
        let output = dir.path().join(if found.peer == Peer::Haproxy { LOG } else { "output" });
        let peer = Child::start(&found.binary, arguments, cpus.peer, &output, &dir.path().join("errors"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut running = Self { peer, _endpoints: endpoints, address, dir };
        running.await_ready(credentials.good).map_err(|fault| running.fault(found.peer, &fault))?;
        Ok(running)
    }

    /// Waits for a first complete answer, whatever it says: a program may listen before it serves.
    fn await_ready(&mut self, token: &str) -> Result<(), String> {
        let (address, peer) = (self.address, &mut self.peer);
        let mut last = String::new();
        let ready = until(READY, || match (peer.ended(), status(address, Some(token))) {
            (Some(status), _) => Some(Err(format!("ended at its start ({status})"))),
            (None, Ok(_)) => Some(Ok(())),
            (None, Err(error)) => {
                last = error.to_string();
                None
            }
        });
        ready.unwrap_or_else(|| Err(format!("does not answer after {} s: {last}", READY.as_secs())))
    }

    /// Two good requests, which is one for each endpoint, and where tokens are asked for some that must be refused.
    fn check(&self, peer: Peer, job: Job, tokens: Credentials<'_>) -> Result<(), String> {
        let good = ("a good token", Some(tokens.good), 200);
        let bad = [
            ("no token", None, 401),
            ("a forged token", Some(tokens.forged), 401),
            ("an expired token", Some(tokens.expired), 401),
        ];
        let checks_tokens = job == Job::Full && peer != Peer::Relay;
        for (what, token, expected) in
            [good, good].into_iter().chain(bad.into_iter().filter(|_| checks_tokens))
        {
            match status(self.address, token) {
                Ok(status) if status == expected => {}
                Ok(status) => {
                    return Err(format!("answered {status} instead of {expected} to a request with {what}"));
                }
                Err(error) => return Err(format!("did not answer a request with {what}: {error}")),
            }
        }
        Ok(())
    }

    fn fault(&self, peer: Peer, fault: &str) -> SetUp {
        SetUp::new(format!("{} {fault}; its own words: {}", peer.name(), self.peer.last_words()))
    }
}

/// What templates may name. The ports are the peer's own, its admin's, and the endpoints'.
pub(crate) fn values(
    dir: &Path,
    ports: [u16; 4],
    secret: &str,
    modules: &Path,
) -> [(&'static str, String); 8] {
    [
        ("DIR", dir.display().to_string()),
        ("PORT", ports[0].to_string()),
        ("ADMIN_PORT", ports[1].to_string()),
        ("PORT_A", ports[2].to_string()),
        ("PORT_B", ports[3].to_string()),
        ("SECRET", secret.to_owned()),
        ("SECRET_BASE64URL", URL_SAFE_NO_PAD.encode(secret)),
        ("MODULES", modules.display().to_string()),
    ]
}

/// A directory that NGINX's workers, which give up root, can look into.
pub(crate) fn directory() -> Result<TempDir, SetUp> {
    let dir = tempfile::Builder::new().prefix("loadtest-peers-").tempdir();
    dir.and_then(|dir| {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(dir)
    })
    .map_err(|error| SetUp::new(format!("cannot make a directory for a peer's files: {error}")))
}

/// Starts both endpoints, in one process.
fn endpoints(dir: &Path, shape: Shape, cpu: usize) -> Result<(Child, [u16; 2]), SetUp> {
    let body = shape.answer_bytes().to_string();
    let arguments = ["upstream", "--body", &body, "--listen", "127.0.0.1:0", "127.0.0.1:0"];
    let (output, errors) = (dir.join("endpoints"), dir.join("endpoints-errors"));
    let mut child =
        Child::start(&own_binary()?, arguments.map(OsString::from).to_vec(), cpu, &output, &errors)?;
    let mut ports = || {
        let text = fs::read_to_string(&output).unwrap_or_default();
        let ports: Vec<u16> = text.lines().filter_map(|line| line.rsplit_once(':')?.1.parse().ok()).collect();
        match ports[..] {
            [first, second] if text.ends_with('\n') => Some(Some([first, second])),
            _ => child.ended().map(|_| None),
        }
    };
    match until(READY, &mut ports).flatten() {
        Some(ports) => Ok((child, ports)),
        None => Err(SetUp::new(format!("the endpoints did not start: {}", child.last_words()))),
    }
}

/// Ports that nobody has at this moment, all different.
///
/// # Errors
/// When there are none.
pub(crate) fn free_ports() -> Result<[u16; 2], SetUp> {
    let fault = |error: io::Error| SetUp::new(format!("cannot find a free port: {error}"));
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (first, second) = (listen().map_err(fault)?, listen().map_err(fault)?);
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    Ok([port(&first).map_err(fault)?, port(&second).map_err(fault)?])
}

/// The status of the complete answer to one request.
pub(crate) fn status(address: SocketAddr, token: Option<&str>) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\n{token}Connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    head.parse(&answer).map_err(|error| io::Error::other(format!("not an HTTP answer: {error}")))?;
    head.code.ok_or_else(|| io::Error::other("an answer that ends within its head"))
}
