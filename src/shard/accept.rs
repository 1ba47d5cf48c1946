//! Step 1, accept: a listener of the shard's own, a bound, and nothing lost on the way.
//!
//! Each shard has its own socket in the SO_REUSEPORT group, so no connection ever changes shards. At the
//! bound a connection is told 503 and closed; when the process is out of descriptors the loop pauses
//! instead of spinning.

use std::{
    cell::Cell,
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    time::Duration,
};

use socket2::SockRef;

use crate::{
    base::hex::hex_digits,
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
    exchange::made_id,
    runtime,
    servers::Servers,
    socket::Socket,
    watch::{Direction, Key, Watch},
};

/// Pause when the system has no descriptor or memory for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(20);
/// Connections accepted in a row, after which those that are there get their turn. With one a turn, who comes to a busy
/// shard waits for as many turns as others came before, and clients that give up come again.
const ACCEPTED_MAX: usize = 64;
/// Connections taken from a listener's queue at its end; the kernel keeps no more there.
const QUEUED_MAX: usize = 4096;
/// Connections beyond the bound that are told so at the same time; further ones are just closed.
const FAREWELLS_MAX: usize = 256;
/// How long such a connection may take to listen, in milliseconds.
const FAREWELL_MS: u64 = 1_000;

/// A listening socket in the shard's readiness set, to the shard's end.
pub(super) struct Listener {
    socket: TcpListener,
    watch: Rc<Watch>,
    key: Key,
    opening: Opening,
    is_stopped: Cell<bool>,
}

/// A socket that listens, and how connections to it begin.
pub type Bound = (TcpListener, Opening);

/// How connections to an address begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With a request.
    Plain,
    /// With a PROXY protocol header.
    Proxied,
}

impl Listener {
    /// Takes over a listening socket.
    ///
    /// # Errors
    /// The system has no room for one more in the readiness set.
    pub(super) fn adopt(shard: &Shard, (socket, opening): Bound) -> io::Result<Rc<Self>> {
        socket.set_nonblocking(true)?;
        let (key, watch) = shard.watches.add(&socket)?;
        Ok(Rc::new(Self { socket, watch, key, opening, is_stopped: Cell::new(false) }))
    }

    /// Has its loop end.
    pub(super) fn stop(&self) {
        self.is_stopped.set(true);
        self.watch.expire(Direction::Read);
    }
}

/// Accepts until stopped, then takes what is still queued: closing a listener resets what waits in it. A socket
/// that a successor has too is only let go.
pub(super) async fn run(shard: Rc<Shard>, listener: Rc<Listener>) {
    // Without descriptors there is always somebody to accept, and drain is what frees them.
    while listener.watch.readable().await.is_ok() && !listener.is_stopped.get() {
        match accept_some(&shard, &listener) {
            Ok(()) => {}
            Err(_) => {
                shard.meters().accept_pauses.add(1);
                monoio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
    shard.watches.remove(listener.key);
    if shard.lifecycle.is_handed_over() {
        // What is queued is the successor's, and so is the socket.
        return;
    }
    for _ in 0..QUEUED_MAX {
        let Ok((stream, peer)) = listener.socket.accept() else { break };
        admit(&shard, stream, peer, listener.opening);
    }
    // Closing is not enough: others may still hold the socket for a while, and the kernel would go on to
    // queue connections that nobody will ever take up.
    let _ = SockRef::from(&listener.socket).shutdown(Shutdown::Both);
}

/// Accepts what is queued, and when that is much, a part of it.
///
/// # Errors
/// The system has no descriptor or no memory for a connection.
fn accept_some(shard: &Rc<Shard>, listener: &Listener) -> io::Result<()> {
    for _ in 0..ACCEPTED_MAX {
        match listener.socket.accept() {
            Ok((stream, peer)) => admit(shard, stream, peer, listener.opening),
            Err(error) => match error.raw_os_error() {
                // The queue is empty. It may be one with a successor's, which was quicker.
                Some(libc::EAGAIN) => {
                    listener.watch.exhausted(Direction::Read);
                    return Ok(());
                }
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => return Err(error),
                // The connection was gone before it was accepted; there will be others.
                _ => {}
            },
        }
    }
    listener.watch.exhausted(Direction::Read);
    shard.watches.set().repeat(&listener.socket, listener.key)
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
    let request_id = hex_digits(made_id(&mut shard.desk.borrow_mut().rng));
    let date = *shard.date.borrow();
    let envelope = Envelope {
        lines: b"",
        request_id: &request_id,
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
