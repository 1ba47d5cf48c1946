//! Who may ask the admin API: what every request passes, and what every order is noted by.
//!
//! Three questions. Does the client know the token, if there is one? If there is none, does a browser ask for a page
//! of ours, or of somebody whose name leads to our address (DNS rebinding)? And does an order come from a page of
//! somebody else (cross-site request forgery)? Browsers answer the last two by themselves, with `Host`, `Origin` and
//! `Sec-Fetch-Site`, which no page can leave out or choose; other clients send what they like and are not concerned.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{ACCEPT, AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{
    super::{access_log::masked, view::View},
    changes::Change,
    door::Peer,
    gate,
    trouble::{in_our_words, trouble},
};

/// The longest order, in bytes.
const ORDER_BYTES_MAX: usize = 64 * 1024;
/// How much of an order is noted, in characters.
const NOTED_CHARACTERS_MAX: usize = 400;

/// Lets `request` pass, or says why not; notes it if it is an order.
pub(super) async fn guard(
    State(view): State<Arc<ArcSwap<View>>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let (told, changes) = {
        let view = view.load();
        (view.told.admin_token.clone(), Arc::clone(&view.changes))
    };
    let mut who = peer.to_string();
    let headers = request.headers();
    match &told {
        Some(token) => {
            let presented = presented(headers);
            if !presented.is_some_and(|presented| token.is(presented)) {
                changes.turn_away(
                    &who,
                    if presented.is_some() { "its token is wrong" } else { "it has no token" },
                );
                return unauthorized(headers, presented.is_some());
            }
            who = format!("{who}, token {}", token.fingerprint);
        }
        None => {
            if let (Peer::Tcp(_), Some(host)) = (&peer, headers.get(HOST))
                && !is_own_name(host.as_bytes())
            {
                changes.turn_away(&who, "it asks for a host that is not this one");
                let message = "Host must be an address, localhost or a name without a dot: under other names the \
                               pages of strangers could ask here; with listen.admin_token_file any will do";
                return trouble(StatusCode::FORBIDDEN, message);
            }
        }
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
        let answer = in_our_words(next.run(request).await, &method, &path).await;
        tracing::debug!("admin: {method} {} by {who}: {}", masked(&path), answer.status().as_u16());
        return answer;
    }
    if !is_of_same_site(headers) {
        changes.turn_away(&who, "the page of somebody else has it send an order");
        let message = "orders are not taken from pages of other sites (Origin, Sec-Fetch-Site)";
        return trouble(StatusCode::FORBIDDEN, message);
    }
    let (parts, body) = request.into_parts();
    let Ok(order) = to_bytes(body, ORDER_BYTES_MAX).await else {
        return trouble(StatusCode::PAYLOAD_TOO_LARGE, "an order has at most 64 KiB");
    };
    if changes.are_paused() {
        let message = "a successor is taking over and would not know of it; ask again in a moment";
        return trouble(StatusCode::SERVICE_UNAVAILABLE, message);
    }
    let what = in_words(&method, &path, &order);
    let request = Request::from_parts(parts, Body::from(order));
    let answer = in_our_words(next.run(request).await, &method, &path).await;
    let status = answer.status();
    let (answer, error) = if status.is_success() { (answer, None) } else { with_error(answer).await };
    changes.note(Change {
        at: format!("{:.3}", jiff::Timestamp::now()),
        who,
        what,
        status: status.as_u16(),
        error,
    });
    answer
}

/// The bearer token that a client sends.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?.as_bytes(), values.next()) else { return None };
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// 401: for a browser with a page that asks for the token.
fn unauthorized(headers: &HeaderMap, presented: bool) -> Response {
    let is_browser = headers
        .get(ACCEPT)
        .is_some_and(|accept| accept.as_bytes().windows(9).any(|kind| kind == b"text/html"));
    let mut answer = if is_browser && !presented {
        (StatusCode::UNAUTHORIZED, gate::page()).into_response()
    } else {
        let message = "send the token of listen.admin_token_file: Authorization: Bearer …";
        trouble(StatusCode::UNAUTHORIZED, message)
    };
    let challenge = if presented { "Bearer error=\"invalid_token\"" } else { "Bearer" };
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    answer
}

/// Whether no stranger's name can be `host`: an address, or what no registry sells.
fn is_own_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<IpAddr>().is_ok();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost")
}

/// Whether nothing says that the page of another site sends this.
fn is_of_same_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    let Some(origin) = headers.get(ORIGIN).map(HeaderValue::as_bytes) else { return true };
    let host = headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let site = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    site.is_some_and(|site| site.eq_ignore_ascii_case(host))
}

/// What an order says, as it is noted.
fn in_words(method: &Method, path: &str, order: &Bytes) -> String {
    let body = match serde_json::from_slice::<Value>(order) {
        _ if order.is_empty() => String::new(),
        Ok(value) => format!(" {value}"),
        Err(_) => format!(" ({} bytes that are not JSON)", order.len()),
    };
    noted(&format!("{method} {path}{body}"))
}

/// An answer with the reason that it gives.
async fn with_error(answer: Response) -> (Response, Option<String>) {
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, ORDER_BYTES_MAX).await.unwrap_or_default();
    let said = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let reason = said["error"].as_str().or_else(|| said["mistakes"][0].as_str());
    let reason = noted(reason.unwrap_or_default());
    (Response::from_parts(parts, Body::from(body)), Some(reason))
}

/// The beginning of `text` without card numbers and credentials: somebody may have given a token where its name was
/// asked for.
fn noted(text: &str) -> String {
    masked(text).chars().take(NOTED_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_no_stranger_can_have_are_ours() {
        for host in [
            "127.0.0.1:9901",
            "[::1]:9901",
            "[::1]",
            "localhost",
            "LOCALHOST:1",
            "gateway:9901",
            "a.localhost",
        ] {
            assert!(is_own_name(host.as_bytes()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9901",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "[evil.example]",
            "a.b",
            "\u{e9}.x",
        ] {
            assert!(!is_own_name(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn orders_of_other_sites_show_where_they_come_from() {
        let same = |fields: &[(&'static str, &str)]| {
            let fields = fields.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            is_of_same_site(&fields.collect())
        };
        assert!(same(&[("host", "localhost:1")]));
        assert!(same(&[("host", "localhost:1"), ("origin", "http://LOCALHOST:1")]));
        assert!(same(&[("host", "a"), ("origin", "https://a"), ("sec-fetch-site", "same-origin")]));
        assert!(same(&[("host", "a"), ("sec-fetch-site", "none")]));
        for origin in ["http://evil", "null", "http://localhost:2", "localhost:1", "file://"] {
            assert!(!same(&[("host", "localhost:1"), ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", ""] {
            assert!(!same(&[("host", "localhost:1"), ("sec-fetch-site", site)]), "{site}");
        }
    }

    #[test]
    fn a_token_comes_once_and_by_its_scheme() {
        let presented = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            presented(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(presented(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(presented(&["bearer abc"]), Some(b"abc".to_vec()));
        for none in [&[][..], &["Basic abc"], &["Bearerabc"], &["Bearer"], &["Bearer a", "Bearer a"]] {
            assert_eq!(presented(none), None, "{none:?}");
        }
    }

    #[test]
    fn orders_are_noted_in_one_line() {
        let words = |order: &str| in_words(&Method::POST, "/x", &Bytes::copy_from_slice(order.as_bytes()));
        assert_eq!(words(""), "POST /x");
        assert_eq!(words("{\n\"a\": \"b\\n\"}"), r#"POST /x {"a":"b\n"}"#);
        assert_eq!(words("a\nb"), "POST /x (3 bytes that are not JSON)");
        assert_eq!(words(&format!("\"{}\"", "x".repeat(1_000))).len(), NOTED_CHARACTERS_MAX);
    }
}
