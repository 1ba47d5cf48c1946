//! When which endpoint is probed. Each probe waits on a thread of its own from a bounded number, at most one for each
//! endpoint; what it found is noted by the control thread.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::stage::{
    balance::{Cluster, Endpoint, Probe},
    snapshot::Snapshot,
};

use super::{Health, probe};

/// Probes that wait at the same time. More endpoints than this that all hang are asked less often.
const WAITING_MAX: usize = 64;

/// Whom to ask next.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// By slot, when it is asked next; far away while it is being asked.
    due_ms: HashMap<usize, u64>,
    waiting: Arc<AtomicUsize>,
}

impl Probes {
    /// Asks whoever is due.
    pub(super) fn ask(&mut self, health: &Arc<Health>, snapshot: &Arc<Snapshot>, at_ms: u64) {
        let mut probed = Vec::new();
        for (cluster, probe) in snapshot.clusters.iter().filter_map(|c| Some((c, c.care.probe.as_ref()?))) {
            for endpoint in &cluster.endpoints {
                probed.push(endpoint.slot);
                let due_ms = self.due_ms.entry(endpoint.slot).or_insert(at_ms);
                if at_ms < *due_ms || self.waiting.load(Ordering::Relaxed) >= WAITING_MAX {
                    continue;
                }
                // Not before this one has ended, which it does within its time-out.
                *due_ms = at_ms + probe.interval_ms.max(probe.timeout_ms) + spread_ms(endpoint, probe);
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let (health, snapshot) = (Arc::clone(health), Arc::clone(snapshot));
                let waiting = Arc::clone(&self.waiting);
                let (cluster, place) = (usize::from(cluster.index), usize::from(endpoint.index));
                tokio::task::spawn_blocking(move || {
                    let cluster = &snapshot.clusters[cluster];
                    health.probe(cluster, &cluster.endpoints[place]);
                    waiting.fetch_sub(1, Ordering::Relaxed);
                });
            }
        }
        if self.due_ms.len() > probed.len() {
            self.due_ms.retain(|slot, _| probed.contains(slot));
        }
    }
}

/// A tenth of the interval, different for each endpoint: so that not all are asked at the same moment.
fn spread_ms(endpoint: &Endpoint, probe: &Probe) -> u64 {
    endpoint.identity % (probe.interval_ms / 10).max(1)
}

impl Health {
    /// Asks `endpoint`; what it answers counts with the next look. Waits for it.
    fn probe(&self, cluster: &Cluster, endpoint: &Endpoint) {
        let Some(probe) = &cluster.care.probe else { return };
        let answer = probe::ask(probe, cluster.care.load_report, endpoint.address, &endpoint.name);
        if let Some(chart) = self.state().charts.get_mut(&endpoint.slot) {
            chart.answer = Some(answer);
        }
    }
}
