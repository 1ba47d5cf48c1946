//! `loadtest relay`: copies bytes between each client and an upstream connection of its own, and does nothing else.
//!
//! It is the floor of what a proxy can cost on this ring: it reads no HTTP, pools nothing, checks and logs nothing.
//! One thread. The copying is in `shard`; this file binds, starts and prints.

mod shard;

use std::{
    io::{self, Write},
    net::{SocketAddr, ToSocketAddrs},
};

use clap::Args;

use self::shard::Shard;
use crate::{
    cpus::{self, CpuList},
    exit::SetUp,
    load::allow_descriptors,
    net::socket,
    signals,
};

/// Descriptors of clients and upstream connections that the relay asks for, as far as it may have them.
const DESCRIPTORS: u64 = 20_000;

/// The byte relay.
#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    /// The address to listen on; port 0 takes a free port. Printed as `listening on ADDR`.
    #[arg(long, value_name = "ADDR")]
    listen: String,
    /// Where each client's bytes go.
    #[arg(long, value_name = "ADDR")]
    target: String,
    /// The CPU to pin the one thread to; of a list the first.
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuList>,
}

/// Relays until Ctrl-C or SIGTERM, then prints the counts.
///
/// # Errors
/// When an address does not resolve or cannot be bound, or a ring cannot be made.
pub(crate) fn run(args: &RelayArgs) -> Result<(), SetUp> {
    let stop = signals::stop_flag()?;
    let target = resolve("--target", &args.target)?;
    let refused = |error: io::Error| SetUp::new(format!("cannot listen on {}: {error}", args.listen));
    let listener = socket::listener(resolve("--listen", &args.listen)?).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?.as_socket();
    // Fewer descriptors mean fewer clients at a time, which is no reason not to start.
    let _ = allow_descriptors(DESCRIPTORS);
    if let Some(cpu) = args.cpus.as_ref().map(|list| list.cpu(0)) {
        cpus::pin(cpu).map_err(|error| SetUp::new(format!("cannot run on CPU {cpu}: {error}")))?;
    }
    let shard = Shard::new(listener, target).map_err(|error| SetUp::new(error.to_string()))?;
    if let Some(address) = address {
        let _ = writeln!(io::stdout(), "listening on {address}");
    }
    let counts = shard.run(&stop).map_err(|error| SetUp::new(format!("the relay's ring failed: {error}")))?;
    let _ = writeln!(io::stdout(), "{counts}");
    Ok(())
}

fn resolve(option: &str, text: &str) -> Result<SocketAddr, SetUp> {
    text.to_socket_addrs()
        .map_err(|error| SetUp::new(format!("{option} {text}: {error}")))?
        .next()
        .ok_or_else(|| SetUp::new(format!("{option} {text} names no address")))
}
