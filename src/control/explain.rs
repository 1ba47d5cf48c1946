//! What a request would meet, step by step: the same decisions as in a shard, made once and told.
//!
//! Nothing is decided here. The request is parsed by `http/`, decided by [`stage::decide`] over a snapshot of
//! its own, and what that left in its [`Facts`] is put into words. So quotas are as nobody had used them,
//! every endpoint is up, and of revocations only the file's are known. Tokens, keys, queries and values of
//! fields are never printed.

use std::{
    fmt::{self, Write},
    net::IpAddr,
};

use crate::{
    base::clock::Moment,
    http::{
        field::Storage,
        head::{self, RequestHead},
        target,
    },
    shared::meters::TokenMeters,
    stage::{
        self, Desk, Facts, Request, Step,
        auth::{Caller, Verified},
        client::client_network,
        destination::{PARTS, Why},
        headroom::Headroom,
        limit::{By, Mode},
        refusal::{After, Refusal},
        retry::Repetition,
        route::Route,
        snapshot::Snapshot,
    },
};

/// A request that somebody asks about.
pub struct Question<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and perhaps query, or a whole target.
    pub target: &'a str,
    /// Whole field lines without their ends.
    pub fields: &'a [String],
    /// The address the connection would come from.
    pub peer: IpAddr,
    /// The longest head that is taken, in bytes.
    pub head_bytes_max: usize,
}

/// What became of it.
pub struct Explanation {
    /// The steps, a line each, and the end.
    pub text: String,
    /// Whether it would go to an endpoint.
    pub forwarded: bool,
}

/// Follows the request through the decisions.
///
/// # Errors
/// A control character, which no question on a command line holds by intention, or a line that is no field.
pub fn explain(
    snapshot: &Snapshot,
    desk: &mut Desk,
    question: &Question<'_>,
    now: Moment,
) -> Result<Explanation, String> {
    let bytes = assemble(question)?;
    let mut text = String::new();
    let verdict = follow(snapshot, desk, question, &bytes, now, &mut text);
    let forwarded = verdict.is_ok();
    let written = match verdict {
        Ok(()) => writeln!(text, "forwarded"),
        Err(refusal) => tell_refusal(&mut text, &refusal),
    };
    written.map_err(|error| error.to_string())?;
    Ok(Explanation { text, forwarded })
}

/// The bytes of the request's head.
fn assemble(question: &Question<'_>) -> Result<Vec<u8>, String> {
    let parts = [question.method, question.target];
    if parts.into_iter().chain(question.fields.iter().map(String::as_str)).any(has_control) {
        return Err(
            "a control character, or a line end, stands in the method, the path or a header".to_owned()
        );
    }
    let mut head = format!("{} {} HTTP/1.1\r\n", question.method, question.target);
    let mut has_host = false;
    for field in question.fields {
        let (name, _) = field.split_once(':').ok_or("a header is written as \"Name: value\"")?;
        has_host |= name.eq_ignore_ascii_case("host");
        head.push_str(field);
        head.push_str("\r\n");
    }
    if !has_host {
        head.push_str("Host: localhost\r\n");
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t')
}

/// The steps of `shard/request.rs` up to where a shard would begin to send.
fn follow(
    snapshot: &Snapshot,
    desk: &mut Desk,
    question: &Question<'_>,
    bytes: &[u8],
    now: Moment,
    text: &mut String,
) -> Result<(), Refusal> {
    let mut told = Told { text };
    if bytes.len() > question.head_bytes_max {
        return Err(head::too_long(bytes, question.head_bytes_max).into());
    }
    let (mut storage, mut scratch) = (Storage::new(), Vec::new());
    let head = head::parse(bytes, snapshot.fields_max, &mut storage)?;
    let client_ip = snapshot.trusted_proxies.client_ip(question.peer, head.fields);
    let target = target::parse(head.method, head.target, &mut scratch)?;
    target.check_host(head.host)?;
    let path = String::from_utf8_lossy(target.path);
    told.step("parse", format_args!("{} {path}, from {client_ip}", head.method));

    let request = Request { head: &head, target: &target, client_ip, headroom: Headroom::IDLE };
    let mut facts = Facts::default();
    let decided = stage::decide(snapshot, desk, &TokenMeters::default(), &request, &mut facts, now);
    tell_facts(&mut told, snapshot, &facts, &request, now.unix_seconds());
    let permit = decided?;
    let endpoints: Vec<&str> = permit.cluster().endpoints.iter().map(|endpoint| &*endpoint.name).collect();
    told.step("cluster", format_args!("{}, to one of {}", permit.cluster().name, endpoints.join(", ")));
    if let Some(route) = facts.route {
        tell_destinations(&mut told, snapshot, route, &facts, &request);
        tell_delivery(&mut told, route, &head);
    }
    Ok(())
}

/// Why the request goes to that cluster, and where a copy of it goes.
fn tell_destinations(
    told: &mut Told<'_>,
    snapshot: &Snapshot,
    route: &Route,
    facts: &Facts<'_>,
    request: &Request<'_>,
) {
    let Some(destinations) = &route.destinations else { return };
    let consumer = facts.caller.as_ref().map(|caller| &*caller.consumer);
    let of_whom = if consumer.is_some() { "consumers" } else { "addresses" };
    match destinations.choose(request.head, consumer, request.client_ip, route.cluster).1 {
        Why::Usual => told.step("", format_args!("because nothing else applies")),
        Why::Field(name) => told.step("", format_args!("because of its {name} field")),
        Why::Share(parts) => {
            told.step("", format_args!("because it is of the {}% of {of_whom}", percent(parts)));
        }
    }
    if let (Some(mirror), Some(_)) = (destinations.mirror, destinations.mirror(request.head, 0)) {
        let (name, percent) = (&snapshot.clusters[mirror.cluster].name, percent(mirror.parts));
        told.step("", format_args!("a copy of {percent}% of such requests goes to {name}"));
    }
}

fn percent(parts: u16) -> f64 {
    f64::from(parts) * 100.0 / f64::from(PARTS)
}

/// What happens when an attempt fails.
fn tell_delivery(told: &mut Told<'_>, route: &Route, head: &RequestHead<'_, '_>) {
    let retry = &route.retry;
    let mut repetition = Repetition::of(head.method);
    if retry.by_key {
        repetition = repetition.keyed(head.fields.named("Idempotency-Key"));
    }
    let may_repeat = match repetition {
        Repetition::Safe | Repetition::Harmless => "may be repeated",
        Repetition::Keyed => "may be repeated, for its Idempotency-Key",
        Repetition::Harmful => "is never repeated once any of it was sent",
    };
    let on: Vec<&str> = retry.on.words().collect();
    let words =
        format_args!("at most {} attempts, on {}; it {may_repeat}", retry.attempts_max, on.join(", "));
    match retry.attempts_max {
        1 => told.step("delivery", format_args!("one attempt")),
        _ => told.step("delivery", words),
    }
    if let (Some(after_ms), Repetition::Safe) = (route.hedge_after_ms, repetition) {
        told.step(
            "delivery",
            format_args!("another endpoint is asked as well after {after_ms} ms of silence"),
        );
    }
    if route.timeout_ms != u64::MAX {
        told.step("delivery", format_args!("{} ms at the most", route.timeout_ms));
    }
}

/// Tells the steps that were gone through, and of the one that refused what it was about.
fn tell_facts(
    told: &mut Told<'_>,
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    request: &Request<'_>,
    now_s: i64,
) {
    let Some(route) = facts.route else { return };
    told.step("route", format_args!("{}, for {}{}", route.name, route_host(route), route.path));
    if facts.step < Step::Credential {
        return;
    }
    let kinds = match (snapshot.keys_of(route), route.api_keys) {
        (None, false) => "none is asked for".to_owned(),
        (Some(keys), false) => format!("a token of \"{}\" is asked for", keys.name),
        (None, true) => "an API key is asked for".to_owned(),
        (Some(keys), true) => format!("a token of \"{}\" or an API key is asked for", keys.name),
    };
    told.step("credential", format_args!("{kinds}"));
    let Some(caller) = &facts.caller else {
        if facts.step > Step::Permission {
            tell_rest(told, route, facts, request, now_s);
        }
        return;
    };
    for (credential, kind) in caller.credentials().zip(kinds_of(caller)) {
        told.step("", format_args!("{kind}: {}", said_by(credential)));
    }
    if !route.scopes.is_empty() {
        told.step("permission", format_args!("all of the scopes {} are asked for", route.scopes.join(", ")));
    }
    if !route.roles.is_empty() {
        told.step("permission", format_args!("one of the roles {} is asked for", route.roles.join(", ")));
    }
    let listed = snapshot.consumers.find(&caller.consumer);
    let word = match listed.map(|consumer| consumer.allow.as_deref()) {
        Some(Some([])) => "is allowed nowhere",
        Some(Some(_)) => "is allowed where its list says",
        Some(None) | None => "has no list and is allowed everywhere",
    };
    told.step("permission", format_args!("consumer {} {word}", caller.consumer));
    tell_rest(told, route, facts, request, now_s);
}

fn tell_rest(told: &mut Told<'_>, route: &Route, facts: &Facts<'_>, request: &Request<'_>, now_s: i64) {
    if facts.step >= Step::Version
        && let Some(membership) = &route.membership
    {
        let version = &membership.version;
        told.step(
            "version",
            format_args!("{} of {}, {}", version.name, version.api, version.state(now_s).word()),
        );
    }
    if facts.step >= Step::Body {
        told.step("body", format_args!("at most {} bytes", route.body_bytes_max));
    }
    if facts.step < Step::Limit {
        return;
    }
    if route.is_audited {
        told.step(
            "audit",
            format_args!("on record before anything is sent, and again before its answer ends"),
        );
    }
    for limit in &route.limits {
        let consumer = facts.caller.as_ref().map(|caller| caller.consumer_hash);
        if !limit.concerns(consumer, request.client_ip) {
            told.step("limit", format_args!("by {}, from which this request is exempt", limit.by));
            continue;
        }
        let (key, (quota, _)) = (key_of(&limit.by, facts, request), limit.quota_of(consumer));
        let shadow = match limit.mode {
            Mode::Enforce => "",
            Mode::Shadow => ", in shadow: refuses nobody",
        };
        told.step("limit", format_args!("{quota:?} by {}, which is {key}{shadow}", limit.by));
    }
    if route.cost > 1 {
        told.step("limit", format_args!("a request costs {}", route.cost));
    }
    if route.limits.is_empty() {
        told.step("limit", format_args!("none"));
    }
}

/// What a limit counts under. The value of a field may be a secret.
fn key_of(by: &By, facts: &Facts<'_>, request: &Request<'_>) -> String {
    match by {
        By::Consumer => facts.caller.as_ref().map_or_else(String::new, |caller| caller.consumer.to_string()),
        By::Ip => match request.client_ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_string(),
            ip @ IpAddr::V6(_) => format!("{}/64", std::net::Ipv6Addr::from(client_network(ip))),
        },
        By::Route => "the same for all".to_owned(),
        By::Header(name) => match values_of(request.head, name) {
            1 => "there".to_owned(),
            0 => "not there".to_owned(),
            several => format!("there {several} times"),
        },
    }
}

fn values_of(head: &RequestHead<'_, '_>, name: &str) -> usize {
    head.fields.named(name).filter(|value| !value.is_empty()).count()
}

fn kinds_of(caller: &Caller<'_>) -> impl Iterator<Item = &'static str> {
    let kinds: &[&str] = match caller {
        Caller::Token(_) => &["token"],
        Caller::Key(_) => &["API key"],
        Caller::Both(..) => &["token", "API key"],
    };
    kinds.iter().copied()
}

fn said_by(credential: &Verified) -> String {
    let or_none = |words: &[Box<str>]| if words.is_empty() { "none".to_owned() } else { words.join(" ") };
    let expires = credential.expires_s.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    format!(
        "consumer {}, kid {}, scopes {}, roles {}, expires {}",
        credential.consumer,
        credential.kid.as_deref().unwrap_or("none"),
        or_none(&credential.scopes),
        or_none(&credential.roles),
        expires.map_or_else(|| "never".to_owned(), |moment| moment.to_string()),
    )
}

fn route_host(route: &Route) -> &str {
    route.host.as_deref().unwrap_or_default()
}

/// The end of a request that is refused: what the client sees, and what only the log says.
fn tell_refusal(text: &mut String, refusal: &Refusal) -> fmt::Result {
    let answer = refusal.code.answer();
    writeln!(text, "refused: {} {}, \"{}\" {}", answer.status, answer.word, answer.message, answer.detail)?;
    if let Some(allow) = &refusal.allow {
        writeln!(text, "         Allow: {allow}")?;
    }
    if answer.after == After::Closes {
        writeln!(text, "         and the connection is closed")?;
    }
    writeln!(text, "         the log's reason: {}", refusal.reason)
}

/// Lines with the name of their step in front.
struct Told<'t> {
    text: &'t mut String,
}

impl Told<'_> {
    fn step(&mut self, name: &str, words: fmt::Arguments<'_>) {
        // Writing into a string does not fail, and what is printed of names is for a terminal.
        let plain: String = words.to_string().chars().filter(|character| !character.is_control()).collect();
        self.text.push_str(&format!("{name:<12}{plain}\n"));
    }
}
