//! What systemd is told of this process: that it is ready, who follows it, that it ends, that it is alive.
//!
//! All of it does nothing where nobody asked for it by `NOTIFY_SOCKET`. The watchdog is fed by the control
//! thread; a shard that panics ends the process by itself.

use std::{env, time::Duration};

use sd_notify::NotifyState;

/// The gateway serves.
pub fn is_ready() {
    tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
}

/// The process `pid` serves from here on.
pub fn is_followed_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
}

/// The gateway drains and will end.
pub fn is_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the watchdog twice in each of its periods, for as long as the process runs.
pub async fn feed_watchdog() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let concerns_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let Some(period_us) = number("WATCHDOG_USEC").filter(|us| *us > 1 && concerns_us) else { return };
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(Duration::from_micros(period_us / 2)).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!("NOTIFY_SOCKET does not take notifications: {error}");
    }
}
