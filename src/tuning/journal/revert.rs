//! Undoing: each setting gets back what it held, unless somebody else has changed it since.

use super::{Entry, Held, Stage, boot};
use crate::tuning::{
    knobs::{self, Form, Part},
    root::Root,
};

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// The entry.
    pub entry: Entry,
    /// How it ended.
    pub reverted: Reverted,
}

/// How it ended, or how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reverted {
    /// It holds what it held before.
    Restored,
    /// It held that already.
    AsBefore,
    /// Ours had not come to be written.
    NotBegun,
    /// Somebody has changed it since: that stands, and is not ours to undo.
    ChangedSince(String),
    /// There is no such setting any more.
    Gone,
    /// Its number means another interrupt since the machine restarted.
    Renumbered,
    /// It did not take what it held before, for this reason; the entry stays.
    Refused(String),
}

/// Undoes what stands in the journal and `meant` chooses, the last change first, and takes out of it what is undone.
///
/// # Errors
/// The journal cannot be written; it may then hold what is undone already, which does no harm.
pub fn revert(root: &Root, held: &mut Held, meant: impl Fn(&Entry) -> bool) -> Result<Vec<Undone>, String> {
    let mut undone = Vec::new();
    let mut at = held.journal.entries.len();
    while at > 0 {
        at -= 1;
        let entry = held.journal.entries[at].clone();
        if !meant(&entry) {
            continue;
        }
        let reverted = undo(root, &entry);
        if !matches!(reverted, Reverted::Refused(_)) {
            held.journal.entries.remove(at);
            held.save()?;
        }
        undone.push(Undone { entry, reverted });
    }
    Ok(undone)
}

/// What there is to be done about one entry.
enum Need {
    Restore,
    Nothing(Reverted),
}

fn undo(root: &Root, entry: &Entry) -> Reverted {
    match need(root, entry) {
        Need::Nothing(reverted) => reverted,
        Need::Restore => {
            let Entry { form, node, before, .. } = entry;
            if let Err(why) = knobs::write(root, *form, node, before.as_deref()) {
                return Reverted::Refused(why);
            }
            match knobs::read(root, *form, node) {
                Ok(now) if now == *before => Reverted::Restored,
                Ok(now) => Reverted::Refused(format!("it reads back as \"{}\"", now.unwrap_or_default())),
                Err(why) => Reverted::Refused(why),
            }
        }
    }
}

fn need(root: &Root, entry: &Entry) -> Need {
    if entry.node.starts_with("/proc/irq/") && entry.boot != boot(root) {
        return Need::Nothing(Reverted::Renumbered);
    }
    let now = match knobs::read(root, entry.form, &entry.node) {
        Ok(now) => now,
        Err(why) => return Need::Nothing(Reverted::Refused(why)),
    };
    match (entry.stage, now) {
        (Stage::Intended, _) => Need::Nothing(Reverted::NotBegun),
        (_, now) if now == entry.before => Need::Nothing(Reverted::AsBefore),
        (_, None) if entry.form != Form::File => Need::Nothing(Reverted::Gone),
        // We were cut off: if it is not ours, it is what the kernel made of ours.
        (Stage::Writing, _) => Need::Restore,
        (Stage::Written, Some(now)) if now == entry.ours => Need::Restore,
        (Stage::Written, now) => Need::Nothing(Reverted::ChangedSince(now.unwrap_or_default())),
    }
}

/// How an entry stands, without touching it: [`Reverted::Restored`] is what an undoing would make of it.
pub fn standing(root: &Root, entry: &Entry) -> Reverted {
    match need(root, entry) {
        Need::Restore => Reverted::Restored,
        Need::Nothing(reverted) => reverted,
    }
}

/// Chooses entries of these parts; all if there are none.
pub fn of_parts(parts: &[Part]) -> impl Fn(&Entry) -> bool {
    move |entry| parts.is_empty() || entry.is_of(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::{
        journal::{Journal, PLACE, apply},
        knobs::{Group, survey},
        tree::{Tree, network},
    };

    const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
    const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    const SWAPPINESS: &str = "/proc/sys/vm/swappiness";
    const BOOT: &str = "/proc/sys/kernel/random/boot_id";

    /// A machine to which everything was done.
    fn tuned() -> Tree {
        let tree = Tree::new(&[
            (SOMAXCONN, "128\n"),
            (RANGE, "32768\t60999\n"),
            (SWAPPINESS, "60\n"),
            (BOOT, "first\n"),
        ]);
        network(&tree, "eth0", &[1, 0]);
        let root = tree.root();
        let settings = survey(&root, &Group::ALL, &[0, 1]);
        let mut held = Held::wait(&root.path(PLACE)).unwrap();
        apply(&root, &mut held, &settings, true).unwrap();
        assert_eq!(root.read(RANGE).unwrap(), "10240 65535");
        assert!(root.exists("/etc/sysctl.d/60-tollgate.conf"));
        tree
    }

    fn run(tree: &Tree, parts: &[Part]) -> Vec<Undone> {
        let mut held = Held::wait(&tree.root().path(PLACE)).unwrap();
        revert(&tree.root(), &mut held, of_parts(parts)).unwrap()
    }

    #[track_caller]
    fn became(undone: &[Undone], node: &str) -> Reverted {
        undone.iter().find(|one| one.entry.node.ends_with(node)).unwrap().reverted.clone()
    }

    fn journal(tree: &Tree) -> Vec<Entry> {
        Journal::read(&tree.root().path(PLACE)).unwrap().entries
    }

    #[test]
    fn everything_is_as_it_was() {
        let tree = tuned();
        let root = tree.root();
        let undone = run(&tree, &[]);
        assert!(
            undone.len() > 6 && undone.iter().all(|one| one.reverted == Reverted::Restored),
            "{undone:?}"
        );
        assert_eq!(
            (root.read(SOMAXCONN).unwrap(), root.read(RANGE).unwrap()),
            ("128".into(), "32768 60999".into())
        );
        assert!(!root.exists("/etc/sysctl.d/60-tollgate.conf") && !root.exists(PLACE));
        assert_eq!(run(&tree, &[]), []);
    }

    #[test]
    fn one_group_is_undone_by_itself_and_one_knob() {
        let tree = tuned();
        run(&tree, &[Part::parse_knob("net.ipv4.ip_local_port_range").unwrap()]);
        assert_eq!(tree.root().read(RANGE).unwrap(), "32768 60999");
        run(&tree, &[Part::Group(Group::Memory)]);
        assert_eq!(tree.root().read(SWAPPINESS).unwrap(), "60");
        assert_eq!(tree.root().read(SOMAXCONN).unwrap(), "4096");
        assert!(journal(&tree).iter().all(|entry| entry.group != "memory"));
    }

    /// Broken by an undoing that knows only its own two values.
    #[test]
    fn what_somebody_else_changed_is_left_and_said() {
        let tree = tuned();
        tree.put(SOMAXCONN, "1024\n");
        tree.put(SWAPPINESS, "60\n");
        tree.remove(RANGE);
        let undone = run(&tree, &[]);
        assert_eq!(became(&undone, "somaxconn"), Reverted::ChangedSince("1024".into()));
        assert_eq!(became(&undone, "swappiness"), Reverted::AsBefore);
        assert_eq!(became(&undone, "port_range"), Reverted::Gone);
        assert_eq!(tree.root().read(SOMAXCONN).unwrap(), "1024\n");
        assert_eq!(journal(&tree), []);
    }

    #[test]
    fn what_cannot_be_undone_now_can_be_later() {
        let tree = tuned();
        tree.remove(SOMAXCONN);
        tree.put(&format!("{SOMAXCONN}/in-the-way"), "");
        assert!(matches!(became(&run(&tree, &[]), "somaxconn"), Reverted::Refused(_)));
        assert_eq!(journal(&tree).len(), 1);
        tree.remove(SOMAXCONN);
        tree.put(SOMAXCONN, "4096\n");
        assert_eq!(became(&run(&tree, &[]), "somaxconn"), Reverted::Restored);
        assert_eq!(journal(&tree), []);
    }

    /// Broken by writing an old affinity to an interrupt that got its number after the restart.
    #[test]
    fn interrupts_have_other_numbers_after_a_restart() {
        let tree = tuned();
        tree.put(BOOT, "second\n");
        let undone = run(&tree, &[]);
        assert_eq!(became(&undone, "smp_affinity_list"), Reverted::Renumbered);
        assert_eq!(became(&undone, "somaxconn"), Reverted::Restored);
    }

    /// As `kill -9` leaves it at each point: nothing of it written, one being written, some written.
    #[test]
    fn a_journal_that_was_cut_off_is_finished() {
        for (stage, now, expected, then) in [
            (Stage::Intended, "128\n", Reverted::NotBegun, "128\n"),
            // Somebody else wanted the same.
            (Stage::Intended, "4096\n", Reverted::NotBegun, "4096\n"),
            (Stage::Writing, "128\n", Reverted::AsBefore, "128\n"),
            (Stage::Writing, "4096\n", Reverted::Restored, "128"),
            (Stage::Writing, "4000\n", Reverted::Restored, "128"),
            (Stage::Written, "4096\n", Reverted::Restored, "128"),
            (Stage::Written, "4000\n", Reverted::ChangedSince("4000".into()), "4000\n"),
        ] {
            let tree = tuned();
            tree.put(SOMAXCONN, now);
            let mut held = Held::wait(&tree.root().path(PLACE)).unwrap();
            for entry in held.journal.entries.iter_mut().filter(|entry| entry.node == SOMAXCONN) {
                entry.stage = stage;
            }
            let mut undone = revert(&tree.root(), &mut held, of_parts(&[])).unwrap();
            undone.retain(|one| one.entry.node == SOMAXCONN);
            assert_eq!(undone[0].reverted, expected, "{stage:?} {now}");
            assert_eq!(tree.root().read(SOMAXCONN).unwrap(), then, "{stage:?} {now}");
        }
    }
}
