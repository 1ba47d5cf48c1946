//! How an endpoint stands, as shards have to know it: what it may be given, how slow it is, what went wrong in a row.
//!
//! Control decides and publishes; shards read, and say at once what cannot wait for control's next look: a suspicion,
//! a slow answer, another failure. Nothing a shard says is ever lost to control's writing at the same moment. Why an
//! endpoint stands as it does is control's knowledge and not here.

use super::sync::{AtomicU32, AtomicU64, Ordering};

/// What one unit of a configured weight is in effect, so that a fraction of it can be said too.
pub const WEIGHT_UNIT: u32 = 256;
/// The ceiling of an endpoint that has none.
pub const UNBOUNDED: u32 = u32::MAX >> 1;

/// What an endpoint may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its share relative to the others, in parts of [`WEIGHT_UNIT`]; nothing at all when zero.
    pub weight: u32,
    /// The most exchanges in flight; at most [`UNBOUNDED`].
    pub ceiling: u32,
    /// A shard has seen it fail so often that it should not be chosen before control has looked at it.
    pub is_suspect: bool,
}

/// The words of one endpoint. All relaxed: each is a fact by itself and no message about another.
#[derive(Debug)]
#[repr(align(64))]
pub struct Standing {
    /// [`Terms`]: weight below, then ceiling, the suspicion on top. Control writes all of it; any shard sets the
    /// suspicion.
    terms: AtomicU64,
    /// What an answer takes, in microseconds; 0 while nobody knows. Control writes it; any shard raises it.
    estimate_us: AtomicU32,
    /// [`Streak`]: written by every shard, read by control.
    streak: AtomicU32,
    /// The load that the endpoint reported last, in thousandths and one more; 0 when it has not since control looked.
    reported: AtomicU32,
}

const SUSPECT: u64 = 1 << 63;

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    /// How many, as far as can be counted.
    pub failures: u32,
    /// How many of the last ones were connections that could not be made.
    pub unreachable: u32,
    /// What the last one was, in whoever's language calls [`Standing::note_failure`].
    pub last: u8,
}

/// The most that is counted in a row.
const COUNTED_MAX: u32 = 0xfff;

impl Streak {
    fn of(word: u32) -> Self {
        Self { failures: word & COUNTED_MAX, unreachable: word >> 12 & COUNTED_MAX, last: (word >> 24) as u8 }
    }

    fn word(self) -> u32 {
        let count = |number: u32| number.min(COUNTED_MAX);
        count(self.failures) | count(self.unreachable) << 12 | u32::from(self.last) << 24
    }

    fn and(self, last: u8, unreachable: bool) -> Self {
        let unreachable = if unreachable { self.unreachable + 1 } else { 0 };
        Self { failures: self.failures + 1, unreachable, last }
    }
}

impl Standing {
    /// An endpoint that may be given `weight` (in parts of [`WEIGHT_UNIT`]) and `ceiling`.
    pub fn new(weight: u32, ceiling: u32) -> Self {
        Self {
            terms: AtomicU64::new(pack(weight, ceiling)),
            estimate_us: AtomicU32::new(0),
            streak: AtomicU32::new(0),
            reported: AtomicU32::new(0),
        }
    }

    /// What it may be given now.
    pub fn terms(&self) -> Terms {
        let word = self.terms.load(Ordering::Relaxed);
        Terms {
            weight: word as u32,
            ceiling: (word >> 32) as u32 & UNBOUNDED,
            is_suspect: word & SUSPECT != 0,
        }
    }

    /// Says what it may be given from now on. A suspicion stays. For control only.
    pub fn publish(&self, weight: u32, ceiling: u32) {
        let wanted = pack(weight, ceiling);
        let mut before = self.terms.load(Ordering::Relaxed);
        while before & !SUSPECT != wanted {
            let after = wanted | before & SUSPECT;
            match self.terms.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }

    /// Has it chosen no more until control has looked at it.
    pub fn suspect(&self) {
        self.terms.fetch_or(SUSPECT, Ordering::Relaxed);
    }

    /// Ends the suspicion; whether there was one. For control only.
    pub fn acquit(&self) -> bool {
        self.terms.fetch_and(!SUSPECT, Ordering::Relaxed) & SUSPECT != 0
    }

    /// What an answer takes, in microseconds; 0 while nobody knows.
    pub fn estimate_us(&self) -> u32 {
        self.estimate_us.load(Ordering::Relaxed)
    }

    /// Takes note of an answer that took much longer than expected: the estimate is at least that from now on.
    pub fn raise_estimate(&self, us: u32) {
        self.estimate_us.fetch_max(us, Ordering::Relaxed);
    }

    /// Replaces the estimate that was read as `before`; not if a shard has raised it since. For control only.
    pub fn settle_estimate(&self, before: u32, after: u32) -> bool {
        self.estimate_us.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Failures in a row up to now.
    pub fn streak(&self) -> Streak {
        Streak::of(self.streak.load(Ordering::Relaxed))
    }

    /// An attempt went well: nothing is in a row any more.
    pub fn note_success(&self) {
        // Mostly there is nothing to end, and a line that nobody writes stays with every shard.
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
    }

    /// An attempt failed in the way `last`. The streak with it.
    pub fn note_failure(&self, last: u8, unreachable: bool) -> Streak {
        let mut before = self.streak.load(Ordering::Relaxed);
        loop {
            let after = Streak::of(before).and(last, unreachable);
            match self.streak.compare_exchange(before, after.word(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return after,
                Err(now) => before = now,
            }
        }
    }

    /// Begins to count anew. For control, when it has drawn its conclusion.
    pub fn forget_streak(&self) {
        self.streak.store(0, Ordering::Relaxed);
    }

    /// Takes note of the load the endpoint reports, in thousandths of what it can do.
    pub fn report(&self, permille: u16) {
        self.reported.store(u32::from(permille) + 1, Ordering::Relaxed);
    }

    /// The load it reported since the last call, if it did. For control only.
    pub fn take_report(&self) -> Option<u16> {
        let reported = self.reported.swap(0, Ordering::Relaxed).checked_sub(1)?;
        u16::try_from(reported).ok()
    }
}

fn pack(weight: u32, ceiling: u32) -> u64 {
    u64::from(weight) | u64::from(ceiling.min(UNBOUNDED)) << 32
}
