//! What an attempt says about its endpoint, and what follows from it at once.
//!
//! Good and bad are counted per shard, for control to compare. Failures in a row are counted over all shards; the
//! shard that sees enough of them has the endpoint chosen no more, without waiting for control's next look.

use crate::stage::retry::Cause;

use super::{Balance, Cluster, Endpoint};

/// What an attempt found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An answer with this status.
    Answered(u16),
    /// No answer, or half of one.
    Failed(Cause),
    /// The client left first; the endpoint had not yet answered.
    Unknown,
}

/// Which findings are failures in a row. Where endpoints are compared, any 5xx is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// No answer, or one that says that whoever stands behind it did not answer: 502, 503, 504.
    Gateway,
    /// Any 5xx too.
    Any5xx,
}

/// When an endpoint is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// After so many failures in a row; never when zero.
    pub failures: u32,
    /// What is one.
    pub faults: Faults,
}

/// Connections in a row that cannot be made before an endpoint is suspected: fewer than other failures, because nobody
/// is there who could have had a reason.
const UNREACHABLE_MAX: u32 = 3;

impl Trip {
    /// Whether so many are too many.
    pub fn is_due(self, failures: u32, unreachable: u32) -> bool {
        self.failures > 0 && (failures >= self.failures || unreachable >= UNREACHABLE_MAX.min(self.failures))
    }
}

/// How an endpoint failed, in a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(u8);

impl Fault {
    const CONNECT: u8 = 200;
    const BROKEN: u8 = 201;
    const TIMED_OUT: u8 = 202;
    const INVALID: u8 = 203;

    pub(super) fn of(finding: Finding, faults: Faults) -> Option<Self> {
        match finding {
            Finding::Answered(status @ 500..=599) => {
                let counts = faults == Faults::Any5xx || matches!(status, 502..=504);
                counts.then(|| Self((status - 500) as u8))
            }
            Finding::Answered(_) | Finding::Unknown => None,
            Finding::Failed(Cause::Connect) => Some(Self(Self::CONNECT)),
            Finding::Failed(Cause::Broken) => Some(Self(Self::BROKEN)),
            Finding::Failed(Cause::TimedOut) => Some(Self(Self::TIMED_OUT)),
            Finding::Failed(Cause::Invalid(_)) => Some(Self(Self::INVALID)),
            Finding::Failed(Cause::Status(status)) => Self::of(Finding::Answered(status), faults),
        }
    }

    /// The one that this byte stands for in a streak.
    pub fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// Several of them, in words: "502", "failures to connect".
    pub fn words(self) -> String {
        match self.0 {
            Self::CONNECT => "failures to connect".to_owned(),
            Self::BROKEN => "broken connections".to_owned(),
            Self::TIMED_OUT => "time-outs".to_owned(),
            Self::INVALID => "invalid answers".to_owned(),
            status => (500 + u16::from(status)).to_string(),
        }
    }
}

/// What a failure counts as when it came faster, in microseconds. Averaged with what other attempts took, so that one
/// failure in a thousand adds a millisecond and an endpoint that only fails looks slower than any that works.
const FAILURE_US: u64 = 1_000_000;

/// Takes note of an attempt by shard number `shard`. `waited_us` is the time until the answer began or until there was
/// to be none, if the gateway did not spend it waiting for the client.
pub fn note(cluster: &Cluster, endpoint: &Endpoint, shard: usize, finding: Finding, waited_us: Option<u64>) {
    let (meters, standing) = (endpoint.meters.of(shard), &endpoint.standing);
    match Fault::of(finding, cluster.trip.faults) {
        Some(fault) => {
            meters.faults.add(1);
            meters.unreachable.add(u64::from(fault.0 == Fault::CONNECT));
            let streak = standing.note_failure(fault.0, fault.0 == Fault::CONNECT);
            if cluster.trip.is_due(streak.failures, streak.unreachable) {
                standing.suspect();
            }
        }
        None if finding != Finding::Unknown => standing.note_success(),
        None => {}
    }
    // Beside the others any 5xx counts: what a client provokes it provokes everywhere.
    let least_us = match Fault::of(finding, Faults::Any5xx) {
        Some(_) => {
            meters.bad.add(1);
            Some(FAILURE_US)
        }
        None if finding != Finding::Unknown => {
            meters.good.add(1);
            Some(0)
        }
        None => None,
    };
    let Some(waited_us) = waited_us else { return };
    if let Some(least_us) = least_us {
        meters.waits.add(1);
        meters.waited_us.add(waited_us.max(least_us));
    }
    if cluster.balance == Balance::Latency {
        let estimate_us = u64::from(standing.estimate_us());
        // Twice is beyond what is usual, and beyond it waiting for control's next look would send more there.
        if estimate_us > 0 && waited_us > 2 * estimate_us {
            standing.raise_estimate(u32::try_from(waited_us).unwrap_or(u32::MAX));
        }
    }
}
