//! The lines of the audit log: one JSON object each, whose last field is the code over everything before it.
//!
//! A shard's chain has `intent`, `outcome`, `undelivered` and `gap`; the chain of the process, whose lines have no
//! `shard`, has `genesis`, `checkpoint`, `rotated`, `continued` and `end`, all of them signed. Card numbers and
//! credentials are masked and consumers hashed as in the access log. Writes into memory only.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    base::{hex::hex_digits, ip_text::IpText},
    shared::{
        audit_record::{AuditEvent, AuditRecord},
        record::Delivery,
    },
    stage::refusal::ANSWERS,
};

use super::{
    super::access_log::{ConsumerKey, masked_text, masked_trace},
    chain::{AuditKey, Head, NOTHING_BEFORE, put_hex, text_of},
};

/// Begins the last field of every line.
pub(super) const MAC_FIELD: &[u8] = b",\"mac\":\"";
/// Begins the last field but one of a line of the process's chain.
pub(super) const SIGNATURE_FIELD: &[u8] = b",\"sig\":\"";

/// Writes the lines of one process.
pub(super) struct Scribe {
    key: AuditKey,
    consumer_key: Option<ConsumerKey>,
    /// Tells this process from all others that wrote into the same file.
    run: String,
    /// The chain of the process itself.
    process: Head,
    /// The chains of the shards.
    shards: Vec<Head>,
    /// Where the process's chain and those of the shards stood when lines were last written.
    written: (Head, Vec<Head>),
    /// The date and time of the second that the last line belongs to.
    second: (u64, String),
}

/// Where another process's chain stood when this one began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Earlier {
    pub(super) run: String,
    pub(super) shard: Option<usize>,
    pub(super) seq: u64,
    pub(super) mac: String,
}

/// Why there is a line of the process's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// So much time has passed, or so many records have come.
    Checkpoint,
    /// The last line of a file that is put aside.
    Rotated,
    /// The first one of the file that follows it.
    Continued,
    /// The process ends in good order.
    End,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Rotated => "rotated",
            Self::Continued => "continued",
            Self::End => "end",
        }
    }
}

impl Scribe {
    /// One for a process with so many shards, called `run`.
    pub(super) fn new(key: AuditKey, consumer_key: Option<ConsumerKey>, run: u64, shards: usize) -> Self {
        let nowhere = Head { seq: 0, mac: NOTHING_BEFORE };
        Self {
            key,
            consumer_key,
            run: text_of(&run.to_be_bytes()),
            process: nowhere,
            shards: vec![nowhere; shards],
            written: (nowhere, vec![nowhere; shards]),
            second: (u64::MAX, String::new()),
        }
    }

    /// What the key is called.
    pub(super) fn key_id(&self) -> String {
        self.key.id()
    }

    /// The number of a shard's last record that has a line.
    pub(super) fn seq(&self, shard: usize) -> u64 {
        self.shards[shard].seq
    }

    /// The first line of all, from which the shards' chains begin: what the process is, where others in the file
    /// stood, and how many bytes of a line that never ended stand before.
    pub(super) fn genesis(&mut self, out: &mut Vec<u8>, unix_us: u64, earlier: &[Earlier], torn_bytes: u64) {
        let start = self.begin(out, None, 1, unix_us, "genesis");
        // Writing into memory cannot fail, and neither can these structures.
        let _ = write!(
            out,
            ",\"version\":\"{}\",\"pid\":{},\"shards\":{},\"key_id\":\"{}\",\"public_key\":\"{}\",\
             \"torn_bytes\":{torn_bytes},\"earlier\":",
            env!("CARGO_PKG_VERSION"),
            std::process::id(),
            self.shards.len(),
            self.key.id(),
            self.key.public(),
        );
        let _ = serde_json::to_writer(&mut *out, earlier);
        self.seal(out, start);
        self.shards.fill(Head { seq: 0, mac: self.process.mac });
    }

    /// A line of the process's chain that says where all chains stand.
    pub(super) fn mark(&mut self, out: &mut Vec<u8>, unix_us: u64, mark: Mark) {
        let start = self.begin(out, None, self.process.seq + 1, unix_us, mark.word());
        if mark == Mark::Continued {
            // With it the line can be checked without the file before.
            out.extend_from_slice(b",\"before\":\"");
            put_hex(out, &self.process.mac);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"heads\":[");
        for (shard, head) in self.shards.iter().enumerate() {
            let comma = if shard == 0 { "" } else { "," };
            let _ = write!(out, "{comma}{{\"shard\":{shard},\"seq\":{},\"mac\":\"", head.seq);
            put_hex(out, &head.mac);
            out.extend_from_slice(b"\"}");
        }
        out.push(b']');
        self.seal(out, start);
    }

    /// What was made so far is written.
    pub(super) fn note_written(&mut self) {
        self.written.0 = self.process;
        self.written.1.copy_from_slice(&self.shards);
    }

    /// The first line of a file that follows one which took nothing any more: it says where all chains stood when lines
    /// were last written. What shards have had since stands behind it; what the process's chain has had is void.
    pub(super) fn go_on(&mut self, out: &mut Vec<u8>, unix_us: u64) {
        self.process = self.written.0;
        std::mem::swap(&mut self.shards, &mut self.written.1);
        self.mark(out, unix_us, Mark::Continued);
        std::mem::swap(&mut self.shards, &mut self.written.1);
    }

    /// Says that the records behind a shard's last one, up to the number `to`, are missing.
    pub(super) fn gap(&mut self, out: &mut Vec<u8>, unix_us: u64, shard: usize, to: u64) {
        let first = self.shards[shard].seq + 1;
        let start = self.begin(out, Some(shard), first, unix_us, "gap");
        let _ = write!(out, ",\"records\":{}", to + 1 - first);
        self.close(out, start, Some(shard), to);
    }

    /// The line of `record`, which must be the next one of its shard.
    pub(super) fn record(&mut self, out: &mut Vec<u8>, shard: usize, record: &AuditRecord<'_>) {
        let event = match record.event {
            AuditEvent::Intent => "intent",
            AuditEvent::Outcome => "outcome",
            AuditEvent::Undelivered => "undelivered",
        };
        let start = self.begin(out, Some(shard), record.seq, record.unix_us, event);
        text(out, "request_id", record.request_id);
        if record.event == AuditEvent::Intent {
            let trace = hex_digits(masked_trace(record.trace_id));
            plain(out, "trace_id", &trace);
            plain(out, "client_ip", IpText::new(record.client_ip).as_bytes());
            match &self.consumer_key {
                Some(key) if !record.consumer.is_empty() => {
                    let hash = key.disguise(&String::from_utf8_lossy(record.consumer));
                    plain(out, "consumer", hash.as_bytes());
                }
                _ => text(out, "consumer", record.consumer),
            }
            text(out, "method", record.method);
            text(out, "path", record.path);
            plain(out, "route", record.route);
            plain(out, "cluster", record.cluster);
            plain(out, "endpoint", record.endpoint);
        } else {
            let code = record.code.and_then(|code| ANSWERS.get(usize::from(code)));
            let _ = write!(out, ",\"intent\":{},\"status\":{}", record.intent, record.status);
            plain(out, "code", code.map_or("", |answer| answer.word).as_bytes());
            plain(out, "reason", record.reason);
            plain(out, "endpoint", record.endpoint);
            let delivery = match record.delivery {
                Delivery::NotSent => "not-sent",
                Delivery::MaybeSent => "maybe-sent",
                Delivery::Answered => "answered",
            };
            let _ = write!(
                out,
                ",\"attempts\":{},\"delivery\":\"{delivery}\",\"bytes_in\":{},\"duration_us\":{}",
                record.attempts, record.bytes_in, record.duration_us
            );
        }
        self.close(out, start, Some(shard), record.seq);
    }

    /// Begins a line; where in `out` that is.
    fn begin(
        &mut self,
        out: &mut Vec<u8>,
        shard: Option<usize>,
        seq: u64,
        unix_us: u64,
        event: &str,
    ) -> usize {
        let start = out.len();
        let _ = write!(out, "{{\"run\":\"{}\"", self.run);
        if let Some(shard) = shard {
            let _ = write!(out, ",\"shard\":{shard}");
        }
        let unix_s = unix_us / 1_000_000;
        if self.second.0 != unix_s {
            let second = Timestamp::from_second(i64::try_from(unix_s).unwrap_or_default())
                .map(|time| time.strftime("%Y-%m-%dT%H:%M:%S").to_string());
            self.second = (unix_s, second.unwrap_or_default());
        }
        let (second, micros) = (&self.second.1, unix_us % 1_000_000);
        let _ = write!(out, ",\"seq\":{seq},\"ts\":\"{second}.{micros:06}Z\",\"event\":\"{event}\"");
        start
    }

    /// Signs and ends a line of the process's chain.
    fn seal(&mut self, out: &mut Vec<u8>, start: usize) {
        let signature = self.key.sign(&out[start..]);
        out.extend_from_slice(SIGNATURE_FIELD);
        put_hex(out, &signature);
        out.push(b'"');
        self.close(out, start, None, self.process.seq + 1);
    }

    /// Ends a line of the chain, whose last record then has the number `seq`.
    fn close(&mut self, out: &mut Vec<u8>, start: usize, shard: Option<usize>, seq: u64) {
        let head = shard.map_or(&mut self.process, |shard| &mut self.shards[shard]);
        let mac = self.key.mac(&head.mac, &out[start..]);
        *head = Head { seq, mac };
        out.extend_from_slice(MAC_FIELD);
        put_hex(out, &mac);
        out.extend_from_slice(b"\"}\n");
    }
}

/// A field with a text that a client can have chosen; a dash when it is empty.
fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    plain(out, name, &masked_text(value));
}

/// A field with a text of the gateway's own; a dash when it is empty.
fn plain(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let _ = write!(out, ",\"{name}\":");
    let value = if value.is_empty() { b"-" } else { value };
    let _ = serde_json::to_writer(&mut *out, &String::from_utf8_lossy(value));
}
