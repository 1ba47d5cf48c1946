//! What a line of the access log looks like.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    base::{hex::hex_digits, ip_text::IpText},
    shared::{
        listed::{List, VALUE_BYTES_MAX, entries},
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
    text::{JsonLine, Second, micros, number, quoted, quoted_word},
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
    second: Second,
    /// The same as `combined` shows it.
    day: Second,
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
        Self {
            format,
            consumer_key,
            lists,
            generations,
            snapshot: None,
            second: Second::new("%Y-%m-%dT%H:%M:%S"),
            day: Second::new("%d/%b/%Y:%H:%M:%S +0000"),
        }
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
            LogFormat::Combined => self.combined(out, record),
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
        line.out.extend_from_slice(self.second.text(record.unix_us));
        micros(line.out, record.unix_us);
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
                    let value =
                        entry.map_or(b"".into(), |entry| redact::beginning(entry.value, VALUE_BYTES_MAX));
                    quoted(out, &value);
                    continue;
                }
                Piece::Value(value) => value,
            };
            match value {
                Value::Ts => {
                    out.extend_from_slice(self.second.text(record.unix_us));
                    micros(out, record.unix_us);
                    out.push(b'Z');
                }
                Value::Shard => number(out, shard as u64),
                Value::RequestId => quoted(out, record.request_id),
                Value::TraceId => out.extend_from_slice(&hex_digits(record.trace_id)),
                Value::ClientIp => out.extend_from_slice(IpText::new(record.client_ip).as_bytes()),
                Value::Consumer => quoted(out, record.consumer),
                Value::Method => quoted(out, record.method),
                Value::Path => quoted(out, record.path),
                Value::Route => quoted(out, route.map_or(b"", |route| route.name.as_bytes())),
                Value::Version => quoted(out, route.map_or(b"", |route| route.version.as_bytes())),
                Value::Status => number(out, record.status.into()),
                Value::Code => {
                    let answer = record.code.and_then(|code| ANSWERS.get(usize::from(code)));
                    out.extend_from_slice(answer.map_or("-", |answer| answer.word).as_bytes());
                }
                Value::Reason => quoted(out, record.reason),
                Value::Cluster => quoted(out, names().0.as_bytes()),
                Value::Endpoint => quoted(out, names().1.as_bytes()),
                Value::Attempts => number(out, record.attempts.into()),
                Value::Delivery => out.extend_from_slice(delivery(record.delivery).as_bytes()),
                Value::BytesIn => number(out, record.bytes_in),
                Value::BytesOut => number(out, record.bytes_out),
                Value::DurationUs => number(out, record.duration_us),
                Value::UpstreamUs => number(out, record.upstream_us),
                Value::Termination => out.extend_from_slice(termination(record.termination).as_bytes()),
                Value::Protocol => protocol(out, record),
                Value::Referer => quoted(out, record.referer),
                Value::UserAgent => quoted(out, record.user_agent),
            }
        }
    }

    fn combined(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        out.extend_from_slice(IpText::new(record.client_ip).as_bytes());
        out.extend_from_slice(b" - ");
        // The one text from outside that no quotation marks enclose.
        quoted_word(out, record.consumer);
        out.extend_from_slice(b" [");
        out.extend_from_slice(self.day.text(record.unix_us));
        out.extend_from_slice(b"] \"");
        quoted(out, record.method);
        out.push(b' ');
        quoted(out, record.path);
        out.push(b' ');
        protocol(out, record);
        out.extend_from_slice(b"\" ");
        number(out, record.status.into());
        out.push(b' ');
        number(out, record.bytes_out);
        out.extend_from_slice(b" \"");
        quoted(out, record.referer);
        out.extend_from_slice(b"\" \"");
        quoted(out, record.user_agent);
        out.push(b'"');
    }
}

fn protocol(out: &mut Vec<u8>, record: &Record<'_>) {
    out.extend_from_slice(b"HTTP/1.");
    number(out, record.minor_version.into());
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

/// The names of the cluster and the endpoint of a record.
fn names<'s>(snapshot: &'s Snapshot, record: &Record<'_>) -> Option<(&'s str, &'s str)> {
    let (cluster, endpoint) = record.endpoint?;
    let cluster = snapshot.clusters.get(usize::from(cluster))?;
    Some((&cluster.name, &cluster.endpoints.get(usize::from(endpoint))?.name))
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::config::plan::{LogSink, Rotation},
        *,
    };
    use crate::{shared::listed::Entry, stage::fixture};

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
