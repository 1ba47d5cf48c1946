//! Answers of the admin API that are none: one shape for all of them, `{"error": "…"}`.

use axum::{
    Json,
    body::{Body, to_bytes},
    http::{
        HeaderValue, Method, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use serde_json::json;

/// The longest explanation that is passed on, in bytes.
const EXPLANATION_BYTES_MAX: usize = 4096;

/// The answer that says `message`.
pub(in crate::control) fn trouble(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

/// `response` in that shape, if it is an error that some library said in its own way.
pub(super) async fn in_our_words(response: Response, method: &Method, path: &str) -> Response {
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_ours = kind.starts_with(b"application/json") || kind.starts_with(b"text/html");
    let status = response.status();
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, EXPLANATION_BYTES_MAX).await.unwrap_or_default();
    let message = match status {
        StatusCode::NOT_FOUND => format!("there is nothing at {path}; /openapi.json lists what there is"),
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = parts.headers.get("allow").and_then(|allowed| allowed.to_str().ok());
            format!("{path} does not take {method} but {}", allowed.unwrap_or("other methods"))
        }
        _ => String::from_utf8_lossy(&text).into_owned(),
    };
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(json!({ "error": message }).to_string()))
}
