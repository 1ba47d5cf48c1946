//! The load generator from outside: the real binary, real sockets, endpoints that do exactly what is known.
//!
//! Each file is one chapter of what users are promised. Nothing here asserts how fast anything is: what is compared
//! with arithmetic are waits of a known length, many times longer than what a busy machine adds.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test failing")]

mod rig;

mod accuracy;
mod attack;
mod compare;
mod input;
mod life;
mod limits;
