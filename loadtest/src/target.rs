//! Where requests go: an `http://` URL, resolved once.

use std::{
    fmt,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use crate::exit::SetUp;

/// A resolved target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// As it was given.
    pub(crate) url: String,
    /// For `Host`.
    pub(crate) authority: String,
    pub(crate) address: SocketAddr,
    /// Path and query; `/` when the URL has none.
    pub(crate) path: String,
}

impl Target {
    /// Reads and resolves a URL.
    ///
    /// # Errors
    /// When it is not an `http://` URL or its name does not resolve.
    pub(crate) fn resolve(url: &str) -> Result<Self, SetUp> {
        let fault = |what: &str| SetUp::new(format!("target {url:?}: {what}"));
        if url.starts_with("https://") {
            return Err(fault("TLS is not spoken; put the plain listener's URL here"));
        }
        let rest = url.strip_prefix("http://").ok_or_else(|| fault("want http://HOST:PORT/PATH"))?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(cut);
        if authority.is_empty() || authority.contains('@') {
            return Err(fault("want http://HOST:PORT/PATH, without a user"));
        }
        let path = match path.as_bytes().first() {
            None => "/".to_owned(),
            Some(b'?') => format!("/{path}"),
            Some(_) => path.to_owned(),
        };
        if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(fault("the path holds a space or a control character"));
        }
        // A bracketed IPv6 address has colons of its own.
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let address = with_port
            .to_socket_addrs()
            .map_err(|error| fault(&format!("cannot resolve {authority}: {error}")))?
            .next()
            .ok_or_else(|| fault("the name has no address"))?;
        Ok(Self { url: url.to_owned(), authority: authority.to_owned(), address, path })
    }

    /// Connects once, so that a target that is not there is said before a run.
    ///
    /// # Errors
    /// When it refuses or does not answer in time.
    pub(crate) fn probe(&self, timeout: Duration) -> Result<(), SetUp> {
        TcpStream::connect_timeout(&self.address, timeout).map(drop).map_err(|error| {
            SetUp::new(format!("cannot connect to {} ({}): {error}", self.url, self.address))
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (String, String, String) {
        let target = Target::resolve(url).expect("a target");
        (target.authority, target.address.to_string(), target.path)
    }

    #[test]
    fn takes_urls_apart() {
        let own = |parts: (&str, &str, &str)| (parts.0.to_owned(), parts.1.to_owned(), parts.2.to_owned());
        assert_eq!(parts("http://127.0.0.1:8080"), own(("127.0.0.1:8080", "127.0.0.1:8080", "/")));
        assert_eq!(parts("http://127.0.0.1/a?b=c#d"), own(("127.0.0.1", "127.0.0.1:80", "/a?b=c")));
        assert_eq!(parts("http://[::1]:81?x"), own(("[::1]:81", "[::1]:81", "/?x")));
        assert_eq!(parts("http://[::1]/x"), own(("[::1]", "[::1]:80", "/x")));
    }

    #[test]
    fn refuses_what_it_cannot_reach() {
        for url in [
            "127.0.0.1:80",
            "https://127.0.0.1",
            "http://",
            "http://a@127.0.0.1",
            "http://127.0.0.1:80/a b",
            "http://127.0.0.1:99999/",
        ] {
            assert!(Target::resolve(url).is_err(), "{url:?} was taken");
        }
    }
}
