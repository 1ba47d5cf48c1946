//! The ground floor: things the standard library could have had.
//!
//! Owns no policy and does no I/O. Every other room may lean on this one; it leans on nothing but
//! `std` and `libc`.

pub mod block;
pub mod clock;
pub mod hex;
pub mod ip_text;
