//! A gateway and its endpoints, each a process of its own that can be stopped, ended and started again.
//!
//! Everything has a directory and ports of its own, and is stopped and removed on drop.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::script::{Act, EndpointScript, Scenario};
use crate::{
    exit::SetUp,
    generator::Stop,
    peers::{
        child::{Child, own_binary, until},
        peer::{Found, Peer},
        start::{directory, free_ports, status},
        template::render,
    },
};

/// How long a program may take until it answers.
const READY: Duration = Duration::from_secs(15);
/// How long what is in flight may take to end: longer than the gateway's own time-outs.
const SETTLE: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(5);
/// The list of endpoints that tollgate follows.
const LIST: &str = "endpoints";

/// Who runs where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpus {
    pub(crate) gateway: usize,
    pub(crate) load: usize,
}

/// What runs.
#[derive(Debug)]
pub(crate) struct World {
    // In the order in which they are dropped.
    gateway: Child,
    endpoints: Vec<Endpoint>,
    pub(crate) address: SocketAddr,
    admin: Option<SocketAddr>,
    cpus: Cpus,
    dir: TempDir,
}

#[derive(Debug)]
struct Endpoint {
    child: Child,
    script: EndpointScript,
    port: u16,
    /// Where it says where it listens and, at its end, what it has answered.
    output: PathBuf,
}

impl World {
    /// Starts the endpoints, then the gateway before them, and waits until it answers.
    ///
    /// # Errors
    /// What did not start, with its own words.
    pub(crate) fn start(
        scenario: Scenario,
        scripts: &[EndpointScript],
        found: &Found,
        cpus: Cpus,
    ) -> Result<Self, SetUp> {
        let dir = directory()?;
        let mut endpoints = Vec::new();
        for (number, &script) in scripts.iter().enumerate() {
            let output = dir.path().join(format!("endpoint-{number}"));
            let (child, port) = start_endpoint(script, 0, &output, cpus.load)?;
            endpoints.push(Endpoint { child, script, port, output });
        }
        let [port, admin_port] = free_ports()?;
        let listed: Vec<u16> =
            scenario.listed(endpoints.len()).into_iter().map(|number| endpoints[number].port).collect();
        let (name, template, line) = files(found.peer)?;
        let lines: Vec<String> = listed.iter().map(|&port| line(port)).collect();
        let values = [
            ("DIR", dir.path().display().to_string()),
            ("PORT", port.to_string()),
            ("ADMIN_PORT", admin_port.to_string()),
            ("BALANCE", scenario.balance().to_owned()),
            ("ENDPOINTS", lines.join("\n")),
        ];
        let text = render(template, &values).map_err(|error| SetUp::new(format!("{name}: {error}")))?;
        let written = fs::write(dir.path().join(name), text);
        written.map_err(|error| SetUp::new(format!("cannot write {name}: {error}")))?;
        write_list(&dir, &listed)?;
        let arguments = arguments(found.peer, dir.path().join(name).into_os_string(), &dir);
        let (output, errors) = (dir.path().join("output"), dir.path().join("errors"));
        let gateway = Child::start(&found.binary, arguments, cpus.gateway, &output, &errors)?;
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let admin = (found.peer == Peer::Tollgate).then(|| at(admin_port));
        let mut world = Self { gateway, endpoints, address: at(port), admin, cpus, dir };
        let answers = until(READY, || match world.gateway.ended() {
            Some(_) => Some(false),
            None => status(world.address, None).is_ok().then_some(true),
        });
        if answers == Some(true) {
            return Ok(world);
        }
        let words = world.gateway.last_words();
        Err(SetUp::new(format!("{} does not answer; its own words: {words}", found.peer.name())))
    }

    /// Has the acts happen, each at its time after `begin`, until `stop`.
    ///
    /// # Errors
    /// An endpoint that does not start again.
    pub(crate) fn play(
        &mut self,
        acts: Vec<(Duration, Act)>,
        begin: Instant,
        stop: &Stop,
    ) -> Result<(), SetUp> {
        for (at, act) in acts {
            let time = (begin + at).saturating_duration_since(Instant::now());
            // What has begun is played to its end, so that nothing stays stopped.
            until(time, || stop.load(Ordering::Relaxed).then_some(()));
            match act {
                Act::Freeze(number) => self.endpoints[number].child.signal(Signal::STOP),
                Act::Thaw(number) => self.endpoints[number].child.signal(Signal::CONT),
                Act::Stop(number) => self.endpoints[number].child.stop(),
                Act::Start(number) => {
                    let endpoint = &mut self.endpoints[number];
                    let (script, port) = (endpoint.script, endpoint.port);
                    endpoint.child = start_endpoint(script, port, &endpoint.output, self.cpus.load)?.0;
                }
                Act::List(numbers) => {
                    let ports: Vec<u16> = numbers.iter().map(|&number| self.endpoints[number].port).collect();
                    write_list(&self.dir, &ports)?;
                }
            }
        }
        Ok(())
    }

    /// What the gateway counts as in flight once that has come to rest; `None` when it does not say.
    pub(crate) fn left_in_flight(&self) -> Option<u64> {
        let admin = self.admin?;
        let mut last = None;
        let settled = until(SETTLE, || {
            last = get(admin, "/metrics").ok().map(|text| in_flight(&text));
            (last == Some(0)).then_some(0)
        });
        settled.or(last)
    }

    /// Stops everything; what each endpoint has answered.
    pub(crate) fn end(mut self) -> Vec<u64> {
        self.gateway.stop();
        let ended = self.endpoints.iter_mut().map(|endpoint| {
            endpoint.child.stop();
            answers(&fs::read_to_string(&endpoint.output).unwrap_or_default())
        });
        ended.collect()
    }
}

/// A gateway's configuration file: its name, its template, and how it writes an endpoint.
type Files = (&'static str, &'static str, fn(u16) -> String);

fn files(peer: Peer) -> Result<Files, SetUp> {
    let files: Files = match peer {
        Peer::Tollgate => ("tollgate.toml", include_str!("../../scenarios/tollgate.toml"), |_| String::new()),
        Peer::Nginx => ("nginx.conf", include_str!("../../scenarios/nginx.conf"), |port| {
            format!("        server 127.0.0.1:{port} max_fails=3 fail_timeout=2s;")
        }),
        Peer::Haproxy => ("haproxy.cfg", include_str!("../../scenarios/haproxy.cfg"), |port| {
            format!("    server e{port} 127.0.0.1:{port}")
        }),
        Peer::Envoy | Peer::Relay => {
            return Err(SetUp::new(format!("{} takes part in no scenario", peer.name())));
        }
    };
    Ok(files)
}

fn arguments(peer: Peer, config: OsString, dir: &TempDir) -> Vec<OsString> {
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    match peer {
        Peer::Haproxy => [words(&["-db", "-f"]), vec![config]].concat(),
        Peer::Nginx => {
            [words(&["-e", "stderr", "-p"]), vec![dir.path().into()], words(&["-c"]), vec![config]].concat()
        }
        _ => [words(&["run", "--config"]), vec![config]].concat(),
    }
}

/// Starts an endpoint on `port`, or on one that is free; the port.
fn start_endpoint(
    script: EndpointScript,
    port: u16,
    output: &std::path::Path,
    cpu: usize,
) -> Result<(Child, u16), SetUp> {
    let (listen, delay) = (format!("127.0.0.1:{port}"), humantime::format_duration(script.delay).to_string());
    let fail = if script.fails { "1" } else { "0" };
    let arguments = ["upstream", "--listen", &listen, "--delay", &delay, "--fail", fail];
    let before = fs::read_to_string(output).unwrap_or_default().len();
    let errors = output.with_extension("errors");
    let mut child =
        Child::start(&own_binary()?, arguments.map(OsString::from).to_vec(), cpu, output, &errors)?;
    let found = until(READY, || {
        let text = fs::read_to_string(output).unwrap_or_default();
        let line = text.get(before..)?.lines().next().filter(|_| text.ends_with('\n'));
        match line.and_then(|line| line.rsplit_once(':')?.1.parse().ok()) {
            Some(port) => Some(Some(port)),
            None => child.ended().map(|_| None),
        }
    });
    match found.flatten() {
        Some(port) => Ok((child, port)),
        None => Err(SetUp::new(format!("an endpoint did not start: {}", child.last_words()))),
    }
}

/// Replaces the list whole.
fn write_list(dir: &TempDir, ports: &[u16]) -> Result<(), SetUp> {
    let text: String = ports.iter().map(|port| format!("127.0.0.1:{port}\n")).collect();
    let (next, list) = (dir.path().join("endpoints.next"), dir.path().join(LIST));
    fs::write(&next, text)
        .and_then(|()| fs::rename(next, list))
        .map_err(|error| SetUp::new(format!("cannot write the list of endpoints: {error}")))
}

fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(8 * 1024 * 1024).read_to_string(&mut answer)?;
    Ok(answer)
}

/// What metrics count as in flight: requests, those at endpoints, and how far the two are apart for ever.
fn in_flight(metrics: &str) -> u64 {
    let counted = |line: &&str| {
        line.starts_with("tollgate_inflight_requests")
            || line.starts_with("tollgate_endpoint_inflight")
            || line.starts_with("tollgate_inflight_drift")
    };
    let values =
        metrics.lines().filter(counted).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.map(|value| value.abs() as u64).sum()
}

/// The answers of all the lives of an endpoint, by what it says at the end of each.
fn answers(output: &str) -> u64 {
    let counts = output.lines().filter_map(|line| {
        let rest = line.split_once(", answers ")?.1;
        rest.split(' ').next()?.parse::<u64>().ok()
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_read() {
        let metrics = "# TYPE tollgate_inflight_requests gauge\ntollgate_inflight_requests 2\n\
             tollgate_endpoint_inflight{cluster=\"a b\",endpoint=\"c\"} 3\ntollgate_endpoint_up{} 9\n";
        assert_eq!(in_flight(metrics), 5);
        let output = "listening on 127.0.0.1:1\nconnections 3, answers 40 (1 of them 500), malformed\n\
                      listening on 127.0.0.1:1\nconnections 1, answers 2 (0 of them 500), malformed\n";
        assert_eq!(answers(output), 42);
    }

    #[test]
    fn every_gateway_has_its_file() {
        for peer in [Peer::Tollgate, Peer::Nginx, Peer::Haproxy] {
            let (name, template, line) = files(peer).expect("it takes part");
            assert!(template.starts_with("# "), "{name} opens with no comment");
            let lists = template.contains("@ENDPOINTS@") && line(1_001).contains("1001");
            assert!(lists || template.contains(LIST), "{name} has no endpoints");
        }
    }
}
