//! Who is there: what the host names of endpoints stand for, and what files list.
//!
//! Owns what is known of names and files while the gateway runs, and two threads that keep it so: one looks names up
//! again when their TTL has passed, one follows the files. Whatever changes becomes a new snapshot, by way of the
//! reloader; a shard and the control thread never wait for a name server or a disk. What fails leaves everything as it
//! was, and is said once.

mod api;
mod located;
mod metrics;
mod name;
mod resolver;
mod watch;

pub use api::router;
pub use located::{Addresses, Located, locate, may_find_others};
pub(super) use metrics::metrics;
pub use watch::start;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::config::{Plan, cluster::ClusterPlan, endpoints::EndpointPlan, resolve::ResolvePlan};

use self::name::{Name, News};

/// What is known.
#[derive(Debug)]
pub struct Discovery(Mutex<State>);

#[derive(Debug)]
struct State {
    resolve: ResolvePlan,
    names: BTreeMap<String, Name>,
    lists: BTreeMap<PathBuf, List>,
}

/// A file of endpoints.
#[derive(Debug)]
struct List {
    /// What is in force of it.
    entries: Vec<EndpointPlan>,
    /// Why the file as it stands now is not in force.
    trouble: Option<String>,
}

/// What was looked up for a configuration that is not in force yet.
#[derive(Debug)]
pub struct Introduced {
    found: Vec<(String, Name)>,
    /// What all its names stand for.
    pub addresses: Addresses,
}

impl Discovery {
    /// Knows what `plan` says and looks its names up. A name that has no address is said, and followed like the others.
    pub fn begin(plan: &Plan) -> Self {
        let state = State { resolve: plan.resolve.clone(), names: BTreeMap::new(), lists: BTreeMap::new() };
        let discovery = Self(Mutex::new(state));
        let introduced = discovery.look_up_strangers(plan);
        for failure in failures(&introduced.found) {
            tracing::warn!("{failure}; until it has an address it stands for no endpoint");
        }
        discovery.adopt(&plan.resolve, &plan.clusters, introduced);
        discovery
    }

    /// Looks up the names of `plan` that are new. Takes as long as a look-up may, and changes nothing yet.
    ///
    /// # Errors
    /// What is wrong with each that has no address.
    pub fn introduce(&self, plan: &Plan) -> Result<Introduced, Vec<String>> {
        let introduced = self.look_up_strangers(plan);
        let failures = failures(&introduced.found);
        if failures.is_empty() { Ok(introduced) } else { Err(failures) }
    }

    /// Goes by another configuration from here on.
    pub fn adopt(&self, resolve: &ResolvePlan, clusters: &[ClusterPlan], introduced: Introduced) {
        let mut state = self.state();
        state.resolve.clone_from(resolve);
        state.names.extend(introduced.found);
        let lists = clusters.iter().filter_map(|cluster| cluster.list.as_ref());
        let lists =
            lists.map(|list| (list.path.clone(), List { entries: list.entries.clone(), trouble: None }));
        state.lists = lists.collect();
        drop(state);
        self.keep_only(clusters);
    }

    /// What names stand for.
    pub fn addresses(&self) -> Addresses {
        let state = self.state();
        state.names.iter().map(|(host, name)| (host.clone(), name.addresses().collect())).collect()
    }

    /// What is in force of the file at `path`.
    pub fn listed(&self, path: &Path) -> Option<Vec<EndpointPlan>> {
        self.state().lists.get(path).map(|list| list.entries.clone())
    }

    fn look_up_strangers(&self, plan: &Plan) -> Introduced {
        let strangers = self.strangers(plan.clusters.iter().flat_map(ClusterPlan::all_endpoints));
        let found = look_up(&strangers, &plan.resolve);
        let mut addresses = self.addresses();
        addresses.extend(found.iter().map(|(host, name)| (host.clone(), name.addresses().collect())));
        Introduced { found, addresses }
    }

    /// The names of `endpoints` that have no address yet.
    fn strangers<'e>(&self, endpoints: impl Iterator<Item = &'e EndpointPlan>) -> BTreeSet<String> {
        let state = self.state();
        let known = |host: &str| state.names.get(host).is_some_and(|name| name.addresses().next().is_some());
        endpoints.filter_map(located::host_name).filter(|host| !known(host)).map(str::to_owned).collect()
    }

    /// Forgets names that no endpoint of `clusters` has any more.
    pub fn keep_only(&self, clusters: &[ClusterPlan]) {
        let wanted: BTreeSet<&str> =
            clusters.iter().flat_map(ClusterPlan::all_endpoints).filter_map(located::host_name).collect();
        self.state().names.retain(|host, _| wanted.contains(host.as_str()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends the process; until it has, what stands there is still right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks `hosts` up, all at once; blocks for as long as one of them may take.
fn look_up(hosts: &BTreeSet<String>, resolve: &ResolvePlan) -> Vec<(String, Name)> {
    let answers = resolver::look_up_all(hosts, resolve);
    let now = Instant::now();
    let names = hosts.iter().zip(answers).map(|(host, answer)| {
        let mut name = Name::new(now);
        name.settle(answer, resolve, now);
        (host.clone(), name)
    });
    names.collect()
}

fn failures(found: &[(String, Name)]) -> Vec<String> {
    let without = found.iter().filter(|(_, name)| name.addresses().next().is_none());
    without.map(|(host, name)| format!("{host}: {}", name.trouble().unwrap_or("has no address"))).collect()
}

/// Says what is new about `host` to the operator.
fn tell(host: &str, news: &News) {
    match news {
        News::None => {}
        News::Failed(trouble) => tracing::warn!("{host}: {trouble}; its addresses stay as they are"),
        News::Recovered => tracing::info!("{host} is resolved again"),
    }
}

/// The address behind `text`, if it is one and no name.
fn ip_of(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
