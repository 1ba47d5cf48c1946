//! Step 1, accept: a listener of the shard's own, a bound, and nothing lost on the way.
//!
//! Each shard has its own socket in the SO_REUSEPORT group, so no connection ever changes shards. At the
//! bound a connection is told 503 and closed; when the process is out of descriptors the loop pauses
//! instead of spinning.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    rc::Rc,
    time::Duration,
};

use monoio::{io::CancelHandle, net::TcpListener};
use socket2::SockRef;

use crate::{
    http::encode::Persistence,
    shared::record::Delivery,
    stage::{
        limit::Standings,
        refusal::{self, Code, Envelope, Refusal},
    },
};

use super::{
    Shard,
    connection::{self, Downstream},
    ring::Rung,
    runtime::{self, taken_over},
    servers::Servers,
    socket::Socket,
    watch::Direction,
};

/// Pause when the system has no descriptor or memory for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(20);
/// Connections taken from a listener's queue at its end; the kernel keeps no more there.
const QUEUED_MAX: usize = 4096;
/// Connections beyond the bound that are told so at the same time; further ones are just closed.
const FAREWELLS_MAX: usize = 256;
/// How long such a connection may take to listen, in milliseconds.
const FAREWELL_MS: u64 = 1_000;

/// A listening socket, held twice: by the runtime, and as it came, to empty its queue at the end.
pub(super) struct Listener {
    ring: TcpListener,
    system: std::net::TcpListener,
    opening: Opening,
}

/// A socket that listens, and how connections to it begin.
pub type Bound = (std::net::TcpListener, Opening);

/// How connections to an address begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With a request.
    Plain,
    /// With a PROXY protocol header.
    Proxied,
}

impl Listener {
    /// Makes a listening socket the runtime's. The ring needs it blocking, epoll the opposite.
    pub(super) fn adopt((listener, opening): Bound, rung: Rung) -> io::Result<Self> {
        listener.set_nonblocking(rung == Rung::Epoll)?;
        Ok(Self { system: listener.try_clone()?, ring: TcpListener::from_std(listener)?, opening })
    }
}

/// Accepts until cancelled, then takes what is still queued: closing a listener resets what waits in it. A socket
/// that a successor has too is only let go.
pub(super) async fn run(shard: Rc<Shard>, listener: Listener, stop: CancelHandle) {
    loop {
        match listener.ring.cancelable_accept(stop.clone()).await {
            Ok((stream, peer)) => admit(&shard, taken_over(stream), peer, listener.opening),
            Err(error) => match error.raw_os_error() {
                Some(libc::ECANCELED) => break,
                // The queue is one with a successor's, which may be quicker.
                Some(libc::EAGAIN) => monoio::time::sleep(EXHAUSTED_PAUSE).await,
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    shard.meters().accept_pauses.add(1);
                    monoio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                // The connection was gone before it was accepted; there will be others.
                _ => {}
            },
        }
    }
    if shard.lifecycle.is_handed_over() {
        // What is queued is the successor's, and so is the socket.
        return;
    }
    if listener.system.set_nonblocking(true).is_ok() {
        for _ in 0..QUEUED_MAX {
            let Ok((stream, peer)) = listener.system.accept() else { break };
            admit(&shard, stream, peer, listener.opening);
        }
    }
    // Closing is not enough: the ring may still hold the socket for a while, and the kernel would go on to
    // queue connections that nobody will ever take up.
    let _ = SockRef::from(&listener.system).shutdown(Shutdown::Both);
}

/// Takes up one connection, or tells it that there is no room.
pub(super) fn admit(shard: &Rc<Shard>, stream: TcpStream, peer: SocketAddr, opening: Opening) {
    shard.meters().accepted.add(1);
    let Ok(socket) = Socket::new(stream, &shard.watches) else { return };
    if shard.connections.get() < shard.connections_max {
        Servers::dispatch(shard, Downstream::new(shard, socket, peer.ip(), opening));
        return;
    }
    shard.meters().refusals[Code::Overloaded as usize].add(1);
    if shard.farewells.get() < FAREWELLS_MAX {
        shard.farewells.set(shard.farewells.get() + 1);
        let shard = Rc::clone(shard);
        runtime::spawn(async move {
            bid_farewell(&shard, &socket).await;
            shard.farewells.set(shard.farewells.get() - 1);
        });
    }
}

/// Tells one connection too many that there is no room.
async fn bid_farewell(shard: &Shard, socket: &Socket) {
    let Some(mut block) = shard.replies.rent() else { return };
    let request_id = format!("{:032x}", shard.desk.borrow_mut().rng.u128(..));
    let date = *shard.date.borrow();
    let envelope = Envelope {
        lines: b"",
        request_id: request_id.as_bytes(),
        date: &date,
        persistence: Persistence::Close,
        delivery: Delivery::NotSent,
        standings: &Standings::default(),
        head_only: false,
    };
    let overloaded = Refusal::new(Code::Overloaded, "connections");
    if refusal::encode(&overloaded, &envelope, &mut block).is_ok() {
        let _ = socket.try_send(&[block.unread()]);
    }
    block.clear();
    connection::linger(socket, &mut block, shard.clock.now().monotonic_ms() + FAREWELL_MS).await;
    socket.watch().clear(Direction::Read);
}
