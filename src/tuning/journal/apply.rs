//! Changing the machine: written down, then done, one setting after the other, each read back.

use super::{Entry, Held, Stage, boot};
use crate::tuning::{
    knobs::{self, Setting, State},
    root::Root,
};

/// What became of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The knob's name.
    pub knob: String,
    /// Where it stands.
    pub node: String,
    /// What stood there.
    pub before: Option<String>,
    /// What was wanted.
    pub wanted: String,
    /// How it ended.
    pub applied: Applied,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is as wanted.
    Done,
    /// It was taken, and reads back as something else, which is now in force.
    ReadsBack(String),
    /// It was not taken, for this reason, and what stood there is in force.
    Refused(String),
}

/// Changes what differs in `settings`. What one setting does not take stops none of the others.
///
/// # Errors
/// The journal cannot be written: a sentence that says how much was changed.
pub fn apply(
    root: &Root,
    held: &mut Held,
    settings: &[Setting],
    confirmed: bool,
) -> Result<Vec<Outcome>, String> {
    let boot = boot(root);
    let mut outcomes = Vec::new();
    let mut begun = Vec::new();
    for setting in settings {
        let State::Differs { now, wanted } = &setting.state else { continue };
        let before = outlast(held, &setting.node, now.as_deref());
        begun.push(Entry {
            knob: setting.knob.name.to_owned(),
            group: setting.knob.group.word().to_owned(),
            node: setting.node.clone(),
            form: setting.form,
            before,
            ours: wanted.clone(),
            stage: Stage::Intended,
            confirmed,
            boot: boot.clone(),
        });
    }
    let first = held.journal.entries.len();
    held.journal.entries.extend(begun);
    held.save().map_err(|error| format!("{error}; nothing was changed"))?;
    let mut at = first;
    while at < held.journal.entries.len() {
        let entry = &mut held.journal.entries[at];
        entry.stage = Stage::Writing;
        let Entry { knob, node, form, before, ours, .. } = entry.clone();
        let cut_off = |error: String, done: usize| {
            format!(
                "{error}; {done} settings were changed, the others were not; `tollgate tune revert` undoes them"
            )
        };
        held.save().map_err(|error| cut_off(error, outcomes.len()))?;
        let written = knobs::write(root, form, &node, Some(&ours));
        let now = knobs::read(root, form, &node);
        let entry = &mut held.journal.entries[at];
        let applied = match (written, now) {
            (Ok(()), Ok(now)) if now.as_ref() == Some(&ours) => Applied::Done,
            (Ok(()), Ok(now)) => {
                let now = now.unwrap_or_default();
                entry.ours.clone_from(&now);
                Applied::ReadsBack(now)
            }
            // It was taken, and what it became is unknown.
            (Ok(()), Err(why)) => Applied::ReadsBack(why),
            (Err(why), _) => Applied::Refused(why),
        };
        let nothing_changed = match &applied {
            Applied::Refused(_) => true,
            Applied::ReadsBack(now) => Some(now) == before.as_ref(),
            Applied::Done => false,
        };
        if nothing_changed {
            held.journal.entries.remove(at);
        } else {
            entry.stage = Stage::Written;
            at += 1;
        }
        outcomes.push(Outcome { knob, node, before, wanted: ours, applied });
        held.save().map_err(|error| cut_off(error, outcomes.len()))?;
    }
    Ok(outcomes)
}

/// What an undoing of `node` shall bring back: what stood there before anything of ours, if ours still stands there.
/// Its older entry goes.
fn outlast(held: &mut Held, node: &str, now: Option<&str>) -> Option<String> {
    let entries = &mut held.journal.entries;
    let older = entries.iter().position(|entry| entry.node == node).map(|at| entries.remove(at));
    match older {
        Some(older) if Some(older.ours.as_str()) == now => older.before,
        _ => now.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::{
        journal::{Journal, PLACE},
        knobs::{Group, survey},
        tree::Tree,
    };

    const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
    const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

    fn machine() -> Tree {
        Tree::new(&[
            (SOMAXCONN, "128\n"),
            ("/proc/sys/net/ipv4/tcp_syncookies", "1\n"),
            ("/proc/sys/vm/swappiness", "60\n"),
        ])
    }

    fn run(tree: &Tree) -> Result<Vec<Outcome>, String> {
        let root = tree.root();
        let mut held = Held::wait(&root.path(PLACE)).unwrap();
        let settings = survey(&root, &Group::USUAL, &[0]);
        apply(&root, &mut held, &settings, true)
    }

    #[test]
    fn what_differs_is_changed_and_written_down() {
        let tree = machine();
        let outcomes = run(&tree).unwrap();
        assert_eq!(outcomes.len(), 2, "{outcomes:?}");
        assert!(outcomes.iter().all(|outcome| outcome.applied == Applied::Done));
        assert_eq!(tree.root().read(SOMAXCONN).unwrap(), "4096");
        let journal = Journal::read(&tree.root().path(PLACE)).unwrap();
        let entry = &journal.entries[0];
        assert_eq!((entry.before.as_deref(), entry.ours.as_str()), (Some("128"), "4096"));
        assert!(journal.entries.iter().all(|entry| entry.stage == Stage::Written));
        // There is nothing left to do, and what there was before is not forgotten.
        assert_eq!(run(&tree).unwrap(), []);
        assert_eq!(Journal::read(&tree.root().path(PLACE)).unwrap(), journal);
        tree.put(SOMAXCONN, "256\n");
        assert_eq!(run(&tree).unwrap()[0].before.as_deref(), Some("256"), "somebody else's counts now");
        assert_eq!(Journal::read(&tree.root().path(PLACE)).unwrap().entries.len(), 2);
    }

    /// Broken by stopping at the first, or by writing down as ours what was never in force.
    #[test]
    fn what_is_not_taken_is_said_and_stops_nothing() {
        let tree = machine();
        // A file that cannot be written stands for a setting there is no right to: root may write everything else.
        let root = tree.root();
        let settings = survey(&root, &Group::USUAL, &[0]);
        tree.remove(SOMAXCONN);
        tree.put(&format!("{SOMAXCONN}/in-the-way"), "");
        let mut held = Held::wait(&root.path(PLACE)).unwrap();
        let outcomes = apply(&root, &mut held, &settings, true).unwrap();
        assert!(
            matches!(&outcomes[0].applied, Applied::Refused(why) if why.contains("somaxconn")),
            "{outcomes:?}"
        );
        assert_eq!(outcomes[1].applied, Applied::Done);
        let nodes: Vec<&str> = held.journal.entries.iter().map(|entry| entry.node.as_str()).collect();
        assert_eq!(nodes, ["/proc/sys/vm/swappiness"]);
    }

    /// A kernel may take a value and make another of it. Here everything that is written is thrown away.
    #[test]
    fn what_reads_back_otherwise_is_said() {
        let tree = Tree::new(&[("/proc/sys/vm/swappiness", "60\n")]);
        let root = tree.root();
        let settings = survey(&root, &Group::USUAL, &[0]);
        tree.remove("/proc/sys/vm/swappiness");
        tree.link("/proc/sys/vm/swappiness", "/dev/null");
        let mut held = Held::wait(&root.path(PLACE)).unwrap();
        let outcomes = apply(&root, &mut held, &settings, true).unwrap();
        assert_eq!(outcomes[0].applied, Applied::ReadsBack(String::new()));
        assert_eq!(held.journal.entries[0].ours, "", "what is in force is what an undoing must find");
    }

    /// Broken by a change that no journal knows of.
    #[test]
    fn without_a_journal_nothing_is_touched() {
        let tree = machine();
        let root = tree.root();
        let mut held = Held::wait(&root.path(PLACE)).unwrap();
        tree.remove("/var/lib/tollgate");
        tree.put("/var/lib/tollgate", "a file is in the way");
        let settings = survey(&root, &Group::USUAL, &[0]);
        let error = apply(&root, &mut held, &settings, true).unwrap_err();
        assert!(error.ends_with("nothing was changed"), "{error}");
        assert_eq!(root.read(SOMAXCONN).unwrap(), "128\n");
        assert!(!root.exists(THP));
    }
}
