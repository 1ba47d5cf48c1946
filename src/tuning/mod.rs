//! What the machine is like, and how it is made fit for shards.
//!
//! All of it reads (and what tunes, writes) the kernel's files below a [`root::Root`], so that tests bring a
//! machine of their own. Nothing here is on the path of a request.

pub mod cgroup;
pub mod cpus;
pub mod devices;
pub mod doctor;
pub mod drawing;
pub mod journal;
pub mod knobs;
pub mod machine;
pub mod memory;
pub mod needs;
pub mod pinning;
pub mod root;
pub mod steering;
pub mod verify;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
pub(crate) mod tree;
