//! `loadtest peers`: proxies side by side on one job, their cost per request as a ratio to tollgate's.
//!
//! Peers are started one after the other, each measurement with a fresh one, and the order is rotated from round to
//! round, so that a machine that changes meanwhile changes for all of them. What they are and how they are started
//! is in `peer`, one measurement in `bench`, the tables in `table`.

mod bench;
pub(crate) mod child;
mod contention;
pub(crate) mod launch;
pub(crate) mod peer;
mod report;
mod results;
mod shape;
pub(crate) mod start;
mod table;
pub(crate) mod template;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, ValueEnum};
use ring::rand::SystemRandom;

use self::{
    bench::{CLIENTS, Sample, Setting},
    peer::{Found, Job, Peer},
    report::{Asked, PeersReport, State, Taking},
    results::{Results, cost},
    shape::{IDLE_CONNECTIONS, Shape},
    start::Cpus,
    table::Style,
};
use crate::{
    cpus,
    exit::{SetUp, Verdict},
    generator::Stop,
    load::allow_descriptors,
    report::json,
    signals,
    workload::token::{Algorithm, Claims, Tokens},
};

/// Open files of the hungriest process: the relay with a second connection for each idle one.
const DESCRIPTORS: u64 = 2 * IDLE_CONNECTIONS as u64 + 3_000;
const ROUNDS_MAX: usize = 1_000;
const SECRET_BYTES: usize = 32;
/// Tokens outlive every measurement.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The comparison.
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    /// The peers to compare; by default all that are found.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME")]
    only: Vec<Peer>,
    /// The shapes of load; by default all.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SHAPE")]
    shapes: Vec<Shape>,
    /// full: JWT, limit per client, least connections, access log. plain: least connections only.
    #[arg(long, value_enum, default_value = "full")]
    job: Job,
    /// Measurements of each peer and shape.
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// The measured time of each.
    #[arg(long, default_value_t = 3.0, value_name = "S")]
    seconds: f64,
    /// Offer every peer this rate, requests per second, instead of as much as it can take: latencies then count from
    /// the intended start, and can be compared.
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,
    /// The CPU that each peer has for itself.
    #[arg(long, default_value_t = 0, value_name = "CPU")]
    peer_cpu: usize,
    /// The CPU of the load and of both endpoints.
    #[arg(long, default_value_t = 1, value_name = "CPU")]
    load_cpu: usize,
    /// The gateway; by default the one beside this program.
    #[arg(long, value_name = "PATH")]
    tollgate: Option<PathBuf>,
    /// By default from PATH, as the next two are.
    #[arg(long, value_name = "PATH")]
    haproxy: Option<PathBuf>,
    #[arg(long, value_name = "PATH")]
    nginx: Option<PathBuf>,
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// Write the comparison as JSON; - for standard output, which then has no tables.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables as Markdown; - for standard output, in place of the plain ones.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Measures, prints the tables and writes the reports. Fails when a peer was broken or answered wrongly.
///
/// # Errors
/// When nothing could be measured.
pub(crate) fn run(args: &PeersArgs) -> Result<Verdict, SetUp> {
    let asked = args.asked()?;
    let shapes = chosen(&args.shapes, Shape::value_variants());
    let stop = signals::stop_flag()?;
    let mut comparison = Comparison::default();
    let found = comparison.find(args);
    if found.is_empty() {
        return Err(SetUp::new(format!("no peer was found\n{}", comparison.absent().join("\n"))));
    }
    for line in comparison.absent() {
        note(&line);
    }
    cpus::pin(asked.cpus.load)
        .map_err(|error| SetUp::new(format!("--load-cpu {}: {error}", asked.cpus.load)))?;
    allow_descriptors(DESCRIPTORS)?;
    comparison.measure(&found, &shapes, &asked, &stop)?;
    if comparison.results.is_empty() {
        let why = if stop.load(Ordering::Relaxed) {
            "stopped before anything was measured"
        } else {
            "no peer works"
        };
        return Err(SetUp::new(format!("{why}\n{}", comparison.absent().join("\n"))));
    }
    let rows = shapes.iter().flat_map(|&shape| comparison.results.rows(shape)).collect::<Vec<_>>();
    let shapes =
        shapes.into_iter().filter(|shape| rows.iter().any(|row| row.shape == shape.name())).collect();
    let peers = comparison.takings.into_values().collect();
    let report = PeersReport::new(&asked, peers, shapes, rows, stop.load(Ordering::Relaxed));
    publish(args, &report)?;
    let sound = report.results.iter().all(|row| row.errors == 0 && row.unlogged == 0)
        && report.peers.iter().all(|peer| peer.state != State::Broken);
    Ok(if sound { Verdict::Fine } else { Verdict::Failed })
}

/// What is known so far.
#[derive(Debug, Default)]
struct Comparison {
    results: Results,
    /// By the peer's place in the tables.
    takings: BTreeMap<usize, Taking>,
}

impl Comparison {
    fn find(&mut self, args: &PeersArgs) -> Vec<Found> {
        let mut all = Vec::new();
        for peer in chosen(&args.only, &Peer::ALL) {
            match peer.find(args.given(peer), args.job) {
                Ok(found) => {
                    self.take(peer, Some(found.version.clone()), State::Measured, None);
                    all.push(found);
                }
                Err(why) => {
                    let detail = format!("{why}; to have it: {}", peer.install());
                    self.take(peer, None, State::Missing, Some(detail));
                }
            }
        }
        all
    }

    fn measure(
        &mut self,
        found: &[Found],
        shapes: &[Shape],
        asked: &Asked,
        stop: &Stop,
    ) -> Result<(), SetUp> {
        let secret = secret()?;
        let tokens = Arc::new(tokens(&secret)?);
        let setting = Setting {
            job: asked.job,
            cpus: asked.cpus,
            length: asked.length,
            rate: asked.rate,
            secret: &secret,
            tokens,
        };
        for round in 0..asked.rounds {
            for (number, &shape) in shapes.iter().enumerate() {
                for place in 0..found.len() {
                    // Everybody comes first, and behind everybody else, equally often.
                    let found = &found[(place + round + number) % found.len()];
                    if stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    if self.is_broken(found.peer) {
                        continue;
                    }
                    match bench::measure(found, shape, &setting, stop) {
                        Ok(Some(sample)) => {
                            note(&progress(round, asked.rounds, shape, found.peer, &sample));
                            self.results.add(shape, found.peer, sample);
                        }
                        Ok(None) => return Ok(()),
                        Err(error) => {
                            note(&format!("{} is broken: {error}", found.peer.name()));
                            let version = Some(found.version.clone());
                            self.take(found.peer, version, State::Broken, Some(error.to_string()));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, peer: Peer, version: Option<String>, state: State, detail: Option<String>) {
        self.takings.insert(peer as usize, Taking { name: peer.name(), version, state, detail });
    }

    fn is_broken(&self, peer: Peer) -> bool {
        self.takings.get(&(peer as usize)).is_some_and(|taking| taking.state == State::Broken)
    }

    /// Who takes no part, one line each.
    fn absent(&self) -> Vec<String> {
        let absent = self.takings.values().filter(|taking| taking.state != State::Measured);
        absent
            .map(|taking| format!("{}: {}", taking.name, taking.detail.as_deref().unwrap_or("absent")))
            .collect()
    }
}

impl PeersArgs {
    fn asked(&self) -> Result<Asked, SetUp> {
        if self.rounds == 0 || self.rounds > ROUNDS_MAX {
            return Err(SetUp::new(format!("--rounds wants 1 to {ROUNDS_MAX}")));
        }
        if !(0.1..=3600.0).contains(&self.seconds) {
            return Err(SetUp::new("--seconds wants 0.1 to 3600"));
        }
        if self.rate.is_some_and(|rate| !(1.0..=1e6).contains(&rate)) {
            return Err(SetUp::new("--rate wants 1 to 1000000 requests per second"));
        }
        if self.peer_cpu == self.load_cpu {
            return Err(SetUp::new("--peer-cpu and --load-cpu must differ, or the load slows the peer down"));
        }
        Ok(Asked {
            job: self.job,
            rounds: self.rounds,
            length: Duration::from_secs_f64(self.seconds),
            rate: self.rate,
            cpus: Cpus { peer: self.peer_cpu, load: self.load_cpu },
        })
    }

    fn given(&self, peer: Peer) -> Option<&Path> {
        match peer {
            Peer::Tollgate => self.tollgate.as_deref(),
            Peer::Haproxy => self.haproxy.as_deref(),
            Peer::Nginx => self.nginx.as_deref(),
            Peer::Envoy => self.envoy.as_deref(),
            Peer::Relay => None,
        }
    }
}

/// What was asked for without repetitions, in the order of all; everything when nothing was.
fn chosen<T: Copy + PartialEq>(asked: &[T], all: &[T]) -> Vec<T> {
    all.iter().copied().filter(|one| asked.is_empty() || asked.contains(one)).collect()
}

fn secret() -> Result<String, SetUp> {
    let bytes = ring::rand::generate::<[u8; SECRET_BYTES]>(&SystemRandom::new())
        .map_err(|_| SetUp::new("the kernel gives no random bytes for a secret"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes.expose()))
}

fn tokens(secret: &str) -> Result<Tokens, SetUp> {
    let fault = |error: io::Error| SetUp::new(format!("cannot write the tokens' secret: {error}"));
    let mut file = tempfile::NamedTempFile::new().map_err(fault)?;
    file.write_all(secret.as_bytes()).map_err(fault)?;
    let claims = Claims {
        algorithm: Algorithm::Hs256,
        kid: Some("peers".into()),
        ttl: TOKEN_LIFE,
        scope: None,
        issuer: None,
        audience: None,
    };
    Tokens::mint(file.path(), claims, CLIENTS)
}

fn progress(round: usize, rounds: usize, shape: Shape, peer: Peer, sample: &Sample) -> String {
    let place = format!("round {}/{rounds} {:<6} {:<8}", round + 1, shape.name(), peer.name());
    let mib = sample.resident_bytes as f64 / (1024.0 * 1024.0);
    if shape == Shape::Idle {
        return format!("{place} {mib:.1} MiB resident");
    }
    let rate = sample.requests as f64 / sample.measured.as_secs_f64();
    format!("{place} {:6.1} CPU µs/request {rate:7.0} requests/s {mib:6.1} MiB resident", cost(sample))
}

/// A line for whoever waits. A closed pipe is the reader's wish.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn publish(args: &PeersArgs, report: &PeersReport) -> Result<(), SetUp> {
    let out = Path::new("-");
    if let Some(path) = &args.json {
        json::write(path, report)?;
    }
    let markdown = args.markdown.as_deref();
    if let Some(path) = markdown.filter(|&path| path != out) {
        fs::write(path, table::text(report, Style::Markdown))
            .map_err(|error| SetUp::new(format!("cannot write {}: {error}", path.display())))?;
    }
    if args.json.as_deref() != Some(out) {
        let style = if markdown == Some(out) { Style::Markdown } else { Style::Terminal };
        let _ = io::stdout().write_all(table::text(report, style).as_bytes());
    }
    Ok(())
}
