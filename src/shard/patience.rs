//! How long a peer may keep a message waiting: so long at a time, and in all no longer than its bytes are worth.
//!
//! A time-out that every byte grants anew ends no client that sends one byte now and then. So the waits for a
//! client add up, and once they come to more than the time-out, its bytes must have come at the minimum rate.
//! Only waits count: whatever else takes long is not the client's doing.

use std::cell::Cell;

use crate::stage::snapshot::Timeouts;

/// For how long a client may take nothing of its answer while others are turned away, in milliseconds: longer than it takes
/// to send a lost segment again, and once more.
const UNDER_PRESSURE_MS: u64 = 1_000;

/// One message's account with the peer it waits for.
#[derive(Debug)]
pub(super) struct Patience {
    /// For one wait, and to begin with for all.
    stall_ms: u64,
    /// When it ends in any case, on the monotonic clock.
    until_ms: u64,
    /// With whom the shard has less of it when it turns others away.
    is_clients: bool,
    /// Bytes per second; none are asked for when zero.
    rate_min: u64,
    waited_ms: Cell<u64>,
    bytes: Cell<u64>,
}

impl Patience {
    /// With an endpoint: `stall_ms` at a time, up to `until_ms`.
    pub(super) fn with_endpoint(stall_ms: u64, until_ms: u64) -> Self {
        Self {
            stall_ms,
            until_ms,
            is_clients: false,
            rate_min: 0,
            waited_ms: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    /// With a client, for one message.
    pub(super) fn with_client(timeouts: &Timeouts) -> Self {
        let others = Self::with_endpoint(timeouts.body_ms, u64::MAX);
        Self { rate_min: timeouts.body_rate_min, is_clients: true, ..others }
    }

    /// When a wait that begins at `from_ms` has been long enough.
    pub(super) fn ends_ms(&self, from_ms: u64) -> u64 {
        (from_ms + self.left_ms()).min(self.until_ms)
    }

    /// When a wait that begins at `from_ms` has been too long for a shard that turns others away; never when `None`.
    pub(super) fn spent_ms(&self, from_ms: u64) -> Option<u64> {
        self.is_clients.then(|| from_ms + UNDER_PRESSURE_MS)
    }

    /// How long the next wait may be, in milliseconds.
    pub(super) fn left_ms(&self) -> u64 {
        if self.rate_min == 0 {
            return self.stall_ms;
        }
        let earned_ms = self.bytes.get().saturating_mul(1_000) / self.rate_min;
        (self.stall_ms.saturating_add(earned_ms)).saturating_sub(self.waited_ms.get()).min(self.stall_ms)
    }

    /// A wait took so long.
    pub(super) fn waited(&self, ms: u64) {
        self.waited_ms.set(self.waited_ms.get().saturating_add(ms));
    }

    /// So many bytes moved.
    pub(super) fn moved(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds until a peer that moves `bytes` after each `wait_ms` is given up.
    fn given_up_after(patience: &Patience, wait_ms: u64, bytes: usize) -> u64 {
        let mut elapsed_ms = 0;
        while patience.left_ms() >= wait_ms {
            patience.waited(wait_ms);
            patience.moved(bytes);
            elapsed_ms += wait_ms;
            if elapsed_ms > 1_000_000 {
                return u64::MAX;
            }
        }
        elapsed_ms + patience.left_ms()
    }

    fn client(body_rate_min: u64) -> Patience {
        Patience::with_client(&Timeouts {
            head_ms: 1,
            body_ms: 5_000,
            idle_ms: 1,
            queue_ms: 0,
            body_rate_min,
        })
    }

    #[test]
    fn a_byte_now_and_then_buys_nothing() {
        assert_eq!(given_up_after(&client(1_000), 6_000, 0), 5_000, "silent: the time-out");
        assert!((5_000..5_100).contains(&given_up_after(&client(1_000), 1_000, 1)));
        assert_eq!(given_up_after(&client(1_000), 1_000, 1_000), u64::MAX, "just fast enough");
        assert_eq!(given_up_after(&client(0), 1_000, 1), u64::MAX, "no rate is asked for");
        assert_eq!(given_up_after(&Patience::with_endpoint(5_000, u64::MAX), 4_999, 1), u64::MAX);
    }

    #[test]
    fn what_came_fast_is_to_the_peers_credit_but_no_single_wait_is_longer() {
        let patience = client(1_000);
        patience.moved(1_000_000);
        assert_eq!(patience.left_ms(), 5_000);
        patience.waited(4_000);
        assert_eq!(patience.left_ms(), 5_000);
    }
}
