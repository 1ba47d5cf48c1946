//! Made-up machines for tests: a directory of files that goes away with its guard.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use super::root::Root;

/// A root with files below it.
pub(crate) struct Tree {
    at: PathBuf,
}

impl Tree {
    /// With these files, each with what it holds.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        // Only makes the names of one process differ.
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // Thousands of files: in memory, where there is such a place.
        let memory = PathBuf::from("/dev/shm");
        let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let at = place.join(format!("tollgate-tree-{}-{number}", std::process::id()));
        fs::create_dir_all(&at).unwrap();
        let tree = Self { at };
        for (node, content) in files {
            tree.put(node, content);
        }
        tree
    }

    /// Makes `node` hold `content`, whether or not it existed.
    pub(crate) fn put(&self, node: &str, content: &str) {
        let path = self.root().path(node);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Makes `node` a symbolic link to `target`, relative to where it stands.
    pub(crate) fn link(&self, node: &str, target: &str) {
        let path = self.root().path(node);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Takes `node` away, with everything below it.
    pub(crate) fn remove(&self, node: &str) {
        let path = self.root().path(node);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> Root {
        Root::at(&self.at)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.at);
    }
}

/// Puts a network device there that is up, whose receive queue `i` interrupts CPU `cpus[i]`.
pub(crate) fn network(tree: &Tree, name: &str, cpus: &[usize]) {
    let root = tree.root();
    let at = format!("/sys/class/net/{name}");
    if root.exists(&at) {
        tree.remove(&at);
    }
    tree.put(&format!("{at}/operstate"), "up\n");
    let mut actions = root.read("/proc/interrupts").unwrap_or_default();
    let first = 100 + actions.lines().count();
    for (queue, cpu) in cpus.iter().enumerate() {
        let number = first + queue;
        tree.put(&format!("{at}/queues/rx-{queue}/rps_cpus"), "0\n");
        tree.put(&format!("{at}/queues/tx-{queue}/xps_cpus"), "0\n");
        tree.put(&format!("{at}/device/msi_irqs/{number}"), "msix\n");
        tree.put(&format!("/proc/irq/{number}/smp_affinity_list"), "0-63\n");
        tree.put(&format!("/proc/irq/{number}/effective_affinity_list"), &format!("{cpu}\n"));
        actions.push_str(&format!(
            " {number}:   0   0  PCI-MSIX-0000:00:03.0  {queue}-edge  {name}-TxRx-{queue}\n"
        ));
    }
    tree.put("/proc/interrupts", &actions);
}
