//! Asks issuers for the keys they publish: at the start, now and then, and when a token names a key nobody knows.
//!
//! On a thread of its own, because an issuer may take its time. Whatever clients send, there is one look per issuer in
//! [`COOLDOWN`] at the most. An issuer that fails leaves the keys in force as they are; that is said once, and once
//! when it is over.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use ureq::tls::{RootCerts, TlsConfig};

use crate::stage::{auth::IssuedKeys, snapshot::Snapshot};

use super::config::jwks;

/// Between two looks at an issuer for the sake of unknown keys, and after the first failure.
const COOLDOWN: Duration = Duration::from_secs(30);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at what there is to do.
const TURN: Duration = Duration::from_millis(100);
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// What is known of an issuer.
struct Acquaintance {
    asked_at: Instant,
    /// Its last good answer.
    answer: Vec<u8>,
    fails: bool,
}

/// Asks all issuers of `snapshot` that have published nothing yet.
///
/// # Errors
/// What went wrong with each that could not be asked.
pub fn introduce(snapshot: &Snapshot) -> Result<(), Vec<String>> {
    let strangers = issuers(snapshot).filter(|issued| issued.generation() == 0);
    let failures: Vec<String> =
        strangers.filter_map(|issued| update(&issued, &mut Vec::new()).err()).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// Follows the issuers of whatever snapshot is in force, for as long as the process runs.
///
/// # Errors
/// The system gives no thread.
pub fn start(published: Arc<ArcSwap<Snapshot>>) -> io::Result<()> {
    thread::Builder::new().name("issuers".to_owned()).spawn(move || {
        let mut known: HashMap<Box<str>, Acquaintance> = HashMap::new();
        loop {
            let snapshot = published.load_full();
            for issued in issuers(&snapshot) {
                look_after(&issued, &mut known);
            }
            known.retain(|url, _| issuers(&snapshot).any(|issued| issued.url == *url));
            drop(snapshot);
            thread::park_timeout(TURN);
        }
    })?;
    Ok(())
}

fn issuers(snapshot: &Snapshot) -> impl Iterator<Item = Arc<IssuedKeys>> {
    snapshot.key_sets.iter().filter_map(|set| set.issued.clone())
}

fn look_after(issued: &IssuedKeys, known: &mut HashMap<Box<str>, Acquaintance>) {
    let now = Instant::now();
    let refresh = Duration::from_millis(issued.refresh_ms);
    let acquaintance = known.entry(issued.url.clone()).or_insert_with(|| Acquaintance {
        // It was asked when its configuration was put in force.
        asked_at: now,
        answer: Vec::new(),
        fails: !issued.is_current(),
    });
    let since = now.duration_since(acquaintance.asked_at);
    let is_pressing = since >= COOLDOWN.min(refresh) && (acquaintance.fails || issued.take_asked());
    if !is_pressing && since < refresh {
        return;
    }
    acquaintance.asked_at = now;
    match (update(issued, &mut acquaintance.answer), acquaintance.fails) {
        (Err(failure), false) => {
            tracing::warn!("{failure}; the keys in force stay so");
            acquaintance.fails = true;
        }
        (Err(_), true) => {}
        (Ok(()), true) => {
            tracing::info!("{} publishes its keys again", issued.url);
            acquaintance.fails = false;
        }
        (Ok(()), false) => {}
    }
}

/// Asks the issuer, and puts what it publishes in force if it is not what it was.
fn update(issued: &IssuedKeys, answer: &mut Vec<u8>) -> Result<(), String> {
    let fetched = fetch(&issued.url).and_then(|fetched| {
        let keys = if fetched == *answer { None } else { Some(jwks::parse(&fetched)?) };
        Ok((fetched, keys))
    });
    issued.note_fetch(fetched.is_ok());
    let (fetched, keys) = fetched.map_err(|failure| format!("{}: {failure}", issued.url))?;
    if let Some(keys) = keys {
        issued.replace(keys);
        *answer = fetched;
    }
    Ok(())
}

fn fetch(url: &str) -> Result<Vec<u8>, String> {
    // No redirects: the operator named who is to be believed.
    // Issuers within a company have certificates of its own authority: the machine knows which it trusts.
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let mut how =
        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).max_redirects(0).tls_config(tls);
    if url.starts_with("http:") {
        // Nobody stands between this machine and itself.
        how = how.proxy(None);
    }
    let agent: ureq::Agent = how.build().into();
    let mut answer = agent.get(url).call().map_err(|error| error.to_string())?;
    if answer.status() != 200 {
        return Err(format!("answered {}", answer.status()));
    }
    answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(|error| error.to_string())
}
