//! The control plane: everything that may be slow.
//!
//! Reads and compiles the configuration, writes the log, answers the admin address, sums the meters. May
//! block, lock and allocate. Never touches a request: it meets the shards only in what `shared/` holds.

pub mod accepts;
pub mod access_log;
pub mod admin;
pub mod admin_client;
pub mod api_key;
pub mod apis;
pub mod audit;
pub mod catalogue;
pub mod clusters;
pub mod config;
pub mod dashboard;
pub mod discovery;
pub mod endpoints_api;
pub mod explain;
mod followed_file;
pub mod health;
pub mod heritage;
pub mod issuers;
pub mod lasting;
pub mod listening;
pub mod log_level;
pub mod machine;
pub mod metrics;
pub mod monitor;
pub mod observer;
pub mod overrides;
pub mod page;
mod performance;
pub mod reload;
pub mod revocation;
pub mod seed;
pub mod signals;
pub mod supervisor;
pub mod tail;
pub mod tail_client;
pub mod token;
pub mod upgrade;
pub mod view;
