//! What the control thread sees of the shards from outside, once a second.
//!
//! How much of the second each was at work and how evenly connections find them, for the metrics; and whether they
//! had to stop accepting, which is said once when it begins and once when it is over.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{accepts::Accepts, machine, view::View};

/// Looks once a second, for as long as the process runs.
pub async fn run(view: Arc<View>) {
    let mut at_work = vec![None; view.drivers.len()];
    let mut exhaustion = Exhaustion::default();
    let mut accepts = Accepts::new(view.drivers.len());
    loop {
        note_work(&view, &mut at_work);
        let accepted = view.shards.iter().map(|meters| meters.accepted.get()).collect();
        view.accept_imbalance.set(accepts.advance(accepted));
        match exhaustion.advance(view.shards.sum(|meters| &meters.accept_pauses)) {
            Some(Change::Began) => tracing::warn!(
                "no descriptors are left for new connections ({}); they wait until others close",
                machine::file_limit()
            ),
            Some(Change::Ended) => tracing::info!("new connections are accepted again"),
            None => {}
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// When a shard's work was last looked at, and how much there had been, in nanoseconds.
type Look = Option<(Instant, u64)>;

fn note_work(view: &View, looks: &mut [Look]) {
    for ((shard, before), busy) in view.shards.iter().zip(looks).zip(view.busy_permille.iter()) {
        let now = Instant::now();
        let Some(worked_ns) = at_work_ns(shard.thread.get()) else { continue };
        if let Some((then, worked_before_ns)) = *before {
            let elapsed_ns = u64::try_from((now - then).as_nanos()).unwrap_or(u64::MAX).max(1);
            let permille = worked_ns.saturating_sub(worked_before_ns) * 1_000 / elapsed_ns;
            busy.store(permille.min(1_000), Ordering::Relaxed);
        }
        *before = Some((now, worked_ns));
    }
}

fn at_work_ns(thread: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    stat.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether accepting pauses, of which the shards only count the times.
#[derive(Default)]
struct Exhaustion {
    pauses: u64,
    lasts: bool,
}

/// News about it.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Began,
    Ended,
}

impl Exhaustion {
    fn advance(&mut self, pauses: u64) -> Option<Change> {
        let pausing = pauses != self.pauses;
        self.pauses = pauses;
        let changed = pausing != self.lasts;
        self.lasts = pausing;
        changed.then_some(if pausing { Change::Began } else { Change::Ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhaustion_is_news_when_it_begins_and_when_it_ends() {
        let mut exhaustion = Exhaustion::default();
        let news: Vec<_> = [0, 0, 40, 80, 81, 81, 81].map(|pauses| exhaustion.advance(pauses)).into();
        assert_eq!(news, [None, None, Some(Change::Began), None, None, Some(Change::Ended), None]);
    }
}
