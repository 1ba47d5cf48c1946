//! Which CPUs a thread may run on. Threads and processes that it starts begin with the same ones.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that the calling thread may run on, ascending.
///
/// # Errors
/// The system's; also that the machine has more than 1024 CPUs.
pub fn of_current() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Keeps the calling thread on `cpus` from now on.
///
/// # Errors
/// None of them can be used.
pub fn keep_current_on(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_stays_where_it_was_put_and_so_do_those_that_it_starts() {
        let before = of_current().unwrap();
        let last = *before.last().unwrap();
        let inside = thread::spawn(move || {
            keep_current_on(&[last]).unwrap();
            let started = thread::spawn(|| of_current().unwrap()).join().unwrap();
            assert!(keep_current_on(&[]).is_err());
            (of_current().unwrap(), started)
        });
        assert_eq!(inside.join().unwrap(), (vec![last], vec![last]));
        assert_eq!(of_current().unwrap(), before);
    }
}
