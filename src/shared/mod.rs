//! The crossings: the only state that more than one thread touches.
//!
//! Every atomic of the program; no locks, no waiting, no I/O, no policy. `tests/loom/` compiles the very same files.
//!
//! | crossing | written by | read by | bound | ordering |
//! |---|---|---|---|---|
//! | [`cells`] | every shard | every shard | cells of one key | relaxed: each cell is its own proof |
//! | [`key_table`] | every shard | every shard, metrics | `limit_keys` per limit | `SeqCst` fences around lost places |
//! | [`callers`] | its own shard | control | 512 names per table | release/acquire on a name's key |
//! | [`load`] | every shard; control, what fades | every shard, metrics | two words per endpoint | relaxed: counts, not messages |
//! | [`standing`] | control; shards what cannot wait | every shard, control | four words per endpoint | relaxed: each a fact by itself |
//! | [`spares`] | every shard | every shard, metrics | `idle_connections` per endpoint | crossbeam's: a connection is handed over whole |
//! | [`counter`] | its own shard | control | fixed per shard | relaxed, single writer, no read-modify-write |
//! | [`lifecycle`] | control, each shard its own part | shards, control | a few words | release/acquire |
//! | [`audit_ring`] | its own shard; news by the audit writer | audit writer; its own shard | `audit.ring` bytes per shard | rtrb's; `SeqCst` fences in [`bell`] |
//! | [`log_ring`] | its own shard | log writer; control, of samples | `log.ring` bytes per shard | rtrb's release/acquire |

pub mod audit_record;
pub mod audit_ring;
pub mod bell;
pub mod bucket;
pub mod calendar;
pub mod callers;
pub mod cells;
pub mod counter;
pub mod key_table;
pub mod lifecycle;
pub mod listed;
pub mod load;
pub mod log_ring;
pub mod meters;
mod packed;
pub mod record;
pub mod region;
pub mod revoked;
pub mod sample;
pub mod spares;
pub mod standing;
mod sync;
mod tally;
pub mod window;

#[cfg(test)]
mod tests;
