//! Where the admin API is: an IP address and port, or a unix socket, as configurations and command lines have it.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Serialize, Serializer};

/// The longest path of a unix socket: `sockaddr_un` has 108 bytes, with one for the end.
const PATH_BYTES_MAX: usize = 107;

/// An address of the admin API.
#[derive(Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// `127.0.0.1:9901`.
    Tcp(SocketAddr),
    /// `unix:/run/tollgate/admin.sock`.
    Unix(PathBuf),
}

impl AdminAddress {
    /// Whether nobody but this machine reaches it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// The same with a path that is relative to `directory`.
    pub fn within(self, directory: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(directory.join(path)),
            tcp => tcp,
        }
    }

    /// What is wrong with it, if it is one that nothing can be bound to.
    pub fn flaw(&self) -> Option<String> {
        let Self::Unix(path) = self else { return None };
        let length = path.as_os_str().len();
        (length > PATH_BYTES_MAX).then(|| {
            format!("{} has {length} bytes, and a socket's path has at most {PATH_BYTES_MAX}", path.display())
        })
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path is missing after unix:".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "\"{text}\" is not an IP address and port, nor a unix socket; write for example \
                     \"127.0.0.1:9901\" or \"unix:/run/tollgate/admin.sock\""
                )
            }),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl fmt::Debug for AdminAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for AdminAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_sockets() {
        for (text, local) in [
            ("127.0.0.1:9901", true),
            ("[::1]:1", true),
            ("127.9.9.9:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("unix:/run/admin.sock", true),
        ] {
            let address: AdminAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_local()), (text, local));
        }
        let relative: AdminAddress = "unix:a.sock".parse().unwrap();
        assert_eq!(relative.within(Path::new("/etc/t")).to_string(), "unix:/etc/t/a.sock");
        for bad in ["", "unix:", "127.0.0.1", "localhost:1", "/run/admin.sock"] {
            assert!(bad.parse::<AdminAddress>().is_err(), "{bad}");
        }
        let long: AdminAddress = format!("unix:/{}", "a".repeat(106)).parse().unwrap();
        assert_eq!(long.flaw(), None);
        assert!(long.within(Path::new("/")).flaw().is_none());
        let longer: AdminAddress = format!("unix:/{}", "a".repeat(107)).parse().unwrap();
        assert!(longer.flaw().unwrap().contains("108 bytes"));
    }
}
