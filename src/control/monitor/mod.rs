//! What the control thread keeps in mind of the shards: the last minutes, the last refusals, slow exchanges.
//!
//! Runs on the control thread and reads what shards publish; they never wait for it. Everything has a bound: so
//! many seconds, so many samples, so many names. What is older is for Prometheus to know.

mod burn;
mod census;
pub mod exchanges;
pub mod history;
pub mod live;
mod otlp;
mod recent;
mod routes;

pub use burn::{Burn, WINDOWS};
pub use otlp::ExportCounts;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::{
    shared::{log_ring::LogReceiver, sample::Sample},
    stage::route::Route,
};

use super::view::View;

use self::{
    burn::BurnRates, census::Censuses, history::History, otlp::Exporter, recent::Recent, routes::Pulses,
};

/// Between two looks at the rings of samples.
const LOOK: Duration = Duration::from_millis(250);
/// Looks between two entries of the history.
const LOOKS_PER_SECOND: u32 = 4;
/// Seconds over which the rates of consumers are taken, and that are one step of the burn rates.
const CENSUS_S: u32 = 10;
/// Bytes that a shard can be ahead with samples.
pub const RING_BYTES: usize = 256 * 1024;

/// What is kept in mind. Written by the task that runs it, read by whoever answers on the admin address.
#[derive(Debug, Default)]
pub struct Monitor {
    state: Mutex<State>,
    exports: Arc<ExportCounts>,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    recent: Recent,
    burn: BurnRates,
    censuses: Censuses,
    pulses: Pulses,
}

impl State {
    /// Adds what is noted every [`CENSUS_S`] seconds.
    fn note_census(&mut self, view: &View) {
        self.burn.note(view.snapshot.routes.routes());
        self.censuses.note(view);
        self.pulses.note(view.snapshot.routes.routes());
    }
}

impl Monitor {
    /// Notes where everything stands before anybody was told that there is a gateway: what is counted from now on is
    /// seen, however late [`run`](Self::run) has its turn.
    pub fn begin(&self, view: &View) {
        let mut state = self.state();
        state.history.note(view);
        state.note_census(view);
    }

    /// Watches for as long as the process runs.
    pub async fn run(self: Arc<Self>, view: Arc<ArcSwap<View>>, mut rings: Vec<LogReceiver>) {
        let mut looks: u32 = 1;
        let mut exporter = None;
        loop {
            let now = view.load_full();
            self.drain(&now, &mut rings, &mut exporter);
            if looks.is_multiple_of(LOOKS_PER_SECOND) {
                let mut state = self.state();
                state.history.note(&now);
                if looks.is_multiple_of(LOOKS_PER_SECOND * CENSUS_S) {
                    state.note_census(&now);
                }
            }
            looks = looks.wrapping_add(1);
            drop(now);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How fast each of `routes` with an objective uses up its budget.
    pub fn burn(&self, routes: &[Route]) -> Vec<Burn> {
        self.state().burn.rates(routes)
    }

    /// What became of the spans.
    pub fn exports(&self) -> &ExportCounts {
        &self.exports
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the shards have told.
    fn drain(&self, view: &View, rings: &mut [LogReceiver], exporter: &mut Option<Exporter>) {
        let wanted = view.told.monitor.otlp.as_deref();
        if exporter.as_ref().map(Exporter::url) != wanted {
            *exporter = wanted.map(|url| Exporter::start(url, Arc::clone(&self.exports)));
        }
        let mut state = self.state();
        state.recent.learn(&view.snapshot);
        for ring in rings {
            // No more than a ring holds, or a busy shard would keep us here.
            for _ in 0..1_000 {
                let Some(packed) = ring.receive() else { break };
                let Some(sample) = Sample::unpack(packed) else { continue };
                let mut told = state.recent.note(&sample, view.told.monitor.slow_ms);
                if let (Some(exporter), Some(_)) = (&exporter, sample.steps_us) {
                    if let (Some(key), Some(consumer)) = (&view.told.consumer_key, &mut told.consumer) {
                        *consumer = key.disguise(consumer);
                    }
                    exporter.offer(told);
                }
            }
        }
    }
}
