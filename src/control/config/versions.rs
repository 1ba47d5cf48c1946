//! From planned APIs to what routes know of their versions: the field lines of answers, the rivals.
//!
//! A version that stood in the snapshot before keeps the table of its callers.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    shared::meters::PerShard,
    stage::{
        snapshot::Snapshot,
        version::{Api, Choice, Membership, Version},
    },
};

use super::{api::ApiPlan, plan::RoutePlan};

/// The longest field lines of a version, in bytes: a reply block holds them beside everything else.
const LINES_BYTES_MAX: usize = 2048;

/// The APIs of a snapshot.
pub(super) fn apis(plans: &[ApiPlan], shards: usize, before: Option<&Snapshot>) -> Box<[Api]> {
    let known = |api: &str, version: &str| {
        let apis = before.into_iter().flat_map(|before| before.apis.iter());
        let mut versions = apis.filter(|known| *known.name == *api).flat_map(|known| &known.versions);
        versions.find(|known| *known.name == *version).map(|known| Arc::clone(&known.callers))
    };
    let api = |plan: &ApiPlan| Api {
        name: plan.name.as_str().into(),
        choice: Arc::new(plan.choice.clone()),
        versions: plan
            .versions
            .iter()
            .map(|version| {
                Arc::new(Version {
                    api: plan.name.as_str().into(),
                    name: version.name.as_str().into(),
                    declared: version.state,
                    deprecated_s: version.deprecated_s,
                    sunset_s: version.sunset_s,
                    brownouts: version.brownouts.as_slice().into(),
                    successor: version.successor.map(|place| plan.versions[place].name.as_str().into()),
                    docs: version.docs.as_deref().map(Into::into),
                    description: version.description.clone(),
                    callers: known(&plan.name, &version.name)
                        .unwrap_or_else(|| Arc::new(PerShard::new(shards))),
                })
            })
            .collect(),
    };
    plans.iter().map(api).collect()
}

/// What each of `routes` knows of its version.
///
/// # Errors
/// Field lines that would not fit an answer.
pub(super) fn memberships(
    routes: &[RoutePlan],
    plans: &[ApiPlan],
    apis: &[Api],
) -> Result<Vec<Option<Box<Membership>>>, String> {
    let membership = |route: &RoutePlan| {
        let Some((api, version)) = route.membership else { return Ok(None) };
        let choice = &apis[api].choice;
        let lines = lines(route, routes, plans, &apis[api].versions[version], choice);
        if lines.len() > LINES_BYTES_MAX {
            return Err(format!(
                "route \"{}\": the fields that its API's version adds to answers have {} bytes; {LINES_BYTES_MAX} are possible",
                route.name,
                lines.len()
            ));
        }
        let is_rival = |other: &RoutePlan| {
            other
                .membership
                .is_some_and(|(other_api, other_version)| other_api == api && other_version != version)
                && (&other.host, &other.path) == (&route.host, &route.path)
        };
        let rivals =
            routes.iter().enumerate().filter(|(_, other)| **choice != Choice::Path && is_rival(other));
        Ok(Some(Box::new(Membership {
            version: Arc::clone(&apis[api].versions[version]),
            choice: Arc::clone(choice),
            rivals: rivals.filter_map(|(place, _)| u16::try_from(place).ok()).collect(),
            lines: lines.into_bytes().into(),
        })))
    };
    routes.iter().map(membership).collect()
}

/// `Deprecation` (RFC 9745), `Sunset` (RFC 8594), `Link` (RFC 8288, relations of RFC 5829 and RFC 9745), `Vary`.
/// Dates to come are announced like those that have been.
fn lines(
    route: &RoutePlan,
    routes: &[RoutePlan],
    plans: &[ApiPlan],
    version: &Version,
    choice: &Choice,
) -> String {
    let mut lines = String::new();
    if let Some(deprecated_s) = version.deprecated_s {
        lines.push_str(&format!("Deprecation: @{deprecated_s}\r\n"));
    }
    if let Some(sunset_s) = version.sunset_s {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(sunset_s.unsigned_abs());
        lines.push_str(&format!("Sunset: {}\r\n", httpdate::fmt_http_date(time)));
    }
    if let Some(path) = successor_path(route, routes, plans)
        && let Some(name) = &version.successor
    {
        lines.push_str(&format!("Link: <{path}>; rel=\"successor-version\"; title=\"{name}\"\r\n"));
    }
    if let (Some(docs), Some(_)) = (&version.docs, version.deprecated_s) {
        lines.push_str(&format!("Link: <{docs}>; rel=\"deprecation\"; type=\"text/html\"\r\n"));
    }
    if let Some(field) = choice.varies_by() {
        lines.push_str(&format!("Vary: {field}\r\n"));
    }
    lines
}

/// Where the successor of the version of `route` has what `route` has: the route of it whose path differs in one
/// segment or none, else its first.
fn successor_path<'r>(route: &RoutePlan, routes: &'r [RoutePlan], plans: &[ApiPlan]) -> Option<&'r str> {
    let (api, version) = route.membership?;
    let successor = plans[api].versions[version].successor?;
    let mut candidates = routes.iter().filter(|other| other.membership == Some((api, successor)));
    let first = candidates.clone().next()?;
    let differing = |other: &RoutePlan| {
        let (ours, theirs) = (route.path.split('/'), other.path.split('/'));
        let alike = ours.clone().count() == theirs.clone().count();
        alike.then(|| ours.zip(theirs).filter(|(one, other)| one != other).count())
    };
    let twin = candidates.find(|other| differing(other).is_some_and(|segments| segments <= 1));
    Some(&twin.unwrap_or(first).path)
}
