//! `[[route.limit]]`: what a limit counts by, how much it allows, whom it concerns.

use ipnet::IpNet;

use crate::stage::limit::{By, Mode, Quota};

use super::{
    issue::Issues,
    plan::network,
    reader::{Field, Section},
    values::{defaulted, one_of},
};

/// One limit as it was written.
pub(super) struct Limit {
    by: Option<Field<String>>,
    quota: Option<Field<String>>,
    mode: Field<String>,
    exempt: Option<Field<Vec<Field<String>>>>,
}

/// One limit.
#[derive(Debug)]
pub struct LimitPlan {
    /// What it counts by.
    pub by: By,
    /// How much it allows.
    pub quota: Quota,
    /// Whether it refuses.
    pub mode: Mode,
    /// Consumers it does not concern.
    pub exempt_consumers: Vec<String>,
    /// Clients it does not concern.
    pub exempt_networks: Vec<IpNet>,
}

/// Reads one limit.
pub(super) fn read(mut section: Section<'_, '_>) -> Limit {
    let limit = Limit {
        by: section.required_text("by"),
        quota: section.required_text("quota"),
        mode: defaulted(&mut section, "mode"),
        exempt: section.texts("exempt"),
    };
    section.finish();
    limit
}

/// Checks one limit of a route that takes `cost` units for a request.
pub(super) fn plan(limit: &Limit, cost: u32, authenticated: bool, issues: &Issues) -> Option<LimitPlan> {
    let by = limit.by.as_ref().and_then(|by| counted_by(by, authenticated, issues));
    let quota = limit.quota.as_ref().and_then(|text| quota(text, cost, issues));
    let mode = one_of(&limit.mode, &[("enforce", Mode::Enforce), ("shadow", Mode::Shadow)], issues);
    let (mut consumers, mut networks) = (Vec::new(), Vec::new());
    for exempt in limit.exempt.iter().flat_map(|list| &list.value) {
        match exempt.value.strip_prefix("consumer:") {
            Some(id) => consumers.push(id.to_owned()),
            None => networks.extend(network(exempt, issues)),
        }
    }
    Some(LimitPlan {
        by: by?,
        quota: quota?,
        mode: mode?,
        exempt_consumers: consumers,
        exempt_networks: networks,
    })
}

fn counted_by(by: &Field<String>, authenticated: bool, issues: &Issues) -> Option<By> {
    let found = match by.value.split_once(':') {
        None if by.value == "consumer" => Some(By::Consumer),
        None if by.value == "ip" => Some(By::Ip),
        None if by.value == "route" => Some(By::Route),
        Some(("header", name)) if is_field_name(name) => Some(By::Header(name.into())),
        _ => None,
    };
    if found.is_none() {
        let message =
            format!("\"{}\" is not one of \"consumer\", \"ip\", \"route\", \"header:NAME\"", by.value);
        by.wrong(issues, message);
    }
    if found == Some(By::Consumer) && !authenticated {
        by.wrong(
            issues,
            "the consumer comes from a token or an API key; name the jwt this route accepts, or its auth",
        );
    }
    found
}

/// The quota in `text`, which must have room for requests of `cost` units.
pub(super) fn quota(text: &Field<String>, cost: u32, issues: &Issues) -> Option<Quota> {
    let quota = Quota::parse(&text.value).map_err(|error| text.wrong(issues, error.0)).ok()?;
    if let Some(window) = quota.windows().iter().find(|window| window.limit() < cost) {
        let message =
            format!("a request costs {cost}, and a window has {}: none would ever pass", window.limit());
        text.wrong(issues, message);
    }
    Some(quota)
}

fn is_field_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
