//! The runtime under a shard: io_uring with the best flags the kernel takes, or epoll.
//!
//! The flags are a ladder. `DEFER_TASKRUN` saves about a quarter of the CPU of a proxied request on a
//! virtual machine, so each rung is tried in turn, and the one in force is logged and exported.

use std::{fmt, future::Future, io, thread};

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder, time::TimeDriver};

/// Entries of the submission queue: operations one loop turn may queue before it has to submit.
const SUBMISSION_ENTRIES: u32 = 1024;
/// Entries of the completion queue. Overflow loses nothing but is slow, and thousands of connections can
/// complete in one turn.
const COMPLETION_ENTRIES: u32 = 4 * SUBMISSION_ENTRIES;

/// Which runtime the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring if the machine allows it, else epoll.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// Which rung of the ladder a shard stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// `SINGLE_ISSUER`, `DEFER_TASKRUN`, `SUBMIT_ALL` (Linux 6.1).
    DeferTaskrun,
    /// `COOP_TASKRUN`, `SUBMIT_ALL` (Linux 5.19).
    CoopTaskrun,
    /// No flags.
    Plain,
    /// No ring.
    Epoll,
}

impl Rung {
    /// The ring's rungs, best first.
    const LADDER: [Self; 3] = [Self::DeferTaskrun, Self::CoopTaskrun, Self::Plain];
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DeferTaskrun => "io-uring-defer-taskrun",
            Self::CoopTaskrun => "io-uring-coop-taskrun",
            Self::Plain => "io-uring-plain",
            Self::Epoll => "epoll",
        })
    }
}

/// A shard's runtime. Must be made and used on the shard's own thread.
pub(super) enum Ring {
    Uring(Runtime<TimeDriver<IoUringDriver>>),
    Epoll(Runtime<TimeDriver<LegacyDriver>>),
}

impl Ring {
    /// Climbs as high as the machine and `driver` allow.
    pub(super) fn build(driver: Driver) -> io::Result<(Self, Rung)> {
        let mut refused = io::Error::from(io::ErrorKind::Unsupported);
        if driver != Driver::Epoll {
            for rung in Rung::LADDER {
                match Self::build_rung(rung) {
                    Ok(runtime) => return Ok((Self::Uring(runtime), rung)),
                    Err(error) => refused = error,
                }
            }
        }
        if driver == Driver::IoUring {
            return Err(refused);
        }
        let runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
        Ok((Self::Epoll(runtime), Rung::Epoll))
    }

    fn build_rung(rung: Rung) -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
        let mut builder = io_uring::IoUring::builder();
        builder.setup_cqsize(COMPLETION_ENTRIES);
        match rung {
            Rung::DeferTaskrun => {
                builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
            }
            Rung::CoopTaskrun => {
                builder.setup_coop_taskrun().setup_submit_all();
            }
            Rung::Plain | Rung::Epoll => {}
        }
        RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(SUBMISSION_ENTRIES)
            .uring_builder(builder)
            .enable_timer()
            .build()
    }

    /// Runs `future` to its end.
    pub(super) fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::Uring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

/// Whether this machine lets us have a ring at all, and if not, what the system said.
///
/// # Errors
/// The system's answer to the attempt.
pub fn probe() -> io::Result<()> {
    io_uring::IoUring::new(2).map(drop)
}

/// The best rung that this machine gives a shard: tried on a thread of its own, where a ring has to be made.
///
/// # Errors
/// There is none; what the system said to the lowest.
pub fn best_ring() -> io::Result<Rung> {
    let tried = thread::spawn(|| Ring::build(Driver::IoUring).map(|(_, rung)| rung));
    tried.join().unwrap_or_else(|_| Err(io::Error::other("the attempt ended early")))
}

#[cfg(test)]
mod tests {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

    use super::*;

    /// Denies rings to this thread from here on, as a container's profile does to a process.
    fn deny_rings() {
        let denied = SeccompFilter::new(
            [(libc::SYS_io_uring_setup, Vec::new())].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap()),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let program: BpfProgram = denied.unwrap().try_into().unwrap();
        apply_filter(&program).unwrap();
    }

    #[test]
    fn one_shard_without_a_ring_takes_the_lowest_rung_or_says_why_not() {
        let denied = thread::spawn(|| {
            deny_rings();
            let refused = Ring::build(Driver::IoUring).err().and_then(|error| error.raw_os_error());
            (refused, Ring::build(Driver::Auto).unwrap().1, probe().is_err())
        });
        assert_eq!(denied.join().unwrap(), (Some(libc::EPERM), Rung::Epoll, true));
        // Other threads keep theirs, if the machine gives rings at all.
        let other = thread::spawn(|| Ring::build(Driver::Auto).unwrap().1);
        assert_eq!(other.join().unwrap() == Rung::Epoll, probe().is_err());
    }
}
