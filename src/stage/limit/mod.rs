//! How much a client may send: all limits of a route, all their windows, decided together.
//!
//! A request is admitted when every window of every limit has a unit left, and then takes one from each;
//! otherwise it takes none. Exact over all shards; see `shared/cells.rs` for why. The key a limit counts
//! by is always there: a request without one is refused, because a limit that can be skipped by leaving
//! out a header is none.

mod admission;
mod quota;
mod standings;

pub use admission::admit;
pub use quota::{Quota, QuotaError, WINDOWS_MAX};
pub use standings::Standings;

use std::{fmt, sync::Arc};

use crate::shared::key_table::KeyTable;

/// Limits one route may have.
pub const LIMITS_MAX: usize = 8;

/// What a limit counts by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The consumer the token names.
    Consumer,
    /// The client's address; an IPv6 client's /64.
    Ip,
    /// Nothing: all requests of the route together.
    Route,
    /// The value of a header, whose name this is.
    Header(Box<str>),
}

/// As configurations have it.
impl fmt::Display for By {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumer => formatter.write_str("consumer"),
            Self::Ip => formatter.write_str("ip"),
            Self::Route => formatter.write_str("route"),
            Self::Header(name) => write!(formatter, "header:{name}"),
        }
    }
}

/// One limit of a route.
#[derive(Debug)]
pub struct Limit {
    /// What it counts by.
    pub by: By,
    /// How much it allows.
    pub quota: Quota,
    /// Who has used how much.
    pub table: Arc<KeyTable>,
}
