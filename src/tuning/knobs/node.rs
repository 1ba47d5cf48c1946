//! How the kernel writes a setting, and reading and writing one whatever its form.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::super::{
    cpus::{parse_list, parse_mask, print_list, print_mask},
    root::Root,
};

/// How a value is written where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Words; blanks and tabs between them mean the same.
    Words,
    /// All that is possible, with what is chosen in brackets; the word alone is written.
    Choice,
    /// A mask of CPUs.
    Mask,
    /// A list of CPUs.
    List,
    /// A whole file that may not exist.
    File,
    /// The number of queues of the device that is named, by `ethtool`.
    Queues,
}

impl Form {
    /// `raw` in the one way that it is compared in.
    fn plain(self, raw: &str) -> Result<String, String> {
        match self {
            Self::Words => Ok(raw.split_whitespace().collect::<Vec<_>>().join(" ")),
            Self::Choice => {
                let chosen = raw.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
                Ok(chosen.map_or(raw.trim(), |(chosen, _)| chosen).to_owned())
            }
            Self::Mask => parse_mask(raw).map(|cpus| print_mask(&cpus)),
            Self::List => parse_list(raw).map(|cpus| print_list(&cpus)),
            Self::File => Ok(raw.to_owned()),
            Self::Queues => channels(raw).map(|(now, _)| now.to_string()),
        }
    }
}

/// What stands at `node`, in the way that it is compared in; nothing where there is no such node.
pub(crate) fn read(root: &Root, form: Form, node: &str) -> Result<Option<String>, String> {
    if form == Form::Queues {
        return ethtool(root, &["-l", node])?.map(|said| form.plain(&said)).transpose();
    }
    match root.read(node) {
        Ok(raw) => form.plain(&raw).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts `value` at `node`; no value takes a file away.
pub(crate) fn write(root: &Root, form: Form, node: &str, value: Option<&str>) -> Result<(), String> {
    match (form, value) {
        (Form::File, value) => write_file(&root.path(node), value)
            .map_err(|error| format!("{} cannot be written: {error}", root.path(node).display())),
        (Form::Queues, Some(count)) => match ethtool(root, &["-L", node, "combined", count])? {
            Some(_) => Ok(()),
            None => Err("ethtool is not installed".to_owned()),
        },
        (_, Some(value)) => root.write(node, value).map_err(|error| error.to_string()),
        (_, None) => Err(format!("{node} held nothing before, which cannot be written")),
    }
}

/// Replaces a file as a whole, on disk before it has its name.
pub(crate) fn write_file(path: &Path, content: Option<&str>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    match content {
        Some(content) => {
            fs::create_dir_all(directory)?;
            let mut unfinished = path.as_os_str().to_owned();
            unfinished.push(".new");
            let unfinished = PathBuf::from(unfinished);
            let mut file = fs::File::create(&unfinished)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, path)?;
        }
        None => fs::remove_file(path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?,
    }
    fs::File::open(directory)?.sync_all()
}

/// What the `ethtool` of this machine says; nothing where there is none.
fn ethtool(root: &Root, arguments: &[&str]) -> Result<Option<String>, String> {
    let places = ["/usr/sbin/ethtool", "/sbin/ethtool", "/usr/bin/ethtool"];
    let Some(program) = places.into_iter().find(|place| root.exists(place)) else { return Ok(None) };
    let run = Command::new(root.path(program)).args(arguments).stdin(Stdio::null()).output();
    let run = run.map_err(|error| format!("{program} cannot be run: {error}"))?;
    if run.status.success() {
        return Ok(Some(String::from_utf8_lossy(&run.stdout).into_owned()));
    }
    let said = String::from_utf8_lossy(&run.stderr).trim().replace('\n', " ");
    Err(format!("{program} {}: {said}", arguments.join(" ")))
}

/// The number of combined queues of `ethtool -l`, and the most there can be.
fn channels(said: &str) -> Result<(usize, usize), String> {
    let combined = said.lines().filter_map(|line| line.trim().strip_prefix("Combined:"));
    let numbers: Vec<usize> = combined.filter_map(|number| number.trim().parse().ok()).collect();
    match numbers[..] {
        [most, now] => Ok((now, most)),
        _ => Err("the device has no combined queues".to_owned()),
    }
}

/// The most queues that `device` can have; nothing without `ethtool`.
pub(super) fn queues_max(root: &Root, device: &str) -> Result<Option<usize>, String> {
    let said = ethtool(root, &["-l", device])?;
    said.map(|said| channels(&said).map(|(_, most)| most)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::tree::Tree;

    #[test]
    fn each_form_is_compared_in_one_way() {
        let plain = |form: Form, raw: &str| form.plain(raw).unwrap();
        assert_eq!(plain(Form::Words, "32768\t60999\n"), "32768 60999");
        assert_eq!(plain(Form::Choice, "always [madvise] never\n"), "madvise");
        assert_eq!(plain(Form::Choice, "performance\n"), "performance");
        assert_eq!(plain(Form::Mask, "00000000,00000003\n"), "3");
        assert_eq!(plain(Form::List, "0,1,2\n"), "0-2");
        assert!(Form::Mask.plain("x").is_err());
    }

    /// Broken by a file that is half there, or left behind where none was.
    #[test]
    fn files_come_and_go_whole() {
        let tree = Tree::new(&[("/etc/hosts", "")]);
        let (root, node) = (tree.root(), "/etc/sysctl.d/60-x.conf");
        assert_eq!(read(&root, Form::File, node), Ok(None));
        write(&root, Form::File, node, Some("a = 1\n")).unwrap();
        assert_eq!(read(&root, Form::File, node), Ok(Some("a = 1\n".to_owned())));
        assert_eq!(root.list("/etc/sysctl.d").unwrap(), ["60-x.conf"]);
        write(&root, Form::File, node, None).unwrap();
        write(&root, Form::File, node, None).unwrap();
        assert_eq!(read(&root, Form::File, node), Ok(None));
    }

    const SAID: &str = "Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nCombined:\t8\n\
                        Current hardware settings:\nRX:\t\tn/a\nCombined:\t2\n";

    #[test]
    fn queues_are_what_ethtool_says() {
        assert_eq!(channels(SAID), Ok((2, 8)));
        assert!(channels("Channel parameters for lo:\n").is_err());
        let tree = Tree::new(&[]);
        assert_eq!(read(&tree.root(), Form::Queues, "eth0"), Ok(None));
        assert_eq!(queues_max(&tree.root(), "eth0"), Ok(None));
        assert!(write(&tree.root(), Form::Queues, "eth0", Some("4")).unwrap_err().contains("not installed"));
    }
}
