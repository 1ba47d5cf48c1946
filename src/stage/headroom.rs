//! Whether a shard has room for one more request, and who is turned away first when it has little.
//!
//! Decided right after the route is known: a request that is turned away has cost a parse and nothing else, is
//! charged to no limit and has been sent nowhere. A share of the room is kept for critical routes. Owns no
//! count; what the shard is doing is an argument.

use super::refusal::{Code, Refusal};

/// How much a route's requests matter when not all can be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Turned away when all but the critical routes' share is taken.
    #[default]
    Normal,
    /// Turned away last.
    Critical,
}

/// What a shard is doing, and what it has left.
#[derive(Clone, Copy, Debug)]
pub struct Headroom {
    /// Requests being served.
    pub in_flight: u64,
    /// Buffers not lent out.
    pub blocks_free: usize,
    /// Buffers there are.
    pub blocks: usize,
}

impl Headroom {
    /// That of a shard which serves nobody else.
    pub const IDLE: Self = Self { in_flight: 0, blocks_free: 1_000, blocks: 1_000 };
}

/// How much of a shard's room may be taken.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// Requests served at once.
    pub in_flight: u64,
    /// Of requests and buffers, the share that only critical routes may take, in percent, below 100.
    pub critical_percent: u64,
}

/// Buffers a request needs besides the one it came in: its head for the endpoint, and the answer.
const BLOCKS_NEEDED: usize = 2;

impl Ceilings {
    /// Lets a request of `priority` in, or turns it away.
    ///
    /// # Errors
    /// 503 `overloaded`, with the bound that was reached.
    pub fn admit(&self, priority: Priority, headroom: Headroom) -> Result<(), Refusal> {
        // First what waiting for a turn would make worse.
        if self.is_short_of_buffers(priority, headroom) {
            return Err(Refusal::new(Code::Overloaded, "bounds.buffer_bytes"));
        }
        if self.is_full(priority, headroom.in_flight) {
            return Err(Refusal::new(Code::Overloaded, "bounds.in_flight"));
        }
        Ok(())
    }

    /// Whether a shard with so many requests in flight takes no more of `priority`.
    pub fn is_full(&self, priority: Priority, in_flight: u64) -> bool {
        in_flight + self.kept(priority, self.in_flight) >= self.in_flight
    }

    /// Whether the buffers that are left are for others than `priority`.
    pub fn is_short_of_buffers(&self, priority: Priority, headroom: Headroom) -> bool {
        (headroom.blocks_free as u64) < BLOCKS_NEEDED as u64 + self.kept(priority, headroom.blocks as u64)
    }

    /// The share of `whole` that is not for `priority`. Rounded up, so that a share of anything is at least one.
    fn kept(&self, priority: Priority, whole: u64) -> u64 {
        match priority {
            Priority::Normal => (whole * self.critical_percent).div_ceil(100),
            Priority::Critical => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILINGS: Ceilings = Ceilings { in_flight: 20, critical_percent: 10 };

    fn admitted(priority: Priority, in_flight: u64, blocks_free: usize) -> bool {
        CEILINGS.admit(priority, Headroom { in_flight, blocks_free, blocks: 100 }).is_ok()
    }

    #[test]
    fn the_last_share_of_requests_is_for_critical_routes() {
        assert!(admitted(Priority::Normal, 17, 100));
        assert!(!admitted(Priority::Normal, 18, 100));
        assert!(admitted(Priority::Critical, 19, 100));
        assert!(!admitted(Priority::Critical, 20, 100));
    }

    #[test]
    fn the_last_share_of_buffers_is_for_critical_routes() {
        assert!(admitted(Priority::Normal, 0, 12));
        assert!(!admitted(Priority::Normal, 0, 11));
        assert!(admitted(Priority::Critical, 0, 2));
        assert!(!admitted(Priority::Critical, 0, 1));
    }

    #[test]
    fn without_a_share_all_are_equal() {
        let ceilings = Ceilings { in_flight: 1, critical_percent: 0 };
        let headroom = |in_flight| Headroom { in_flight, blocks_free: 2, blocks: 2 };
        for priority in [Priority::Normal, Priority::Critical] {
            assert!(ceilings.admit(priority, headroom(0)).is_ok());
            let refusal = ceilings.admit(priority, headroom(1)).unwrap_err();
            assert_eq!((refusal.code, refusal.retry_after_s), (Code::Overloaded, 1));
        }
    }
}
