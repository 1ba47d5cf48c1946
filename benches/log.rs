//! What the log writer keeps up with: `cargo bench --bench log`.
//!
//! One thread on the first CPU plays two shards and packs records into their rings, at 100,000 a second and as fast
//! as it can; the writer has the second CPU and writes to a file on the disk, to a log daemon's socket, and to a pipe
//! whose reader is slow. Says what was written, what was dropped, what a line cost the writer and how long the
//! longest hand-over took, and checks that lines and drops add up to what was sent. Does not say what a record costs
//! a shard besides (`instructions.rs`), nor what other work on the writer's CPU takes from it.

#![expect(clippy::print_stdout, reason = "the report is what it is for")]
#![expect(clippy::disallowed_methods, reason = "a rate is kept by sleeping, and so is a reader slow")]

use std::{
    error::Error,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tollgate::{
    base::affinity::keep_current_on,
    control::{
        access_log::{AccessLog, Template},
        config::{
            self, compile,
            plan::{LogFormat, LogPlan, LogSink, Rotation},
        },
        discovery::Addresses,
    },
    shared::{
        log_ring::{LogSender, log_ring},
        record::{Delivery, Record},
    },
    stage::{listed::Lists, snapshot::Snapshot},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Lines a second that are to be kept up with.
const RATE: u64 = 100_000;
/// How long each run lasts.
const SECONDS: u64 = 4;
/// `log.ring` as it is if nobody says.
const RING_BYTES: usize = 4 << 20;
/// What the slow reader takes at a time, and how often: about 4 MB a second.
const SIP: (usize, Duration) = (64 * 1024, Duration::from_millis(16));

const TEMPLATE: &str =
    "{ts} {client_ip} {consumer} \"{method} {path}\" {status} {code} {cluster} {endpoint} {duration_us}";

/// Where lines go.
#[derive(Clone, Copy, PartialEq)]
enum Sink {
    File,
    Syslog,
    SlowPipe,
}

fn main() -> Outcome<()> {
    let snapshot = Arc::new(payments()?);
    let template = LogFormat::Template(Template::parse(TEMPLATE, &Lists::default())?);
    println!(
        "format    sink       offered/s  written/s    dropped  CPU us/line  of a CPU  send us: p99.99, longest"
    );
    for (name, format) in
        [("json", LogFormat::Json), ("combined", LogFormat::Combined), ("template", template)]
    {
        for (sink, rate) in [
            (Sink::File, Some(RATE)),
            (Sink::File, None),
            (Sink::Syslog, Some(RATE)),
            (Sink::SlowPipe, Some(RATE)),
        ] {
            run(name, &format, sink, rate, &snapshot)?;
        }
    }
    Ok(())
}

fn run(
    name: &str,
    format: &LogFormat,
    sink: Sink,
    rate: Option<u64>,
    snapshot: &Arc<Snapshot>,
) -> Outcome<()> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-access.log");
    let _ = fs::remove_file(&path);
    // Whatever this thread starts from here on runs where it does.
    keep_current_on(&[1])?;
    let reader = match sink {
        Sink::File => None,
        Sink::Syslog => Some(daemon(&path)?),
        Sink::SlowPipe => Some(sipping(&path)?),
    };
    let (senders, rings): (Vec<_>, Vec<_>) = (0..2).map(|_| log_ring(RING_BYTES)).unzip();
    let plan = LogPlan {
        sink: match sink {
            Sink::Syslog => LogSink::Syslog(path.clone()),
            Sink::File | Sink::SlowPipe => LogSink::File(path.clone()),
        },
        format: format.clone(),
        ring_bytes: RING_BYTES,
        rotation: Rotation::default(),
        consumer_key: None,
        lists: Lists::default(),
        sample_percent: 100,
    };
    let log = AccessLog::start(&plan, rings, Arc::clone(snapshot))?;
    let counts = log.counts();
    let began = Instant::now();
    let sent = thread::spawn(move || send(senders, rate)).join().map_err(|_| "the sender panicked")?;
    let elapsed_s = began.elapsed().as_secs_f64();
    // What was written meanwhile; the rest follows without hurry.
    let written = counts.written.load(Ordering::Relaxed);
    let cpu_us = writer_cpu_us()?;
    if !log.finish() {
        return Err("the writer is stuck".into());
    }
    let (all, dropped) = (counts.written.load(Ordering::Relaxed), counts.dropped());
    let (lines, said) = match reader {
        Some(reader) => reader.join().map_err(|_| "the reader panicked")?,
        None => tally(BufReader::new(fs::File::open(&path)?))?,
    };
    fs::remove_file(&path)?;
    assert_eq!((lines, said), (all, dropped), "what stands there is what was counted");
    assert_eq!(lines + said, sent.records, "lines and drops are what was sent");
    let sink = match sink {
        Sink::File => "file",
        Sink::Syslog => "syslog",
        Sink::SlowPipe => "slow pipe",
    };
    println!(
        "{name:9} {sink:9} {:10.0} {:10.0} {dropped:10} {:12.2} {:8.1}% {:12.1} {:10.1}",
        sent.records as f64 / elapsed_s,
        written as f64 / elapsed_s,
        cpu_us / written as f64,
        cpu_us / elapsed_s / 1e4,
        sent.late_us,
        sent.longest_us
    );
    Ok(())
}

/// What the sender did.
struct Sent {
    records: u64,
    /// What one hand-over in ten thousand exceeds, and the longest.
    late_us: f64,
    longest_us: f64,
}

/// Plays two shards for a while: so many records a second, a burst every tenth of a millisecond, or as many as go.
fn send(mut senders: Vec<LogSender>, rate: Option<u64>) -> Sent {
    keep_current_on(&[0]).expect("there is a first CPU");
    let mut record = Vec::new();
    let mut took_ns: Vec<u32> = Vec::new();
    let began = Instant::now();
    let mut records = 0;
    while began.elapsed() < Duration::from_secs(SECONDS) {
        let due = match rate {
            Some(rate) => began.elapsed().as_micros() as u64 * rate / 1_000_000,
            None => records + 16,
        };
        while records < due {
            pack(records, &mut record);
            let before = Instant::now();
            senders[(records % 2) as usize].send(&record);
            took_ns.push(u32::try_from(before.elapsed().as_nanos()).unwrap_or(u32::MAX));
            records += 1;
        }
        if rate.is_some() {
            thread::sleep(Duration::from_micros(100));
        }
    }
    took_ns.sort_unstable();
    let at = |place: usize| f64::from(took_ns[place]) / 1e3;
    Sent {
        records,
        late_us: at(took_ns.len() - 1 - took_ns.len() / 10_000),
        longest_us: at(took_ns.len() - 1),
    }
}

/// A gateway with one route.
fn payments() -> Outcome<Snapshot> {
    let text = "[[cluster]]\nname = \"payments\"\nendpoints = [{ address = \"127.0.0.1:9001\" }, \
                { address = \"127.0.0.1:9002\" }]\n[[route]]\nname = \"payment-v1\"\npath = \"/api/v1/payment\"\n\
                cluster = \"payments\"\n";
    let plan = config::parse(Path::new("bench.toml"), text, &|_| None).map_err(|_| "a bad configuration")?;
    Ok(compile::compile(plan, &Addresses::default(), 1, None)?)
}

/// What a partner's payment leaves.
fn pack(number: u64, packed: &mut Vec<u8>) {
    Record {
        minor_version: 1,
        unix_us: 1_795_409_367_000_042 + number * 10,
        generation: 1,
        client_ip: [192, 0, 2, 1].into(),
        trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
        route: Some(0),
        endpoint: Some((0, 1)),
        status: 200,
        code: None,
        termination: 0,
        attempts: 1,
        delivery: Delivery::Answered,
        bytes_in: 612,
        bytes_out: 701,
        duration_us: 1_234 + number % 100,
        upstream_us: 1_100,
        request_id: b"7f8d1f5e6c1b4c439f522b1c0e0e7c55",
        consumer: b"acme-payments",
        method: b"POST",
        path: b"/api/v1/payment/pi_3MtwBwLkdIwHu7ix28a3tqPa",
        reason: b"",
        referer: b"",
        user_agent: b"python-requests/2.32.3",
        listed: b"",
    }
    .pack(packed);
}

/// CPU time of the writer so far, in microseconds. There is one thread of that name.
fn writer_cpu_us() -> Outcome<f64> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))? == "log\n" {
            let stat = fs::read_to_string(task.join("schedstat"))?;
            let ns: f64 = stat.split(' ').next().unwrap_or_default().parse()?;
            return Ok(ns / 1e3);
        }
    }
    Err("there is no thread named log".into())
}

/// Lines, and how many are said to be missing.
fn tally(lines: impl BufRead) -> Outcome<(u64, u64)> {
    let mut sums = (0, 0);
    for line in lines.split(b'\n') {
        note(&line?, &mut sums)?;
    }
    Ok(sums)
}

fn note(line: &[u8], (lines, missing): &mut (u64, u64)) -> Outcome<()> {
    match memchr::memmem::find(line, b"{\"event\":\"log_gap\"") {
        Some(at) => {
            let gap: serde_json::Value = serde_json::from_slice(&line[at..])?;
            *missing += gap["dropped"].as_u64().unwrap_or_default();
        }
        None => *lines += 1,
    }
    Ok(())
}

/// A log daemon that keeps nothing.
fn daemon(path: &Path) -> Outcome<JoinHandle<(u64, u64)>> {
    let socket = UnixDatagram::bind(path)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(thread::spawn(move || {
        let (mut sums, mut message) = ((0, 0), vec![0; 64 * 1024]);
        while let Ok(length) = socket.recv(&mut message) {
            note(&message[..length], &mut sums).expect("gaps are JSON");
        }
        sums
    }))
}

/// A pipe that is read a sip at a time, until the writer closes it.
fn sipping(path: &Path) -> Outcome<JoinHandle<(u64, u64)>> {
    if !Command::new("mkfifo").arg(path).status()?.success() {
        return Err("no pipe can be made".into());
    }
    let path: PathBuf = path.to_owned();
    Ok(thread::spawn(move || {
        let mut pipe = OpenOptions::new().read(true).open(path).expect("it is there");
        let mut read = Vec::new();
        let mut sip = vec![0; SIP.0];
        while let Ok(length @ 1..) = pipe.read(&mut sip) {
            read.extend_from_slice(&sip[..length]);
            thread::sleep(SIP.1);
        }
        tally(&read[..]).expect("gaps are JSON")
    }))
}
