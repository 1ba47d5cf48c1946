//! Whether a file could be written, or made, at a path that a configuration names.
//!
//! Opens nothing and creates nothing: whether it may is asked of the system, and tried when the file is needed. For
//! root the system says yes to nearly everything, so what kind of file system it is is asked as well.

use std::{io, path::Path};

use rustix::{
    fs::{Access, access, statfs},
    io::Errno,
};

/// File systems whose files are the kernel's: nobody can make one there (`linux/magic.h`).
const KERNELS: [(u64, &str); 15] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x6367_7270, "cgroup2"),
    (0x0027_e0eb, "cgroup"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0xcafe_4a11, "bpf"),
    (0x1cd1, "devpts"),
    (0x6265_6570, "configfs"),
    (0x6573_5543, "fusectl"),
    (0x1980_0202, "mqueue"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
];

/// Says yes, or why not.
///
/// # Errors
/// What is wrong with the path, for the one who wrote it.
pub(super) fn may_be_written(path: &Path) -> Result<(), String> {
    let named = path.display();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        return Err(format!("{named} is a directory; name a file in it"));
    }
    if !parent.is_dir() {
        return Err(format!("the directory of {named} does not exist"));
    }
    let unwritable = |error| format!("{named} cannot be written: {}", io::Error::from(error));
    match access(path, Access::WRITE_OK) {
        Err(Errno::NOENT) => access(parent, Access::WRITE_OK | Access::EXEC_OK).map_err(unwritable)?,
        asked => return asked.map_err(unwritable),
    }
    // Where not even that can be told, the start will tell.
    let kind = statfs(parent).ok().and_then(|found| u64::try_from(found.f_type).ok());
    match KERNELS.iter().find(|(magic, _)| Some(*magic) == kind) {
        Some((_, name)) => Err(format!("{named} cannot be written: nobody can make a file on {name}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken by a check that asks only what this user may do: root may do all of it.
    #[test]
    fn file_systems_of_the_kernel_are_no_place_for_files() {
        for path in ["/proc/access.log", "/proc/self/access.log", "/sys/access.log"] {
            let said = may_be_written(Path::new(path)).unwrap_err();
            assert!(said.starts_with(&format!("{path} cannot be written: ")), "{said}");
        }
        for path in ["/dev/null", "/dev/shm/tollgate-access.log", "access.log"] {
            assert_eq!(may_be_written(Path::new(path)), Ok(()), "{path}");
        }
    }
}
