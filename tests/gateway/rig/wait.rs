//! Waiting for a condition, with a deadline that only a hang can reach.

use std::time::{Duration, Instant};

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
