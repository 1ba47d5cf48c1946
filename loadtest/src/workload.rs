//! What is sent: routes by weight, bodies and fields from templates, each client with its own token.
//!
//! A [`Workload`] is made once and shared; each thread composes requests from it with its own [`compose::Composer`].

pub(crate) mod compose;
pub(crate) mod mix;
pub(crate) mod template;
pub(crate) mod token;

use std::sync::Arc;

use self::{template::Template, token::Tokens};
use crate::share::Share;

/// Everything that decides the bytes of requests.
#[derive(Debug)]
pub(crate) struct Workload {
    /// For `Host`.
    pub(crate) authority: String,
    /// At least one.
    pub(crate) routes: Vec<Route>,
    pub(crate) clients: Clients,
    /// `Connection: close` in every request.
    pub(crate) close: bool,
    /// Unexpected statuses fail the run when their share is larger; `None` only counts them.
    pub(crate) errors_allowed: Option<Share>,
}

/// One kind of request.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    /// Relative to the other routes; more than 0.
    pub(crate) weight: f64,
    pub(crate) method: String,
    pub(crate) path: Template,
    pub(crate) fields: Vec<(String, Template)>,
    pub(crate) body: Option<Template>,
    /// A fresh `Idempotency-Key` in each request.
    pub(crate) idempotency_key: bool,
    pub(crate) expected: Expected,
}

/// Who sends.
#[derive(Debug)]
pub(crate) struct Clients {
    /// At least one.
    pub(crate) count: u32,
    pub(crate) pick: Pick,
    /// Each client's token, when tokens are sent at all.
    pub(crate) tokens: Option<Arc<Tokens>>,
    /// Share of requests whose token has a broken signature.
    pub(crate) bad_token: Share,
}

/// How the client of a request is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pick {
    /// One after the other.
    Rotation,
    /// The nth client with a chance proportional to `1 / n^exponent`.
    Zipf { exponent: f64 },
}

/// The statuses a route should answer with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Any 2xx or 3xx.
    Success,
    OneOf(Vec<u16>),
}

impl Expected {
    pub(crate) fn holds(&self, status: u16) -> bool {
        match self {
            Self::Success => (200..400).contains(&status),
            Self::OneOf(statuses) => statuses.contains(&status),
        }
    }
}
