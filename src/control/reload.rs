//! Reload: the configuration file is read again, compiled, and put in force as a whole, or not at all.
//!
//! Shards take the new snapshot up between two requests; see `shard/in_force.rs`. What was made at the start
//! for good (addresses, shards, their memory, the log's sink) stays as it is, and a reload that would change
//! it says that this needs a restart. Runs on the control plane only, one reload at a time.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::stage::snapshot::Snapshot;

use super::{
    access_log::Generations,
    config::{self, Plan, cluster::ClusterPlan, compile},
    discovery::{Addresses, Discovery},
    issuers,
    lasting::Lasting,
    overrides::Overrides,
    view::{Told, View},
};

/// Puts configurations in force.
pub struct Reloader {
    /// The file it comes from; a gateway without one, like the demo, has nothing to reload.
    path: Option<PathBuf>,
    /// What cannot change while the process runs.
    lasting: Lasting,
    shards: usize,
    snapshot: Arc<ArcSwap<Snapshot>>,
    view: Arc<ArcSwap<View>>,
    log: Generations,
    /// What stands in the file that is in force.
    plan: Mutex<Plan>,
    /// What the admin API says beside it.
    overrides: Mutex<Overrides>,
    /// What the clusters in force were planned as; held while something else is put in force.
    turn: Mutex<Vec<ClusterPlan>>,
    discovery: Arc<Discovery>,
    /// How the last one went.
    last: Mutex<Option<Report>>,
}

/// How a reload went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Seconds since the Unix epoch.
    pub at: u64,
    /// The configuration in force afterwards.
    pub generation: u64,
    /// What is wrong with the file. The configuration before it stays in force.
    pub mistakes: Vec<String>,
    /// What stands in the file and takes effect only after a restart.
    pub needs_restart: Vec<String>,
}

impl Report {
    /// Whether the file is in force.
    pub fn succeeded(&self) -> bool {
        self.mistakes.is_empty()
    }
}

impl Reloader {
    /// One for the process that was started with `plan` and `overrides` and runs `shards` shards.
    #[expect(clippy::too_many_arguments, reason = "made in one place, of things that are made apart")]
    pub fn new(
        path: Option<PathBuf>,
        plan: Plan,
        overrides: Overrides,
        shards: usize,
        discovery: Arc<Discovery>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        view: Arc<ArcSwap<View>>,
        log: Generations,
    ) -> Self {
        Self {
            path,
            lasting: Lasting::of(&plan),
            shards,
            snapshot,
            view,
            log,
            overrides: Mutex::new(overrides),
            turn: Mutex::new(plan.clusters.clone()),
            discovery,
            plan: Mutex::new(plan),
            last: Mutex::default(),
        }
    }

    /// How the last reload went, if there was one.
    pub fn last(&self) -> Option<Report> {
        lock(&self.last).clone()
    }

    /// Keeps reloads waiting for as long as what is returned lives: what is in force stays so.
    pub fn hold(&self) -> MutexGuard<'_, Vec<ClusterPlan>> {
        lock(&self.turn)
    }

    /// The configuration in force.
    pub fn in_force(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Reads the file and puts it in force. Reads files and resolves names: may take its time.
    pub fn reload(&self) -> Report {
        let mut turn = lock(&self.turn);
        let (mistakes, needs_restart) = match self.put_in_force(&mut turn) {
            Ok(needs_restart) => (Vec::new(), needs_restart),
            Err(mistakes) => (mistakes, Vec::new()),
        };
        let at = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let generation = self.snapshot.load().generation;
        let report = Report { at, generation, mistakes, needs_restart };
        report.tell();
        *lock(&self.last) = Some(report.clone());
        report
    }

    fn put_in_force(&self, clusters: &mut Vec<ClusterPlan>) -> Result<Vec<String>, Vec<String>> {
        let path = self.path.as_deref().ok_or_else(|| {
            vec![
                "this gateway was started without a configuration file, there is nothing to reload"
                    .to_owned(),
            ]
        })?;
        let mut plan = config::load(path, &config::environment)
            .map_err(|issues| issues.to_string().lines().map(str::to_owned).collect::<Vec<_>>())?;
        if let Some(contradiction) = self.lasting.contradiction(&plan) {
            return Err(vec![contradiction]);
        }
        let needs_restart = self.lasting.keep(&mut plan);
        if let (None, Some(route)) = (&plan.audit, plan.routes.iter().find(|route| route.audit)) {
            return Err(vec![format!(
                "route \"{}\" is audited, and this process was started without [audit]; restart it",
                route.name
            )]);
        }
        let told = Told::of(&plan);
        let introduced = self.discovery.introduce(&plan)?;
        let compiled = self.compile(&plan, &self.overrides(), &introduced.addresses);
        let snapshot = compiled.map_err(|mistake| vec![mistake])?;
        issuers::introduce(&snapshot)?;
        self.discovery.adopt(&plan.resolve, &plan.clusters, introduced);
        clusters.clone_from(&plan.clusters);
        *lock(&self.plan) = plan;
        self.publish(snapshot, told);
        Ok(needs_restart)
    }

    /// Quotas that the admin API has given.
    pub fn overrides(&self) -> Overrides {
        lock(&self.overrides).clone()
    }

    /// Changes those and puts them in force, with the file as it was read last and the endpoints that are there now; what
    /// `change` says, and which configuration is in force then. May wait for a reload.
    ///
    /// # Errors
    /// Why everything is as it was.
    pub fn override_quotas<T>(&self, change: impl FnOnce(&mut Overrides) -> T) -> Result<(T, u64), String> {
        let clusters = lock(&self.turn);
        if self.view.load().changes.are_paused() {
            return Err("a successor has taken over; ask again in a moment".to_owned());
        }
        let mut overrides = self.overrides();
        let outcome = change(&mut overrides);
        if overrides != self.overrides() {
            let mut plan = lock(&self.plan).clone();
            plan.clusters.clone_from(&clusters);
            let snapshot = self.compile(&plan, &overrides, &self.discovery.addresses())?;
            let told = self.view.load().told.clone();
            self.publish(snapshot, told);
            *lock(&self.overrides) = overrides;
        }
        Ok((outcome, self.snapshot.load().generation))
    }

    /// What follows the snapshot in force under `plan` and `overrides`.
    fn compile(&self, plan: &Plan, overrides: &Overrides, addresses: &Addresses) -> Result<Snapshot, String> {
        let mut whole = plan.clone();
        overrides.apply(&mut whole);
        compile::compile(whole, addresses, self.shards, Some(&self.snapshot.load()))
    }

    /// Puts the endpoints in force that are there now by `discovery`, if they are others than before. Takes no time.
    pub fn relocate(&self) {
        let mut clusters = lock(&self.turn);
        for list in clusters.iter_mut().filter_map(|cluster| cluster.list.as_mut()) {
            if let Some(entries) = self.discovery.listed(&list.path) {
                list.entries = entries;
            }
        }
        self.discovery.keep_only(&clusters);
        let before = self.snapshot.load_full();
        let addresses = self.discovery.addresses();
        if let Some(snapshot) = compile::relocate(&clusters, &addresses, self.shards, &before) {
            let told = self.view.load().told.clone();
            self.publish(snapshot, told);
        }
    }

    fn publish(&self, snapshot: Snapshot, told: Told) {
        let snapshot = Arc::new(snapshot);
        self.log.add(Arc::clone(&snapshot));
        self.view.store(Arc::new(self.view.load().with(Arc::clone(&snapshot), told)));
        // Endpoints that stay go by the new weights and bounds.
        self.view.load().health.adopt(&snapshot);
        self.snapshot.store(snapshot);
    }
}

impl Report {
    /// Says it to the operator.
    fn tell(&self) {
        for what in &self.needs_restart {
            tracing::warn!("reload: {what}");
        }
        if self.succeeded() {
            tracing::info!("reload: configuration {} is in force", self.generation);
        } else {
            for mistake in &self.mistakes {
                tracing::error!("reload: {mistake}");
            }
            tracing::error!("reload refused: configuration {} stays in force", self.generation);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
