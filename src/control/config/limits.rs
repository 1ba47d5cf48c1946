//! `[[route.limit]]`: what a limit counts by, how much it allows and by which rule, whom it concerns.

use ipnet::IpNet;

use crate::{
    shared::cells::LIMIT_MAX,
    stage::limit::{By, Mode, Quota},
};

use super::{
    issue::Issues,
    plan::network,
    reader::{Field, Section},
    values::{defaulted, one_of, optional_number},
};

/// One limit as it was written.
pub(super) struct Limit {
    by: Option<Field<String>>,
    allowance: Allowance,
    mode: Field<String>,
    exempt: Option<Field<Vec<Field<String>>>>,
}

/// How much is allowed, as it was written: of a limit, or of a consumer in place of it.
pub(super) struct Allowance {
    strategy: Option<Field<String>>,
    quota: Option<Field<String>>,
    rate: Option<Field<String>>,
    burst: Option<u64>,
    at: usize,
    path: String,
}

/// By which rule units come back.
#[derive(Clone, Copy)]
enum Strategy {
    Exact,
    Calendar,
    TokenBucket,
}

/// One limit.
#[derive(Clone, Debug)]
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
pub(super) fn read(mut section: Section<'_, '_>, issues: &Issues) -> Limit {
    let limit = Limit {
        by: section.required_text("by"),
        allowance: read_allowance(&mut section, issues),
        mode: defaulted(&mut section, "mode"),
        exempt: section.texts("exempt"),
    };
    section.finish();
    limit
}

/// Reads what both a limit and a consumer may have.
pub(super) fn read_allowance(section: &mut Section<'_, '_>, issues: &Issues) -> Allowance {
    Allowance {
        strategy: section.text("strategy"),
        quota: section.text("quota"),
        rate: section.text("rate"),
        burst: optional_number(section, "burst", 1..=u64::from(LIMIT_MAX), issues),
        at: section.at(),
        path: section.path().to_owned(),
    }
}

/// Checks one limit of a route that takes `cost` units for a request.
pub(super) fn plan(limit: &Limit, cost: u32, authenticated: bool, issues: &Issues) -> Option<LimitPlan> {
    let by = limit.by.as_ref().and_then(|by| counted_by(by, authenticated, issues));
    let quota = limit.allowance.quota(cost, issues);
    if limit.allowance.is_empty() {
        limit.allowance.misses("quota", "every limit needs one, or a token bucket's rate and burst", issues);
    }
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

impl Allowance {
    /// Whether nothing was written.
    fn is_empty(&self) -> bool {
        self.strategy.is_none() && self.quota.is_none() && self.rate.is_none() && self.burst.is_none()
    }

    /// The quota it means, if it means one, which must have room for requests of `cost` units.
    pub(super) fn quota(&self, cost: u32, issues: &Issues) -> Option<Quota> {
        if self.is_empty() {
            return None;
        }
        let strategy = self.strategy.as_ref().map_or(Some(Strategy::Exact), |strategy| {
            let words = [
                ("exact", Strategy::Exact),
                ("calendar", Strategy::Calendar),
                ("token-bucket", Strategy::TokenBucket),
            ];
            one_of(strategy, &words, issues)
        })?;
        let (text, quota) = match strategy {
            Strategy::Exact | Strategy::Calendar => {
                if let Some(rate) = &self.rate {
                    rate.wrong(issues, "belongs to strategy = \"token-bucket\"; write a quota");
                } else if self.burst.is_some() {
                    let message = "belongs to strategy = \"token-bucket\"; write a quota";
                    issues.add(self.at, &format!("{}.burst", self.path), message);
                }
                let Some(text) = &self.quota else {
                    self.misses("quota", "write for example \"100/second\"", issues);
                    return None;
                };
                let is_exact = matches!(strategy, Strategy::Exact);
                (text, if is_exact { Quota::parse(&text.value) } else { Quota::calendar(&text.value) })
            }
            Strategy::TokenBucket => {
                if let Some(quota) = &self.quota {
                    quota.wrong(issues, "a token bucket has a rate and a burst in place of a quota");
                }
                let (Some(rate), Some(burst)) = (&self.rate, self.burst) else {
                    let missing = if self.rate.is_none() { "rate" } else { "burst" };
                    let what = "a token bucket needs rate = \"10/second\" and burst = 20, for example";
                    self.misses(missing, what, issues);
                    return None;
                };
                (rate, Quota::bucket(&rate.value, u32::try_from(burst).unwrap_or(LIMIT_MAX)))
            }
        };
        let quota = quota.map_err(|error| text.wrong(issues, error.0)).ok()?;
        if let Some(window) = quota.windows().iter().find(|window| window.limit() < cost) {
            let message =
                format!("a request costs {cost}, and a window has {}: none would ever pass", window.limit());
            text.wrong(issues, message);
        }
        Some(quota)
    }

    fn misses(&self, key: &str, what: &str, issues: &Issues) {
        issues.add(self.at, &format!("{}.{key}", self.path), format!("is missing; {what}"));
    }
}

pub(super) fn is_field_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
