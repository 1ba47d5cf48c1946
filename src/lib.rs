//! tollgate: an API gateway for payment systems.
//!
//! A request is read, decided, carried, settled; `ARCHITECTURE.md` beside this file tells its life under the
//! nine headings that `shard/request.rs` has. The rooms, from the ground up: [`base`], the wire language
//! [`http`], what threads share [`shared`], what the machine is like [`tuning`], the decisions [`stage`], the data plane [`shard`], the control
//! plane [`control`]. Dependencies point down only; the two planes never import each other.

pub mod base;
pub mod http;
pub mod shared;
pub mod stage;
pub mod tuning;

pub mod control;
pub mod shard;

pub mod cli;
pub mod demo;
pub mod gateway;
