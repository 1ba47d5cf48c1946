//! `/openapi.json`: the admin API as OpenAPI 3.1 has it.
//!
//! Written by hand in `openapi.yaml`. That it says what is, a test asks a running gateway: every path, every method and
//! every answer.

use std::sync::LazyLock;

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;

use super::trouble::trouble;

const SOURCE: &str = include_str!("openapi.yaml");

static DOCUMENT: LazyLock<Result<String, String>> = LazyLock::new(|| {
    let document: Value = serde_yaml_ng::from_str(&SOURCE.replace("@VERSION@", env!("CARGO_PKG_VERSION")))
        .map_err(|error| error.to_string())?;
    Ok(document.to_string())
});

/// The route.
pub(super) fn router() -> Router {
    Router::new().route("/openapi.json", get(show))
}

async fn show() -> Response {
    match &*DOCUMENT {
        Ok(document) => ([(CONTENT_TYPE, "application/json")], document.as_str()).into_response(),
        Err(error) => trouble(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_can_be_read() {
        let document: Value = serde_json::from_str(DOCUMENT.as_ref().unwrap()).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
