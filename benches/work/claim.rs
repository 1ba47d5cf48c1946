//! One key of one limit with one window: the least a limit costs.

use tollgate::{
    base::clock::Moment,
    shared::{
        cells::Sliding,
        key_table::{KeyTable, settle},
        window::Window,
    },
};

/// A key that claims one unit each time, as the gateway does.
pub(crate) struct Claim {
    table: KeyTable,
    now: Moment,
    /// Microseconds from one claim to the next.
    gap_us: u64,
}

impl Claim {
    /// A key that uses three quarters of its limit, and so is counted in cells.
    pub(crate) fn granted() -> Self {
        Self::every(1_333)
    }

    /// A key that used all of its limit and goes on asking.
    pub(crate) fn refused() -> Self {
        let mut claim = Self::every(0);
        while claim.once() {}
        claim
    }

    fn every(gap_us: u64) -> Self {
        const LIMIT: u32 = 1_000;
        let window = Sliding::new(LIMIT, 1_000_000).expect("a window");
        let table = KeyTable::new(&[Window::Sliding(window)], 65_536);
        let now = Moment { monotonic_us: 5_000_000, unix_us: 5_000_000 };
        let mut claim = Self { table, now, gap_us };
        (0..LIMIT).for_each(|_| {
            claim.once();
        });
        claim
    }

    /// Whether it is granted.
    pub(crate) fn once(&mut self) -> bool {
        self.now.monotonic_us += self.gap_us;
        let Ok(slot) = self.table.slot(0x1234_5678_9abc_def0, self.now) else { return false };
        let usage = self.table.usage(slot, 0);
        if !usage.may_have(1, self.now) {
            return false;
        }
        let claim = usage.claim_up_to(1, self.now);
        settle();
        claim.is_ok_and(|claim| usage.holds(&claim))
    }
}
