//! The writer with rings that are full, shards that are busy and a sink that takes nothing.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64},
    time::Instant,
};

use serde_json::Value;

use super::{super::config::plan::LogFormat, *};
use crate::{
    control::config::plan::Rotation,
    shared::{
        log_ring::{LogSender, log_ring},
        record::Delivery,
    },
    stage::{fixture, listed::Lists},
};

/// As little as a shard can have.
const RING_BYTES: usize = 64 * 1024;

/// A path of its own for each test, where nothing is.
fn nowhere() -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("tollgate-log-{}-{number}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn started(sink: &Path) -> (AccessLog, [LogSender; 2]) {
    let (senders, rings): (Vec<_>, Vec<_>) = (0..2).map(|_| log_ring(RING_BYTES)).unzip();
    let plan = LogPlan {
        sink: LogSink::File(sink.to_owned()),
        format: LogFormat::Json,
        ring_bytes: RING_BYTES,
        rotation: Rotation::default(),
        consumer_key: None,
        lists: Lists::default(),
        sample_percent: 100,
    };
    let snapshot = Arc::new(fixture::snapshot(vec![fixture::route("/pay", 0)]));
    (AccessLog::start(&plan, rings, snapshot).unwrap(), senders.try_into().unwrap())
}

fn packed(id: u64, status: u16) -> Vec<u8> {
    let (mut packed, id) = (Vec::new(), id.to_string());
    let record = Record {
        minor_version: 1,
        unix_us: 1_795_409_367_000_042,
        generation: 1,
        client_ip: [192, 0, 2, 1].into(),
        trace_id: 0xabc,
        route: Some(0),
        endpoint: Some((0, 1)),
        status,
        code: None,
        termination: 0,
        attempts: 1,
        delivery: Delivery::Answered,
        bytes_in: 1,
        bytes_out: 2,
        duration_us: 3,
        upstream_us: 4,
        request_id: id.as_bytes(),
        consumer: b"acme",
        method: b"GET",
        path: b"/pay/7",
        reason: b"",
        referer: b"",
        user_agent: b"",
        listed: b"",
    };
    record.pack(&mut packed);
    packed
}

/// Until it is so.
#[track_caller]
fn wait(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never comes");
        thread::yield_now();
    }
}

/// What a log says, line by line: which requests of which shard, and how many are missing.
#[derive(Default)]
struct Told {
    ids: HashMap<u64, Vec<u64>>,
    missing: u64,
}

impl Told {
    fn read(&mut self, line: &str) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        match line["event"].as_str() {
            Some(_) => self.missing += line["dropped"].as_u64().unwrap(),
            None => {
                let id = line["request_id"].as_str().unwrap().parse().unwrap();
                self.ids.entry(line["shard"].as_u64().unwrap()).or_default().push(id);
            }
        }
    }

    fn sum(&self) -> u64 {
        self.missing + self.ids.values().map(|ids| ids.len() as u64).sum::<u64>()
    }

    /// No line comes twice or before one that was sent earlier.
    fn assert_in_order(&self) {
        for ids in self.ids.values() {
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}

/// Broken by a shard that waits for room in its ring, and by a line that is neither written nor told to be missing.
#[test]
fn shards_go_on_while_the_disk_hangs_and_all_lines_are_accounted_for() {
    const RECORDS: u64 = 20_000;
    let path = nowhere();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    // Open for reading too, so that neither side waits for the other.
    let mut pipe: File = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // Full, so that not even a first batch fits.
    rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut filling = 0;
    while pipe.write(b"\n").is_ok() {
        filling += 1;
    }
    rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::empty()).unwrap();
    let (log, senders) = started(&path);
    let counts = log.counts();
    let shards = senders
        .map(|mut sender| thread::spawn(move || (0..RECORDS).for_each(|id| sender.send(&packed(id, 200)))));
    // Nobody reads until all has been sent.
    shards.into_iter().for_each(|shard| shard.join().unwrap());
    assert_eq!(counts.written.load(Ordering::Relaxed), 0, "the writer is stuck within its first batch");
    let mut told = Told::default();
    let mut lines = BufReader::new(pipe).lines().skip(filling);
    while told.sum() < 2 * RECORDS {
        told.read(&lines.next().unwrap().unwrap());
    }
    told.assert_in_order();
    assert!(log.finish(), "the writer is no longer stuck");
    assert_eq!(told.sum(), 2 * RECORDS);
    let (written, dropped) = (counts.written.load(Ordering::Relaxed), counts.dropped());
    assert_eq!((written, dropped), (2 * RECORDS - told.missing, told.missing));
    assert!(dropped > RECORDS, "the rings hold a few hundred: {dropped}");
    fs::remove_file(&path).unwrap();
}

/// Broken by a writer that stays with one shard until that has nothing more to say.
#[test]
fn a_shard_that_never_pauses_keeps_no_other_waiting() {
    let (log, [mut busy, mut quiet]) = started(Path::new("/dev/null"));
    let counts = log.counts();
    let mut heard = log.tail().listen(Filter { status: Some((201, 201)), ..Filter::default() }).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let told_to_stop = Arc::clone(&stop);
    let sending = thread::spawn(move || {
        let record = packed(0, 200);
        let mut sent = 0;
        while !told_to_stop.load(Ordering::Relaxed) {
            busy.send(&record);
            sent += 1;
        }
        sent
    });
    wait(|| log.followed().load(Ordering::Relaxed));
    for id in 1..=3 {
        // Each after the last one was written, so that the other shard is under way in any case.
        quiet.send(&packed(id, 201));
        let line = format!("\"shard\":1,\"request_id\":\"{id}\"");
        // Gaps of the busy one are told to everybody.
        wait(|| heard.try_recv().is_ok_and(|lines| String::from_utf8(lines).unwrap().contains(&line)));
    }
    stop.store(true, Ordering::Relaxed);
    let sent: u64 = sending.join().unwrap() + 3;
    assert!(log.finish());
    assert_eq!(counts.settled(), sent);
}
