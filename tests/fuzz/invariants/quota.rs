//! What a quota says it says again, and no window ever holds more than its quota.
//!
//! The first line is a quota; each pair of bytes after it is a wait, and how many requests then come.

use std::collections::VecDeque;

use tollgate::{
    base::clock::Moment,
    shared::key_table::{KeyTable, settle},
    stage::limit::Quota,
};

/// Requests of one run.
const REQUESTS_MAX: usize = 4_000;
/// No machine runs longer: a cell's 48 bits of microseconds are almost nine years.
const UPTIME_MAX_US: u64 = 1 << 48;

/// The invariant.
pub(crate) fn check(bytes: &[u8]) {
    let at = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let Ok(text) = std::str::from_utf8(&bytes[..at]) else { return };
    let Ok(quota) = Quota::parse(text) else { return };
    let windows = quota.windows();
    assert!(!windows.is_empty() && windows.iter().all(|window| window.limit() > 0 && window.length_us() > 0));
    assert!(windows.windows(2).all(|pair| pair[0].length_us() > pair[1].length_us()), "longest first");
    let canonical: Vec<String> = windows
        .iter()
        .map(|window| format!("{} per {} seconds", window.limit(), window.length_us() / 1_000_000))
        .collect();
    let again = Quota::parse(&canonical.join(";")).expect("the canonical form is good");
    assert_eq!(again, quota);
    keep(&quota, &bytes[(at + 1).min(bytes.len())..]);
}

/// Admits by one window after the other, as the gateway does, and keeps an exact log beside it.
fn keep(quota: &Quota, steps: &[u8]) {
    let table = KeyTable::new(quota.windows(), 8);
    let mut log: VecDeque<u64> = VecDeque::new();
    let shortest_us = quota.windows().last().map_or(1, |window| window.length_us());
    let (mut now_us, mut asked) = (1_000_000_000, 0);
    for step in steps.chunks_exact(2) {
        // Waits around the shortest window's cells and the window itself.
        now_us += shortest_us / 64 * u64::from(step[0]) + u64::from(step[1]);
        if now_us >= UPTIME_MAX_US {
            return;
        }
        for _ in 0..=step[1] % 32 {
            asked += 1;
            if asked > REQUESTS_MAX {
                return;
            }
            let now = Moment { monotonic_us: now_us, unix_us: now_us };
            let Ok(slot) = table.slot(7, now) else { return };
            let mut claims = Vec::new();
            let all = (0..quota.windows().len()).all(|window| {
                let usage = table.usage(slot, window);
                usage.claim_up_to(1, now).map(|claim| claims.push((usage, claim))).is_ok()
            });
            settle();
            assert!(claims.iter().all(|(usage, claim)| usage.holds(claim)), "nobody else is there");
            if all {
                log.push_back(now_us);
                for window in quota.windows() {
                    let from = now_us.saturating_sub(window.length_us());
                    let held = log.iter().rev().take_while(|&&at| at > from).count();
                    assert!(held <= window.limit() as usize, "{held} in {} us", window.length_us());
                }
            } else {
                claims.into_iter().for_each(|(usage, claim)| usage.undo(claim, now_us));
            }
        }
    }
}
