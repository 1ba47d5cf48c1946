//! How much the log says: from the start at `info`, and otherwise when the admin API says so, perhaps for a while.
//!
//! Orders of the admin API are said at any level, so that nobody can change something unseen by lowering it first.

use std::{
    io,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    reload::{Handle, Layer},
    util::SubscriberInitExt,
};

/// The target of lines about orders.
pub const ORDERS: &str = "orders";
/// From the start.
const USUAL: LevelFilter = LevelFilter::INFO;

static FILTER: OnceLock<Handle<Targets, Registry>> = OnceLock::new();

/// The level in force.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// The level.
    pub level: LevelFilter,
    /// When it is the usual one again, in seconds since the Unix epoch; never by itself if absent.
    pub until_s: Option<i64>,
    /// How often it was set.
    pub turn: u64,
}

static STATE: Mutex<State> = Mutex::new(State { level: USUAL, until_s: None, turn: 0 });

fn filter(level: LevelFilter) -> Targets {
    Targets::new().with_default(level).with_target(ORDERS, level.max(LevelFilter::INFO))
}

/// Begins to write the log to standard error, with colours or without. To be called once.
pub fn start(colours: bool) {
    let (layer, handle) = Layer::new(filter(USUAL));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours).with_target(false);
    tracing_subscriber::registry().with(layer).with(lines).init();
    let _ = FILTER.set(handle);
}

/// The level in force.
pub fn state() -> State {
    *lock()
}

/// Sets the level, `until_s` if that is given; what is in force then.
pub fn set(level: LevelFilter, until_s: Option<i64>) -> State {
    let mut state = lock();
    *state = State { level, until_s, turn: state.turn + 1 };
    if let Some(handle) = FILTER.get() {
        // It fails only when there is no log any more.
        let _ = handle.reload(filter(level));
    }
    *state
}

/// Sets the usual level, unless it was set anew since `turn`.
pub fn reset(turn: u64) {
    if state().turn == turn {
        set(USUAL, None);
        tracing::info!("the log's level is {USUAL} again");
    }
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
