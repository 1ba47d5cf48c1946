//! The ground floor: things the standard library could have had.
//!
//! Owns no policy and does no I/O. Every other room may lean on this one; it leans on nothing but
//! `std`, `libc` and `rustix`.

pub mod affinity;
pub mod block;
pub mod clock;
pub mod hex;
pub mod ip_text;
