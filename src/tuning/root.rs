//! Where the kernel's files begin: `/` on this machine, a directory in a test or a copy of another machine.
//!
//! Every path is given as it is on a machine (`/proc/sys/net/core/somaxconn`) and looked for below the root. Errors
//! name the path and what was tried with it. Nothing is created: a node that does not exist cannot be written.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// The longest file that is read. `/proc/interrupts` of 512 CPUs and 4096 interrupts has some 24 MiB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A directory that stands for `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    at: PathBuf,
}

impl Root {
    /// This machine's.
    pub fn system() -> Self {
        Self::at("/")
    }

    /// The tree that begins at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { at: path.into() }
    }

    /// Whether it is this machine's own: what cannot be had from files (system calls) may then be asked for.
    pub fn is_system(&self) -> bool {
        self.at == Path::new("/")
    }

    /// The place of `node`, such as `/sys/devices/system/cpu`, below this root.
    pub fn path(&self, node: &str) -> PathBuf {
        self.at.join(node.trim_start_matches('/'))
    }

    /// Whether `node` exists.
    pub fn exists(&self, node: &str) -> bool {
        self.path(node).exists()
    }

    /// What `node` holds. Bytes that are no text are replaced.
    ///
    /// # Errors
    /// It does not exist, cannot be read, or has more than 64 MiB.
    pub fn read(&self, node: &str) -> Result<String, NodeError> {
        let path = self.path(node);
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            fs::File::open(&path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > FILE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 64 MiB"));
            }
            Ok(bytes)
        };
        let bytes = read().map_err(|error| NodeError::new(Attempt::Read, path, error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What `node` holds, without blanks and line ends around it.
    ///
    /// # Errors
    /// As [`Root::read`].
    pub fn read_trimmed(&self, node: &str) -> Result<String, NodeError> {
        self.read(node).map(|text| text.trim().to_owned())
    }

    /// What `node` holds, as a number; nothing if it cannot be read or is none.
    pub fn number<T: std::str::FromStr>(&self, node: &str) -> Option<T> {
        self.read(node).ok()?.trim().parse().ok()
    }

    /// The names in the directory `node`, numbers in them by size: `cpu2` stands before `cpu10`.
    ///
    /// # Errors
    /// It does not exist, is no directory, or cannot be read.
    pub fn list(&self, node: &str) -> Result<Vec<String>, NodeError> {
        let path = self.path(node);
        let list = || -> io::Result<Vec<String>> {
            fs::read_dir(&path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        let mut names = list().map_err(|error| NodeError::new(Attempt::List, path.clone(), error))?;
        names.sort_by_key(|name| in_order(name));
        Ok(names)
    }

    /// Writes `value` to `node`, in one call, as the kernel's files want it.
    ///
    /// # Errors
    /// It does not exist, or does not take the value.
    pub fn write(&self, node: &str, value: &str) -> Result<(), NodeError> {
        let path = self.path(node);
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).truncate(true).open(&path)?;
            file.write_all(value.as_bytes())
        };
        write().map_err(|error| NodeError::new(Attempt::Write(value.to_owned()), path, error))
    }
}

/// A node that could not be read or written.
#[derive(Debug)]
pub struct NodeError {
    attempt: Attempt,
    path: PathBuf,
    error: io::Error,
}

#[derive(Debug)]
enum Attempt {
    Read,
    List,
    Write(String),
}

impl NodeError {
    fn new(attempt: Attempt, path: PathBuf, error: io::Error) -> Self {
        Self { attempt, path, error }
    }

    /// What kind of error it was.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }

    /// The node, as a path on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, error) = (self.path.display(), &self.error);
        match &self.attempt {
            Attempt::Read => write!(to, "{path} cannot be read: {error}"),
            Attempt::List => write!(to, "{path} cannot be listed: {error}"),
            Attempt::Write(value) => write!(to, "{path} does not take \"{value}\": {error}"),
        }
    }
}

impl std::error::Error for NodeError {}

/// `name` in pieces that compare as people count: text as text, digits as numbers.
fn in_order(name: &str) -> Vec<(String, u64)> {
    let mut pieces = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest[text..].find(|character: char| !character.is_ascii_digit());
        let end = digits.map_or(rest.len(), |digits| text + digits);
        pieces.push((rest[..text].to_owned(), rest[text..end].parse().unwrap_or(u64::MAX)));
        rest = &rest[end..];
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::tree::Tree;

    #[test]
    fn nodes_are_found_below_the_root() {
        let tree = Tree::new(&[("/proc/sys/net/core/somaxconn", "4096\n"), ("/odd", "text")]);
        let root = tree.root();
        assert_eq!(root.read("/proc/sys/net/core/somaxconn").unwrap(), "4096\n");
        assert_eq!(root.read_trimmed("proc/sys/net/core/somaxconn").unwrap(), "4096");
        assert_eq!(root.number("/proc/sys/net/core/somaxconn"), Some(4096));
        assert_eq!(root.number::<u64>("/odd"), None);
        assert!(root.exists("/proc/sys/net"));
        assert!(!root.is_system() && Root::system().is_system());
    }

    /// Broken by a list in the order of letters, in which the eleventh CPU comes before the third.
    #[test]
    fn names_are_listed_as_people_count() {
        let tree = Tree::new(&[("/d/cpu10/x", ""), ("/d/cpu2/x", ""), ("/d/cpuidle/x", ""), ("/d/a", "")]);
        assert_eq!(tree.root().list("/d").unwrap(), ["a", "cpu2", "cpu10", "cpuidle"]);
    }

    /// Broken by a root that links lead out of: sysfs has a relative link for every device.
    #[test]
    fn links_lead_to_places_below_the_root() {
        let tree = Tree::new(&[("/sys/devices/pci0000:00/net/eth0/mtu", "1500\n")]);
        tree.link("/sys/class/net/eth0", "../../devices/pci0000:00/net/eth0");
        assert_eq!(tree.root().number("/sys/class/net/eth0/mtu"), Some(1500));
        tree.remove("/sys/devices/pci0000:00");
        assert!(!tree.root().exists("/sys/class/net/eth0"));
    }

    /// Broken by a write that creates what is missing: on a machine there is then a stray file, in a test a
    /// setting that no kernel has.
    #[test]
    fn a_node_that_does_not_exist_is_not_made() {
        let tree = Tree::new(&[("/proc/sys/vm/swappiness", "100000\n")]);
        let root = tree.root();
        root.write("/proc/sys/vm/swappiness", "10").unwrap();
        assert_eq!(root.read("/proc/sys/vm/swappiness").unwrap(), "10");
        let error = root.write("/proc/sys/vm/other", "1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let text = error.to_string();
        assert!(text.contains("proc/sys/vm/other does not take \"1\": "), "{text}");
        assert!(!root.exists("/proc/sys/vm/other"));
        let text = root.read("/proc/none").unwrap_err().to_string();
        assert!(text.contains("proc/none cannot be read: "), "{text}");
    }
}
