//! Configuration, in three shapes: what was typed, what it means, what the shards look up.
//!
//! [`file`] reads TOML into fields that remember their place; [`plan`] checks them against each other;
//! [`compile`] builds the snapshot. Mistakes are collected, never thrown: one run shows them all, each with
//! file, line, key and what would be right.

pub mod access;
pub mod admin;
pub mod api;
pub mod audit;
mod care;
pub mod cluster;
pub mod compile;
pub mod consumer;
pub mod defaults;
pub mod delivery;
pub mod destination;
pub mod endpoints;
mod file;
mod issue;
pub(super) mod jwks;
mod keys;
pub mod limits;
mod listed;
mod log;
pub mod monitor;
mod openapi;
pub mod plan;
mod reader;
pub mod resolve;
mod revocation;
mod shards;
mod tables;
pub(super) mod values;
mod versions;
pub mod view;
mod writable;

pub use issue::{Issue, Issues};
pub use keys::without_newline;
pub use plan::Plan;

use std::path::{Path, PathBuf};

/// Where secrets given as variables come from.
pub type Environment = dyn Fn(&str) -> Option<Vec<u8>>;

/// The process's environment.
pub fn environment(variable: &str) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    std::env::var_os(variable).map(OsStringExt::into_vec)
}

/// Reads and checks the configuration at `path`; binds nothing, resolves nothing.
///
/// # Errors
/// Every mistake in it.
pub fn load(path: &Path, environment: &Environment) -> Result<Plan, Issues> {
    let bytes = std::fs::read(path).map_err(|error| Issues::unreadable(path, &error))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| Issues::not_text(path, &bytes, &error))?;
    parse(path, text, environment)
}

/// Checks `text` as the configuration at `path`, to whose directory relative paths refer.
///
/// # Errors
/// Every mistake in it.
pub fn parse(path: &Path, text: &str, environment: &Environment) -> Result<Plan, Issues> {
    let issues = Issues::new(path, text);
    let directory = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    let plan = plan::build(&file::read(text, &issues), &directory, environment, &issues);
    issues.into_result(plan)
}

#[cfg(test)]
mod tests;
