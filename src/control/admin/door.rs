//! Where clients of the admin API come in: a TCP address or a unix socket, who they are, and how many at once.
//!
//! They share the process's descriptors with those that pay, so they have a bound of their own; beyond it they wait
//! in the backlog. A client that is silent for too long makes room.

use std::{
    fmt, fs, io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

use super::address::AdminAddress;

/// Connections at once.
const CONNECTIONS_MAX: usize = 128;
/// How long a connection may have nothing to say and take nothing; longer than any answer is awaited.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// Connections to a unix socket that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Pause when no connection can be accepted, for want of descriptors mostly.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that listens, before it is served.
#[derive(Debug)]
pub enum AdminSocket {
    /// On an IP address.
    Tcp(TcpListener),
    /// In the file system.
    Unix(UnixListener),
}

impl AdminSocket {
    /// Binds `address`; a socket file gets the permissions `mode`.
    ///
    /// # Errors
    /// The system's, or there is somebody already.
    pub fn bind(address: &AdminAddress, mode: u32) -> io::Result<Self> {
        match address {
            AdminAddress::Tcp(address) => TcpListener::bind(address).map(Self::Tcp),
            AdminAddress::Unix(path) => bind_file(path, mode).map(Self::Unix),
        }
    }

    /// One that somebody else bound to `address`.
    pub fn of(address: &AdminAddress, socket: OwnedFd) -> Self {
        match address {
            AdminAddress::Tcp(_) => Self::Tcp(socket.into()),
            AdminAddress::Unix(_) => Self::Unix(socket.into()),
        }
    }

    /// Another handle of the same socket.
    ///
    /// # Errors
    /// The system's.
    pub fn handle(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Into::into),
            Self::Unix(socket) => socket.try_clone().map(Into::into),
        }
    }

    /// The address, with the port that was chosen for port 0.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self, asked: &AdminAddress) -> io::Result<AdminAddress> {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(AdminAddress::Tcp),
            Self::Unix(_) => Ok(asked.clone()),
        }
    }
}

/// Binds a socket file. Until its permissions are right nobody can connect, because nothing listens yet.
fn bind_file(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(OwnedFd::from(socket).into())
}

/// Removes the socket file of a process that is gone.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::other("there is a file of that name, and it is no socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

/// The file of a unix socket, which goes when the process does and nobody follows it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    /// The file at `address`, if it is one.
    pub fn of(address: &AdminAddress) -> Option<Self> {
        let AdminAddress::Unix(path) = address else { return None };
        let device_and_inode = identity(path)?;
        Some(Self { path: path.clone(), device_and_inode })
    }

    /// Removes it, unless it is somebody else's by now.
    pub fn remove(&self) {
        if identity(&self.path) == Some(self.device_and_inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody at an IP address.
    Tcp(SocketAddr),
    /// A process of this machine, by what the kernel says of it.
    Unix {
        /// Its user.
        uid: u32,
        /// Its number; none if the kernel does not say.
        pid: Option<i32>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix { uid, pid: Some(pid) } => write!(formatter, "uid {uid}, pid {pid}"),
            Self::Unix { uid, pid: None } => write!(formatter, "uid {uid}"),
        }
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

/// Lets clients in.
pub struct Door {
    socket: Listens,
    places: Arc<Semaphore>,
}

enum Listens {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Door {
    /// The one at `socket`. To be called within a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn open(socket: AdminSocket) -> io::Result<Self> {
        let socket = match socket {
            AdminSocket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Listens::Tcp(tokio::net::TcpListener::from_std(socket)?)
            }
            AdminSocket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Listens::Unix(tokio::net::UnixListener::from_std(socket)?)
            }
        };
        Ok(Self { socket, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) })
    }

    async fn next(&self) -> io::Result<(Box<dyn Duplex>, Peer)> {
        match &self.socket {
            Listens::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((Box::new(stream), Peer::Tcp(address)))
            }
            Listens::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let credentials = stream.peer_cred()?;
                let peer = Peer::Unix { uid: credentials.uid(), pid: credentials.pid() };
                Ok((Box::new(stream), peer))
            }
        }
    }
}

impl Listener for Door {
    type Io = Line;
    type Addr = Peer;

    async fn accept(&mut self) -> (Line, Peer) {
        loop {
            // Nobody closes the semaphore.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.next().await {
                Ok((stream, peer)) => {
                    let silence = Box::pin(tokio::time::sleep(SILENCE_MAX));
                    return (Line { stream, silence, _place: place }, peer);
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        match &self.socket {
            Listens::Tcp(socket) => socket.local_addr().map(Peer::Tcp),
            Listens::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One client's connection.
pub struct Line {
    stream: Box<dyn Duplex>,
    silence: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Line {
    /// What has come of an attempt to move bytes: if nothing, it is over when the silence has lasted too long.
    fn moved<T>(&mut self, moved: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
            return moved;
        }
        ready!(self.silence.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.stream).poll_read(context, buffer);
        self.moved(read, context)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(context, bytes);
        self.moved(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_makes_room_and_nothing_else_does() {
        let directory = std::env::temp_dir().join(format!("tollgate-door-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("admin.sock");
        let first = bind_file(&path, 0o660).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        let taken = bind_file(&path, 0o600).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse, "{taken}");
        drop(first);
        let second = bind_file(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // A file that has taken the place of ours is not ours to remove.
        let file = SocketFile::of(&AdminAddress::Unix(path.clone())).unwrap();
        fs::rename(&path, directory.join("other")).unwrap();
        fs::write(&path, "precious").unwrap();
        file.remove();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert!(bind_file(&path, 0o600).unwrap_err().to_string().contains("no socket"));
        fs::rename(directory.join("other"), &path).unwrap();
        file.remove();
        assert!(!path.exists());
        drop(second);
        fs::remove_dir_all(&directory).unwrap();
    }
}
