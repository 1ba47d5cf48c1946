//! What a line of the access log looks like.

use std::{io::Write, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    base::{hex::hex_digits, ip_text::IpText},
    shared::{
        listed::{Entry, List, VALUE_BYTES_MAX, entries},
        record::{Delivery, Record},
    },
    stage::{listed::Lists, refusal::ANSWERS, snapshot::Snapshot, termination::TERMINATIONS},
};

use super::{
    super::config::plan::{LogFormat, LogPlan},
    consumer_key::ConsumerKey,
    generations::Generations,
    listeners::{Facts, Listeners},
    masked_trace, redact,
    template::{Piece, Template, Value},
};

/// Makes lines of records.
pub(super) struct Formatter {
    format: LogFormat,
    /// Consumers are shown as their hashes under it, if it is there.
    consumer_key: Option<ConsumerKey>,
    lists: Lists,
    generations: Generations,
    /// The one the last record referred to.
    snapshot: Option<Arc<Snapshot>>,
    /// The second that was formatted last, and its text.
    second: Option<(u64, String)>,
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
    pub(super) fn new(plan: &LogPlan, generations: Generations) -> Self {
        let (format, consumer_key, lists) =
            (plan.format.clone(), plan.consumer_key.clone(), plan.lists.clone());
        Self { format, consumer_key, lists, generations, snapshot: None, second: None }
    }

    /// Lets go of the snapshot of the last record.
    pub(super) fn rest(&mut self) {
        self.snapshot = None;
    }

    /// Appends the line for `record`, and gives it to the listeners who want it.
    pub(super) fn line(
        &mut self,
        out: &mut Vec<u8>,
        shard: usize,
        record: &Record<'_>,
        listeners: &mut Listeners,
    ) {
        if self.snapshot.as_ref().is_none_or(|snapshot| snapshot.generation != record.generation) {
            self.snapshot = self.generations.find(record.generation);
        }
        // Everything in a record that a client can have chosen.
        let texts = [
            record.request_id,
            record.consumer,
            record.method,
            record.path,
            record.referer,
            record.user_agent,
        ];
        let [request_id, consumer, method, path, referer, user_agent] = &texts.map(redact::text);
        let hash = match &self.consumer_key {
            Some(key) if !record.consumer.is_empty() => Some(key.hash(record.consumer)),
            _ => None,
        };
        let (raw, begin) = (record.consumer, out.len());
        let record = &Record {
            request_id,
            consumer: hash.as_ref().map_or(consumer, |hash| hash),
            method,
            path,
            referer,
            user_agent,
            trace_id: masked_trace(record.trace_id),
            ..*record
        };
        match &self.format {
            LogFormat::Json => self.json(out, shard, record),
            LogFormat::Combined => combined(out, record),
            LogFormat::Template(template) => {
                let template = template.clone();
                self.template(out, shard, record, &template);
            }
        }
        out.push(b'\n');
        if !listeners.is_empty() {
            self.offer(listeners, shard, record, raw, &out[begin..]);
        }
    }

    /// Gives listeners the line of `record`, which was made in the log's own format; `consumer` is who called.
    fn offer(
        &mut self,
        listeners: &mut Listeners,
        shard: usize,
        record: &Record<'_>,
        consumer: &[u8],
        line: &[u8],
    ) {
        let snapshot = self.snapshot.clone();
        let route = record.route.and_then(|route| snapshot.as_ref()?.routes.routes().get(usize::from(route)));
        let route = route.map_or("-", |route| &route.name);
        let facts = Facts { route, status: record.status, consumer, disguise: record.consumer };
        let mut json = Vec::new();
        for listener in listeners.wanting(&facts) {
            if self.format == LogFormat::Json {
                listener.line(line);
                continue;
            }
            if json.is_empty() {
                self.json(&mut json, shard, record);
                json.push(b'\n');
            }
            listener.line(&json);
        }
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
        let mut line = JsonLine { out };
        line.out.extend_from_slice(b"{\"ts\":\"");
        line.out.extend_from_slice(second(&mut self.second, record.unix_us / 1_000_000).as_bytes());
        line.micros(record.unix_us % 1_000_000);
        line.number(b"Z\",\"shard\":", shard as u64);
        line.text(b",\"request_id\":\"", record.request_id);
        line.out.extend_from_slice(b"\",\"trace_id\":\"");
        line.hex(record.trace_id);
        line.text(b"\",\"client_ip\":\"", IpText::new(record.client_ip).as_bytes());
        line.text(b"\",\"consumer\":\"", record.consumer);
        line.text(b"\",\"method\":\"", record.method);
        line.text(b"\",\"path\":\"", record.path);
        let snapshot = self.snapshot.as_deref();
        let route = record.route.and_then(|route| snapshot?.routes.routes().get(usize::from(route)));
        line.text(b"\",\"route\":\"", route.map_or(b"", |route| route.name.as_bytes()));
        line.text(b"\",\"version\":\"", route.map_or(b"", |route| route.version.as_bytes()));
        line.number(b"\",\"status\":", u64::from(record.status));
        let answer = record.code.and_then(|code| ANSWERS.get(usize::from(code)));
        line.plain(b",\"code\":\"", answer.map_or("-", |answer| answer.word));
        line.text(b"\",\"reason\":\"", record.reason);
        let (cluster, endpoint) = snapshot.and_then(|snapshot| names(snapshot, record)).unwrap_or_default();
        line.text(b"\",\"cluster\":\"", cluster.as_bytes());
        line.text(b"\",\"endpoint\":\"", endpoint.as_bytes());
        line.number(b"\",\"attempts\":", u64::from(record.attempts));
        line.plain(b",\"delivery\":\"", delivery(record.delivery));
        line.number(b"\",\"bytes_in\":", record.bytes_in);
        line.number(b",\"bytes_out\":", record.bytes_out);
        line.number(b",\"duration_us\":", record.duration_us);
        line.number(b",\"upstream_us\":", record.upstream_us);
        line.plain(b",\"termination\":\"", termination(record.termination));
        line.out.push(b'"');
        for (list, member) in LISTS {
            let names = self.lists.names(list);
            if !names.is_empty() {
                line.plain(b",\"", member);
                line.out.extend_from_slice(b"\":{");
                line.entries(names, entries(record.listed).filter(|entry| entry.list == list));
                line.out.push(b'}');
            }
        }
        line.out.push(b'}');
    }

    /// A line of the operator's own. Values are escaped as between quotation marks, blanks stay.
    fn template(&mut self, out: &mut Vec<u8>, shard: usize, record: &Record<'_>, template: &Template) {
        let snapshot = self.snapshot.as_deref();
        let route = record.route.and_then(|route| snapshot?.routes.routes().get(usize::from(route)));
        let names = || snapshot.and_then(|snapshot| names(snapshot, record)).unwrap_or_default();
        for piece in template.pieces() {
            let value = match piece {
                Piece::Text(text) => {
                    out.extend_from_slice(text.as_bytes());
                    continue;
                }
                &Piece::Listed(list, name) => {
                    let mut entries = entries(record.listed);
                    let entry = entries.find(|entry| (entry.list, entry.name) == (list, name));
                    let value = entry.map_or(b"".into(), |entry| redact::value(entry.value, VALUE_BYTES_MAX));
                    out.extend_from_slice(quoted(&value).as_bytes());
                    continue;
                }
                Piece::Value(value) => value,
            };
            // Writing into memory cannot fail.
            let _ = match value {
                Value::Ts => {
                    let second = second(&mut self.second, record.unix_us / 1_000_000);
                    write!(out, "{second}.{:06}Z", record.unix_us % 1_000_000)
                }
                Value::Shard => write!(out, "{shard}"),
                Value::RequestId => out.write_all(quoted(record.request_id).as_bytes()),
                Value::TraceId => out.write_all(&hex_digits(record.trace_id)),
                Value::ClientIp => write!(out, "{}", record.client_ip),
                Value::Consumer => out.write_all(quoted(record.consumer).as_bytes()),
                Value::Method => out.write_all(quoted(record.method).as_bytes()),
                Value::Path => out.write_all(quoted(record.path).as_bytes()),
                Value::Route => {
                    out.write_all(quoted(route.map_or(b"", |route| route.name.as_bytes())).as_bytes())
                }
                Value::Version => {
                    out.write_all(quoted(route.map_or(b"", |route| route.version.as_bytes())).as_bytes())
                }
                Value::Status => write!(out, "{}", record.status),
                Value::Code => {
                    let answer = record.code.and_then(|code| ANSWERS.get(usize::from(code)));
                    out.write_all(answer.map_or("-", |answer| answer.word).as_bytes())
                }
                Value::Reason => out.write_all(quoted(record.reason).as_bytes()),
                Value::Cluster => out.write_all(quoted(names().0.as_bytes()).as_bytes()),
                Value::Endpoint => out.write_all(quoted(names().1.as_bytes()).as_bytes()),
                Value::Attempts => write!(out, "{}", record.attempts),
                Value::Delivery => out.write_all(delivery(record.delivery).as_bytes()),
                Value::BytesIn => write!(out, "{}", record.bytes_in),
                Value::BytesOut => write!(out, "{}", record.bytes_out),
                Value::DurationUs => write!(out, "{}", record.duration_us),
                Value::UpstreamUs => write!(out, "{}", record.upstream_us),
                Value::Termination => out.write_all(termination(record.termination).as_bytes()),
                Value::Protocol => write!(out, "HTTP/1.{}", record.minor_version),
                Value::Referer => out.write_all(quoted(record.referer).as_bytes()),
                Value::UserAgent => out.write_all(quoted(record.user_agent).as_bytes()),
            };
        }
    }
}

fn combined(out: &mut Vec<u8>, record: &Record<'_>) {
    let time = Timestamp::from_microsecond(i64::try_from(record.unix_us).unwrap_or_default())
        .map(|time| time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string())
        .unwrap_or_default();
    let _ = write!(
        out,
        "{} - {} [{time}] \"{} {} HTTP/1.{}\" {} {} \"{}\" \"{}\"",
        record.client_ip,
        // The one text from outside that no quotation marks enclose.
        quoted(record.consumer).replace(' ', "\\x20"),
        quoted(record.method),
        quoted(record.path),
        record.minor_version,
        record.status,
        record.bytes_out,
        quoted(record.referer),
        quoted(record.user_agent),
    );
}

/// The members of a JSON line that show what is listed.
const LISTS: [(List, &str); 3] =
    [(List::Headers, "headers"), (List::ResponseHeaders, "response_headers"), (List::Query, "query")];

/// The code for `termination`.
pub(in crate::control) fn termination(termination: u8) -> &'static str {
    TERMINATIONS.get(usize::from(termination)).map_or("-", |(_, code)| code)
}

/// The word for `delivery`.
pub(in crate::control) fn delivery(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::NotSent => "not-sent",
        Delivery::MaybeSent => "maybe-sent",
        Delivery::Answered => "answered",
    }
}

/// A JSON object as it is written: each call appends the text up to and into the next value. The writer
/// thread shares the machine with the shards, and building lines this way costs it a third of what a
/// serializer does.
struct JsonLine<'a> {
    out: &'a mut Vec<u8>,
}

impl JsonLine<'_> {
    /// A value that needs no escape.
    fn plain(&mut self, before: &[u8], value: &str) {
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn number(&mut self, before: &[u8], value: u64) {
        self.plain(before, itoa::Buffer::new().format(value));
    }

    /// A value that may hold anything; a dash when it is empty.
    fn text(&mut self, before: &[u8], value: &[u8]) {
        self.out.extend_from_slice(before);
        if value.is_empty() {
            self.out.push(b'-');
        } else if is_plain(value) {
            self.out.extend_from_slice(value);
        } else {
            let quoted = serde_json::Value::from(String::from_utf8_lossy(value)).to_string();
            self.out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        }
    }

    /// The members of an object: the values of those of `names` that are there.
    fn entries<'e>(&mut self, names: &[Box<str>], entries: impl Iterator<Item = Entry<'e>>) {
        let mut before = "\"";
        for entry in entries {
            let Some(name) = names.get(entry.name) else { continue };
            self.plain(before.as_bytes(), name);
            self.text(b"\":\"", &redact::value(entry.value, VALUE_BYTES_MAX));
            self.out.push(b'"');
            before = ",\"";
        }
    }

    /// `.` and six digits.
    fn micros(&mut self, micros: u64) {
        let mut digits = itoa::Buffer::new();
        self.out.push(b'.');
        self.out.extend_from_slice(&digits.format(1_000_000 + micros % 1_000_000).as_bytes()[1..]);
    }

    /// 32 lower-case hex digits.
    fn hex(&mut self, number: u128) {
        self.out.extend_from_slice(&hex_digits(number));
    }
}

/// Whether JSON takes these bytes as they are. Looks at all of them rather than stopping at the first, so
/// that it becomes a handful of vector instructions.
fn is_plain(value: &[u8]) -> bool {
    let odd = |byte: u8| !(b' '..=b'~').contains(&byte) | (byte == b'"') | (byte == b'\\');
    !value.iter().fold(false, |any, &byte| any | odd(byte))
}

/// The date and time of a second, made once for all lines of that second.
fn second(known: &mut Option<(u64, String)>, unix_s: u64) -> &str {
    if known.as_ref().is_none_or(|(second, _)| *second != unix_s) {
        let text = Timestamp::from_second(i64::try_from(unix_s).unwrap_or_default())
            .map(|time| time.strftime("%Y-%m-%dT%H:%M:%S").to_string())
            .unwrap_or_default();
        *known = Some((unix_s, text));
    }
    known.as_ref().map_or("", |(_, text)| text)
}

/// The names of the cluster and the endpoint of a record.
fn names<'s>(snapshot: &'s Snapshot, record: &Record<'_>) -> Option<(&'s str, &'s str)> {
    let (cluster, endpoint) = record.endpoint?;
    let cluster = snapshot.clusters.get(usize::from(cluster))?;
    Some((&cluster.name, &cluster.endpoints.get(usize::from(endpoint))?.name))
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
    use super::{
        super::super::config::plan::{LogSink, Rotation},
        *,
    };
    use crate::stage::fixture;

    fn record<'a>(path: &'a [u8], consumer: &'a [u8]) -> Record<'a> {
        Record {
            minor_version: 0,
            unix_us: 1_795_409_367_000_042,
            generation: 1,
            client_ip: [192, 0, 2, 1].into(),
            trace_id: 0xabc,
            route: Some(0),
            endpoint: Some((0, 1)),
            status: 429,
            code: Some(crate::stage::refusal::Code::QuotaExceeded as u8),
            termination: crate::stage::termination::Termination::QuotaExceeded as u8,
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
            listed: b"",
        }
    }

    /// A list of each kind, with the same two names.
    fn lists() -> Lists {
        let names = || -> Box<[Box<str>]> { ["One".into(), "two".into()].into() };
        Lists { headers: names(), response_headers: names(), query: names() }
    }

    fn line(format: LogFormat, record: &Record<'_>) -> String {
        line_with(Lists::default(), format, record)
    }

    fn line_with(lists: Lists, format: LogFormat, record: &Record<'_>) -> String {
        let snapshot = Arc::new(fixture::snapshot(vec![fixture::route("/pay", 0)]));
        let plan = LogPlan {
            sink: LogSink::Off,
            format,
            ring_bytes: 0,
            rotation: Rotation::default(),
            consumer_key: None,
            lists,
            sample_percent: 100,
        };
        let mut out = Vec::new();
        Formatter::new(&plan, Generations::new(snapshot)).line(
            &mut out,
            1,
            record,
            &mut Listeners::default(),
        );
        String::from_utf8(out).unwrap()
    }

    fn packed(given: &[(List, usize, &[u8])]) -> Vec<u8> {
        let mut packed = Vec::new();
        for &(list, name, value) in given {
            let (before, value) = Entry { list, name, value }.parts();
            packed.extend_from_slice(&before);
            packed.extend_from_slice(value);
        }
        packed
    }

    #[test]
    fn what_is_listed_stands_at_the_end_and_in_templates() {
        let listed = packed(&[
            (List::Headers, 1, b"a \"b\""),
            (List::Headers, 0, b""),
            (List::Query, 0, b"Bearer hunter2"),
            (List::Query, 1, b"4111%201111-1111 1111"),
        ]);
        let record = Record { listed: &listed, ..record(b"/pay/7", b"acme") };
        let json = line_with(lists(), LogFormat::Json, &record);
        let end = "\"termination\":\"Q5\",\"headers\":{\"two\":\"a \\\"b\\\"\",\"One\":\"-\"},\
                   \"response_headers\":{},\"query\":{\"One\":\"Bearer *******\",\"two\":\"****%20****-**** ****\"}}\n";
        assert!(json.ends_with(end), "{json}");
        let template = Template::parse("{header:two}|{response_header:One}|{query:two}", &lists()).unwrap();
        assert_eq!(
            line_with(lists(), LogFormat::Template(template), &record),
            "a \\x22b\\x22|-|****%20****-**** ****\n"
        );
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
             \"upstream_us\":4,\"termination\":\"Q5\"}\n"
        );
    }

    #[test]
    fn a_template_shows_every_field() {
        let text = "{ts}|{shard}|{request_id}|{trace_id}|{client_ip}|{consumer}|{method}|{path}|{route}|{version}|\
                    {status}|{code}|{reason}|{cluster}|{endpoint}|{attempts}|{delivery}|{bytes_in}|{bytes_out}|\
                    {duration_us}|{upstream_us}|{termination}|{protocol}|{referer}|{user_agent}";
        let format = LogFormat::Template(Template::parse(text, &Lists::default()).unwrap());
        assert_eq!(
            line(format, &record(b"/pay/7\n", b"acme")),
            "2026-11-23T04:49:27.000042Z|1|id-1|00000000000000000000000000000abc|192.0.2.1|acme|GET|/pay/7\\x0A|\
             route-0|-|429|quota_exceeded|quota|payments|127.0.0.1:9002|0|not-sent|1|2|3|4|Q5|HTTP/1.0|-|\
             curl \\x22x\\x22\\x0A\n"
        );
    }

    #[test]
    fn no_card_number_in_any_field_reaches_any_line() {
        let (card, spaced) = ("4111111111111111", "4111 1111-1111 1111");
        for text in [card, spaced, "%34111%20111111111111", "\\u0034111111111111111"] {
            let text = text.as_bytes();
            let record = Record {
                request_id: text,
                method: text,
                referer: text,
                user_agent: text,
                trace_id: 0xa_4111_1111_1111_1111_a000_0000,
                ..record(text, text)
            };
            let all = "{request_id} {trace_id} {consumer} {method} {path} {referer} {user_agent} {reason}";
            let template = LogFormat::Template(Template::parse(all, &Lists::default()).unwrap());
            for format in [LogFormat::Json, LogFormat::Combined, template] {
                let line = line(format, &record);
                assert!(!line.contains("1111"), "{line}");
            }
        }
    }

    #[test]
    fn nothing_a_client_sends_breaks_a_line() {
        let hostile = b"/a\"b\\c\n\x00\xff";
        let json: serde_json::Value =
            serde_json::from_str(&line(LogFormat::Json, &record(hostile, "ré\"\n".as_bytes()))).unwrap();
        assert_eq!(json["consumer"], "ré\"\n");
        let combined = line(LogFormat::Combined, &record(hostile, b"acme corp"));
        assert_eq!(combined.matches('\n').count(), 1);
        assert!(combined.starts_with(
            "192.0.2.1 - acme\\x20corp [23/Nov/2026:04:49:27 +0000] \"GET /a\\x22b\\x5Cc\\x0A\\x00\\xFF HTTP/1.0\" 429 2 \
             \"-\" \"curl \\x22x\\x22\\x0A\""
        ));
    }
}
