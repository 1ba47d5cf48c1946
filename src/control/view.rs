//! Everything there is to see of a running gateway, as of one configuration.
//!
//! A reload replaces the view as a whole, like the snapshot in it; meters and phases go on in the next one.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
};

use serde_json::Value;

use crate::{
    shared::{
        lifecycle::{Lifecycle, Phase},
        meters::{PerShard, ShardMeters},
    },
    stage::snapshot::Snapshot,
    tuning::steering::Steering,
};

use super::{
    accepts::Imbalance,
    access_log::{ConsumerKey, LogCounts},
    admin::{bearer::BearerToken, changes::Changes},
    audit::AuditCounts,
    config::{Plan, monitor::MonitorPlan, view},
    discovery::Discovery,
    health::Health,
    monitor::Monitor,
    revocation::Revocations,
};

/// What the admin API, the metrics and the control thread read.
#[derive(Debug)]
pub struct View {
    /// The configuration in force.
    pub snapshot: Arc<Snapshot>,
    /// What is told of it.
    pub told: Told,
    /// The shards' own counters.
    pub shards: Arc<PerShard<ShardMeters>>,
    /// The phases.
    pub lifecycle: Arc<Lifecycle>,
    /// What the log writer has done; absent when there is no log.
    pub log: Option<Arc<LogCounts>>,
    /// What the audit log has done; absent when there is none.
    pub audit: Option<Arc<AuditCounts>>,
    /// What host names stand for and files list.
    pub discovery: Arc<Discovery>,
    /// The deny list.
    pub revocations: Arc<Revocations>,
    /// What is known of the endpoints.
    pub health: Arc<Health>,
    /// What is kept in mind of the last minutes.
    pub monitor: Arc<Monitor>,
    /// Who has changed what by the admin API.
    pub changes: Arc<Changes>,
    /// The runtime each shard got.
    pub drivers: Arc<[String]>,
    /// The share of the last second each shard was at work, in thousandths.
    pub busy_permille: Arc<[AtomicU64]>,
    /// How connections find their shard, by address.
    pub steered: Arc<[Steered]>,
    /// How unevenly they did in the last minute.
    pub accept_imbalance: Arc<Imbalance>,
}

/// How connections to an address find their shard.
#[derive(Clone, Debug)]
pub struct Steered {
    /// The address, with the port that it got.
    pub address: SocketAddr,
    /// How.
    pub steering: Steering,
}

/// What a configuration says that concerns control and not the shards.
#[derive(Clone, Debug)]
pub struct Told {
    /// All of it as `/config` shows it, without secrets.
    pub config: Arc<Value>,
    /// What consumers are hashed with in what leaves the machine, if they are.
    pub consumer_key: Option<ConsumerKey>,
    /// How closely the gateway is watched.
    pub monitor: MonitorPlan,
    /// What clients of the admin API must know, if anything.
    pub admin_token: Option<BearerToken>,
    /// How long requests in flight may take to finish when the gateway drains, in milliseconds.
    pub drain_ms: u64,
}

impl Told {
    /// What `plan` says.
    pub fn of(plan: &Plan) -> Self {
        Self {
            config: Arc::new(view::view(plan)),
            consumer_key: plan.log.consumer_key.clone(),
            monitor: plan.monitor.clone(),
            admin_token: plan.admin.token.clone(),
            drain_ms: plan.timeouts.drain_ms,
        }
    }
}

/// What a gateway can be doing, in order.
pub const PHASES: [&str; 5] = ["starting", "serving", "parting", "draining", "cutting"];

impl View {
    /// Where the gateway is between its beginning and its end: one of [`PHASES`].
    pub fn phase(&self) -> &'static str {
        let place = match self.lifecycle.phase() {
            Phase::Serving if self.lifecycle.listening() < self.drivers.len() => 0,
            Phase::Serving => 1,
            Phase::Parting => 2,
            Phase::Draining => 3,
            Phase::Cutting => 4,
        };
        PHASES[place]
    }

    /// The view of the same gateway under another configuration.
    pub fn with(&self, snapshot: Arc<Snapshot>, told: Told) -> Self {
        Self {
            snapshot,
            told,
            shards: Arc::clone(&self.shards),
            lifecycle: Arc::clone(&self.lifecycle),
            log: self.log.clone(),
            audit: self.audit.clone(),
            discovery: Arc::clone(&self.discovery),
            revocations: Arc::clone(&self.revocations),
            health: Arc::clone(&self.health),
            monitor: Arc::clone(&self.monitor),
            changes: Arc::clone(&self.changes),
            drivers: Arc::clone(&self.drivers),
            busy_permille: Arc::clone(&self.busy_permille),
            steered: Arc::clone(&self.steered),
            accept_imbalance: Arc::clone(&self.accept_imbalance),
        }
    }
}
