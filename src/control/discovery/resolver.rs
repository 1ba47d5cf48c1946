//! Asks what a host name stands for: `/etc/hosts` first, then name servers, by a library.
//!
//! The system's files are read anew for each look-up, so a change of them needs no restart. Nothing is remembered here:
//! how long an answer is good is said with it.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf::read_system_conf,
};

use super::{
    super::config::resolve::{Family, ResolvePlan},
    name::{Answer, Part},
};

/// Times that a question is sent before it has failed.
const ATTEMPTS: u32 = 3;
/// How long what has no TTL is good: the configuration's bound is shorter.
const NO_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Looks `hosts` up at the same time, and waits for all of them.
pub(super) fn look_up_all(hosts: &BTreeSet<String>, plan: &ResolvePlan) -> Vec<Answer> {
    if hosts.is_empty() {
        return Vec::new();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failed = Answer { four: Err(error.to_string()), six: Err(error.to_string()) };
            return vec![failed; hosts.len()];
        }
    };
    runtime.block_on(async {
        let asked: Vec<_> = hosts
            .iter()
            .map(|host| {
                let (host, plan) = (host.clone(), plan.clone());
                tokio::spawn(async move { look_up(&host, &plan).await })
            })
            .collect();
        let mut answers = Vec::new();
        for one in asked {
            let lost = |error: tokio::task::JoinError| Answer {
                four: Err(error.to_string()),
                six: Err(error.to_string()),
            };
            answers.push(one.await.unwrap_or_else(lost));
        }
        answers
    })
}

/// Looks one host up.
pub(super) async fn look_up(host: &str, plan: &ResolvePlan) -> Answer {
    let patience = Duration::from_millis(plan.timeout_ms);
    let answer = tokio::time::timeout(patience, ask(host, plan)).await;
    let failed = |failure: &str| Answer { four: Err(failure.to_owned()), six: Err(failure.to_owned()) };
    match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => failed(&error.to_string()),
        Err(_) => failed("no name server answered in time"),
    }
}

async fn ask(host: &str, plan: &ResolvePlan) -> Result<Answer, NetError> {
    let name = Name::from_str_relaxed(host).map_err(|error| NetError::from(error.to_string()))?;
    if let Some(answer) = hosts_file(&name, plan.family) {
        return Ok(answer);
    }
    let resolver = resolver(plan)?;
    let (four, six) = tokio::join!(
        part(&resolver, &name, RecordType::A, plan.family != Family::Six),
        part(&resolver, &name, RecordType::AAAA, plan.family != Family::Four),
    );
    Ok(Answer { four, six })
}

/// What `/etc/hosts` says. A name that stands there is not asked for elsewhere, not for its other family either.
fn hosts_file(name: &Name, family: Family) -> Option<Answer> {
    let hosts = Hosts::from_system().ok()?;
    let listed = |kind: RecordType, wanted: bool| {
        let found = hosts.lookup_static_host(&Query::query(name.clone(), kind)).filter(|_| wanted);
        found.map_or_else(Vec::new, |found| addresses(&found))
    };
    let four = listed(RecordType::A, family != Family::Six);
    let six = listed(RecordType::AAAA, family != Family::Four);
    let is_there = !four.is_empty() || !six.is_empty();
    is_there.then_some(Answer { four: Ok((four, NO_TTL)), six: Ok((six, NO_TTL)) })
}

fn resolver(plan: &ResolvePlan) -> Result<TokioResolver, NetError> {
    let (config, mut options) = if plan.servers.is_empty() {
        // Without a file there is nobody to ask, which is then said of each name.
        read_system_conf().unwrap_or_else(|_| {
            (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default())
        })
    } else {
        let servers = plan.servers.iter().map(|server| {
            let mut how = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            how.iter_mut().for_each(|one| one.port = server.port());
            NameServerConfig::new(server.ip(), true, how.into())
        });
        (ResolverConfig::from_parts(None, Vec::new(), servers.collect()), ResolverOpts::default())
    };
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = Duration::from_millis(plan.timeout_ms) / ATTEMPTS;
    options.attempts = ATTEMPTS as usize - 1;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build()
}

async fn part(resolver: &TokioResolver, name: &Name, kind: RecordType, wanted: bool) -> Part {
    if !wanted {
        return Ok((Vec::new(), NO_TTL));
    }
    match resolver.lookup(name.clone(), kind).await {
        Ok(found) => Ok((addresses(&found), found.valid_until().saturating_duration_since(Instant::now()))),
        Err(error) if error.is_no_records_found() => Ok((Vec::new(), NO_TTL)),
        Err(error) => Err(error.to_string()),
    }
}

fn addresses(found: &Lookup) -> Vec<IpAddr> {
    found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}
