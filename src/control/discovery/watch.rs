//! The two threads: names are looked up when they are due, files are read when they have come to rest.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    super::{
        config::{endpoints::read_list, resolve::ResolvePlan},
        followed_file::{Follower, Stamp, Step, stamp},
        reload::Reloader,
    },
    Discovery, failures, look_up,
    name::Answer,
    resolver, tell,
};

/// Look-ups under way at the same time.
const LOOKUPS_MAX: usize = 64;
/// Between two looks at which names are due.
const TURN: Duration = Duration::from_millis(50);
/// Between two looks at the files. Two of them and the reading must fit into a second.
const LOOK: Duration = Duration::from_millis(200);

/// Keeps `discovery` up to date for as long as the process runs, and has `reloader` put in force what changes.
///
/// # Errors
/// The system gives no thread.
pub fn start(discovery: &Arc<Discovery>, reloader: &Arc<Reloader>) -> io::Result<()> {
    // A loop of its own: the library that asks is asynchronous, and the control thread's loop has other duties.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (known, publisher) = (Arc::clone(discovery), Arc::clone(reloader));
    let names = move || runtime.block_on(follow_names(&known, &publisher));
    thread::Builder::new().name("names".to_owned()).spawn(names)?;
    let (known, publisher) = (Arc::clone(discovery), Arc::clone(reloader));
    thread::Builder::new().name("endpoints".to_owned()).spawn(move || follow_files(&known, &publisher))?;
    Ok(())
}

async fn follow_names(discovery: &Discovery, reloader: &Reloader) {
    let mut under_way: JoinSet<(String, Answer)> = JoinSet::new();
    loop {
        let (due, plan) = discovery.take_due(LOOKUPS_MAX - under_way.len().min(LOOKUPS_MAX), Instant::now());
        for host in due {
            let plan = plan.clone();
            under_way.spawn(async move {
                let answer = resolver::look_up(&host, &plan).await;
                (host, answer)
            });
        }
        tokio::select! {
            Some(Ok((host, answer))) = under_way.join_next() => {
                if discovery.settle(&host, answer, Instant::now()) {
                    reloader.relocate();
                }
            }
            () = tokio::time::sleep(TURN) => {}
        }
    }
}

fn follow_files(discovery: &Discovery, reloader: &Reloader) {
    let mut followers: HashMap<PathBuf, Follower> = HashMap::new();
    loop {
        let paths = discovery.paths();
        followers.retain(|path, _| paths.contains(path));
        for path in paths {
            let follower = followers.entry(path.clone()).or_default();
            let step = follower.look(stamp(&path));
            if let Some(settled) = take(discovery, reloader, &path, step) {
                follower.settled = Some(settled);
            }
        }
        #[expect(clippy::disallowed_methods, reason = "a thread of its own, for which nobody waits")]
        thread::sleep(LOOK);
    }
}

/// Takes `step`. The state that the file is done with, if it is.
fn take(discovery: &Discovery, reloader: &Reloader, path: &Path, step: Step) -> Option<Stamp> {
    let before = match step {
        // What is being written may be half of it: endpoints must not vanish for that.
        Step::Rest | Step::Restless => return None,
        Step::Gone(message) => {
            discovery.note_trouble(path, message);
            return None;
        }
        Step::Replace(before) => before,
    };
    let found = read_list(path);
    // What changed while it was read may be half of one state and half of another.
    if stamp(path).ok()? != before {
        return None;
    }
    match found {
        Ok(entries) => {
            // A name is known before it takes the place of endpoints that work.
            let strangers = discovery.strangers(entries.iter());
            let found = look_up(&strangers, &discovery.resolve_plan());
            let failures = failures(&found);
            if failures.is_empty() {
                if discovery.replace_list(path, entries, found) {
                    reloader.relocate();
                }
            } else {
                // It is looked at again: the file may be right and the name servers wrong.
                discovery.note_trouble(path, failures.join(", "));
                return None;
            }
        }
        Err(mistake) => discovery.note_trouble(path, mistake),
    }
    Some(before)
}

impl Discovery {
    /// At most `count` names that are due, which are being looked up from here on, and how.
    fn take_due(&self, count: usize, now: Instant) -> (Vec<String>, ResolvePlan) {
        let mut state = self.state();
        let resolve = state.resolve.clone();
        let due = state.names.iter_mut().filter(|(_, name)| name.is_due(now)).take(count);
        let due = due.map(|(host, name)| {
            name.is_asked = true;
            host.clone()
        });
        (due.collect(), resolve)
    }

    /// Takes the answer for `host`. Whether it has other addresses than before.
    fn settle(&self, host: &str, answer: Answer, now: Instant) -> bool {
        let mut state = self.state();
        let resolve = state.resolve.clone();
        let Some(name) = state.names.get_mut(host) else { return false };
        let (changed, news) = name.settle(answer, &resolve, now);
        if changed {
            let addresses: Vec<String> = name.addresses().map(|address| address.to_string()).collect();
            tracing::info!("{host} stands for {}", addresses.join(", "));
        }
        drop(state);
        tell(host, &news);
        changed
    }

    fn resolve_plan(&self) -> ResolvePlan {
        self.state().resolve.clone()
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.state().lists.keys().cloned().collect()
    }

    /// Says it once, and keeps what is in force.
    fn note_trouble(&self, path: &Path, trouble: String) {
        let mut state = self.state();
        let Some(list) = state.lists.get_mut(path) else { return };
        if list.trouble.is_none() {
            tracing::warn!("{}: {trouble}; the endpoints in force stay so", path.display());
        }
        list.trouble = Some(trouble);
    }

    /// Puts `entries` in place of what the file listed. Whether that was something else.
    fn replace_list(
        &self,
        path: &Path,
        entries: Vec<super::EndpointPlan>,
        found: Vec<(String, super::Name)>,
    ) -> bool {
        let mut state = self.state();
        let Some(list) = state.lists.get_mut(path) else { return false };
        if list.trouble.take().is_some() {
            tracing::info!("{} is in force again as it stands", path.display());
        }
        let changed = list.entries != entries;
        if changed {
            tracing::info!("{} lists {} endpoints now", path.display(), entries.len());
        }
        list.entries = entries;
        state.names.extend(found);
        changed
    }
}
