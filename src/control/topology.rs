//! Which CPUs the shards get.

use core_affinity::CoreId;

/// Where shards are pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuChoice {
    /// One each of the CPUs this process may use.
    Auto,
    /// Nowhere.
    None,
    /// On these, in turn.
    These(Vec<usize>),
}

impl CpuChoice {
    /// Parses `auto`, `none`, or a list such as `0-3,8`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let wrong =
            || format!("\"{text}\" is neither \"auto\", \"none\" nor a list of CPUs such as \"0-3,8\"");
        let mut cpus: Vec<usize> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = first.trim().parse::<usize>().ok().zip(last.trim().parse::<usize>().ok());
            let (first, last) =
                range.filter(|(first, last)| first <= last && *last < 4096).ok_or_else(wrong)?;
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(format!("CPU {cpu} stands twice in \"{text}\""));
                }
                cpus.push(cpu);
            }
        }
        Ok(Self::These(cpus))
    }
}

/// Where each shard goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// One entry per shard: its CPU, or none to let the system decide.
    pub cpus: Vec<Option<CoreId>>,
}

impl Placement {
    /// Places `count` shards (one per usable CPU when absent) by `choice`, on CPUs out of `usable`, those
    /// the process is allowed to run on.
    ///
    /// # Errors
    /// A CPU that was asked for and cannot be had.
    pub fn new(count: Option<usize>, choice: &CpuChoice, usable: &[CoreId]) -> Result<Self, String> {
        let on = |cpus: &[CoreId]| {
            let count = count.unwrap_or(cpus.len()).max(1);
            (0..count).map(|shard| cpus.get(shard % cpus.len().max(1)).copied()).collect()
        };
        let cpus = match choice {
            CpuChoice::None => vec![None; count.unwrap_or(usable.len()).max(1)],
            // More shards than CPUs would fight over the same ones; then the system may move them.
            CpuChoice::Auto if count.is_some_and(|count| count > usable.len()) => {
                vec![None; count.unwrap_or(1)]
            }
            CpuChoice::Auto => on(usable),
            CpuChoice::These(cpus) => {
                let mut chosen = Vec::new();
                for &id in cpus {
                    let cpu = usable.iter().find(|cpu| cpu.id == id).copied();
                    chosen.push(cpu.ok_or_else(|| {
                        let allowed: Vec<String> = usable.iter().map(|cpu| cpu.id.to_string()).collect();
                        format!(
                            "shards.cpus: CPU {id} cannot be used; this process may run on {}",
                            allowed.join(",")
                        )
                    })?);
                }
                on(&chosen)
            }
        };
        Ok(Self { cpus })
    }

    /// The CPUs this process may run on.
    pub fn usable() -> Vec<CoreId> {
        core_affinity::get_core_ids().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(ids: &[usize]) -> Vec<CoreId> {
        ids.iter().map(|&id| CoreId { id }).collect()
    }

    fn place(count: Option<usize>, choice: &str, usable: &[usize]) -> Result<Vec<Option<usize>>, String> {
        let choice = CpuChoice::parse(choice)?;
        let placement = Placement::new(count, &choice, &cpus(usable))?;
        Ok(placement.cpus.iter().map(|cpu| cpu.map(|cpu| cpu.id)).collect())
    }

    #[test]
    fn lists() {
        assert_eq!(CpuChoice::parse("0-2, 8"), Ok(CpuChoice::These(vec![0, 1, 2, 8])));
        for text in ["", "a", "3-1", "1,1", "0-99999", "-1", "1,"] {
            assert!(CpuChoice::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn placements() {
        assert_eq!(place(None, "auto", &[0, 1]), Ok(vec![Some(0), Some(1)]));
        assert_eq!(place(Some(1), "auto", &[4, 5]), Ok(vec![Some(4)]));
        assert_eq!(place(Some(3), "auto", &[0, 1]), Ok(vec![None; 3]));
        assert_eq!(place(None, "none", &[0, 1]), Ok(vec![None; 2]));
        assert_eq!(place(None, "1", &[0, 1]), Ok(vec![Some(1)]));
        assert_eq!(place(Some(4), "0-1", &[0, 1]), Ok(vec![Some(0), Some(1), Some(0), Some(1)]));
        assert!(place(None, "7", &[0, 1]).is_err());
        assert_eq!(place(None, "auto", &[]), Ok(vec![None]));
    }
}
