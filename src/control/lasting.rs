//! What a configuration says about things that are made once: addresses, shards, their memory, the log.
//!
//! A reload keeps them as they are, and says which of them the file has otherwise.

use std::{fmt::Debug, net::SocketAddr};

use crate::tuning::{pinning::Pinning, steering::Choice};

use super::{
    admin::address::AdminAddress,
    config::{
        Plan,
        audit::AuditPlan,
        plan::{Bounds, DriverChoice, LogPlan},
    },
    revocation::RevocationPlan,
};

/// The values the process was started with.
#[derive(Clone, Debug)]
pub struct Lasting {
    listen: Vec<SocketAddr>,
    proxied: Vec<SocketAddr>,
    admin: AdminAddress,
    admin_mode: u32,
    steering: Choice,
    pinning: Pinning,
    driver: DriverChoice,
    bounds: Bounds,
    log: LogPlan,
    audit: Option<AuditPlan>,
    revocation: RevocationPlan,
}

impl Lasting {
    /// Those of `plan`.
    pub fn of(plan: &Plan) -> Self {
        Self {
            listen: plan.listen.clone(),
            proxied: plan.proxied.clone(),
            admin: plan.admin.address.clone(),
            admin_mode: plan.admin.mode,
            steering: plan.steering,
            pinning: plan.pinning.clone(),
            driver: plan.driver,
            bounds: plan.bounds.clone(),
            log: plan.log.clone(),
            audit: plan.audit.clone(),
            revocation: plan.revocation.clone(),
        }
    }

    /// Puts them into `plan` instead of its own, and says where they differ, one sentence for each key.
    pub fn keep(&self, plan: &mut Plan) -> Vec<String> {
        let mut differences = Differences::default();
        let (bounds, log) = (&mut plan.bounds, &mut plan.log);
        differences.keep("listen.address", &self.listen, &mut plan.listen);
        differences.keep("listen.proxied", &self.proxied, &mut plan.proxied);
        differences.keep("listen.admin", &self.admin, &mut plan.admin.address);
        differences.keep("listen.admin_mode", &self.admin_mode, &mut plan.admin.mode);
        differences.keep("listen.accept_steering", &self.steering, &mut plan.steering);
        let (pinned, pinning) = (&self.pinning, &mut plan.pinning);
        differences.keep("shards.count", &pinned.count, &mut pinning.count);
        differences.keep("shards.cpus", &pinned.cpus, &mut pinning.cpus);
        let key = "shards.threads_per_core";
        differences.keep(key, &pinned.threads_per_core, &mut pinning.threads_per_core);
        differences.keep("shards.reserve", &pinned.reserve, &mut pinning.reserve);
        differences.keep("shards.driver", &self.driver, &mut plan.driver);
        differences.keep("bounds.connections", &self.bounds.connections, &mut bounds.connections);
        differences.keep("bounds.head_bytes_max", &self.bounds.head_bytes_max, &mut bounds.head_bytes_max);
        differences.keep("bounds.buffer_bytes", &self.bounds.buffer_bytes, &mut bounds.buffer_bytes);
        differences.keep("bounds.tokens", &self.bounds.tokens, &mut bounds.tokens);
        differences.keep("log.access", &self.log.sink, &mut log.sink);
        differences.keep("log.format", &self.log.format, &mut log.format);
        differences.keep("log.headers", &self.log.lists.headers, &mut log.lists.headers);
        differences.keep(
            "log.response_headers",
            &self.log.lists.response_headers,
            &mut log.lists.response_headers,
        );
        differences.keep("log.query", &self.log.lists.query, &mut log.lists.query);
        differences.keep("log.consumer_key_file", &self.log.consumer_key, &mut log.consumer_key);
        differences.keep("log.rotate", &self.log.rotation, &mut log.rotation);
        differences.keep("log.ring", &self.log.ring_bytes, &mut log.ring_bytes);
        differences.keep("audit", &self.audit, &mut plan.audit);
        differences.keep("revocation", &self.revocation, &mut plan.revocation);
        differences.0
    }

    /// What `plan` must not do because of what stays as it is.
    pub fn contradiction(&self, plan: &Plan) -> Option<String> {
        (!self.admin.is_local() && plan.admin.token.is_none()).then(|| {
            format!(
                "listen.admin_token_file is missing, and the admin API stays at {} until a restart",
                self.admin
            )
        })
    }
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn keep<T: Clone + Debug + PartialEq>(&mut self, key: &str, lasting: &T, planned: &mut T) {
        if *lasting != *planned {
            self.0.push(format!("{key} stays {lasting:?} until a restart; the file has {planned:?}"));
            planned.clone_from(lasting);
        }
    }
}
