//! When the steps of a timed exchange began, for the one in a hundred that is looked at closely.
//!
//! The decisions only say that a step begins. Whoever wants to know the time brings the clock along, so that what
//! is decided cannot depend on it.

/// The decisions, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Which route is it?
    #[default]
    Route,
    /// Has the shard room for it?
    Headroom,
    /// Who sent it?
    Credential,
    /// May they?
    Permission,
    /// Is this version of the API still served, and has it such an operation?
    Version,
    /// Is its body too long?
    Body,
    /// Is there quota left?
    Limit,
    /// Which endpoint takes it?
    Balance,
}

/// How many there are.
const STEPS: usize = Step::Balance as usize + 1;

/// When each step began.
#[derive(Clone, Copy, Debug)]
pub struct StepTimes {
    read_us: fn() -> u64,
    began_us: [u64; STEPS],
    /// The last step that was begun.
    reached: Step,
    decided_us: u64,
}

impl StepTimes {
    /// Nothing has begun yet. `read_us` tells the time in microseconds.
    pub fn new(read_us: fn() -> u64) -> Self {
        Self { read_us, began_us: [0; STEPS], reached: Step::Route, decided_us: 0 }
    }

    /// `step` begins now; what was noted of it and those behind it does not count any more.
    pub(super) fn begin(&mut self, step: Step) {
        self.began_us[step as usize..].fill((self.read_us)());
        self.reached = step;
    }

    /// It is decided.
    pub fn end(&mut self) {
        self.decided_us = (self.read_us)();
    }

    /// How long routing, authenticating, limiting and balancing took, in microseconds, and when they began and
    /// ended. A step that was not reached took none; if none was, they began when they ended.
    pub fn lengths_us(&self) -> ([u64; 4], u64, u64) {
        let began_us = |step: Step| match self.began_us[step as usize] {
            0 => self.decided_us,
            _ if step > self.reached => self.decided_us,
            began_us => began_us,
        };
        let bounds = [
            began_us(Step::Route),
            began_us(Step::Credential),
            began_us(Step::Limit),
            began_us(Step::Balance),
            self.decided_us,
        ];
        let mut lengths_us = [0; 4];
        for (length_us, pair) in lengths_us.iter_mut().zip(bounds.windows(2)) {
            *length_us = pair[1].saturating_sub(pair[0]);
        }
        (lengths_us, bounds[0], self.decided_us)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Ten microseconds later each time it is asked.
    fn ticking() -> u64 {
        static NOW_US: AtomicU64 = AtomicU64::new(10);
        NOW_US.fetch_add(10, Ordering::Relaxed)
    }

    #[test]
    fn the_step_that_refuses_takes_the_time_to_the_end() {
        let mut times = StepTimes::new(ticking);
        for step in [Step::Route, Step::Headroom, Step::Credential, Step::Permission] {
            times.begin(step);
        }
        times.end();
        let (lengths_us, began_us, decided_us) = times.lengths_us();
        assert_eq!((lengths_us, decided_us - began_us), ([20, 20, 0, 0], 40));
        // Taken again after the body has come.
        for step in [Step::Route, Step::Headroom, Step::Credential, Step::Body, Step::Limit, Step::Balance] {
            times.begin(step);
        }
        times.end();
        assert_eq!(times.lengths_us().0, [20, 20, 10, 10]);
    }
}
