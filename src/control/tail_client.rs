//! `tollgate tail`: follows a running gateway's log and shows it to a person or a program.
//!
//! Comes back by itself when the gateway does. Ctrl-C ends it between two lines, never within one.

use std::{
    future::poll_fn,
    io::{self, Write},
    pin::Pin,
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    http::Method,
};
use http_body::Body as _;
use hyper::body::Incoming;
use serde_json::Value;

use super::{admin::address::AdminAddress, admin_client::send};

/// Between two attempts to find the gateway again.
const RETRY: Duration = Duration::from_millis(500);
/// The gateway gives a sign of life more often than that.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// The longest explanation of a refusal, in bytes.
const EXPLANATION_BYTES_MAX: usize = 64 * 1024;

/// What to follow and how to show it.
#[derive(Debug)]
pub struct Follow {
    /// The gateway's admin address.
    pub admin: AdminAddress,
    /// What it may want to see.
    pub token: Option<String>,
    /// The query of `/tail`.
    pub filter: Vec<(&'static str, String)>,
    /// How a line is shown.
    pub look: Look,
    /// The end comes after so many lines.
    pub count: Option<u64>,
}

/// How a line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Look {
    /// As the gateway tells it: one JSON object each.
    Json,
    /// What matters most, for the eye.
    Text,
}

/// Why following ended before it began.
#[derive(Debug)]
pub enum NoLines {
    /// There is no gateway there, or it has no place for one more.
    Unreachable(String),
    /// The gateway does not take the question.
    Refused(String),
}

/// Follows until `follow.count` lines were shown, nobody reads them any more, or an interrupt comes.
///
/// # Errors
/// [`NoLines`], if it never got one connection, or gets none because of what it asks.
pub fn follow(follow: &Follow) -> Result<(), NoLines> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| NoLines::Unreachable(error.to_string()))?;
    runtime.block_on(async {
        tokio::select! {
            ended = again_and_again(follow) => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

async fn again_and_again(follow: &Follow) -> Result<(), NoLines> {
    let mut left = follow.count.unwrap_or(u64::MAX);
    let (mut was_there, mut is_missed) = (false, false);
    loop {
        match connect(follow).await {
            Ok(body) => {
                if is_missed {
                    eprintln!("connected again");
                }
                (was_there, is_missed) = (true, false);
                if show(body, follow.look, &mut left).await == End::Enough {
                    return Ok(());
                }
            }
            Err(NoLines::Unreachable(_)) if was_there => {}
            Err(reason) => return Err(reason),
        }
        if !is_missed {
            eprintln!("the gateway at {} is gone; looking for it until it is back", follow.admin);
            is_missed = true;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The lines of one connection.
async fn connect(follow: &Follow) -> Result<Incoming, NoLines> {
    let mut path = "/tail".to_owned();
    for (index, (key, value)) in follow.filter.iter().enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(&format!("{key}={}", encoded(value)));
    }
    let answer = send(&follow.admin, follow.token.as_deref(), Method::GET, &path).await.map_err(|error| {
        NoLines::Unreachable(format!(
            "no gateway answers at {}: {error}; is it running, and is this its listen.admin (see --admin)?",
            follow.admin
        ))
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer.into_body());
    }
    let text = to_bytes(Body::new(answer.into_body()), EXPLANATION_BYTES_MAX).await.unwrap_or_default();
    let told = serde_json::from_slice::<Value>(&text).ok();
    let said = told.and_then(|told| told["error"].as_str().map(str::to_owned));
    let message = said.unwrap_or_else(|| String::from_utf8_lossy(&text).into_owned());
    Err(if status.is_client_error() { NoLines::Refused(message) } else { NoLines::Unreachable(message) })
}

/// How a connection ended.
#[derive(PartialEq, Eq)]
enum End {
    /// Everything was shown that was asked for, or nobody reads it.
    Enough,
    /// Nothing more comes.
    Lost,
}

/// Shows the lines of `body` as they come.
async fn show(mut body: Incoming, look: Look, left: &mut u64) -> End {
    let mut waiting = Vec::new();
    while *left > 0 {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let Ok(Some(Ok(frame))) = tokio::time::timeout(SILENCE_MAX, frame).await else { return End::Lost };
        let Ok(bytes) = frame.into_data() else { continue };
        waiting.extend_from_slice(&bytes);
        let whole = memchr::memrchr(b'\n', &waiting).map_or(0, |end| end + 1);
        let mut out = io::stdout().lock();
        for line in waiting[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let line = String::from_utf8_lossy(line);
            let shown = match look {
                Look::Json => format!("{line}\n"),
                Look::Text => in_words(&line) + "\n",
            };
            if out.write_all(shown.as_bytes()).is_err() {
                return End::Enough;
            }
            *left -= 1;
            if *left == 0 {
                break;
            }
        }
        if out.flush().is_err() {
            return End::Enough;
        }
        drop(out);
        waiting.drain(..whole);
    }
    End::Enough
}

/// `value` for a query (RFC 3986 section 2.3).
fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A line as a person reads it.
fn in_words(line: &str) -> String {
    let Ok(told) = serde_json::from_str::<Value>(line) else { return harmless(line) };
    if told.get("event").is_some() {
        return format!("--- {} lines are missing here", told["dropped"]);
    }
    let text = |key: &str| told[key].as_str().unwrap_or("-").to_owned();
    let millis = |key: &str| told[key].as_f64().unwrap_or(0.0) / 1_000.0;
    let time = text("ts");
    let mut words = vec![
        time.get(11..23).unwrap_or(&time).to_owned(),
        told["status"].to_string(),
        text("termination"),
        text("method"),
        text("path"),
        format!("{:.1}ms", millis("duration_us")),
    ];
    for key in ["route", "consumer", "endpoint", "code", "reason"] {
        let value = text(key);
        if value != "-" {
            words.push(format!("{key}={value}"));
        }
    }
    harmless(&words.join(" "))
}

/// `text` without anything a terminal would act upon, or turn around.
fn harmless(text: &str) -> String {
    let acts = |character: char| character.is_control() || ('\u{200e}'..='\u{206f}').contains(&character);
    text.chars()
        .map(
            |character| {
                if acts(character) { character.escape_unicode().to_string() } else { character.into() }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_with_what_matters_and_does_nothing_to_a_terminal() {
        let line = r#"{"ts":"2026-11-23T04:49:27.000042Z","status":429,"termination":"Q5","method":"GET",
            "path":"/a\u001b[2J\u202e","duration_us":1234,"route":"pay","consumer":"-","code":"quota_exceeded"}"#;
        assert_eq!(
            in_words(line),
            "04:49:27.000 429 Q5 GET /a\\u{1b}[2J\\u{202e} 1.2ms route=pay code=quota_exceeded"
        );
        assert_eq!(in_words(r#"{"event":"tail_gap","dropped":7}"#), "--- 7 lines are missing here");
        assert_eq!(in_words("no json\u{7}"), "no json\\u{7}");
    }
}
