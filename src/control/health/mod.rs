//! Who of a cluster is well, decided ten times a second on the control thread, from what the shards counted and what
//! probes say.
//!
//! Owns what control knows of every endpoint, by its slot, and what operators ordered. Publishes effective weights and
//! ceilings (`shared/standing.rs`) and says every change of state once. Never waits for a shard, and no shard for it.

pub mod circuit;
pub mod estimate;
pub mod patient;
pub mod probe;
mod probes;
pub mod report;
#[cfg(test)]
mod tests;
pub mod ward;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::{
    base::clock::monotonic_us,
    stage::{
        balance::{Cluster, Endpoint},
        snapshot::Snapshot,
    },
};

use super::{config::cluster::ClusterPlan, discovery, view::View};

pub use self::patient::Order;
use self::{
    circuit::Circuit,
    patient::Change,
    probes::Probes,
    ward::{Chart, Round},
};

/// Between two looks.
const TURN: Duration = Duration::from_millis(100);
/// Looks from one fading of the past to the next: a second.
const LOOKS_PER_FADE: u64 = 10;
/// Orders of operators that are kept in mind.
const ORDERS_MAX: usize = 1_000;
/// Of orders that are dropped, as many are named.
const NAMED_MAX: usize = 20;

/// What was ordered, by cluster and address, so that it outlives an endpoint that goes and comes.
pub type EndpointOrders = BTreeMap<(Box<str>, SocketAddr), Order>;

/// What control knows of all endpoints.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    looks: u64,
    charts: HashMap<usize, Chart>,
    clusters: HashMap<Box<str>, Ward>,
    orders: EndpointOrders,
}

/// What control knows of a cluster.
#[derive(Debug, Default)]
struct Ward {
    panics: bool,
    /// Where its round was, if it has one.
    turn: Option<u64>,
    /// What limits its exchanges, if they are limited by what answers take.
    circuit: Option<Circuit>,
}

/// What there is to say of a limit that follows what answers take.
#[derive(Debug)]
pub struct Limited {
    /// How many exchanges there may be under way now.
    pub limit: u32,
    /// What an answer takes while nothing queues, in microseconds, if that is known.
    pub usual_us: Option<f64>,
    /// Why the limit is what it is.
    pub reason: String,
}

/// What there is to say of one endpoint.
#[derive(Debug)]
pub struct Told {
    /// Its state in a word.
    pub state: &'static str,
    /// Why.
    pub reason: String,
    /// Times it was ejected.
    pub ejected: u64,
    /// What an operator ordered.
    pub order: Order,
    /// The share of its weight that it has by what it says of its load, if it says that.
    pub reported_share: Option<f64>,
}

/// Too many orders.
#[derive(Debug)]
pub struct OrdersFull;

impl Health {
    /// Looks after the endpoints in force, for as long as the process runs.
    pub async fn run(self: Arc<Self>, view: Arc<ArcSwap<View>>) {
        let mut probes = Probes::default();
        loop {
            let snapshot = Arc::clone(&view.load().snapshot);
            self.look(&snapshot, now_ms());
            probes.ask(&self, &snapshot, now_ms());
            drop(snapshot);
            tokio::time::sleep(TURN).await;
        }
    }

    /// One look at all clusters of `snapshot`.
    pub fn look(&self, snapshot: &Snapshot, now_ms: u64) {
        let mut state = self.state();
        let state = &mut *state;
        state.meet(snapshot, now_ms);
        state.looks += 1;
        let fades = state.looks.is_multiple_of(LOOKS_PER_FADE);
        for cluster in snapshot.clusters.iter() {
            let mut known = state.clusters.remove(&cluster.name).unwrap_or_default();
            let slots = cluster.endpoints.iter().map(|endpoint| endpoint.slot);
            // Out of the map and back: they are looked at beside each other.
            let mut charts: Vec<(usize, Chart)> =
                slots.filter_map(|slot| state.charts.remove_entry(&slot)).collect();
            let mut looked: Vec<&mut Chart> = charts.iter_mut().map(|(_, chart)| chart).collect();
            let was_tripped = known.circuit.as_ref().is_some_and(Circuit::is_tripped);
            let round = Round { now_ms, fades, turn: known.turn };
            let findings = ward::look(cluster, &mut looked, &mut known.circuit, round);
            state.charts.extend(charts);
            for (place, change) in &findings.changes {
                say(cluster, &cluster.endpoints[*place], change);
            }
            say_panic(cluster, known.panics, findings.panics);
            say_circuit(cluster, was_tripped, known.circuit.as_ref());
            (known.panics, known.turn) = (findings.panics, findings.turn);
            state.clusters.insert(cluster.name.clone(), known);
        }
    }

    /// Looks at once: a configuration was put in force.
    pub fn adopt(&self, snapshot: &Snapshot) {
        self.look(snapshot, now_ms());
    }

    /// Takes over what a predecessor was ordered, and looks: `snapshot` is about to be served by. An order for an endpoint
    /// that `clusters` do not know is dropped, which is said. One that a name or a file may bring back stays.
    pub fn inherit(&self, orders: EndpointOrders, clusters: &[ClusterPlan], snapshot: &Snapshot) {
        let is_known = |(name, address): &(Box<str>, SocketAddr)| {
            clusters.iter().any(|plan| *plan.name == **name && discovery::may_find_others(plan))
                || snapshot.clusters.iter().any(|cluster| {
                    cluster.name == *name && cluster.endpoints.iter().any(|one| one.address == *address)
                })
        };
        let (kept, dropped): (EndpointOrders, EndpointOrders) =
            orders.into_iter().partition(|(endpoint, _)| is_known(endpoint));
        if !dropped.is_empty() {
            let mut names: Vec<String> = dropped
                .keys()
                .take(NAMED_MAX)
                .map(|(cluster, at)| format!("{at} of \"{cluster}\""))
                .collect();
            if let Some(others @ 1..) = dropped.len().checked_sub(NAMED_MAX) {
                names.push(format!("{others} others"));
            }
            let names = names.join(", ");
            tracing::warn!(
                "what the predecessor was ordered of endpoints that are not configured is dropped: {names}"
            );
        }
        self.state().orders = kept;
        self.look(snapshot, now_ms());
    }

    /// What is ordered of endpoints now.
    pub fn orders(&self) -> EndpointOrders {
        self.state().orders.clone()
    }

    /// What there is to say of `endpoint`.
    pub fn tell(&self, cluster: &Cluster, endpoint: &Endpoint) -> Told {
        let state = self.state();
        let panics = state.clusters.get(&cluster.name).is_some_and(|known| known.panics);
        let Some(chart) = state.charts.get(&endpoint.slot) else {
            let reason = "it has just become known".to_owned();
            return Told { state: "up", reason, ejected: 0, order: Order::default(), reported_share: None };
        };
        let offer = ward::offer(cluster, endpoint);
        let streak = endpoint.standing.streak();
        let (state, mut reason) = chart.patient.tell(chart.order, offer, streak, panics, now_ms());
        if let Some(says) = chart.report.words() {
            reason = format!("{reason}; {says}");
        }
        let (ejected, reported_share) = (chart.patient.ejected, chart.report.share());
        Told { state, reason, ejected, order: chart.order, reported_share }
    }

    /// What there is to say of the limit of `cluster` that follows what answers take, if it has one.
    pub fn limited(&self, cluster: &Cluster) -> Option<Limited> {
        let state = self.state();
        let circuit = state.clusters.get(&cluster.name)?.circuit.as_ref()?;
        Some(Limited { limit: circuit.limit(), usual_us: circuit.usual_us(), reason: circuit.words() })
    }

    /// Has `change` done to what is ordered of `endpoint`; in force when this returns.
    ///
    /// # Errors
    /// There are too many orders.
    pub fn order(
        &self,
        snapshot: &Snapshot,
        cluster: &Cluster,
        endpoint: &Endpoint,
        change: impl FnOnce(&mut Order),
    ) -> Result<Order, OrdersFull> {
        let key = (cluster.name.clone(), endpoint.address);
        let mut state = self.state();
        let mut order = state.orders.get(&key).copied().unwrap_or_default();
        change(&mut order);
        if order == Order::default() {
            state.orders.remove(&key);
        } else if state.orders.len() < ORDERS_MAX || state.orders.contains_key(&key) {
            state.orders.insert(key, order);
        } else {
            return Err(OrdersFull);
        }
        if let Some(chart) = state.charts.get_mut(&endpoint.slot) {
            chart.order = order;
        }
        drop(state);
        self.look(snapshot, now_ms());
        Ok(order)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has a chart for every endpoint of `snapshot`, and no other.
    fn meet(&mut self, snapshot: &Snapshot, now_ms: u64) {
        for cluster in snapshot.clusters.iter() {
            let is_known = self.clusters.contains_key(&cluster.name);
            for endpoint in &cluster.endpoints {
                let order = self.orders.get(&(cluster.name.clone(), endpoint.address));
                let order = order.copied().unwrap_or_default();
                let chart = || Chart::new(endpoint, order, now_ms, is_known);
                self.charts.entry(endpoint.slot).or_insert_with(chart);
            }
        }
        let endpoints = || snapshot.clusters.iter().flat_map(|cluster| &cluster.endpoints);
        if self.charts.len() > endpoints().count() {
            self.charts.retain(|slot, _| endpoints().any(|endpoint| endpoint.slot == *slot));
            self.clusters.retain(|name, _| snapshot.clusters.iter().any(|cluster| cluster.name == *name));
        }
    }
}

fn now_ms() -> u64 {
    monotonic_us() / 1_000
}

/// Says what has changed, once.
fn say(cluster: &Cluster, endpoint: &Endpoint, change: &Change) {
    let (cluster, endpoint) = (&cluster.name, &endpoint.name);
    match change {
        Change::Ejected { why, for_ms } => {
            let seconds = for_ms.div_ceil(1_000);
            tracing::warn!("cluster \"{cluster}\": {endpoint} is ejected for {seconds} s: {why}");
        }
        Change::OnProbation => tracing::info!("cluster \"{cluster}\": {endpoint} is on probation"),
        Change::Recovered => tracing::info!("cluster \"{cluster}\": {endpoint} is well again"),
        Change::Down(why) => tracing::warn!("cluster \"{cluster}\": {endpoint} is down: {why}"),
        Change::Up => tracing::info!("cluster \"{cluster}\": {endpoint} is up again"),
    }
}

fn say_panic(cluster: &Cluster, before: bool, now: bool) {
    match (before, now) {
        (false, true) => {
            tracing::warn!("cluster \"{}\": too few endpoints are well, all are used", cluster.name);
        }
        (true, false) => tracing::info!("cluster \"{}\": enough endpoints are well again", cluster.name),
        _ => {}
    }
}

fn say_circuit(cluster: &Cluster, before: bool, circuit: Option<&Circuit>) {
    let Some(circuit) = circuit else { return };
    let (name, limit) = (&cluster.name, circuit.limit());
    match (before, circuit.is_tripped()) {
        (false, true) => {
            let why = circuit.words();
            tracing::warn!("cluster \"{name}\": no more than {limit} requests are under way at once: {why}");
        }
        (true, false) => tracing::info!("cluster \"{name}\": answers take as long as usual again"),
        _ => {}
    }
}
