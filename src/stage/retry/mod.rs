//! When another attempt is allowed: never where it could pay twice.
//!
//! RFC 9110 section 9.2.2 and the reports of peers that got it wrong. The question is not what failed but
//! what an endpoint can have seen; see [`allowed`]. A route's policy says which of the allowed ones are made,
//! a cluster's budget how many.

mod budget;
mod policy;

pub use budget::{Allowance, Budget};
pub use policy::{ATTEMPTS_MAX, Occasion, Occasions, Policy};

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
    /// The endpoint answered with this status, of which nothing was passed on.
    Status(u16),
}

/// What happens when an endpoint gets the same request twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repetition {
    /// Nothing, as when it gets it once (RFC 9110 section 9.2.1).
    Safe,
    /// No more than when it gets it once.
    Harmless,
    /// It knows the request again by its `Idempotency-Key`: so the route says.
    Keyed,
    /// It may pay twice.
    Harmful,
}

impl Repetition {
    /// By the method (RFC 9110 section 9.2.2), which is case-sensitive.
    pub fn of(method: &str) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" => Self::Safe,
            "PUT" | "DELETE" => Self::Harmless,
            _ => Self::Harmful,
        }
    }

    /// The same of a request that has these values of `Idempotency-Key`, where the route says that endpoints
    /// heed it. Two keys are none: nobody knows which one counts.
    pub fn keyed<'v>(self, mut keys: impl Iterator<Item = &'v [u8]>) -> Self {
        match (self, keys.next(), keys.next()) {
            (Self::Harmful, Some(key), None) if !key.is_empty() => Self::Keyed,
            _ => self,
        }
    }
}

/// On which occasion the request may be sent again, if it may. `resendable` says that all of it is still at hand,
/// `attempts` how many were made.
pub fn allowed(
    policy: &Policy,
    failure: &Failure,
    repetition: Repetition,
    resendable: bool,
    attempts: u8,
) -> Option<Occasion> {
    if failure.answered == Answered::Begun {
        return None;
    }
    let occasion = match (failure.sent, failure.cause, failure.carrier) {
        // Nobody can have seen it.
        (Sent::Nothing, Cause::Connect | Cause::Broken, _) => Occasion::Unreachable,
        // A kept connection that breaks before the first byte of an answer was most likely closing when we sent.
        (Sent::Something, Cause::Broken, Carrier::Reused) => Occasion::Stale,
        // From here on an endpoint may be at work.
        (Sent::Something, Cause::Broken, Carrier::Fresh) => Occasion::Broken,
        (Sent::Something, Cause::TimedOut, _) => Occasion::Timeout,
        (Sent::Nothing, Cause::TimedOut, _) | (_, Cause::Invalid(_) | Cause::Status(_), _) => return None,
        (Sent::Something, Cause::Connect, _) => return None,
    };
    may_follow(policy, occasion, repetition, resendable, attempts).then_some(occasion)
}

/// The same for an answer with `status` that nobody has been sent yet.
pub fn allowed_instead_of(
    policy: &Policy,
    status: u16,
    repetition: Repetition,
    attempts: u8,
) -> Option<Occasion> {
    let occasion = Occasion::of_status(status)?;
    may_follow(policy, occasion, repetition, true, attempts).then_some(occasion)
}

fn may_follow(
    policy: &Policy,
    occasion: Occasion,
    repetition: Repetition,
    resendable: bool,
    attempts: u8,
) -> bool {
    attempts < policy.attempts_max
        && resendable
        && policy.on.contain(occasion)
        && (repetition != Repetition::Harmful || occasion == Occasion::Unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Occasion; 7] = {
        let mut all = [Occasion::Stale; 7];
        let mut index = 0;
        while index < 7 {
            all[index] = Occasion::WORDS[index].1;
            index += 1;
        }
        all
    };

    /// Every combination: the only ones that allow a second attempt are those written out here.
    #[test]
    fn the_whole_table() {
        let usual = Policy::USUAL;
        let eager = Policy { on: ALL.into_iter().collect(), ..usual };
        let causes = [Cause::Connect, Cause::Broken, Cause::TimedOut, Cause::Invalid(""), Cause::Status(503)];
        for sent in [Sent::Nothing, Sent::Something] {
            for carrier in [Carrier::Fresh, Carrier::Reused] {
                for answered in [Answered::No, Answered::Begun] {
                    for cause in causes {
                        for method in ["GET", "POST", "PATCH", "PUT", "DELETE", "get", "LOCK"] {
                            let failure = Failure { sent, carrier, answered, cause };
                            let unseen =
                                sent == Sent::Nothing && matches!(cause, Cause::Connect | Cause::Broken);
                            let harmless = ["GET", "PUT", "DELETE"].contains(&method);
                            let seen = sent == Sent::Something && harmless;
                            let stale = carrier == Carrier::Reused && cause == Cause::Broken && seen;
                            let late = matches!(cause, Cause::Broken | Cause::TimedOut) && seen;
                            let repetition = Repetition::of(method);
                            let is_allowed = |policy, resendable, attempts| {
                                allowed(policy, &failure, repetition, resendable, attempts).is_some()
                            };
                            let silent = answered == Answered::No;
                            let told = format!("{failure:?} {method}");
                            assert_eq!(is_allowed(&usual, true, 1), silent && (unseen || stale), "{told}");
                            assert_eq!(is_allowed(&eager, true, 1), silent && (unseen || late), "{told}");
                            assert!(!is_allowed(&eager, false, 1) && !is_allowed(&eager, true, 2));
                        }
                    }
                }
            }
        }
    }

    /// Broken by a status that is retried where nobody asked, or a payment that is sent again because of one.
    #[test]
    fn an_answer_is_asked_for_again_only_where_the_route_says_so() {
        let eager = Policy { on: ALL.into_iter().collect(), attempts_max: 3, by_key: false };
        for (status, expected) in
            [(200, false), (404, false), (429, false), (500, false), (502, true), (503, true), (504, true)]
        {
            let again = |policy: &Policy, repetition, attempts| {
                allowed_instead_of(policy, status, repetition, attempts).is_some()
            };
            assert_eq!(again(&eager, Repetition::Harmless, 2), expected, "{status}");
            assert_eq!(again(&eager, Repetition::Keyed, 2), expected, "{status}");
            assert!(!again(&eager, Repetition::Harmful, 1) && !again(&eager, Repetition::Harmless, 3));
            assert!(!again(&Policy::USUAL, Repetition::Harmless, 1));
        }
    }

    #[test]
    fn one_key_makes_a_payment_known_again() {
        let keyed = |method: &str, keys: &[&'static [u8]]| Repetition::of(method).keyed(keys.iter().copied());
        assert_eq!(keyed("POST", &[b"7"]), Repetition::Keyed);
        assert_eq!(keyed("POST", &[]), Repetition::Harmful);
        assert_eq!(keyed("POST", &[b""]), Repetition::Harmful);
        assert_eq!(keyed("POST", &[b"7", b"8"]), Repetition::Harmful);
        assert_eq!(keyed("GET", &[b"7"]), Repetition::Safe);
        assert_eq!(keyed("PUT", &[b"7"]), Repetition::Harmless);
    }
}
