//! `GET /tail`: the log as it is written, line by line, for as long as somebody listens.
//!
//! The filter is the writer's work, so that what nobody asked for goes nowhere. An empty line now and then tells a
//! listener that the gateway is there, and the gateway that the listener is gone.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{Query, State},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use http_body::Frame;
use serde::Deserialize;
use tokio::{
    sync::mpsc::Receiver,
    time::{Interval, interval},
};

use super::{
    access_log::{Filter, LISTENERS_MAX, NoTail, Tail},
    admin::trouble::trouble,
    view::View,
};

/// Between two empty lines.
const PULSE: Duration = Duration::from_secs(5);

/// The route of the admin API.
pub fn router(tail: Tail, view: Arc<ArcSwap<View>>) -> Router {
    Router::new().route("/tail", get(follow)).with_state((tail, view))
}

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    route: Option<String>,
    status: Option<String>,
    consumer: Option<String>,
}

async fn follow(State((tail, view)): State<(Tail, Arc<ArcSwap<View>>)>, Query(ask): Query<Ask>) -> Response {
    let status = match ask.status.as_deref().map(Filter::parse_status).transpose() {
        Ok(status) => status,
        Err(mistake) => return trouble(StatusCode::BAD_REQUEST, &mistake),
    };
    if let Some(route) = &ask.route {
        let view = view.load();
        let mut names = view.snapshot.routes.routes().iter().map(|route| &*route.name);
        if route != "-" && !names.any(|name| name == route) {
            let message = format!("no route is named \"{route}\"; see /routes");
            return trouble(StatusCode::BAD_REQUEST, &message);
        }
    }
    match tail.listen(Filter { route: ask.route, status, consumer: ask.consumer }) {
        Ok(chunks) => {
            let fields = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
            (fields, Body::new(Lines { chunks, pulse: interval(PULSE) })).into_response()
        }
        Err(NoTail::Crowded) => {
            let message = format!("{LISTENERS_MAX} listen already, and no more can");
            trouble(StatusCode::SERVICE_UNAVAILABLE, &message)
        }
        Err(NoTail::Ended) => trouble(StatusCode::SERVICE_UNAVAILABLE, "the log writer has ended"),
    }
}

/// A body that has no end of its own.
struct Lines {
    chunks: Receiver<Vec<u8>>,
    pulse: Interval,
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Poll::Ready(chunk) = self.chunks.poll_recv(context) {
            return Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk.into()))));
        }
        self.pulse.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b"\n")))))
    }
}
