//! What the timestamps of a whole run say, in figures and in words.

use std::time::Duration;

use serde::Serialize;

use super::{Client, LimitsArgs, proof, quota::Window};
use crate::{
    clock::ns,
    generator::{Measured, Plan},
    report::{
        environment::{Environment, command_line},
        json::SCHEMA_VERSION,
    },
};

/// Failures that are worded; all are counted.
const NAMED_MAX: usize = 5;

/// What the timestamps say.
#[derive(Debug, Serialize)]
pub(super) struct LimitsReport {
    schema_version: u32,
    pub(super) void: bool,
    void_reason: Option<String>,
    target: String,
    command: String,
    environment: Environment,
    duration_s: f64,
    stopped_early: bool,
    /// No window of any client can have held more than its quota.
    proven: bool,
    pub(super) failures: Vec<String>,
    clients: usize,
    admitted: u64,
    refused: u64,
    /// Answers that say neither.
    unclear: u64,
    /// Requests without an answer.
    unanswered: u64,
    windows: Vec<WindowReport>,
    granted: GrantedReport,
}

/// One window of the quota, over all clients.
#[derive(Debug, Serialize)]
struct WindowReport {
    limit: u64,
    length_s: f64,
    /// The most that a window of one client certainly held, whose it was, and when it began on the run's clock.
    certain_max: u64,
    client: u32,
    start_s: f64,
    /// The most that a window of one client can have held.
    possible_max: u64,
    /// Clients with a window that certainly held more than the limit.
    violated_by: usize,
}

/// How much of the quota was granted, compared with an exact limiter that decides at once.
#[derive(Debug, Serialize)]
struct GrantedReport {
    /// Clients that asked for more than an exact limiter would have granted.
    over: usize,
    /// Clients that were granted too little.
    short: usize,
    exact: u64,
    share: f64,
    /// The client that was granted the least share, at most 1.
    least_client: u32,
    least_share: f64,
}

impl WindowReport {
    fn new(window: Window, slack: Duration, clients: &[Client]) -> Self {
        let mut report = Self {
            limit: window.limit,
            length_s: window.length.as_secs_f64(),
            certain_max: 0,
            client: 0,
            start_s: 0.0,
            possible_max: 0,
            violated_by: 0,
        };
        for client in clients {
            let fullest = proof::certain(&client.admitted, ns(window.length - slack));
            if fullest.count > report.certain_max {
                report.certain_max = fullest.count;
                report.client = client.number;
                report.start_s = fullest.start_ns as f64 / 1e9;
            }
            report.violated_by += usize::from(fullest.count > window.limit);
            report.possible_max = report.possible_max.max(client.possible(ns(window.length)));
        }
        report
    }
}

impl GrantedReport {
    fn new(windows: &[(u64, u64)], share_min: f64, clients: &[Client]) -> Self {
        let mut report = Self { over: 0, short: 0, exact: 0, share: 0.0, least_client: 0, least_share: 1.0 };
        let mut admitted = 0;
        for client in clients {
            let sent = client.sent();
            let exact = proof::exact(sent.iter().copied(), windows);
            let own = client.admitted.len() as u64;
            admitted += own;
            report.exact += exact;
            report.over += usize::from(exact < sent.len() as u64);
            // One request more or less is the moment of the decision.
            report.short += usize::from(((own + 1) as f64) < exact as f64 * share_min);
            let share = own as f64 / exact.max(1) as f64;
            if share < report.least_share {
                (report.least_client, report.least_share) = (client.number, share);
            }
        }
        report.share = admitted as f64 / report.exact.max(1) as f64;
        report
    }
}

impl LimitsReport {
    pub(super) fn new(args: &LimitsArgs, plan: &Plan, measured: &Measured, clients: &[Client]) -> Self {
        let windows: Vec<(u64, u64)> =
            args.quota.windows().iter().map(|window| (window.limit, ns(window.length))).collect();
        let granted = GrantedReport::new(&windows, args.granted_min.value(), clients);
        let mut failures = Vec::new();
        let windows: Vec<WindowReport> = args
            .quota
            .windows()
            .iter()
            .map(|&window| WindowReport::new(window, args.slack, clients))
            .collect();
        for (report, window) in windows.iter().zip(args.quota.windows()) {
            if report.violated_by > 0 {
                failures.push(format!(
                    "{} of {} clients had more than {window}: client-{} had at least {} from {:.6} s on",
                    report.violated_by,
                    clients.len(),
                    report.client,
                    report.certain_max,
                    report.start_s
                ));
            }
        }
        if granted.short > 0 {
            failures.push(format!(
                "{} of {} clients were granted less than {:.1} % of what an exact limiter would have granted",
                granted.short,
                clients.len(),
                args.granted_min.value() * 100.0
            ));
        }
        let void_reason = void_reason(measured, granted.over);
        let sum = |of: &dyn Fn(&Client) -> usize| clients.iter().map(of).sum::<usize>() as u64;
        let possible = windows.iter().all(|window| window.possible_max <= window.limit);
        let unanswered = measured.total.failed();
        let proven = possible && unanswered == 0 && void_reason.is_none();
        Self {
            schema_version: SCHEMA_VERSION,
            void: void_reason.is_some(),
            void_reason,
            target: plan.target.url.clone(),
            command: command_line(),
            environment: Environment::read(),
            duration_s: measured.measured.as_secs_f64(),
            stopped_early: measured.stopped_early,
            proven,
            failures,
            clients: clients.len(),
            admitted: sum(&|client| client.admitted.len()),
            refused: sum(&|client| client.refused.len()),
            unclear: sum(&|client| client.unclear.len()),
            unanswered,
            windows,
            granted,
        }
    }

    /// The verdict first.
    pub(super) fn text(&self) -> String {
        let mut text = match (&self.void_reason, self.failures.first()) {
            (_, Some(_)) => "FAILED: the limits were not kept as stated\n".to_owned(),
            (Some(reason), None) => format!("VOID: {reason}\n"),
            (None, None) if self.proven => {
                "proven: no window of any client held more than its quota\n".to_owned()
            }
            (None, None) => "held: no window of any client certainly held more than its quota\n".to_owned(),
        };
        for failure in self.failures.iter().take(NAMED_MAX) {
            text.push_str(&format!("FAILED: {failure}\n"));
        }
        text.push_str(&format!(
            "{}: {} clients, {} of them over their quota{}\n",
            self.target,
            self.clients,
            self.granted.over,
            if self.stopped_early { " (stopped early)" } else { "" }
        ));
        text.push_str(&format!(
            "  answers    {} admitted, {} refused, {} unclear, {} requests without an answer\n",
            self.admitted, self.refused, self.unclear, self.unanswered
        ));
        for window in &self.windows {
            text.push_str(&format!(
                "  window     {} in {} s: the fullest held at least {} and at most {}{}\n",
                window.limit,
                window.length_s,
                window.certain_max,
                window.possible_max,
                if self.duration_s < window.length_s { " (the run was shorter than one window)" } else { "" }
            ));
        }
        let GrantedReport { exact, share, least_client, least_share, .. } = &self.granted;
        text.push_str(&format!(
            "  granted    {:.2} % of the {exact} that an exact limiter would have; the least to client-{least_client}, {:.2} %\n",
            share * 100.0,
            least_share * 100.0
        ));
        text
    }
}

/// Why nothing was put to the test.
fn void_reason(measured: &Measured, over: usize) -> Option<String> {
    if measured.records_lost > 0 {
        return Some(format!("{} answers found no room and were not looked at", measured.records_lost));
    }
    (over == 0).then(|| {
        "no client asked for more than its quota, so nothing was tested; ask for more (--over, --rate), for longer \
         (--duration) or with more connections"
            .to_owned()
    })
}
