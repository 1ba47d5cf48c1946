//! What a configuration needs of the machine, in numbers.

/// The files that `shards` shards can have open at once: a client and an endpoint connection each, and some.
pub fn files_needed(connections: usize, shards: usize) -> u64 {
    (2 * connections * shards + 64 * shards + 64) as u64
}
