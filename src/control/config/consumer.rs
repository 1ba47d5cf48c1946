//! `[[consumer]]`: what is said of a consumer beforehand. Read here, checked here, planned here.
//!
//! A consumer's id is what a token's consumer claim says or an API key stands for. An API key is written as
//! its SHA-256; the key itself is in no configuration.

use std::{collections::HashMap, path::Path};

use crate::stage::{
    auth::{KeyDigest, is_usable_as_consumer},
    limit::Quota,
    route::Methods,
};

use super::{
    issue::Issues,
    limits::{self, Allowance},
    plan::{methods, refer, unique},
    reader::{Field, Section},
    values::{optional_number, unix_seconds},
};

/// One `[[consumer]]` as it was written.
pub(super) struct Consumer {
    pub(super) id: Option<Field<String>>,
    pub(super) allow: Option<Vec<Allow>>,
    pub(super) api_keys: Vec<ApiKey>,
    pub(super) allowance: Allowance,
    pub(super) in_flight: Option<u64>,
}

/// One entry of `allow`.
pub(super) struct Allow {
    pub(super) routes: Option<Field<Vec<Field<String>>>>,
    pub(super) methods: Option<Field<Vec<Field<String>>>>,
}

/// One entry of `api_keys`.
pub(super) struct ApiKey {
    pub(super) id: Option<Field<String>>,
    pub(super) sha256: Option<Field<String>>,
    pub(super) sha256_file: Option<Field<String>>,
    pub(super) scopes: Option<Field<Vec<Field<String>>>>,
    pub(super) roles: Option<Field<Vec<Field<String>>>>,
    pub(super) expires: Option<Field<String>>,
    pub(super) at: usize,
    pub(super) path: String,
}

/// One `[[consumer]]`.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Clone, Debug)]
pub struct ConsumerPlan {
    pub id: String,
    pub allow: Option<Vec<GrantPlan>>,
    pub api_keys: Vec<ApiKeyPlan>,
    pub quota: Option<Quota>,
    pub in_flight: Option<u32>,
}

/// One entry of `allow`.
#[derive(Clone, Debug)]
pub struct GrantPlan {
    /// Places of routes; any route when absent.
    pub routes: Option<Vec<usize>>,
    /// The methods.
    pub methods: Methods,
}

/// One API key.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Clone, Debug)]
pub struct ApiKeyPlan {
    pub id: String,
    pub digest: KeyDigest,
    pub scopes: Vec<String>,
    pub roles: Vec<String>,
    pub expires_s: Option<i64>,
}

impl ConsumerPlan {
    /// A consumer of whom nothing else is said.
    pub fn with_quota(id: &str, quota: Quota) -> Self {
        Self { id: id.to_owned(), allow: None, api_keys: Vec::new(), quota: Some(quota), in_flight: None }
    }
}

/// Reads one `[[consumer]]`.
pub(super) fn read(mut section: Section<'_, '_>, issues: &Issues) -> Consumer {
    let consumer = Consumer {
        id: section.required_text("id"),
        allow: section.has("allow").then(|| section.sections("allow").into_iter().map(read_allow).collect()),
        api_keys: section.sections("api_keys").into_iter().map(read_api_key).collect(),
        allowance: limits::read_allowance(&mut section, issues),
        in_flight: optional_number(&mut section, "in_flight", 1..=10_000_000, issues),
    };
    section.finish();
    consumer
}

fn read_allow(mut section: Section<'_, '_>) -> Allow {
    let allow = Allow { routes: section.texts("routes"), methods: section.texts("methods") };
    section.finish();
    allow
}

fn read_api_key(mut section: Section<'_, '_>) -> ApiKey {
    let key = ApiKey {
        id: section.required_text("id"),
        sha256: section.text("sha256"),
        sha256_file: section.text("sha256_file"),
        scopes: section.texts("scopes"),
        roles: section.texts("roles"),
        expires: section.text("expires"),
        at: section.at(),
        path: section.path().to_owned(),
    };
    section.finish();
    key
}

/// Checks all of them; one with a mistake is left out. `cost` is what the dearest request takes from a quota.
pub(super) fn plan(
    consumers: &[Consumer],
    routes: &HashMap<String, usize>,
    cost: u32,
    directory: &Path,
    issues: &Issues,
) -> Vec<ConsumerPlan> {
    unique(consumers.iter().map(|consumer| consumer.id.as_ref()), "consumer", issues);
    let all_keys = || consumers.iter().flat_map(|consumer| &consumer.api_keys);
    unique(all_keys().map(|key| key.id.as_ref()), "API key", issues);
    let mut digests = HashMap::new();
    consumers
        .iter()
        .filter_map(|consumer| {
            let id = consumer.id.as_ref();
            if let Some(id) = id.filter(|id| !id.value.is_empty() && !is_usable_as_consumer(&id.value)) {
                let rule = "a consumer has 1 to 256 bytes, no control characters, and no blanks around it";
                id.wrong(issues, rule);
            }
            let allow = consumer
                .allow
                .as_ref()
                .map(|list| list.iter().map(|allow| grant(allow, routes, issues)).collect());
            let keys = consumer.api_keys.iter().filter_map(|key| {
                let (digest, at) = digest_of(key, directory, issues)?;
                if let Some(line) = digests.insert(digest, issues.line_of(at)) {
                    let message = format!("the same key stands on line {line} too; a key has one consumer");
                    issues.add(at, &key.path, message);
                }
                api_key(key, digest, issues)
            });
            let api_keys = keys.collect();
            let quota = consumer.allowance.quota(cost, issues);
            let in_flight = consumer.in_flight.map(|max| u32::try_from(max).unwrap_or(u32::MAX));
            Some(ConsumerPlan { id: id?.value.clone(), allow, api_keys, quota, in_flight })
        })
        .collect()
}

fn grant(allow: &Allow, names: &HashMap<String, usize>, issues: &Issues) -> GrantPlan {
    let routes = allow.routes.as_ref().map(|list| {
        if list.value.is_empty() {
            list.wrong(issues, "an empty list allows no route; leave it out to allow any");
        }
        list.value.iter().filter_map(|route| refer(route, names, "route", issues)).collect()
    });
    GrantPlan { routes, methods: methods(allow.methods.as_ref(), issues) }
}

fn api_key(key: &ApiKey, digest: KeyDigest, issues: &Issues) -> Option<ApiKeyPlan> {
    let texts = |list: &Option<Field<Vec<Field<String>>>>| {
        list.iter().flat_map(|list| &list.value).map(|field| field.value.clone()).collect()
    };
    Some(ApiKeyPlan {
        id: key.id.as_ref()?.value.clone(),
        digest,
        scopes: texts(&key.scopes),
        roles: texts(&key.roles),
        expires_s: match &key.expires {
            Some(field) => Some(unix_seconds(field, issues)?),
            None => None,
        },
    })
}

/// The SHA-256 of a key, and where it is spoken of.
fn digest_of(key: &ApiKey, directory: &Path, issues: &Issues) -> Option<(KeyDigest, usize)> {
    let (text, source) = match (&key.sha256, &key.sha256_file) {
        (Some(hex), None) => (hex.value.clone(), hex),
        (None, Some(file)) => {
            let path = directory.join(&file.value);
            match std::fs::read_to_string(&path) {
                // As sha256sum writes it: the digits, then a file's name.
                Ok(text) => (text.split_ascii_whitespace().next().unwrap_or_default().to_owned(), file),
                Err(error) => {
                    file.wrong(issues, format!("{} cannot be read: {error}", path.display()));
                    return None;
                }
            }
        }
        (Some(_), Some(file)) => {
            file.wrong(issues, "there is a sha256 as well; keep one of the two");
            return None;
        }
        (None, None) => {
            issues.add(key.at, &key.path, "the key's hash is missing; give sha256 or sha256_file");
            return None;
        }
    };
    let digest = hex_digest(&text);
    if digest.is_none() {
        // What was written may be a key by mistake, so it is not repeated.
        let message = "not a SHA-256, which has 64 hex digits; `tollgate key` prints one with each new key";
        source.wrong(issues, message);
    }
    Some((digest?, source.at))
}

fn hex_digest(text: &str) -> Option<KeyDigest> {
    let mut digest = KeyDigest::default();
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(digest)
}
