//! What a line of the access log looks like.

use std::{borrow::Cow, io::Write, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    shared::record::{Delivery, Record},
    stage::{refusal::ANSWERS, snapshot::Snapshot},
};

use super::super::config::plan::LogFormat;

/// Makes lines of records.
pub(super) struct Formatter {
    format: LogFormat,
    snapshot: Arc<Snapshot>,
    /// The second that was formatted last, and its text.
    second: Option<(u64, String)>,
}

/// The fields of a JSON line, in their order.
#[derive(Serialize)]
struct Line<'a> {
    ts: &'a str,
    shard: usize,
    request_id: Cow<'a, str>,
    trace_id: &'a str,
    client_ip: std::net::IpAddr,
    consumer: Cow<'a, str>,
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    route: &'a str,
    version: &'a str,
    status: u16,
    code: &'a str,
    reason: Cow<'a, str>,
    cluster: &'a str,
    endpoint: &'a str,
    attempts: u8,
    delivery: &'a str,
    bytes_in: u64,
    bytes_out: u64,
    duration_us: u64,
    upstream_us: u64,
}

/// A line that stands for lines that are missing.
#[derive(Serialize)]
struct Gap {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<usize>,
    dropped: u64,
}

impl Formatter {
    pub(super) fn new(format: LogFormat, snapshot: Arc<Snapshot>) -> Self {
        Self { format, snapshot, second: None }
    }

    /// Appends the line for `record`.
    pub(super) fn line(&mut self, out: &mut Vec<u8>, shard: usize, record: &Record<'_>) {
        match self.format {
            LogFormat::Json => self.json(out, shard, record),
            LogFormat::Combined => self.combined(out, record),
        }
        out.push(b'\n');
    }

    /// Appends the line that says that `dropped` lines are missing; of one shard, if it is known which.
    #[expect(
        clippy::unused_self,
        reason = "a gap looks the same in every format, so that one search finds all"
    )]
    pub(super) fn gap(&self, out: &mut Vec<u8>, shard: Option<usize>, dropped: u64) {
        // Writing into memory cannot fail, and neither can this structure.
        let _ = serde_json::to_writer(&mut *out, &Gap { event: "log_gap", shard, dropped });
        out.push(b'\n');
    }

    fn json(&mut self, out: &mut Vec<u8>, shard: usize, record: &Record<'_>) {
        let snapshot = Arc::clone(&self.snapshot);
        let route = record.route.and_then(|route| snapshot.routes.routes().get(usize::from(route)));
        let (cluster, endpoint) = names(&snapshot, record).unwrap_or(("-", "-"));
        let micros = record.unix_us % 1_000_000;
        let ts = format!("{}.{micros:06}Z", self.second(record.unix_us / 1_000_000));
        let line = Line {
            ts: &ts,
            shard,
            request_id: text(record.request_id),
            trace_id: &format!("{:032x}", record.trace_id),
            client_ip: record.client_ip,
            consumer: text(record.consumer),
            method: text(record.method),
            path: text(record.path),
            route: route.map_or("-", |route| &route.name),
            version: route.map_or("-", |route| or_dash(&route.version)),
            status: record.status,
            code: record
                .code
                .and_then(|code| ANSWERS.get(usize::from(code)))
                .map_or("-", |answer| answer.word),
            reason: text(record.reason),
            cluster,
            endpoint,
            attempts: record.attempts,
            delivery: match record.delivery {
                Delivery::NotSent => "not-sent",
                Delivery::MaybeSent => "maybe-sent",
                Delivery::Answered => "answered",
            },
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            duration_us: record.duration_us,
            upstream_us: record.upstream_us,
        };
        // Writing into memory cannot fail, and neither can this structure.
        let _ = serde_json::to_writer(out, &line);
    }

    fn combined(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        let time = Timestamp::from_microsecond(i64::try_from(record.unix_us).unwrap_or_default())
            .map(|time| time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string())
            .unwrap_or_default();
        let _ = write!(
            out,
            "{} - {} [{time}] \"{} {} HTTP/1.1\" {} {} \"{}\" \"{}\"",
            record.client_ip,
            quoted(record.consumer),
            quoted(record.method),
            quoted(record.path),
            record.status,
            record.bytes_out,
            quoted(record.referer),
            quoted(record.user_agent),
        );
    }

    /// The date and time of a second, made once for all lines of that second.
    fn second(&mut self, unix_s: u64) -> &str {
        if self.second.as_ref().is_none_or(|(known, _)| *known != unix_s) {
            let text = Timestamp::from_second(i64::try_from(unix_s).unwrap_or_default())
                .map(|time| time.strftime("%Y-%m-%dT%H:%M:%S").to_string())
                .unwrap_or_default();
            self.second = Some((unix_s, text));
        }
        self.second.as_ref().map_or("", |(_, text)| text)
    }
}

/// The names of the cluster and the endpoint of a record.
fn names<'s>(snapshot: &'s Snapshot, record: &Record<'_>) -> Option<(&'s str, &'s str)> {
    let (cluster, endpoint) = record.endpoint?;
    let cluster = snapshot.clusters.get(usize::from(cluster))?;
    Some((&cluster.name, &cluster.endpoints.get(usize::from(endpoint))?.name))
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    if bytes.is_empty() { Cow::Borrowed("-") } else { String::from_utf8_lossy(bytes) }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Text for between quotation marks, as nginx escapes it.
fn quoted(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => text.push_str(&format!("\\x{byte:02X}")),
            _ => text.push(char::from(byte)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::fixture;

    fn record<'a>(path: &'a [u8], consumer: &'a [u8]) -> Record<'a> {
        Record {
            unix_us: 1_795_409_367_000_042,
            generation: 1,
            client_ip: [192, 0, 2, 1].into(),
            trace_id: 0xabc,
            route: Some(0),
            endpoint: Some((0, 1)),
            status: 429,
            code: Some(crate::stage::refusal::Code::QuotaExceeded as u8),
            attempts: 0,
            delivery: Delivery::NotSent,
            bytes_in: 1,
            bytes_out: 2,
            duration_us: 3,
            upstream_us: 4,
            request_id: b"id-1",
            consumer,
            method: b"GET",
            path,
            reason: b"quota",
            referer: b"",
            user_agent: b"curl \"x\"\n",
        }
    }

    fn line(format: LogFormat, record: &Record<'_>) -> String {
        let snapshot = Arc::new(fixture::snapshot(vec![fixture::route("/pay", 0)]));
        let mut out = Vec::new();
        Formatter::new(format, snapshot).line(&mut out, 1, record);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_lines_have_the_contracts_fields_in_order() {
        assert_eq!(
            line(LogFormat::Json, &record(b"/pay/7", b"acme")),
            "{\"ts\":\"2026-11-23T04:49:27.000042Z\",\"shard\":1,\"request_id\":\"id-1\",\
             \"trace_id\":\"00000000000000000000000000000abc\",\"client_ip\":\"192.0.2.1\",\
             \"consumer\":\"acme\",\"method\":\"GET\",\"path\":\"/pay/7\",\"route\":\"route-0\",\
             \"version\":\"-\",\"status\":429,\"code\":\"quota_exceeded\",\"reason\":\"quota\",\
             \"cluster\":\"payments\",\"endpoint\":\"127.0.0.1:9002\",\"attempts\":0,\
             \"delivery\":\"not-sent\",\"bytes_in\":1,\"bytes_out\":2,\"duration_us\":3,\
             \"upstream_us\":4}\n"
        );
    }

    #[test]
    fn nothing_a_client_sends_breaks_a_line() {
        let hostile = b"/a\"b\\c\n\x00\xff";
        let json: serde_json::Value =
            serde_json::from_str(&line(LogFormat::Json, &record(hostile, "ré\"\n".as_bytes()))).unwrap();
        assert_eq!(json["consumer"], "ré\"\n");
        let combined = line(LogFormat::Combined, &record(hostile, b"acme"));
        assert_eq!(combined.matches('\n').count(), 1);
        assert!(combined.starts_with(
            "192.0.2.1 - acme [23/Nov/2026:04:49:27 +0000] \"GET /a\\x22b\\x5Cc\\x0A\\x00\\xFF HTTP/1.1\" 429 2 \
             \"-\" \"curl \\x22x\\x22\\x0A\""
        ));
    }
}
