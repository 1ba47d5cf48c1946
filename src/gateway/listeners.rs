//! The listening sockets: bound or taken over, dealt out to the shards, and steered.
//!
//! For each address there is a group of them, in which shard `i` accepts from socket `i`: what is attached to a group
//! names sockets by their place in it. None is ever closed before the others.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{
    control::{
        config::Plan,
        listening::{BACKLOG, Given, Listening, prepare},
        view::Steered,
    },
    shard::{Bound, Opening},
    tuning::{
        root::Root,
        steering::{self, Choice, Group, Program, Steering},
    },
};

use super::StartError;

/// All of them, but the admin API's.
pub(super) struct Listeners {
    /// For each shard what it accepts from.
    pub(super) of_shards: Vec<Vec<Bound>>,
    /// Where requests come in.
    pub(super) addresses: Vec<(SocketAddr, Opening)>,
    /// All sockets as a successor is left them.
    pub(super) listening: Vec<Listening>,
    /// For each address the number of its sockets and one of them.
    groups: Vec<(SocketAddr, usize, TcpListener)>,
}

impl Listeners {
    /// Binds every address for each shard, unless it is `given`: such sockets go to the shards in turn, so that each is
    /// accepted from, however many shards there are.
    ///
    /// # Errors
    /// An address that cannot be had.
    pub(super) fn open(plan: &Plan, shards: usize, given: &mut Given) -> Result<Self, StartError> {
        let mut listeners = Self {
            of_shards: (0..shards).map(|_| Vec::new()).collect(),
            addresses: Vec::new(),
            listening: Vec::new(),
            groups: Vec::new(),
        };
        for (addresses, opening) in [(&plan.listen, Opening::Plain), (&plan.proxied, Opening::Proxied)] {
            let key = key_of(opening);
            for &asked in addresses {
                let mut sockets: Vec<TcpListener> =
                    given.take(key, &asked.to_string()).into_iter().map(TcpListener::from).collect();
                if sockets.is_empty() {
                    sockets = bind(asked, opening, shards)?;
                }
                listeners
                    .deal_out(sockets, asked, opening)
                    .map_err(|error| StartError::Unbound(format!("{key}: {asked}: {error}")))?;
            }
        }
        Ok(listeners)
    }

    fn deal_out(
        &mut self,
        sockets: Vec<TcpListener>,
        asked: SocketAddr,
        opening: Opening,
    ) -> std::io::Result<()> {
        let shards = self.of_shards.len();
        let address = sockets[0].local_addr()?;
        self.addresses.push((address, opening));
        self.groups.push((address, sockets.len(), sockets[0].try_clone()?));
        for turn in 0..shards.max(sockets.len()) {
            let socket = sockets[turn % sockets.len()].try_clone()?;
            self.of_shards[turn % shards].push((socket, opening));
        }
        let key = key_of(opening);
        let all = sockets.into_iter().map(|socket| Listening {
            key: key.to_owned(),
            asked: asked.to_string(),
            socket: socket.into(),
        });
        self.listening.extend(all);
        Ok(())
    }

    /// Decides how connections to each address find their shard, of which each has one of these CPUs or any.
    ///
    /// # Errors
    /// What was asked for cannot be had.
    pub(super) fn decide(&self, choice: Choice, cpus: &[Option<usize>]) -> Result<Vec<Steered>, StartError> {
        let root = Root::system();
        let decide = |(address, sockets, _): &(SocketAddr, usize, TcpListener)| {
            let group = Group { address: address.ip(), sockets: *sockets, shards: cpus };
            steering::decide(choice, group, &root)
                .map(|steering| Steered { address: *address, steering })
                .map_err(|why| StartError::Refused(format!("listen.accept_steering: {why}")))
        };
        self.groups.iter().map(decide).collect()
    }

    /// Has the kernel steer as it was decided. A predecessor may have had it otherwise, so nothing is left as it is.
    ///
    /// # Errors
    /// The kernel does not do it, and it was asked for.
    pub(super) fn steer(&self, choice: Choice, decided: &mut [Steered]) -> Result<(), StartError> {
        for ((address, _, socket), steered) in self.groups.iter().zip(decided) {
            let program = match &steered.steering {
                Steering::Cpu(sockets) => Program::new(sockets).map(Some),
                Steering::Hash(_) => Ok(None),
            };
            let attached = program.and_then(|program| {
                steering::attach(socket, program.as_ref()).map_err(|error| error.to_string())
            });
            if let Err(error) = attached {
                let why = format!("the kernel does not steer connections to {address}: {error}");
                if choice == Choice::Cpu {
                    return Err(StartError::Refused(format!("listen.accept_steering: {why}")));
                }
                steered.steering = Steering::Hash(why);
            }
            let (word, why) = (steered.steering.word(), steered.steering.why());
            tracing::info!("connections to {address} find their shard by {word}: {why}");
        }
        Ok(())
    }
}

/// What the configuration calls an address.
fn key_of(opening: Opening) -> &'static str {
    match opening {
        Opening::Plain => "listen.address",
        Opening::Proxied => "listen.proxied",
    }
}

/// Binds `address` once for each shard; the sockets.
fn bind(mut address: SocketAddr, opening: Opening, shards: usize) -> Result<Vec<TcpListener>, StartError> {
    let key = key_of(opening);
    let asked = address;
    let failed =
        |error: std::io::Error| StartError::Unbound(format!("{key}: {asked} cannot be bound: {error}"));
    // SO_REUSEPORT would let us share the port with another gateway without noticing.
    drop(socket(address, false).map_err(failed)?);
    let mut listeners = Vec::new();
    for _ in 0..shards {
        let listener = socket(address, true).map_err(failed)?;
        // Port 0 is chosen once, for all shards.
        address = listener.local_addr().map_err(failed)?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr, shared: bool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    prepare(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
