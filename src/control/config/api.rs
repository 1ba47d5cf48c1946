//! `[[api]]`: versions, their life and how a request names one. Read and checked here.
//!
//! What a date means now is compared with the system's clock once, for what can only be a slip of the pen: a
//! file that was accepted stays acceptable as time goes by.

use std::{collections::HashMap, path::Path, time::SystemTime};

use crate::stage::version::{Brownout, Choice, Description, MediaType, State};

use super::{
    file::Route,
    issue::Issues,
    openapi,
    plan::{refer, unique},
    reader::{Field, Section},
    values::{defaulted, one_of, unix_seconds},
};

/// The most brown-outs of a version.
const BROWNOUTS_MAX: usize = 64;
/// The longest name of a version, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest link, in bytes.
const DOCS_BYTES_MAX: usize = 512;

/// An `[[api]]` as it was written.
pub(super) struct Api {
    pub(super) name: Option<Field<String>>,
    choose: Field<String>,
    header: Option<Field<String>>,
    media_type: Option<Field<String>>,
    default: Option<Field<String>>,
    versions: Vec<Version>,
    at: usize,
    path: String,
}

struct Version {
    name: Option<Field<String>>,
    state: Field<String>,
    deprecated: Option<Field<String>>,
    sunset: Option<Field<String>>,
    successor: Option<Field<String>>,
    docs: Option<Field<String>>,
    brownouts: Vec<BrownoutField>,
    openapi: Option<Field<String>>,
    openapi_path: Option<Field<String>>,
}

struct BrownoutField {
    from: Option<Field<String>>,
    until: Option<Field<String>>,
}

/// One `[[api]]`, checked.
#[derive(Clone, Debug)]
pub struct ApiPlan {
    /// Its name.
    pub name: String,
    /// How a request names a version.
    pub choice: Choice,
    /// Its versions.
    pub versions: Vec<VersionPlan>,
}

/// One `[[api.version]]`, checked.
#[derive(Clone, Debug)]
pub struct VersionPlan {
    /// Its name.
    pub name: String,
    /// What it is said to be.
    pub state: State,
    /// When it is deprecated, in seconds since the Unix epoch.
    pub deprecated_s: Option<i64>,
    /// When it is retired, in seconds since the Unix epoch.
    pub sunset_s: Option<i64>,
    /// When it is out for a while, in order.
    pub brownouts: Vec<Brownout>,
    /// Place of the version to move to.
    pub successor: Option<usize>,
    /// Where people read about its end.
    pub docs: Option<String>,
    /// What its OpenAPI file says.
    pub description: Option<Description>,
}

/// Reads one `[[api]]`.
pub(super) fn read(mut section: Section<'_, '_>) -> Api {
    let api = Api {
        name: section.required_text("name"),
        choose: defaulted(&mut section, "choose"),
        header: section.text("header"),
        media_type: section.text("media_type"),
        default: section.text("default"),
        versions: section.sections("version").into_iter().map(read_version).collect(),
        at: section.at(),
        path: section.path().to_owned(),
    };
    section.finish();
    api
}

fn read_version(mut section: Section<'_, '_>) -> Version {
    let version = Version {
        name: section.required_text("name"),
        state: defaulted(&mut section, "state"),
        deprecated: section.text("deprecated"),
        sunset: section.text("sunset"),
        successor: section.text("successor"),
        docs: section.text("docs"),
        brownouts: section
            .sections("brownouts")
            .into_iter()
            .map(|mut section| {
                let brownout = BrownoutField {
                    from: section.required_text("from"),
                    until: section.required_text("until"),
                };
                section.finish();
                brownout
            })
            .collect(),
        openapi: section.text("openapi"),
        openapi_path: section.text("openapi_path"),
    };
    section.finish();
    version
}

/// What routes may refer to.
pub(super) struct Apis {
    names: HashMap<String, usize>,
    /// Of each API the places of its versions.
    versions: Vec<HashMap<String, usize>>,
    /// Of each API whether a field chooses the version.
    by_field: Vec<bool>,
}

impl Apis {
    /// Place of API and version that `route` belongs to. `None` for a mistake, `Some(None)` for no API.
    #[expect(clippy::option_option, reason = "a mistake and an absence are different things")]
    pub(super) fn membership(&self, route: &Route, issues: &Issues) -> Option<Option<(usize, usize)>> {
        let Some(api) = &route.api else { return Some(None) };
        let place = refer(api, &self.names, "api", issues)?;
        let Some(version) = &route.version else {
            api.wrong(issues, "a route of an API says which version it is: name one in `version`");
            return None;
        };
        let kind = format!("version of api \"{}\"", api.value);
        Some(Some((place, refer(version, &self.versions[place], &kind, issues)?)))
    }

    /// Whether two routes may stand in the same place because a field tells their requests apart.
    pub(super) fn tells_apart(&self, one: &Route, other: &Route) -> bool {
        let name = |field: &Option<Field<String>>| field.as_ref().map(|field| field.value.clone());
        let place = one.api.as_ref().and_then(|api| self.names.get(&api.value));
        place.is_some_and(|&place| self.by_field[place])
            && name(&one.api) == name(&other.api)
            && name(&one.version) != name(&other.version)
    }
}

/// Checks all `apis`. Relative paths refer to `directory`.
pub(super) fn plan(
    apis: &[Api],
    routes: &[Route],
    directory: &Path,
    issues: &Issues,
) -> (Apis, Vec<Option<ApiPlan>>) {
    let names = unique(apis.iter().map(|api| api.name.as_ref()), "api", issues);
    let versions: Vec<_> = apis
        .iter()
        .map(|api| unique(api.versions.iter().map(|version| version.name.as_ref()), "version", issues))
        .collect();
    let plans = apis.iter().zip(&versions).map(|(api, versions)| {
        let plan = plan_api(api, versions, directory, issues);
        refuse_hidden_documents(api, routes, issues);
        plan
    });
    let plans = plans.collect();
    let by_field = apis.iter().map(|api| api.choose.value != "path").collect();
    (Apis { names, versions, by_field }, plans)
}

fn plan_api(
    api: &Api,
    places: &HashMap<String, usize>,
    directory: &Path,
    issues: &Issues,
) -> Option<ApiPlan> {
    if api.versions.is_empty() {
        issues.add(api.at, &format!("{}.version", api.path), "at least one [[api.version]] is needed");
    }
    let choice = choice(api, issues);
    let versions: Vec<_> =
        api.versions.iter().map(|version| plan_version(version, places, directory, issues)).collect();
    let versions: Vec<VersionPlan> = versions.into_iter().collect::<Option<_>>()?;
    refuse_circles(api, &versions, issues);
    refuse_likeness(api, issues);
    if let Some(field) = &api.default
        && let Some(place) = refer(field, places, "version", issues)
        && matches!(versions[place].state, State::Preview | State::Retired)
    {
        let word = versions[place].state.word();
        field.wrong(issues, format!("a {word} version cannot be what requests mean that name none"));
    }
    Some(ApiPlan { name: api.name.as_ref()?.value.clone(), choice: choice?, versions })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Path,
    Header,
    MediaType,
}

fn choice(api: &Api, issues: &Issues) -> Option<Choice> {
    let words = [("path", By::Path), ("header", By::Header), ("media-type", By::MediaType)];
    let by = one_of(&api.choose, &words, issues)?;
    for (field, of) in [(&api.header, By::Header), (&api.media_type, By::MediaType)] {
        match (field, of == by) {
            (Some(field), false) => {
                field.wrong(issues, format!("choose = \"{}\" has no use for it", api.choose.value));
            }
            (None, true) => {
                let (key, example) = match by {
                    By::Header => ("header", "header = \"X-Api-Version\""),
                    _ => ("media_type", "media_type = \"application/vnd.acme.{version}+json\""),
                };
                let key = format!("{}.{key}", api.path);
                issues.add(api.choose.at, &key, format!("is missing; write for example {example}"));
            }
            _ => {}
        }
    }
    if let (By::Path, Some(default)) = (by, &api.default) {
        default.wrong(issues, "every path says its version; leave `default` out");
    }
    let default = api.default.as_ref().map(|field| field.value.as_str().into());
    match by {
        By::Path => Some(Choice::Path),
        By::Header => {
            let field = api.header.as_ref()?;
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-".contains(&byte);
            if field.value.is_empty() || !field.value.bytes().all(token) {
                field.wrong(issues, format!("\"{}\" is not the name of a header", field.value));
                return None;
            }
            Some(Choice::Header(field.value.as_str().into(), default))
        }
        By::MediaType => {
            let field = api.media_type.as_ref()?;
            let media_type = media_type(&field.value.to_ascii_lowercase());
            if media_type.is_none() {
                let message = format!(
                    "\"{}\" is not a media type with {{version}} in its subtype or as a parameter; write for \
                     example \"application/vnd.acme.{{version}}+json\" or \"application/json; version={{version}}\"",
                    field.value
                );
                field.wrong(issues, message);
            }
            Some(Choice::MediaType(media_type?, default))
        }
    }
}

fn media_type(text: &str) -> Option<MediaType> {
    let (before, after) = text.split_once("{version}")?;
    let token =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-/".contains(&byte));
    if !text.contains(';') {
        let plain = before.contains('/') && token(before) && token(after) && !after.contains('/');
        return plain.then(|| MediaType::Subtype(before.into(), after.into()));
    }
    let (media_type, parameter) = before.split_once(';')?;
    let (media_type, name) = (media_type.trim(), parameter.trim().strip_suffix('=')?);
    let plain =
        after.is_empty() && media_type.contains('/') && token(media_type) && token(name) && !name.is_empty();
    plain.then(|| MediaType::Parameter(media_type.into(), name.into()))
}

fn plan_version(
    version: &Version,
    places: &HashMap<String, usize>,
    directory: &Path,
    issues: &Issues,
) -> Option<VersionPlan> {
    let now_s = SystemTime::UNIX_EPOCH.elapsed().ok().and_then(|since| i64::try_from(since.as_secs()).ok());
    let state = one_of(&version.state, &State::WORDS, issues);
    let time = |field: &Option<Field<String>>| match field {
        None => Some(None),
        Some(field) => unix_seconds(field, issues).map(Some),
    };
    let (deprecated_s, sunset_s) = (time(&version.deprecated), time(&version.sunset));
    if let (Some(Some(deprecated_s)), Some(Some(sunset_s)), Some(field)) =
        (deprecated_s, sunset_s, &version.sunset)
        && sunset_s <= deprecated_s
    {
        let written = version.deprecated.as_ref().map_or("", |field| &field.value);
        let message = format!("\"{}\" is not after deprecated = \"{written}\"", field.value);
        field.wrong(issues, message);
    }
    match (state, &version.deprecated, deprecated_s) {
        (Some(State::Deprecated), None, _) => {
            let message = "a deprecated version says since when: deprecated = \"2026-11-01\"";
            version.state.wrong(issues, message);
        }
        (Some(State::Deprecated), Some(field), Some(Some(at_s))) if Some(at_s) > now_s => {
            let message = format!("\"{}\" is still to come; until then the version is active", field.value);
            field.wrong(issues, message);
        }
        _ => {}
    }
    if let (Some(State::Retired), Some(field), Some(Some(at_s))) = (state, &version.sunset, sunset_s)
        && Some(at_s) > now_s
    {
        let message = format!("\"{}\" is still to come; until then the version is not retired", field.value);
        field.wrong(issues, message);
    }
    if let Some(docs) = &version.docs {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&byte);
        let begins = ["https://", "http://", "/"].iter().any(|start| docs.value.starts_with(start));
        if !begins || docs.value.len() > DOCS_BYTES_MAX || !docs.value.bytes().all(plain) {
            let message = format!("\"{}\" is not a URL of at most {DOCS_BYTES_MAX} bytes", docs.value);
            docs.wrong(issues, message);
        }
    }
    if let Some(name) = &version.name {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.value.len() > NAME_BYTES_MAX || !name.value.bytes().all(plain) {
            let message = format!(
                "\"{}\" is not a name of at most {NAME_BYTES_MAX} letters, digits, dots, hyphens and underscores",
                name.value
            );
            name.wrong(issues, message);
        }
    }
    let bounds = [deprecated_s.flatten(), sunset_s.flatten()];
    let brownouts = brownouts(&version.brownouts, bounds, issues);
    let successor = match &version.successor {
        None => Some(None),
        Some(field) => refer(field, places, "version", issues).map(Some),
    };
    let openapi_path = version.openapi_path.as_ref().filter(|path| {
        if version.openapi.is_none() {
            path.wrong(issues, "there is nothing to serve there; name the file in `openapi`");
        }
        let good = openapi::is_normal_path(&path.value);
        if !good {
            path.wrong(issues, format!("\"{}\" is not a path in normal form", path.value));
        }
        good
    });
    let description = match &version.openapi {
        None => Some(None),
        Some(field) => {
            openapi::load(field, openapi_path.map(|path| &*path.value), directory, issues).map(Some)
        }
    };
    Some(VersionPlan {
        name: version.name.as_ref()?.value.clone(),
        state: state?,
        deprecated_s: deprecated_s?,
        sunset_s: sunset_s?,
        brownouts: brownouts?,
        successor: successor?,
        docs: version.docs.as_ref().map(|field| field.value.clone()),
        description: description?,
    })
}

/// Brown-outs in order. They lie between deprecation and sunset: before, nobody was told; after, there is nothing
/// to switch off.
fn brownouts(fields: &[BrownoutField], bounds: [Option<i64>; 2], issues: &Issues) -> Option<Vec<Brownout>> {
    let mut brownouts: Vec<(Brownout, &Field<String>)> = Vec::new();
    for BrownoutField { from, until } in fields {
        let (Some(from), Some(until)) = (from, until) else { return None };
        let (from_s, until_s) = (unix_seconds(from, issues)?, unix_seconds(until, issues)?);
        let [deprecated_s, sunset_s] = bounds;
        if until_s <= from_s {
            until.wrong(issues, format!("\"{}\" is not after from = \"{}\"", until.value, from.value));
        } else if deprecated_s.is_none_or(|deprecated_s| from_s < deprecated_s) {
            let message =
                "a version is deprecated before its first brown-out; set `deprecated` to a time before it";
            from.wrong(issues, message);
        } else if sunset_s.is_some_and(|sunset_s| until_s > sunset_s) {
            until.wrong(issues, "the version is retired by then; a brown-out ends before `sunset`");
        }
        if let Some((_, earlier)) =
            brownouts.iter().find(|(known, _)| from_s < known.until_s && known.from_s < until_s)
        {
            let line = issues.line_of(earlier.at);
            from.wrong(issues, format!("the brown-out on line {line} is in the same time"));
        }
        brownouts.push((Brownout { from_s, until_s }, from));
    }
    if let Some((_, field)) = brownouts.get(BROWNOUTS_MAX) {
        field.wrong(issues, format!("a version has at most {BROWNOUTS_MAX} brown-outs"));
    }
    let mut brownouts: Vec<Brownout> = brownouts.into_iter().map(|(brownout, _)| brownout).collect();
    brownouts.sort_unstable();
    Some(brownouts)
}

/// Requests name versions without regard to case.
fn refuse_likeness(api: &Api, issues: &Issues) {
    let names: Vec<_> = api.versions.iter().filter_map(|version| version.name.as_ref()).collect();
    for (place, name) in names.iter().enumerate() {
        let alike = |earlier: &&&Field<String>| {
            earlier.value != name.value && earlier.value.eq_ignore_ascii_case(&name.value)
        };
        if let Some(earlier) = names[..place].iter().find(alike) {
            let line = issues.line_of(earlier.at);
            name.wrong(issues, format!("\"{}\" on line {line} differs in case only", earlier.value));
        }
    }
}

/// Whoever follows successors arrives somewhere.
fn refuse_circles(api: &Api, versions: &[VersionPlan], issues: &Issues) {
    for (place, version) in api.versions.iter().enumerate() {
        let Some(field) = &version.successor else { continue };
        let mut next = versions[place].successor;
        for _ in 0..versions.len() {
            match next {
                Some(at) if at == place => {
                    let message =
                        format!("following the successors of \"{}\" leads back to it", versions[place].name);
                    field.wrong(issues, message);
                    break;
                }
                Some(at) => next = versions[at].successor,
                None => break,
            }
        }
    }
}

/// A document is served on a route of its version, whose credentials decide who may see it.
fn refuse_hidden_documents(api: &Api, routes: &[Route], issues: &Issues) {
    let text = |field: &Option<Field<String>>| field.as_ref().map(|field| field.value.clone());
    for version in &api.versions {
        let Some(path) = &version.openapi_path else { continue };
        let leads_there = routes.iter().any(|route| {
            let prefix = text(&route.path).unwrap_or_default();
            let below = path.value.strip_prefix(prefix.trim_end_matches('/'));
            text(&route.api) == text(&api.name)
                && text(&route.version) == text(&version.name)
                && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if !leads_there {
            path.wrong(issues, "no route of this version has this path below it, so nobody could ask for it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_have_one_place_for_the_version() {
        let subtype = |before: &str, after: &str| Some(MediaType::Subtype(before.into(), after.into()));
        assert_eq!(media_type("application/vnd.a.{version}+json"), subtype("application/vnd.a.", "+json"));
        assert_eq!(
            media_type("application/json; version={version}"),
            Some(MediaType::Parameter("application/json".into(), "version".into()))
        );
        for bad in [
            "application/json",
            "{version}",
            "a/b;{version}",
            "a/b;v={version};x",
            "a b/{version}",
            "a/{version}/b",
        ] {
            assert_eq!(media_type(bad), None, "{bad}");
        }
    }
}
