//! What the path of a request asks of the runtime: run a task, make a connection, break one off.
//!
//! The only calls between an accepted connection and its end that are not plain system calls on a descriptor.
//! Accepting, the tick and the wait for news have their loops elsewhere (`accept.rs`, `housekeeping.rs`,
//! `readiness.rs`), each around a function that does not wait. In unit tests the simulation stands in for the
//! runtime, chosen when compiling: production has no trace of it.

#[cfg(test)]
pub(super) use super::simulation::runtime::{connect, reset_on_close, spawn};
#[cfg(not(test))]
pub(super) use ring::{connect, reset_on_close, spawn};

/// The runtime itself.
#[cfg(not(test))]
mod ring {
    use std::{
        io,
        net::{SocketAddr, TcpStream},
        os::fd::{FromRawFd, IntoRawFd},
        time::Duration,
    };

    use socket2::SockRef;

    /// Runs `task` beside the others of this thread.
    pub(in super::super) fn spawn(task: impl Future<Output = ()> + 'static) {
        monoio::spawn(task);
    }

    /// Connects to `address` within `timeout_ms`.
    ///
    /// # Errors
    /// The system's, or `TimedOut`.
    pub(in super::super) async fn connect(address: SocketAddr, timeout_ms: u64) -> io::Result<TcpStream> {
        let timeout = Duration::from_millis(timeout_ms);
        let stream = monoio::time::timeout(timeout, monoio::net::TcpStream::connect_addr(address))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let stream = taken_over(stream);
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Makes the close that follows a reset.
    pub(in super::super) fn reset_on_close(stream: &TcpStream) {
        // It may be gone already, which is as good.
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }

    /// The system's connection out of the runtime's, which lets go of it.
    #[expect(unsafe_code, reason = "the runtime hands its descriptors over only as numbers")]
    fn taken_over(stream: monoio::net::TcpStream) -> TcpStream {
        // SAFETY: the descriptor is open, and nobody else has it any more.
        unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) }
    }
}
