//! Time: one reading gives both clocks a request needs.
//!
//! Limits and timeouts run on the machine's monotonic clock, which no operator can set back; token
//! expiry and log timestamps need the wall clock. A shard reads the monotonic clock only (through the
//! vDSO, no system call) and adds an offset that it refreshes a few times a second, so a wall clock that
//! is stepped is followed within one refresh. Decision code never reads a clock: it is handed a
//! [`Moment`].

use std::cell::Cell;

/// A point in time as both clocks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Microseconds on `CLOCK_MONOTONIC`; comparable between all threads of the machine.
    pub monotonic_us: u64,
    /// Microseconds since the Unix epoch.
    pub unix_us: u64,
}

impl Moment {
    /// Whole seconds since the Unix epoch, as a token's `exp` counts them.
    pub fn unix_seconds(self) -> i64 {
        i64::try_from(self.unix_us / 1_000_000).unwrap_or(i64::MAX)
    }

    /// Microseconds from `earlier` to this moment; zero when `earlier` is later.
    pub fn since_us(self, earlier: Self) -> u64 {
        self.monotonic_us.saturating_sub(earlier.monotonic_us)
    }

    /// Milliseconds on the monotonic clock, the unit of deadlines.
    pub fn monotonic_ms(self) -> u64 {
        self.monotonic_us / 1_000
    }
}

/// One thread's clock.
#[derive(Debug)]
pub struct Clock {
    /// Wall time minus monotonic time, in microseconds.
    unix_offset_us: Cell<u64>,
    /// The last reading, for those to whom "a moment ago" is good enough.
    last: Cell<Moment>,
}

impl Clock {
    /// A clock that has just been read.
    pub fn new() -> Self {
        let clock =
            Self { unix_offset_us: Cell::new(0), last: Cell::new(Moment { monotonic_us: 0, unix_us: 0 }) };
        clock.follow_wall_clock();
        clock.now();
        clock
    }

    /// Reads the monotonic clock.
    pub fn now(&self) -> Moment {
        let monotonic_us = read_us(libc::CLOCK_MONOTONIC);
        let moment = Moment { monotonic_us, unix_us: monotonic_us.wrapping_add(self.unix_offset_us.get()) };
        self.last.set(moment);
        moment
    }

    /// The last reading: no older than the last event this thread worked on.
    pub fn recent(&self) -> Moment {
        self.last.get()
    }

    /// Takes up a step or a slew of the wall clock. Called several times a second.
    pub fn follow_wall_clock(&self) {
        let unix_us = read_us(libc::CLOCK_REALTIME);
        let monotonic_us = read_us(libc::CLOCK_MONOTONIC);
        self.unix_offset_us.set(unix_us.wrapping_sub(monotonic_us));
    }
}

/// Microseconds on the monotonic clock, for whoever times something and has no clock of its own.
pub fn monotonic_us() -> u64 {
    read_us(libc::CLOCK_MONOTONIC)
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(unsafe_code, reason = "std's Instant hides its value, which limits that outlive a process need")]
fn read_us(clock: libc::clockid_t) -> u64 {
    #[cfg(test)]
    if let Some(set) = manual::reading(clock) {
        return set;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec. Both clocks exist on every Linux, so the call
    // cannot fail; were it to, `time` would still be the initialised zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1_000
}

/// Clocks that stand where a test puts them, for all [`Clock`]s of its thread.
#[cfg(test)]
pub(crate) mod manual {
    use std::cell::Cell;

    use super::Moment;

    thread_local! {
        static SET: Cell<Option<Moment>> = const { Cell::new(None) };
    }

    /// Puts the clocks at `moment`; lets them go when absent.
    pub(crate) fn set(moment: Option<Moment>) {
        SET.set(moment);
    }

    pub(super) fn reading(clock: libc::clockid_t) -> Option<u64> {
        SET.get().map(|moment| match clock {
            libc::CLOCK_REALTIME => moment.unix_us,
            _ => moment.monotonic_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_advance_together() {
        let clock = Clock::new();
        let first = clock.now();
        let second = clock.now();
        assert!(second.monotonic_us >= first.monotonic_us);
        assert_eq!(second.unix_us - first.unix_us, second.monotonic_us - first.monotonic_us);
        assert_eq!(clock.recent(), second);
    }

    #[test]
    fn wall_time_is_the_systems() {
        let system = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("this machine's clock is past 1970");
        let ours = Clock::new().now().unix_seconds();
        assert!((i64::try_from(system.as_secs()).unwrap() - ours).abs() <= 1);
    }

    #[test]
    fn since_never_goes_below_zero() {
        let early = Moment { monotonic_us: 5, unix_us: 5 };
        let late = Moment { monotonic_us: 9, unix_us: 9 };
        assert_eq!(late.since_us(early), 4);
        assert_eq!(early.since_us(late), 0);
    }
}
