//! Whether a run measured the target or the generator itself.
//!
//! The generator is at fault when it acted late although nothing kept it from acting, when its threads had no time
//! left, or when the rate is more than they could send to any target. A target that keeps every connection busy makes
//! requests wait too, but that shows as waiting, not as lag: lag counts from the intended start, or from when a
//! connection became free if that was later.

use std::time::Duration;

use crate::{
    clock::ns,
    cpus,
    generator::{Measured, Pace, Plan},
};

/// Lag below this share of the service time (both at their 99th percentile) does not change what is read from a result.
const LAG_SHARE_MAX: f64 = 0.1;
/// A thread that has less of its time left over than this is always busy.
const IDLE_SHARE_MIN: f64 = 0.02;
/// Achieving less of the asked rate than this is missing it.
const RATE_SHARE_MIN: f64 = 0.99;

/// Why a result is void, if it is. `lag_max` is the largest 99th percentile of lag that is always accepted.
pub(crate) fn fault(plan: &Plan, measured: &Measured, lag_max: Duration) -> Option<String> {
    let tally = &measured.total;
    let seconds = measured.measured.as_secs_f64();
    if seconds == 0.0 {
        return None;
    }
    let idle = measured.generator.idle_share_min;
    let Pace::Open { rate, .. } = plan.pace else {
        return (idle < IDLE_SHARE_MIN).then(|| {
            format!(
                "a generator thread had {:.1} % of its time left, so the rate is the generator's own; give it more \
                 CPUs (--threads, --cpus) or fewer neighbours",
                idle * 100.0
            )
        });
    };
    let achieved = tally.answered_in_time as f64 / seconds;
    if idle < IDLE_SHARE_MIN && achieved < rate * RATE_SHARE_MIN {
        return Some(format!(
            "a generator thread had {:.1} % of its time left and {achieved:.0} of {rate:.0} requests per second were \
             reached; ask for less or give it more CPUs (--threads, --cpus)",
            idle * 100.0
        ));
    }
    // What the requests that were answered cost the generator, for as many as were asked for.
    let cost_s = measured.generator.cpu_ns.saturating_sub(measured.generator.spun_ns) as f64 / 1e9;
    let wanted = cost_s / tally.answered_in_time.max(1) as f64 * rate;
    let available = plan.threads.min(cpus::usable());
    if wanted > available as f64 && achieved < rate * RATE_SHARE_MIN {
        return Some(format!(
            "{rate:.0} requests per second would take {wanted:.1} CPUs here, of {available} to be had; that only \
             {achieved:.0} were reached says nothing of the target: ask for less or give it more CPUs (--threads, --cpus)"
        ));
    }
    let lag_ns = tally.lag.histogram().value_at_quantile(0.99);
    let service_ns = tally.service.histogram().value_at_quantile(0.99);
    (lag_ns > ns(lag_max) && lag_ns as f64 > service_ns as f64 * LAG_SHARE_MAX).then(|| {
        format!(
            "1 % of the sends were at least {:.3} ms behind their schedule for the generator's own reasons (accepted: \
             {:.3} ms, or a tenth of the service time); give it a CPU of its own (--cpus) or ask for less",
            lag_ns as f64 / 1e6,
            lag_max.as_secs_f64() * 1e3
        )
    })
}
