//! Follows the file of revocations: a change is in force within a second, whole or not at all.
//!
//! A file is taken up when it has not changed between two looks, so one that is being written is not taken
//! for the end result. One that never comes to rest only adds to what is in force. A file that is broken or
//! gone leaves the list in force as it is, and that is said once.

use std::{io, path::Path, sync::Arc, thread, time::Duration};

use super::{
    super::followed_file::{Follower, Stamp, Step, stamp},
    Revocations, read_file,
};
use crate::base::clock::Clock;

/// Between two looks. Two of them and the reading must fit into a second.
const LOOK: Duration = Duration::from_millis(200);

/// Follows the file, if there is one, and forgets what has ended, for as long as the process runs. On a thread
/// of its own: a long list takes a moment and a disk may hang, and neither shall keep the control thread.
///
/// # Errors
/// The system gives no thread.
pub fn start(revocations: Arc<Revocations>) -> io::Result<()> {
    thread::Builder::new().name("revocation".to_owned()).spawn(move || run(&revocations)).map(drop)
}

fn run(revocations: &Revocations) {
    let clock = Clock::new();
    let mut follower = Follower::default();
    loop {
        clock.follow_wall_clock();
        let now_s = clock.now().unix_seconds();
        revocations.prune(now_s);
        if let Some(path) = &revocations.plan.file {
            let step = follower.look(stamp(path));
            if let Some(settled) = take(revocations, path, step, now_s) {
                follower.settled = Some(settled);
            }
        }
        #[expect(clippy::disallowed_methods, reason = "a thread of its own, for which nobody waits")]
        thread::sleep(LOOK);
    }
}

/// Takes `step`. The state that the file is done with, if it is.
fn take(revocations: &Revocations, path: &Path, step: Step, now_s: i64) -> Option<Stamp> {
    let read = || read_file(path, revocations.fingerprints, revocations.plan.entries_max, now_s);
    match step {
        Step::Rest => None,
        Step::Gone(message) => {
            revocations.note_trouble(message);
            None
        }
        Step::Restless => {
            // Half a line is no mistake while it is being written.
            if let Ok(entries) = read() {
                revocations.add_from_file(entries);
            }
            None
        }
        Step::Replace(before) => {
            let found = read();
            // What changed while it was read may be half of one state and half of another.
            if stamp(path).ok()? != before {
                return None;
            }
            match found {
                Ok(entries) => revocations.replace_from_file(&entries),
                Err(mistake) => revocations.note_trouble(mistake.to_string()),
            }
            Some(before)
        }
    }
}
