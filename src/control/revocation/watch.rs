//! Follows the file of revocations: a change is in force within a second, whole or not at all.
//!
//! A file is taken up when it has not changed between two looks, so one that is being written is not taken
//! for the end result. One that never comes to rest only adds to what is in force. A file that is broken or
//! gone leaves the list in force as it is, and that is said once.

use std::{io, os::unix::fs::MetadataExt, path::Path, sync::Arc, thread, time::Duration};

use super::{Revocations, read_file};
use crate::base::clock::Clock;

/// Between two looks. Two of them and the reading must fit into a second.
const LOOK: Duration = Duration::from_millis(200);
/// Looks after which a file that keeps changing is read as it is.
const RESTLESS_LOOKS: u32 = 3;

/// Which state of a file it is: device, inode, length, and when it was last changed.
type Stamp = [u64; 7];

/// What is known of the file.
#[derive(Default)]
struct Follower {
    /// The state that was taken up, or found to be bad.
    settled: Option<Stamp>,
    /// The state at the last look.
    seen: Option<Stamp>,
    /// Looks in a row that found another state than the one before.
    restless: u32,
}

/// What a look leads to.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Nothing yet.
    Rest,
    /// Take the file, which is in this state, for what is in force.
    Replace(Stamp),
    /// Add what the file holds to what is in force.
    Add,
    /// Say that it cannot be looked at.
    Gone(String),
}

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

impl Follower {
    fn look(&mut self, found: io::Result<Stamp>) -> Step {
        let stamp = match found {
            Ok(stamp) => stamp,
            Err(error) => {
                *self = Self::default();
                return Step::Gone(format!("cannot be looked at: {error}"));
            }
        };
        let still = self.seen.replace(stamp) == Some(stamp);
        if still || self.settled == Some(stamp) {
            self.restless = 0;
        } else {
            self.restless += 1;
        }
        match still {
            _ if self.settled == Some(stamp) => Step::Rest,
            true => Step::Replace(stamp),
            false if self.restless >= RESTLESS_LOOKS => Step::Add,
            false => Step::Rest,
        }
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
        Step::Add => {
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

fn stamp(path: &Path) -> io::Result<Stamp> {
    let file = std::fs::metadata(path)?;
    let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()].map(i64::cast_unsigned);
    Ok([file.dev(), file.ino(), file.len(), times[0], times[1], times[2], times[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(number: u64) -> io::Result<Stamp> {
        Ok([number; 7])
    }

    #[test]
    fn a_change_is_taken_up_when_it_has_come_to_rest() {
        let mut follower = Follower { settled: Some([1; 7]), ..Follower::default() };
        let steps = [1, 1, 2, 2].map(|number| follower.look(state(number)));
        assert_eq!(steps, [Step::Rest, Step::Rest, Step::Rest, Step::Replace([2; 7])]);
        follower.settled = Some([2; 7]);
        assert_eq!(follower.look(state(2)), Step::Rest);
    }

    #[test]
    fn a_file_that_never_rests_only_adds() {
        let mut follower = Follower { settled: Some([1; 7]), ..Follower::default() };
        let steps = [2, 3, 4, 5, 5].map(|number| follower.look(state(number)));
        assert_eq!(steps, [Step::Rest, Step::Rest, Step::Add, Step::Add, Step::Replace([5; 7])]);
    }

    #[test]
    fn a_file_that_comes_back_is_read_again() {
        let mut follower = Follower { settled: Some([1; 7]), ..Follower::default() };
        assert!(matches!(follower.look(Err(io::ErrorKind::NotFound.into())), Step::Gone(_)));
        let steps = [1, 1].map(|number| follower.look(state(number)));
        assert_eq!(steps, [Step::Rest, Step::Replace([1; 7])]);
    }
}
