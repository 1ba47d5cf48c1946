//! To which endpoints a shard has a connection that is idle: among equals these are chosen.

use super::Endpoint;

/// One bit for each slot of an endpoint, kept by the shard's pools.
#[derive(Debug, Default)]
pub struct Warm(Vec<u64>);

impl Warm {
    /// Whether there is one to the endpoint with this slot, from now on.
    pub fn set(&mut self, slot: usize, is_warm: bool) {
        let (word, bit) = (slot / 64, 1 << (slot % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if is_warm {
            self.0[word] |= bit;
        } else {
            self.0[word] &= !bit;
        }
    }

    /// Whether a request to `endpoint` would not have to wait for a connection: there is one here, or one that
    /// waits for any shard.
    pub(super) fn has(&self, endpoint: &Endpoint) -> bool {
        let word = self.0.get(endpoint.slot / 64).copied().unwrap_or(0);
        word & 1 << (endpoint.slot % 64) != 0 || endpoint.spares.count() > 0
    }
}
