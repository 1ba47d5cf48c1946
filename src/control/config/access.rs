//! What a route asks of whoever calls: which credentials it takes, and what they must say.

use std::collections::HashMap;

use super::{
    file::Route,
    issue::Issues,
    plan::refer,
    reader::{Field, Section},
    values::one_of,
};

/// What a `[[route]]` says about credentials, as it was written.
pub(super) struct Access {
    pub(super) auth: Option<Field<String>>,
    pub(super) roles: Option<Field<Vec<Field<String>>>>,
    pub(super) forward_api_key: Option<Field<bool>>,
}

/// What a `[[route]]` asks of a credential.
#[derive(Clone, Debug)]
pub struct AccessPlan {
    /// Place of the key set whose tokens it takes.
    pub keys: Option<usize>,
    /// Whether it takes API keys.
    pub api_keys: bool,
    /// Scopes that are all needed.
    pub scopes: Vec<String>,
    /// Roles of which one is needed.
    pub roles: Vec<String>,
    /// Whether an API key travels on to the endpoint.
    pub forward_api_key: bool,
}

impl AccessPlan {
    /// The word for `auth`.
    pub fn word(&self) -> &'static str {
        match (self.keys.is_some(), self.api_keys) {
            (false, false) => "none",
            (true, false) => "jwt",
            (false, true) => "api-key",
            (true, true) => "either",
        }
    }
}

/// Reads the part of a `[[route]]`.
pub(super) fn read(section: &mut Section<'_, '_>) -> Access {
    Access {
        auth: section.text("auth"),
        roles: section.texts("roles"),
        forward_api_key: section.flag("forward_api_key"),
    }
}

/// Which kinds of credential a route takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Auth {
    Jwt,
    ApiKey,
    Either,
}

/// Checks the part of `route`; `key_sets` are the places of the `[[jwt]]`.
pub(super) fn plan(route: &Route, key_sets: &HashMap<String, usize>, issues: &Issues) -> Option<AccessPlan> {
    let keys = route.jwt.as_ref().map(|jwt| refer(jwt, key_sets, "jwt", issues));
    let words = [("jwt", Auth::Jwt), ("api-key", Auth::ApiKey), ("either", Auth::Either)];
    let auth = route.access.auth.as_ref().map(|auth| one_of(auth, &words, issues));
    match (&route.access.auth, &route.jwt, auth.flatten()) {
        (Some(field), None, Some(Auth::Jwt | Auth::Either)) => {
            field.wrong(issues, "tokens need keys; name the jwt this route accepts");
        }
        (_, Some(jwt), Some(Auth::ApiKey)) => {
            jwt.wrong(
                issues,
                "the route takes API keys only; write auth = \"either\" to take tokens as well",
            );
        }
        _ => {}
    }
    if auth.is_none() && route.jwt.is_none() {
        for (list, what) in [(&route.scopes, "scopes"), (&route.access.roles, "roles")] {
            if let Some(list) = list {
                let message = format!(
                    "{what} come from a token or an API key; name the jwt this route accepts, or its auth"
                );
                list.wrong(issues, message);
            }
        }
    }
    if let Some(roles) = route.access.roles.as_ref().filter(|roles| roles.value.is_empty()) {
        roles.wrong(issues, "an empty list asks for no role; leave it out");
    }
    let texts = |list: &Option<Field<Vec<Field<String>>>>| -> Vec<String> {
        list.iter().flat_map(|list| &list.value).map(|field| field.value.clone()).collect()
    };
    Some(AccessPlan {
        keys: match keys {
            None => None,
            Some(place) => Some(place?),
        },
        api_keys: match auth {
            None => false,
            Some(auth) => auth? != Auth::Jwt,
        },
        scopes: texts(&route.scopes),
        roles: texts(&route.access.roles),
        forward_api_key: route.access.forward_api_key.as_ref().is_some_and(|field| field.value),
    })
}
