//! Waiting for a condition, with a deadline that only a hang can reach.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

/// How long anything may take before a test calls it hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(2);

/// Looks until `condition` holds.
#[expect(clippy::disallowed_methods, reason = "the one place where tests wait for a condition")]
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        std::thread::sleep(LOOK);
    }
}

/// Where endpoints hold requests until the test has seen what it wanted to see. Clones are the same gate.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    waiting: usize,
    open: bool,
}

impl Gate {
    /// Waits until the gate is open.
    pub(crate) fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.waiting += 1;
        drop(changed.wait_timeout_while(state, PATIENCE, |state| !state.open).unwrap());
    }

    /// How many have come to the gate so far.
    pub(crate) fn arrived(&self) -> usize {
        self.0.0.lock().unwrap().waiting
    }

    /// Whether everybody passes.
    pub(crate) fn is_open(&self) -> bool {
        self.0.0.lock().unwrap().open
    }

    /// Lets everybody pass, from now on.
    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }
}
