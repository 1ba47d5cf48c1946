//! Spans of timed exchanges on their way to an OTLP receiver.
//!
//! A thread of its own sends them, so that a receiver that hangs holds nobody up: the control thread puts them into
//! a bounded queue, and what does not fit is dropped and counted. Spans are encoded by `opentelemetry-otlp`.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};

use crate::shared::sample::STEPS;

use super::recent::Told;

/// Exchanges that wait to be sent.
const QUEUE_MAX: usize = 1_024;
/// Exchanges sent at once.
const BATCH_MAX: usize = 128;
/// How long an exchange waits for others to be sent with.
const GATHER: Duration = Duration::from_secs(1);
/// How long the receiver may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer of the receiver that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What became of the spans. Written by the exporter, read by the metrics; relaxed counts.
#[derive(Debug, Default)]
pub struct ExportCounts {
    /// Exchanges whose spans the receiver took.
    pub exported: AtomicU64,
    /// Exchanges that did not fit the queue.
    pub dropped: AtomicU64,
    /// Exchanges that the receiver did not take.
    pub failed: AtomicU64,
}

/// The way to one receiver.
pub(super) struct Exporter {
    url: String,
    queue: SyncSender<Told>,
    counts: Arc<ExportCounts>,
}

impl Exporter {
    /// Begins to send to `url`. If it cannot, it says so and drops what it is offered.
    pub(super) fn start(url: &str, counts: Arc<ExportCounts>) -> Self {
        let (queue, waiting) = sync_channel(QUEUE_MAX);
        let (its_url, its_counts) = (url.to_owned(), Arc::clone(&counts));
        let started = thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || send_all(&its_url, &waiting, &its_counts));
        if let Err(error) = started {
            tracing::warn!("no spans are exported, no thread can be started: {error}");
        }
        Self { url: url.to_owned(), queue, counts }
    }

    /// Where it sends to.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Takes an exchange, or counts it as dropped.
    pub(super) fn offer(&self, told: Told) {
        if self.queue.try_send(told).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends what comes until nobody offers anything any more.
fn send_all(url: &str, waiting: &Receiver<Told>, counts: &ExportCounts) {
    let client = ureq::Agent::new_with_config(
        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build(),
    );
    let built =
        SpanExporter::builder().with_http().with_http_client(Client(client)).with_endpoint(url).build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let (mut exporter, runtime) = match (built, runtime) {
        (Ok(exporter), Ok(runtime)) => (exporter, runtime),
        (Err(error), _) => return tracing::warn!("no spans are exported to {url}: {error}"),
        (_, Err(error)) => return tracing::warn!("no spans are exported to {url}: {error}"),
    };
    let service = Resource::builder_empty().with_service_name("tollgate");
    exporter.set_resource(
        &service.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build(),
    );
    let mut rng = fastrand::Rng::new();
    let mut fails = false;
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        let until = SystemTime::now() + GATHER;
        while batch.len() < BATCH_MAX {
            let left = until.duration_since(SystemTime::now()).unwrap_or_default();
            match waiting.recv_timeout(left) {
                Ok(told) => batch.push(told),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let spans = batch.iter().flat_map(|told| spans(told, &mut rng)).collect();
        let exported = runtime.block_on(exporter.export(spans));
        let count = if exported.is_ok() { &counts.exported } else { &counts.failed };
        count.fetch_add(batch.len() as u64, Ordering::Relaxed);
        match &exported {
            Err(error) if !fails => tracing::warn!("spans cannot be exported to {url}: {error}"),
            Ok(()) if fails => tracing::info!("spans are exported to {url} again"),
            _ => {}
        }
        fails = exported.is_err();
    }
}

/// The span of an exchange, and one below it for each step that took any time.
fn spans(told: &Told, rng: &mut fastrand::Rng) -> Vec<SpanData> {
    let trace = TraceId::from_bytes(told.trace.to_be_bytes());
    let own = if told.span == 0 { rng.u64(1..) } else { told.span };
    let started = SystemTime::UNIX_EPOCH + Duration::from_micros(told.unix_us);
    let route = told.route.as_deref().unwrap_or("-");
    let mut attributes = vec![
        KeyValue::new("http.request.method", told.method.clone()),
        KeyValue::new("http.response.status_code", i64::from(told.status)),
        KeyValue::new("url.path", told.path.clone()),
        KeyValue::new("http.route", route.to_owned()),
        KeyValue::new("client.address", told.client_ip.clone()),
        KeyValue::new("tollgate.request_id", told.request_id.clone()),
        KeyValue::new("tollgate.termination", told.termination),
    ];
    attributes.extend(told.consumer.clone().map(|consumer| KeyValue::new("tollgate.consumer", consumer)));
    attributes.extend(told.code.map(|code| KeyValue::new("tollgate.code", code)));
    if let Some((cluster, endpoint)) = &told.endpoint {
        attributes.push(KeyValue::new("tollgate.cluster", cluster.clone()));
        attributes.push(KeyValue::new("server.address", endpoint.clone()));
    }
    let status = if told.status >= 500 { Status::error(told.reason.clone()) } else { Status::Unset };
    let whole = Span { trace, id: own, parent: told.parent, kind: SpanKind::Server };
    let name = format!("{} {route}", told.method);
    let ended = started + Duration::from_micros(told.duration_us);
    let mut spans = vec![SpanData { attributes, status, ..whole.between(name.into(), started, ended) }];
    // Accepting came before the first byte.
    let steps_us = told.steps_us.unwrap_or_default();
    let mut begins = started - Duration::from_micros(steps_us[0]);
    for (name, step_us) in STEPS.iter().zip(steps_us) {
        let ends = begins + Duration::from_micros(step_us);
        if step_us > 0 {
            let step = Span { trace, id: rng.u64(1..), parent: own, kind: SpanKind::Internal };
            spans.push(step.between((*name).into(), begins, ends));
        }
        begins = ends;
    }
    spans
}

/// What a span is, besides what happened in it.
struct Span {
    trace: TraceId,
    id: u64,
    parent: u64,
    kind: SpanKind,
}

impl Span {
    fn between(self, name: Cow<'static, str>, start_time: SystemTime, end_time: SystemTime) -> SpanData {
        let id = SpanId::from_bytes(self.id.to_be_bytes());
        SpanData {
            span_context: SpanContext::new(self.trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: SpanId::from_bytes(self.parent.to_be_bytes()),
            parent_span_is_remote: self.kind == SpanKind::Server,
            span_kind: self.kind,
            name,
            start_time,
            end_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("tollgate").build(),
        }
    }
}

/// The HTTP client that the gateway has anyway.
#[derive(Debug)]
struct Client(ureq::Agent);

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let answer = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = answer.into_parts();
        let bytes = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(parts, bytes.into()))
    }
}
