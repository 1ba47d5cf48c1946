//! The command line's side of the admin API: one request, one answer, for a person.

use std::{io, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{
        Method, Request, Response,
        header::{AUTHORIZATION, HOST},
    },
};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use super::admin::address::AdminAddress;

/// Longer than any reload takes: names may have to be looked up.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Errand {
    /// How it goes.
    Status,
    /// To put the configuration file as it now stands in force.
    Reload,
    /// To finish what is in flight and end.
    Drain,
}

/// Why there is no good answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody could be asked.
    Unreachable(String),
    /// The gateway refused, with what it said.
    Refused(Value),
}

/// Asks the gateway whose admin API is at `admin`, and which may want to see `token`.
///
/// # Errors
/// [`NoAnswer`].
pub fn ask(admin: &AdminAddress, token: Option<&str>, errand: Errand) -> Result<Value, NoAnswer> {
    let unreachable = |error: &dyn std::fmt::Display| {
        NoAnswer::Unreachable(format!(
            "no gateway answers at {admin}: {error}; is it running, and is this its listen.admin (see --admin)?"
        ))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unreachable(&error))?;
    let answer = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, exchange(admin, token, errand)).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {} s", PATIENCE.as_secs())))
        })
    });
    let (succeeded, text) = answer.map_err(|error| unreachable(&error))?;
    let value = serde_json::from_slice(&text).map_err(|_| {
        let said = String::from_utf8_lossy(&text);
        NoAnswer::Unreachable(format!(
            "what answers at {admin} is no gateway of this kind; it said: {said:.200}"
        ))
    })?;
    if succeeded { Ok(value) } else { Err(NoAnswer::Refused(value)) }
}

/// Whether the answer was a good one, and what it said.
async fn exchange(admin: &AdminAddress, token: Option<&str>, errand: Errand) -> io::Result<(bool, Vec<u8>)> {
    let (method, path) = match errand {
        Errand::Status => (Method::GET, "/status"),
        Errand::Reload => (Method::POST, "/reload"),
        Errand::Drain => (Method::POST, "/drain"),
    };
    let answer = send(admin, token, method, path).await?;
    let succeeded = answer.status().is_success();
    let text = to_bytes(Body::new(answer.into_body()), ANSWER_BYTES_MAX).await.map_err(io::Error::other)?;
    Ok((succeeded, text.into()))
}

/// Sends one request; the answer, of which nothing but the head need have come.
pub(super) async fn send(
    admin: &AdminAddress,
    token: Option<&str>,
    method: Method,
    path: &str,
) -> io::Result<Response<Incoming>> {
    let host = match admin {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(_) => "localhost".to_owned(),
    };
    let mut request = Request::builder().method(method).uri(path).header(HOST, host);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Body::empty()).map_err(io::Error::other)?;
    match admin {
        AdminAddress::Tcp(address) => over(TcpStream::connect(address).await?, request).await,
        AdminAddress::Unix(path) => over(UnixStream::connect(path).await?, request).await,
    }
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
) -> io::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Moves the bytes; that it failed shows in the answer.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(io::Error::other)
}
