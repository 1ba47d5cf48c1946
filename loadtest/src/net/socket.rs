//! Sockets as both sides use them: made, and sent on without ever blocking the thread.
//!
//! The sockets themselves stay in blocking mode, because the ring would otherwise answer "try again" where it
//! should wait; a send says `MSG_DONTWAIT` instead.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;

/// An unconnected TCP socket for `peer`'s family, without Nagle's delay.
///
/// # Errors
/// When the process has no descriptor left.
pub(crate) fn unconnected(peer: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// A listener that shares its address with the other threads' listeners.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) fn listener(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Sends as much as there is room for; 0 when there is none.
///
/// # Errors
/// When the connection is gone.
pub(crate) fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        match SockRef::from(socket).send_with_flags(bytes, flags) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}
