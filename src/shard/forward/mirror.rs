//! Copies of safe requests for another cluster, whose answers nobody gets.
//!
//! A copy is a task of its own: the client's exchange neither waits for it nor learns of it. It is made only
//! while there is room to spare, ends with the cluster's response time-out, and is counted by itself. Endpoints
//! know it by its `Tollgate-Mirror` field.

use std::{cell::Cell, rc::Rc};

use crate::{
    base::block::Block,
    http::{
        answer::{self, Asked},
        body::BodyReader,
        field::Storage,
        scan::{HeadScan, Scan},
    },
    stage::balance::{self, Cluster, Wish},
};

use super::{
    super::{Shard, exchange::Exchange, patience::Patience, runtime, socket::Socket, watch::Direction},
    pool::{self, Lease, Look},
};

/// Copies under way at once, on each shard.
const COPIES_MAX: usize = 64;
/// The longest answer that is read to its end to save its connection.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// Stands at the end of a copy's head, in place of the empty line.
const MARK: &[u8] = b"Tollgate-Mirror: 1\r\n\r\n";

/// Sends a copy of `request`, a whole head without a body, to the cluster at the place `cluster`.
pub(super) fn send_copy(shard: &Rc<Shard>, exchange: &Exchange<'_>, cluster: usize, request: &Block) {
    let snapshot = shard.in_force.current();
    let meters = &exchange.snapshot.clusters[cluster].meters;
    // A copy goes by the configuration that its request was decided by, which a task could not keep alive.
    let is_in_force = snapshot.generation == exchange.snapshot.generation;
    let copy = is_in_force.then(|| Copying::begin(shard)).flatten().and_then(|copying| {
        let mut block = shard.buffers.rent()?;
        let head = request.unread().strip_suffix(b"\r\n")?;
        block.put_all(&[head, MARK]).ok()?;
        Some((copying, block))
    });
    let Some((copying, block)) = copy else {
        meters.of(shard.index).mirrored_skipped.add(1);
        return;
    };
    let asked = exchange.asked;
    runtime::spawn(async move {
        let cluster = &snapshot.clusters[cluster];
        let answered = carry(&copying.0, cluster, asked, block).await;
        let meters = cluster.meters.of(copying.0.index);
        if answered.is_some() { meters.mirrored.add(1) } else { meters.mirrored_failed.add(1) }
    });
}

/// One copy counted in, until dropped.
struct Copying(Rc<Shard>);

impl Copying {
    /// `None` when clients may need what it would take.
    fn begin(shard: &Rc<Shard>) -> Option<Self> {
        let has_room = shard.copies.get() < COPIES_MAX && shard.buffers.free() > shard.buffers.blocks() / 2;
        (has_room && !shard.draining.get()).then(|| {
            shard.copies.set(shard.copies.get() + 1);
            Self(Rc::clone(shard))
        })
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        let copies: &Cell<usize> = &self.0.copies;
        copies.set(copies.get() - 1);
    }
}

/// Asks one endpoint and hears it out; `None` if there was no whole answer in time.
async fn carry(shard: &Rc<Shard>, cluster: &Cluster, asked: Asked, mut block: Block) -> Option<()> {
    let until_ms = shard.recent_ms() + cluster.response_timeout_ms;
    let permit = balance::pick(cluster, Wish::default(), &mut shard.desk.borrow_mut().rng).ok()?;
    let endpoint = permit.endpoint();
    let kept = Lease::from_pool(shard, cluster, endpoint, Look::Recent);
    let lease = match kept {
        Some(lease) => lease,
        None => Lease::dial(shard, cluster, endpoint, cluster.response_timeout_ms).await.ok()?,
    };
    let upstream = lease.socket();
    let patience = Patience::with_endpoint(cluster.response_timeout_ms, until_ms);
    upstream.send_all([block.unread()], &patience, || shard.clock.now().monotonic_ms()).await.ok()?;
    block.clear();
    upstream.watch().set(Direction::Read, until_ms);
    let kept_ms = hear_out(shard, upstream, asked, until_ms, &mut block).await?;
    if let Some(kept_ms) = kept_ms {
        lease.keep(shard, cluster, endpoint, kept_ms);
    }
    Some(())
}

/// Reads an answer and forgets it. How long its connection is kept, if it can serve again.
async fn hear_out(
    shard: &Shard,
    upstream: &Socket,
    asked: Asked,
    until_ms: u64,
    block: &mut Block,
) -> Option<Option<u64>> {
    let mut scan = HeadScan::default();
    let (mut reader, kept_ms) = loop {
        if let Scan::Complete(length) = scan.advance(block.unread()) {
            let mut storage = Storage::new();
            let head = answer::parse(&block.unread()[..length], asked, &mut storage).ok()?;
            let (is_interim, framing, kept_ms) = (head.is_interim(), head.framing, pool::kept_ms(&head));
            block.consume(length);
            if !is_interim {
                break (BodyReader::new(framing, ANSWER_BYTES_MAX), kept_ms);
            }
            scan = HeadScan::default();
            continue;
        }
        read_more(shard, upstream, until_ms, block).await?;
    };
    let mut bytes = 0;
    while !reader.is_done() {
        let piece = reader.piece(block.unread_mut()).ok()?;
        block.consume(piece.consumed);
        bytes += piece.consumed as u64;
        if bytes > ANSWER_BYTES_MAX {
            return Some(None);
        }
        if !piece.last && !reader.is_done() && read_more(shard, upstream, until_ms, block).await.is_none() {
            // Some answers end with their connection.
            return reader.closed().then_some(None);
        }
    }
    Some(kept_ms.filter(|_| block.unread().is_empty()))
}

async fn read_more(shard: &Shard, upstream: &Socket, until_ms: u64, block: &mut Block) -> Option<()> {
    block.compact_to(0);
    if block.room() == 0 || shard.clock.now().monotonic_ms() >= until_ms {
        return None;
    }
    matches!(upstream.recv(block, usize::MAX).await, Ok(1..)).then_some(())
}
