//! Which route a request takes, and what that route asks of it.

mod methods;
mod table;

pub use methods::Methods;
pub use table::RouteTable;
pub(in crate::stage) use table::segments;

use std::sync::Arc;

use crate::shared::meters::{PerShard, RouteMeters};

use super::{
    destination::Destinations,
    headroom::Priority,
    limit::{Limit, Places, Refund},
    objective::Objective,
    retry,
    version::Membership,
};

/// A path (and perhaps a host) with what a request to it must satisfy and where it goes.
#[derive(Debug)]
pub struct Route {
    /// Its name in the configuration, logs and metrics.
    pub name: Box<str>,
    /// Its place in [`RouteTable::routes`].
    pub index: u16,
    /// The host it is for, in lower case; any when absent.
    pub host: Option<Box<str>>,
    /// The path it is for and everything below, in normal form, without a trailing slash unless it is `/`.
    pub path: Box<str>,
    /// The methods it takes.
    pub methods: Methods,
    /// Whose tokens it accepts; none when absent. With neither tokens nor API keys it is public.
    pub keys: Option<usize>,
    /// Whether it accepts API keys.
    pub api_keys: bool,
    /// Whether an API key travels on to the endpoint.
    pub forward_api_key: bool,
    /// Scopes a credential must have, all of them.
    pub scopes: Box<[Box<str>]>,
    /// Roles of which a credential must have one; none is asked for when empty.
    pub roles: Box<[Box<str>]>,
    /// Limits a request must pass, all of them.
    pub limits: Box<[Limit]>,
    /// Units that a request takes from every window of every limit.
    pub cost: u32,
    /// Which requests get them back.
    pub refund: Refund,
    /// Requests that may be under way at once; any number when absent.
    pub places: Option<Places>,
    /// Where it goes.
    pub cluster: usize,
    /// Where else its requests go; nowhere when absent.
    pub destinations: Option<Box<Destinations>>,
    /// How long an exchange may take once it may go to an endpoint, in milliseconds; the longest there is for any time.
    pub timeout_ms: u64,
    /// When another attempt follows one that failed.
    pub retry: retry::Policy,
    /// How long an endpoint may be silent before another one is asked a safe request as well, in milliseconds; any time
    /// when absent.
    pub hedge_after_ms: Option<u64>,
    /// How much its requests matter when not all can be served.
    pub priority: Priority,
    /// The longest request body it takes.
    pub body_bytes_max: u64,
    /// Whether the audit log has every request that goes to an endpoint.
    pub is_audited: bool,
    /// The API version it stands for, as logs show it; empty for none.
    pub version: Box<str>,
    /// The version of an API that it belongs to, with what follows from that.
    pub membership: Option<Box<Membership>>,
    /// What it promises.
    pub objective: Option<Objective>,
    /// Its counters.
    pub meters: Arc<PerShard<RouteMeters>>,
}

impl Route {
    /// Whole field lines for every answer of the route, because of its API's version.
    pub fn answer_lines(&self) -> &[u8] {
        self.membership.as_ref().map_or(b"", |membership| &membership.lines)
    }
}
