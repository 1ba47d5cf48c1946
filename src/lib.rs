//! tollgate: an API gateway for payment systems.

pub mod base;
pub mod http;
pub mod shared;
pub mod stage;
