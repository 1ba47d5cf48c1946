//! API versions: which one a request means, whether it is still served, and what its answers say about that.
//!
//! Everything is compiled when the configuration is loaded: the fields of answers are bytes, dates are seconds
//! that are compared with the shard's clock. A route that belongs to no API pays one look at an `Option`.
//! Never decides who may call; that was decided before.

mod choice;
pub mod description;
mod operations;

pub use choice::{Choice, MediaType, choose};
pub use description::{Description, Document};
pub use operations::{Operation, Operations};

use std::sync::Arc;

use crate::{
    base::clock::Moment,
    shared::{callers::Callers, meters::PerShard},
};

use super::{
    Request,
    refusal::{Code, Refusal},
};

/// One `[[api]]`.
#[derive(Debug)]
pub struct Api {
    /// Its name.
    pub name: Box<str>,
    /// How a request says which version it means.
    pub choice: Arc<Choice>,
    /// Its versions, in the order of the configuration.
    pub versions: Box<[Arc<Version>]>,
}

/// One `[[api.version]]`.
#[derive(Debug)]
pub struct Version {
    /// Its API.
    pub api: Box<str>,
    /// Its name, as requests and logs spell it.
    pub name: Box<str>,
    /// What the configuration says; the dates may say more by now.
    pub declared: State,
    /// When it is (or was) deprecated, in seconds since the Unix epoch.
    pub deprecated_s: Option<i64>,
    /// When it is (or was) retired, in seconds since the Unix epoch.
    pub sunset_s: Option<i64>,
    /// When it is out for a while before that, in order, none overlapping another.
    pub brownouts: Box<[Brownout]>,
    /// The version to move to.
    pub successor: Option<Box<str>>,
    /// Where people read about its end.
    pub docs: Option<Box<str>>,
    /// What an attached OpenAPI file describes.
    pub description: Option<Description>,
    /// Who calls it.
    pub callers: Arc<PerShard<Callers>>,
}

/// Where a version is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Served, and promised to nobody.
    Preview,
    /// Served.
    Active,
    /// Served, and callers are told to move on.
    Deprecated,
    /// Not served any more.
    Retired,
}

impl State {
    /// All of them with the words for them, in the order of a life.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("preview", Self::Preview),
        ("active", Self::Active),
        ("deprecated", Self::Deprecated),
        ("retired", Self::Retired),
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

/// An announced time in which a version answers as it will once it is retired. Seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Brownout {
    /// Its first second.
    pub from_s: i64,
    /// The first second after it.
    pub until_s: i64,
}

/// What a route knows of the version it belongs to.
#[derive(Debug)]
pub struct Membership {
    /// The version.
    pub version: Arc<Version>,
    /// How a request says that it means this one.
    pub choice: Arc<Choice>,
    /// Routes of other versions for the same host and path, as places in the table of routes.
    pub rivals: Box<[u16]>,
    /// Whole field lines for every answer of the route: `Deprecation`, `Sunset`, `Link`, `Vary`.
    pub lines: Box<[u8]>,
}

impl Version {
    /// Where it is in its life at `now_s`: what was declared, or what its dates have come to since.
    pub fn state(&self, now_s: i64) -> State {
        let by_date = match (self.deprecated_s, self.sunset_s) {
            (_, Some(sunset_s)) if sunset_s <= now_s => State::Retired,
            (Some(deprecated_s), _) if deprecated_s <= now_s => State::Deprecated,
            _ => State::Preview,
        };
        self.declared.max(by_date)
    }

    /// The brown-out that is on at `now_s`.
    pub fn brownout(&self, now_s: i64) -> Option<Brownout> {
        self.brownouts.iter().copied().find(|out| (out.from_s..out.until_s).contains(&now_s))
    }

    /// Its own description, if that is what is asked for.
    pub fn document_at(&self, path: &[u8], method: &str) -> Option<&Document> {
        let document = &*self.description.as_ref()?.document;
        let asked = document.path.as_ref()?.as_bytes() == path && matches!(method, "GET" | "HEAD");
        asked.then_some(document)
    }
}

/// Whether the version still serves, and knows what is asked of it.
///
/// # Errors
/// 410 once it is retired and in a brown-out; 404 or 405 for what its description does not know.
pub fn check(membership: &Membership, request: &Request<'_>, now: Moment) -> Result<(), Refusal> {
    let (version, now_s) = (&*membership.version, now.unix_seconds());
    if version.state(now_s) == State::Retired {
        return Err(Refusal::new(Code::VersionRetired, "retired"));
    }
    if let Some(brownout) = version.brownout(now_s) {
        let retry_after_s = u32::try_from(brownout.until_s - now_s).unwrap_or(u32::MAX);
        return Err(Refusal { retry_after_s, ..Refusal::new(Code::VersionBrownout, "brown-out") });
    }
    let Some(description) = &version.description else { return Ok(()) };
    let (path, method) = (request.target.path, request.head.method);
    if version.document_at(path, method).is_some() {
        return Ok(());
    }
    match description.operations.knows(path, method) {
        Operation::Known => Ok(()),
        Operation::OtherMethods(methods) => Err(Refusal::method(std::iter::once(methods))),
        Operation::Unknown => Err(Refusal::new(Code::OperationUnknown, "not in the OpenAPI document")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(declared: State, deprecated_s: Option<i64>, sunset_s: Option<i64>) -> Version {
        Version {
            api: "a".into(),
            name: "v1".into(),
            declared,
            deprecated_s,
            sunset_s,
            brownouts: [Brownout { from_s: 150, until_s: 160 }].into(),
            successor: None,
            docs: None,
            description: None,
            callers: Arc::new(PerShard::new(1)),
        }
    }

    #[test]
    fn dates_move_a_version_on_and_never_back() {
        let planned = version(State::Active, Some(100), Some(200));
        let states = [99, 100, 199, 200].map(|now_s| planned.state(now_s));
        assert_eq!(states, [State::Active, State::Deprecated, State::Deprecated, State::Retired]);
        assert_eq!(version(State::Retired, Some(100), None).state(0), State::Retired);
        assert_eq!(version(State::Preview, None, None).state(i64::MAX), State::Preview);
    }

    #[test]
    fn a_brownout_has_a_first_second_and_no_last() {
        let version = version(State::Deprecated, Some(100), None);
        let on = [149, 150, 159, 160].map(|now_s| version.brownout(now_s).is_some());
        assert_eq!(on, [false, true, true, false]);
    }
}
