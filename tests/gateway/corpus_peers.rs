//! The hostile corpus against NGINX and HAProxy, for comparison: what reaches an endpoint behind each.
//!
//! Not a promise of anybody's and not run with the other tests; `tests/corpus/README.md` has the command and what
//! came of it. The peers run as plain reverse proxies with their own defaults.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    corpus::cases::{self, Case},
    rig::{Client, Directory, Endpoint, until},
};

/// A peer at work; killed on drop.
struct Peer {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    /// What its endpoint took for a request.
    requests: Arc<Mutex<Vec<String>>>,
    endpoint: Endpoint,
    _directory: Directory,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    fn start(
        name: &'static str,
        configuration: impl Fn(SocketAddr, SocketAddr) -> String,
        arguments: &[&str],
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let endpoint = Endpoint::scripted(move |talk, seen| {
            if !talk.read_body(seen) {
                talk.close();
                return;
            }
            // A peer may let lines pass that have no target.
            let line = seen.head.lines().next().unwrap_or_default();
            let request = line.rsplit_once(' ').map_or(line, |(request, _)| request);
            let body = String::from_utf8_lossy(&seen.body);
            kept.lock().unwrap().push(format!("{request} [{body}]"));
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        });
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let directory = Directory::new();
        let file = directory.path().join("peer.conf");
        fs::write(&file, configuration(address, endpoint.address)).unwrap();
        let child = Command::new(name)
            .args(arguments)
            .arg(&file)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} is needed: {error}"));
        until("the peer to listen", || TcpStream::connect(address).is_ok());
        Self { name, child, address, requests, endpoint, _directory: directory }
    }

    /// What it makes of `case`: the requests that reach the endpoint, and whether anything else of it does.
    fn verdict(&self, case: &Case) -> (Vec<String>, bool) {
        let bytes = || self.endpoint.bytes().iter().map(Vec::len).sum::<usize>();
        let before = bytes();
        self.requests.lock().unwrap().clear();
        let mut client = Client::connect(self.address);
        client.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        client.try_send(&case.wire);
        // Some peers take a half-closed client for one that has left, so it stays open until they say something.
        while client.try_rest() {}
        drop(client);
        let requests = self.requests.lock().unwrap().clone();
        (requests, bytes() > before)
    }
}

#[test]
#[ignore = "compares with nginx and haproxy, which must be installed"]
fn the_same_corpus_against_peers() {
    let peers = [
        Peer::start(
            "nginx",
            |listen, endpoint| {
                format!(
                    "daemon off; worker_processes 1; error_log stderr crit; pid nginx.pid; events {{}}\n\
                     http {{ access_log off; client_max_body_size 1000; upstream e {{ server {endpoint}; keepalive 8; }}\n\
                     server {{ listen {listen}; location / {{ proxy_pass http://e; proxy_http_version 1.1; \
                     proxy_set_header Connection \"\"; }} }} }}\n"
                )
            },
            &["-p", ".", "-c"],
        ),
        Peer::start(
            "haproxy",
            |listen, endpoint| {
                format!(
                    "defaults\n mode http\n timeout client 800ms\n timeout connect 2s\n timeout server 2s\n\
                     frontend f\n bind {listen}\n default_backend b\nbackend b\n server e {endpoint}\n"
                )
            },
            &["-q", "-db", "-f"],
        ),
    ];
    let cases = cases::all();
    let mut table = String::from("| class | case | promised | nginx | haproxy |\n|---|---|---|---|---|\n");
    let mut more = [0; 2];
    for case in &cases {
        let verdicts = peers.each_ref().map(|peer| peer.verdict(case));
        if verdicts.iter().all(|(requests, _)| *requests == case.forwarded) {
            continue;
        }
        let promised = case.refused.as_deref().or(case.cut.as_deref()).unwrap_or("forwarded");
        let _ = write!(table, "| {} | {} | {promised} |", case.class, case.name);
        for ((requests, anything), more) in verdicts.iter().zip(&mut more) {
            let word = match requests {
                same if *same == case.forwarded => "the same",
                forwarded if forwarded.len() > case.forwarded.len() => {
                    *more += 1;
                    "forwards it"
                }
                other if other.len() == case.forwarded.len() => "forwards it otherwise",
                _ if *anything => "forwards less",
                _ => "refuses it",
            };
            let _ = write!(table, " {word} |");
        }
        table.push('\n');
    }
    println!("{table}\n{} cases", cases.len());
    for (peer, more) in peers.iter().zip(more) {
        println!("{} forwards {more} that are refused here", peer.name);
    }
}
