//! Undoing what nobody confirms: a change that cuts off whoever made it takes itself back.
//!
//! The one that watches is a process of its own, in a session of its own, so that the loss of a terminal does not end
//! it. Everything it knows stands in the journal.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{Held, Journal, Undone, revert};
use crate::tuning::root::Root;

/// How soon a confirmation is noticed.
const LOOK: Duration = Duration::from_millis(100);

/// Keeps what was applied.
///
/// # Errors
/// There is nothing to confirm, or the journal cannot be written.
pub fn confirm(path: &Path) -> Result<usize, String> {
    let mut held = Held::take(path)?;
    if held.journal.confirm_by_s.take().is_none() {
        return Err("nothing waits for a confirmation".to_owned());
    }
    let mut count = 0;
    for entry in held.journal.entries.iter_mut().filter(|entry| !entry.confirmed) {
        entry.confirmed = true;
        count += 1;
    }
    held.save()?;
    Ok(count)
}

/// Waits until what was applied is confirmed, or `within` is over; then it is undone. Nothing if it was confirmed.
///
/// # Errors
/// The journal cannot be read or written.
pub fn watch(root: &Root, path: &Path, within: Duration) -> Result<Option<Vec<Undone>>, String> {
    // Each apply has a time of its own, and somebody of its own who watches: another's is none of ours.
    let ours = Journal::read(path)?.confirm_by_s;
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        let now = Journal::read(path)?.confirm_by_s;
        if now.is_none() || now != ours {
            return Ok(None);
        }
        // Nobody wakes it: the journal is all there is to look at.
        thread::park_timeout(LOOK.min(deadline.saturating_duration_since(Instant::now())));
    }
    let mut held = Held::wait(path)?;
    if held.journal.confirm_by_s.is_none() || held.journal.confirm_by_s != ours {
        return Ok(None);
    }
    let undone = revert(root, &mut held, |entry| !entry.confirmed)?;
    // Only now: who waits for the end must not see the middle.
    held.journal.confirm_by_s = None;
    held.save()?;
    Ok(Some(undone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::{
        journal::{PLACE, apply},
        knobs::{Group, survey},
        tree::Tree,
    };

    const SWAPPINESS: &str = "/proc/sys/vm/swappiness";
    const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";

    fn apply_group(tree: &Tree, group: Group, confirmed: bool) {
        let root = tree.root();
        let mut held = Held::wait(&root.path(PLACE)).unwrap();
        held.journal.confirm_by_s = (!confirmed).then_some(1);
        apply(&root, &mut held, &survey(&root, &[group], &[0]), confirmed).unwrap();
    }

    /// Broken by an undoing of what had been confirmed before.
    #[test]
    fn what_nobody_confirms_is_undone_and_nothing_else() {
        let tree = Tree::new(&[(SWAPPINESS, "60\n"), (SOMAXCONN, "128\n")]);
        let (root, path) = (tree.root(), tree.root().path(PLACE));
        apply_group(&tree, Group::Memory, true);
        apply_group(&tree, Group::Network, false);
        let undone = watch(&root, &path, Duration::ZERO).unwrap().unwrap();
        assert_eq!(undone.len(), 1);
        assert_eq!(
            (root.read(SOMAXCONN).unwrap(), root.read(SWAPPINESS).unwrap()),
            ("128".into(), "10".into())
        );
        assert!(confirm(&path).unwrap_err().contains("nothing waits"));
    }

    #[test]
    fn what_is_confirmed_stays() {
        let tree = Tree::new(&[(SOMAXCONN, "128\n")]);
        let (root, path) = (tree.root(), tree.root().path(PLACE));
        apply_group(&tree, Group::Network, false);
        assert_eq!(confirm(&path), Ok(1));
        assert_eq!(watch(&root, &path, Duration::ZERO).unwrap(), None);
        assert_eq!(watch(&root, &path, Duration::from_secs(3600)).unwrap(), None);
        assert_eq!(root.read(SOMAXCONN).unwrap(), "4096");
    }
}
