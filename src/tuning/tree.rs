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
        let at = std::env::temp_dir().join(format!("tollgate-tree-{}-{number}", std::process::id()));
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
