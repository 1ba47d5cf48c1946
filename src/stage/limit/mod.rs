//! How much a client may send: all limits of a route, all their windows, decided together.
//!
//! A request is admitted when every window of every limit has a unit left, and then takes one from each;
//! otherwise it takes none. Exact over all shards; see `shared/cells.rs` for why. The key a limit counts
//! by is always there: a request without one is refused, because a limit that can be skipped by leaving
//! out a header is none.

mod admission;
mod places;
mod quota;
mod standings;

pub use admission::{Admission, Scratch, admit};
pub use places::{Place, Places};
pub use quota::{Quota, QuotaError};
pub use standings::Standings;

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;

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
    /// Whether it refuses.
    pub mode: Mode,
    /// Whom it does not concern.
    pub exempt: Exempt,
    /// Quotas of consumers' own, sorted by the consumers' hashes; only where it counts by consumer.
    pub overrides: Box<[Override]>,
}

impl Limit {
    /// Whether a request of this consumer, from this address, counts.
    pub fn concerns(&self, consumer_hash: Option<u64>, client_ip: IpAddr) -> bool {
        !self.exempt.holds(consumer_hash, client_ip)
    }

    /// The quota a request of this consumer is held to, and who has used how much of it.
    pub fn quota_of(&self, consumer_hash: Option<u64>) -> (&Quota, &KeyTable) {
        let own = consumer_hash.filter(|_| self.by == By::Consumer).and_then(|consumer| {
            let found = self.overrides.binary_search_by_key(&consumer, |own| own.consumer_hash);
            found.ok().map(|place| &self.overrides[place])
        });
        own.map_or((&self.quota, &*self.table), |own| (&own.quota, &*own.table))
    }
}

/// What a limit does with a request that is too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Refuses it.
    #[default]
    Enforce,
    /// Lets it pass and says that it would have refused it.
    Shadow,
}

/// Which requests get their cost back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refund {
    /// None.
    #[default]
    Never,
    /// Those of which no endpoint can have seen anything.
    NotSent,
}

/// Whom a limit does not concern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    /// Consumers, by their hashes.
    pub consumers: Box<[u64]>,
    /// Clients in these networks.
    pub networks: Box<[IpNet]>,
}

impl Exempt {
    fn holds(&self, consumer_hash: Option<u64>, client_ip: IpAddr) -> bool {
        consumer_hash.is_some_and(|hash| self.consumers.contains(&hash))
            || self.networks.iter().any(|network| network.contains(&client_ip))
    }
}

/// One consumer's own quota.
#[derive(Debug)]
pub struct Override {
    /// Whose.
    pub consumer_hash: u64,
    /// How much it allows.
    pub quota: Quota,
    /// How much of it is used.
    pub table: Arc<KeyTable>,
}
