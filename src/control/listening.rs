//! Sockets that listen already: left by a predecessor, or passed by systemd.
//!
//! What somebody else has bound is used where the configuration has its address, and nothing is bound for that address
//! then. A socket of systemd's that the configuration does not have is a mistake in one of the two.

use std::{env, io, os::fd::OwnedFd};

use listenfd::ListenFd;
use socket2::SockRef;

use super::admin::address::AdminAddress;

/// Bytes that wait in the kernel for a client to take them, per connection. Whoever asks for much and reads nothing
/// makes neither the kernel hold megabytes nor a shard copy them.
const UNSENT_BYTES_MAX: u32 = 256 * 1024;
/// Connections that may wait to be accepted, per shard and address; the system's own bound applies too.
pub const BACKLOG: i32 = 4096;

/// A listening socket with the key and the address that the configuration has for it.
#[derive(Debug)]
pub struct Listening {
    /// `listen.address`, `listen.proxied` or `listen.admin`.
    pub key: String,
    /// As configured: the port may be 0.
    pub asked: String,
    /// The socket.
    pub socket: OwnedFd,
}

/// Sockets that somebody else has bound.
#[derive(Debug, Default)]
pub struct Given(Vec<One>);

#[derive(Debug)]
struct One {
    /// What it is for; whatever has its address when systemd passes it.
    key: Option<String>,
    address: String,
    /// What systemd calls it.
    name: Option<String>,
    socket: OwnedFd,
}

impl Given {
    /// Those that a predecessor leaves.
    pub fn by_predecessor(listening: Vec<Listening>) -> Self {
        let one =
            |Listening { key, asked, socket }| One { key: Some(key), address: asked, name: None, socket };
        Self(listening.into_iter().map(one).collect())
    }

    /// Those that systemd passes to this process (sd_listen_fds(3)), if it does. To be called once, before there is
    /// another thread: takes the variables out of the environment.
    ///
    /// # Errors
    /// One that no client could connect to.
    pub fn by_systemd() -> Result<Self, String> {
        let is_meant = env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
        if !is_meant {
            return Ok(Self::default());
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut passed = ListenFd::from_env();
        let mut given = Vec::new();
        for place in 0..passed.len() {
            let name = names.next().filter(|name| !name.is_empty());
            let unusable = |why: &dyn std::fmt::Display| {
                let name = name.as_deref().unwrap_or("without a name");
                format!("systemd passes a socket ({name}) that cannot be listened on: {why}")
            };
            let (address, socket) = listener(&mut passed, place).map_err(|error| unusable(&error))?;
            if !SockRef::from(&socket).is_listener().map_err(|error| unusable(&error))? {
                return Err(unusable(&"it does not listen; Accept= must be no"));
            }
            given.push(One { key: None, address, name, socket });
        }
        Ok(Self(given))
    }

    /// The sockets for `asked` under `key`, which are handed out once.
    pub fn take(&mut self, key: &str, asked: &str) -> Vec<OwnedFd> {
        let is_for = |one: &One| one.key.as_deref().is_none_or(|known| known == key) && one.address == asked;
        self.0.extract_if(.., |one| is_for(one)).map(|one| one.socket).collect()
    }

    /// Says which sockets nobody took.
    ///
    /// # Errors
    /// One of systemd's is left.
    pub fn finish(self) -> Result<(), String> {
        let mut left: Vec<One> = self.0;
        left.dedup_by(|one, other| (&one.key, &one.address) == (&other.key, &other.address));
        for One { key, address, name, .. } in left {
            if key.is_none() {
                let name = name.as_deref().unwrap_or("without a name");
                return Err(format!(
                    "systemd passes a socket for {address} ({name}), and neither listen.address nor listen.proxied \
                     nor listen.admin has that address"
                ));
            }
            tracing::warn!("{address} is listened on no longer: the configuration does not have it");
        }
        Ok(())
    }
}

/// The socket at `place`, with its address as a configuration has it.
fn listener(passed: &mut ListenFd, place: usize) -> io::Result<(String, OwnedFd)> {
    let gone = || io::Error::other("it is not there");
    if let Ok(socket) = passed.take_tcp_listener(place) {
        let socket = socket.ok_or_else(gone)?;
        let address = socket.local_addr()?.to_string();
        SockRef::from(&socket).listen(BACKLOG)?;
        prepare(&SockRef::from(&socket))?;
        return Ok((address, socket.into()));
    }
    let socket = passed.take_unix_listener(place)?.ok_or_else(gone)?;
    let address = socket.local_addr()?;
    let path = address.as_pathname().ok_or_else(|| io::Error::other("it has no path"))?;
    Ok((AdminAddress::Unix(path.to_owned()).to_string(), socket.into()))
}

/// Sets what accepted connections inherit.
///
/// # Errors
/// The system's.
pub fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}
