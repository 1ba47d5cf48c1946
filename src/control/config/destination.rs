//! Where a route's requests go besides, or in place of, its cluster.

use std::collections::HashMap;

use crate::stage::destination::{ByHeader, PARTS, Share};

use super::{
    issue::Issues,
    plan::refer,
    reader::{Field, Section},
};

/// What a `[[route]]` says about it, as it was written.
pub(super) struct Destinations {
    by_header: Vec<HeaderRule>,
    split: Vec<Part>,
    mirror: Option<Part>,
}

struct HeaderRule {
    name: Option<Field<String>>,
    value: Option<Field<String>>,
    cluster: Option<Field<String>>,
}

struct Part {
    cluster: Option<Field<String>>,
    share: Option<Field<String>>,
}

/// Where the requests of a route go; clusters by their places.
#[derive(Clone, Debug, Default)]
pub struct DestinationsPlan {
    /// Fields that name a cluster, in order.
    pub by_header: Vec<ByHeader>,
    /// Shares of the callers.
    pub split: Vec<Share>,
    /// Where copies go.
    pub mirror: Option<Share>,
}

impl DestinationsPlan {
    /// Whether everything goes where the route says.
    pub fn is_empty(&self) -> bool {
        self.by_header.is_empty() && self.split.is_empty() && self.mirror.is_none()
    }
}

/// Rules of one kind that a route may have; each is looked at for each request.
const RULES_MAX: usize = 16;

/// Reads the part of a `[[route]]`.
pub(super) fn read(route: &mut Section<'_, '_>) -> Destinations {
    let by_header = route.sections("by_header").into_iter().map(|mut section| {
        let rule = HeaderRule {
            name: section.required_text("name"),
            value: section.required_text("value"),
            cluster: section.required_text("cluster"),
        };
        section.finish();
        rule
    });
    let by_header = by_header.collect();
    let split = route.sections("split").into_iter().map(read_part).collect();
    let mirror = route.has("mirror");
    let section = route.section("mirror");
    Destinations { by_header, split, mirror: mirror.then(|| read_part(section)) }
}

fn read_part(mut section: Section<'_, '_>) -> Part {
    let part = Part { cluster: section.required_text("cluster"), share: section.required_text("share") };
    section.finish();
    part
}

/// Checks it; `clusters` are the places of the `[[cluster]]`, `usual` is where everything else goes.
pub(super) fn plan(
    written: &Destinations,
    usual: Option<&Field<String>>,
    clusters: &HashMap<String, usize>,
    issues: &Issues,
) -> Option<DestinationsPlan> {
    let by_header: Vec<_> =
        written.by_header.iter().map(|rule| header_rule(rule, clusters, issues)).collect();
    let mut lines: HashMap<&str, usize> = HashMap::new();
    if let Some(usual) = usual {
        lines.insert(&usual.value, issues.line_of(usual.at));
    }
    let mut split = Vec::new();
    let mut left = PARTS;
    for part in &written.split {
        let found = share(part, clusters, issues);
        if let Some(cluster) = &part.cluster
            && let Some(line) = lines.insert(&cluster.value, issues.line_of(cluster.at))
        {
            cluster.wrong(issues, format!("the cluster stands on line {line} too; it gets what is left"));
        }
        if let (Some(Share { parts, .. }), Some(share)) = (found, &part.share) {
            match left.checked_sub(parts) {
                Some(rest) => left = rest,
                None => share.wrong(issues, "the shares come to more than 100%"),
            }
        }
        split.push(found);
    }
    for (count, cluster) in [
        (written.by_header.len(), written.by_header.last().and_then(|rule| rule.cluster.as_ref())),
        (written.split.len(), written.split.last().and_then(|part| part.cluster.as_ref())),
    ] {
        if let (true, Some(cluster)) = (count > RULES_MAX, cluster) {
            cluster.wrong(issues, format!("a route has at most {RULES_MAX} of these"));
        }
    }
    let mirror = written.mirror.as_ref().map(|part| share(part, clusters, issues));
    Some(DestinationsPlan {
        by_header: by_header.into_iter().collect::<Option<_>>()?,
        split: split.into_iter().collect::<Option<_>>()?,
        mirror: match mirror {
            None => None,
            Some(mirror) => Some(mirror?),
        },
    })
}

fn header_rule(rule: &HeaderRule, clusters: &HashMap<String, usize>, issues: &Issues) -> Option<ByHeader> {
    let cluster = rule.cluster.as_ref().and_then(|cluster| refer(cluster, clusters, "cluster", issues));
    let name = rule.name.as_ref()?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte);
    if name.value.is_empty() || !name.value.bytes().all(is_token) {
        name.wrong(issues, format!("\"{}\" is not the name of a header", name.value));
    }
    let value = rule.value.as_ref()?;
    let trimmed = value.value.trim();
    if trimmed.is_empty() || trimmed != value.value || value.value.chars().any(char::is_control) {
        value.wrong(issues, format!("\"{}\" cannot be the value of a header", value.value.escape_debug()));
    }
    Some(ByHeader { name: name.value.as_str().into(), value: value.value.as_str().into(), cluster: cluster? })
}

fn share(part: &Part, clusters: &HashMap<String, usize>, issues: &Issues) -> Option<Share> {
    let cluster = part.cluster.as_ref().and_then(|cluster| refer(cluster, clusters, "cluster", issues));
    let share = part.share.as_ref()?;
    let parts = parts(&share.value);
    if parts.is_none() {
        let message = format!(
            "\"{}\" is not a share from \"0.01%\" to \"100%\", with two decimals at most",
            share.value
        );
        share.wrong(issues, message);
    }
    Some(Share { parts: parts?, cluster: cluster? })
}

/// How many of [`PARTS`] `text` is, such as "5%" or "0.25%".
fn parts(text: &str) -> Option<u16> {
    let number = text.strip_suffix('%')?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "00"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 2 {
        return None;
    }
    let hundredths: u16 = format!("{decimals:0<2}").parse().ok()?;
    let parts = whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(hundredths)?;
    (1..=PARTS).contains(&parts).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, expected) in [
            ("5%", 500),
            ("0.5%", 50),
            ("0.01%", 1),
            ("12.34%", 1_234),
            ("100%", 10_000),
            ("100.00%", 10_000),
        ] {
            assert_eq!(parts(text), Some(expected), "{text}");
        }
        for text in ["", "5", "%", "0%", "0.00%", "100.01%", "700%", ".5%", "5.%", "1.234%", "-1%", "1e1%"] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
