//! Where threads run: parsing a CPU list and pinning the calling thread to one.

use std::{io, str::FromStr};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPU numbers, as in `0-3,8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CpuList(Vec<usize>);

impl CpuList {
    /// The CPU for the `index`th thread; the list is gone round as often as needed.
    pub(crate) fn cpu(&self, index: usize) -> usize {
        self.0[index % self.0.len()]
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps the calling thread on the CPUs of the list.
    ///
    /// # Errors
    /// When the process may not run there.
    pub(crate) fn confine(&self) -> io::Result<()> {
        let mut set = CpuSet::new();
        for &cpu in &self.0 {
            set.set(cpu);
        }
        Ok(sched_setaffinity(None, &set)?)
    }
}

impl From<usize> for CpuList {
    fn from(cpu: usize) -> Self {
        Self(vec![cpu])
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&cpu| cpu < CpuSet::MAX_CPU);
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
                _ => return Err(format!("{part:?} is neither a CPU number nor a range such as 0-3")),
            }
        }
        Ok(Self(cpus))
    }
}

/// Pins the calling thread to one CPU.
///
/// # Errors
/// When the process may not run there.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// The CPUs the process may run on; 1 when the kernel does not say.
pub(crate) fn usable() -> usize {
    sched_getaffinity(None).map_or(1, |set| set.count() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        assert_eq!("0-2,5".parse(), Ok(CpuList(vec![0, 1, 2, 5])));
        for text in ["", "a", "3-1", "0,", "-1", "99999"] {
            assert!(text.parse::<CpuList>().is_err(), "{text:?} was taken");
        }
    }
}
