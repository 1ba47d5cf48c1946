//! `loadtest upstream`: an endpoint that answers by script, cheap enough never to be what is measured.
//!
//! Each thread has a ring and its own listener on every address (`SO_REUSEPORT`). What is answered and when is
//! decided by `script`; this file starts the threads, prints where they listen and sums their counts.

pub(crate) mod delay;
mod script;
mod shard;

use std::{
    io::{self, Write},
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use clap::Args;
use socket2::Socket;

use self::{
    delay::{Delay, Stall},
    script::Script,
    shard::{Counts, Shard},
};
use crate::{
    clock::Clock,
    cpus::{self, CpuList},
    exit::SetUp,
    net::socket,
    share::Share,
    signals,
};

/// The scripted endpoint.
#[derive(Debug, Args)]
pub(crate) struct UpstreamArgs {
    /// Addresses to listen on; port 0 takes a free port. All are printed as `listening on ADDR`.
    #[arg(long, required = true, num_args = 1.., value_name = "ADDR")]
    listen: Vec<String>,
    /// When to answer: `2ms`, `fixed:2ms`, `lognormal:MEDIAN,SIGMA` or `bimodal:FAST,SLOW,SHARE` (the share of slow ones).
    #[arg(long, default_value = "0s")]
    delay: Delay,
    /// Bytes of each answer's body.
    #[arg(long, default_value_t = 12, value_name = "BYTES")]
    body: usize,
    /// Share of requests answered 500, as `0.01` or `1%`.
    #[arg(long, default_value = "0", value_name = "RATE")]
    fail: Share,
    /// Answer nothing for LENGTH at the end of each EVERY, as `2s:200ms`.
    #[arg(long, value_name = "EVERY:LENGTH")]
    stall: Option<Stall>,
    /// Send bodies in the chunked coding.
    #[arg(long)]
    chunked: bool,
    /// Close each connection after one answer.
    #[arg(long)]
    close: bool,
    /// Threads; by default one for each CPU of `--cpus`, or one.
    #[arg(long)]
    threads: Option<usize>,
    /// CPUs to pin the threads to, as `0-3,8`.
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuList>,
    /// Seed of the delays and failures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Serves until Ctrl-C or SIGTERM, then prints the counts.
///
/// # Errors
/// When an address cannot be bound or a ring cannot be made.
pub(crate) fn run(args: &UpstreamArgs) -> Result<(), SetUp> {
    let stop = signals::stop_flag()?;
    let threads = args.threads.unwrap_or_else(|| args.cpus.as_ref().map_or(1, CpuList::len)).max(1);
    let (addresses, mut listeners) = bind(&args.listen, threads)?;
    let script =
        Arc::new(Script::new(args.delay.clone(), args.stall, args.fail, args.body, args.chunked, args.close));
    let clock = Clock::start();

    let mut running = Vec::with_capacity(threads);
    for index in 0..threads {
        let own: Vec<Socket> = listeners.iter_mut().filter_map(Vec::pop).collect();
        let (script, stop) = (Arc::clone(&script), Arc::clone(&stop));
        let (cpu, seed) =
            (args.cpus.as_ref().map(|list| list.cpu(index)), args.seed.wrapping_add(index as u64));
        running.push(thread::spawn(move || serve(own, &script, clock, seed, cpu, &stop)));
    }
    let mut out = io::stdout().lock();
    for address in &addresses {
        let _ = writeln!(out, "listening on {address}");
    }
    let _ = out.flush();
    drop(out);

    let mut total = Counts::default();
    for thread in running {
        total += thread.join().map_err(|_| SetUp::new("an upstream thread panicked"))??;
    }
    let _ = writeln!(io::stdout(), "{total}");
    Ok(())
}

fn serve(
    listeners: Vec<Socket>,
    script: &Script,
    clock: Clock,
    seed: u64,
    cpu: Option<usize>,
    stop: &AtomicBool,
) -> Result<Counts, SetUp> {
    if let Some(cpu) = cpu {
        cpus::pin(cpu).map_err(|error| SetUp::new(format!("cannot run on CPU {cpu}: {error}")))?;
    }
    let shard = Shard::new(listeners, script, clock, seed).map_err(|error| SetUp::new(error.to_string()))?;
    shard.run(stop).map_err(|error| SetUp::new(format!("the endpoint's ring failed: {error}")))
}

/// Binds each address once per thread: the addresses in order, and for each its listeners.
fn bind(texts: &[String], threads: usize) -> Result<(Vec<SocketAddr>, Vec<Vec<Socket>>), SetUp> {
    let mut addresses = Vec::with_capacity(texts.len());
    let mut listeners = Vec::with_capacity(texts.len());
    for text in texts {
        let refused = |error: io::Error| SetUp::new(format!("cannot listen on {text}: {error}"));
        let mut address = text
            .to_socket_addrs()
            .map_err(refused)?
            .next()
            .ok_or_else(|| SetUp::new(format!("{text} names no address")))?;
        let mut own = Vec::with_capacity(threads);
        for _ in 0..threads {
            let listener = socket::listener(address).map_err(refused)?;
            // The first bind may have chosen the port; the others must share it.
            address = listener.local_addr().map_err(refused)?.as_socket().unwrap_or(address);
            own.push(listener);
        }
        addresses.push(address);
        listeners.push(own);
    }
    Ok((addresses, listeners))
}
