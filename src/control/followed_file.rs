//! A file that is followed while it changes: when it has come to rest, when it never does, when it is gone.
//!
//! Owns the decision, from what each look found; who follows decides what a look leads to. Never reads the file.

use std::{io, os::unix::fs::MetadataExt, path::Path};

/// Looks after which a file that keeps changing is read as it is.
const RESTLESS_LOOKS: u32 = 3;

/// Which state of a file it is: device, inode, length, and when it was last changed.
pub(super) type Stamp = [u64; 7];

/// What is known of the file.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// The state that was taken up, or found to be bad.
    pub(super) settled: Option<Stamp>,
    /// The state at the last look.
    seen: Option<Stamp>,
    /// Looks in a row that found another state than the one before.
    restless: u32,
}

/// What a look leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    Rest,
    /// Take the file, which is in this state, for what is in force.
    Replace(Stamp),
    /// The file never rests: what it holds may be half of something.
    Restless,
    /// Say that it cannot be looked at.
    Gone(String),
}

impl Follower {
    /// What the state that was `found` leads to.
    pub(super) fn look(&mut self, found: io::Result<Stamp>) -> Step {
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
            false if self.restless >= RESTLESS_LOOKS => Step::Restless,
            false => Step::Rest,
        }
    }
}

/// The state of the file at `path`.
///
/// # Errors
/// It cannot be looked at.
pub(super) fn stamp(path: &Path) -> io::Result<Stamp> {
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
    fn a_file_that_never_rests_is_said_to_be_restless() {
        let mut follower = Follower { settled: Some([1; 7]), ..Follower::default() };
        let steps = [2, 3, 4, 5, 5].map(|number| follower.look(state(number)));
        assert_eq!(steps, [Step::Rest, Step::Rest, Step::Restless, Step::Restless, Step::Replace([5; 7])]);
    }

    #[test]
    fn a_file_that_comes_back_is_read_again() {
        let mut follower = Follower { settled: Some([1; 7]), ..Follower::default() };
        assert!(matches!(follower.look(Err(io::ErrorKind::NotFound.into())), Step::Gone(_)));
        let steps = [1, 1].map(|number| follower.look(state(number)));
        assert_eq!(steps, [Step::Rest, Step::Replace([1; 7])]);
    }
}
