//! When a second attempt is allowed: never where it could pay twice.
//!
//! RFC 9110 section 9.2.2 and the reports of peers that got it wrong. The question is not what failed but
//! what an endpoint can have seen; see [`allowed`].

/// How much of a request an attempt handed to the network before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sent {
    /// Not one byte: the endpoint cannot have seen it.
    Nothing,
    /// Some or all of it.
    Something,
}

/// What carried the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A connection that was just made.
    Fresh,
    /// A connection that had served before and may have been closing at the other end.
    Reused,
}

/// Whether the endpoint had begun to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Not a byte.
    No,
    /// At least one byte.
    Begun,
}

/// An attempt that did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was sent of the request.
    pub sent: Sent,
    /// On what.
    pub carrier: Carrier,
    /// What came back.
    pub answered: Answered,
    /// How it failed.
    pub cause: Cause,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection could be made.
    Connect,
    /// The connection broke or closed.
    Broken,
    /// The endpoint took too long.
    TimedOut,
    /// The endpoint answered with something that is not an answer; says which rule it broke.
    Invalid(&'static str),
}

/// Attempts one exchange may make in all.
pub const ATTEMPTS_MAX: u8 = 2;

/// What happens when an endpoint gets the same request twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repetition {
    /// No more than when it gets it once.
    Harmless,
    /// It may pay twice.
    Harmful,
}

impl Repetition {
    /// By the method (RFC 9110 section 9.2.2), which is case-sensitive.
    pub fn of(method: &str) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" => Self::Harmless,
            _ => Self::Harmful,
        }
    }
}

/// Whether the request may be sent again. `resendable` says that all of it is still at hand.
pub fn allowed(failure: &Failure, repetition: Repetition, resendable: bool, attempts: u8) -> bool {
    if attempts >= ATTEMPTS_MAX || failure.answered == Answered::Begun || !resendable {
        return false;
    }
    match (failure.sent, failure.cause) {
        // Nobody can have seen it.
        (Sent::Nothing, Cause::Connect | Cause::Broken) => true,
        (Sent::Nothing, Cause::TimedOut | Cause::Invalid(_)) => false,
        // A kept connection that breaks before the first byte of an answer was most likely closing when we
        // sent; a method whose repetition changes nothing may go again.
        (Sent::Something, Cause::Broken) => {
            failure.carrier == Carrier::Reused && repetition == Repetition::Harmless
        }
        // A slow endpoint may be at work.
        (Sent::Something, Cause::Connect | Cause::TimedOut | Cause::Invalid(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination: the only ones that allow a second attempt are those written out here.
    #[test]
    fn the_whole_table() {
        for sent in [Sent::Nothing, Sent::Something] {
            for carrier in [Carrier::Fresh, Carrier::Reused] {
                for answered in [Answered::No, Answered::Begun] {
                    for cause in [Cause::Connect, Cause::Broken, Cause::TimedOut, Cause::Invalid("")] {
                        for method in ["GET", "POST", "PATCH", "PUT", "DELETE", "get", "LOCK"] {
                            let failure = Failure { sent, carrier, answered, cause };
                            let unseen =
                                sent == Sent::Nothing && matches!(cause, Cause::Connect | Cause::Broken);
                            let stale = carrier == Carrier::Reused
                                && cause == Cause::Broken
                                && ["GET", "PUT", "DELETE"].contains(&method);
                            let expected = answered == Answered::No && (unseen || stale);
                            let repetition = Repetition::of(method);
                            assert_eq!(
                                allowed(&failure, repetition, true, 1),
                                expected,
                                "{failure:?} {method}"
                            );
                            assert!(!allowed(&failure, repetition, false, 1));
                            assert!(!allowed(&failure, repetition, true, 2));
                        }
                    }
                }
            }
        }
    }
}
