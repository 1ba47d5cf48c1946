//! How exchanges end: one code for each, that says who ended it and in which of the nine steps.
//!
//! The letter is who: the client `C`, the endpoint `E`, the gateway's rules `G`, a quota `Q`, the gateway's own
//! bounds `O`, its drain `D`; small where it was time that ran out. The digit is the step, as `ARCHITECTURE.md` counts
//! them. HAProxy's termination states are the model. `TERMINATION.md` says of each what it means and what to do
//! about it.

use crate::shared::meters::TERMINATIONS_MAX;

use super::{Step, refusal::Code};

/// How an exchange ended. The order is that of [`TERMINATIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Termination {
    /// The answer that was meant for the client reached it whole.
    Complete,
    /// The client left before its request was there.
    ClientGoneInRequest,
    /// The request came too slowly.
    ClientSlowInRequest,
    /// What was sent is no request, or longer than it may be.
    RequestUnacceptable,
    /// There was no buffer for the request.
    NoRoomToRead,
    /// No route takes it.
    NoRoute,
    /// The client left while its request waited for its turn.
    ClientGoneInQueue,
    /// The shard had no room for one more.
    NoRoomToServe,
    /// Whoever sent it may not do that, or nobody may any more.
    NotPermitted,
    /// It lacks what a limit counts by.
    NothingToCountBy,
    /// A quota is used up, or all places are taken.
    QuotaExceeded,
    /// No endpoint could be chosen.
    NoEndpoint,
    /// With the gateway's own fields the head is too long.
    HeadOutgrown,
    /// Every endpoint had as many requests as it may have, or there was no buffer for what it is sent.
    NoRoomToSend,
    /// The endpoint could not be reached, broke off, or sent no answer that is one.
    EndpointFailed,
    /// The endpoint did not answer in time.
    EndpointSlow,
    /// The client left while its body was on its way.
    ClientGoneInBody,
    /// The body came too slowly while it was on its way.
    ClientSlowInBody,
    /// The rest of the body is none, or longer than it may be.
    BodyUnacceptable,
    /// There was no buffer for the answer.
    NoRoomToForward,
    /// The client left before it had its answer.
    ClientGoneInAnswer,
    /// The client took its answer too slowly.
    ClientSlowInAnswer,
    /// The endpoint broke off its answer.
    EndpointBrokeOff,
    /// The endpoint stopped in the middle of its answer.
    EndpointStalled,
    /// The answer was withheld, because no audit record vouched for its end in time.
    Withheld,
    /// Nothing was sent, because the audit log took no record of what was intended.
    Unrecorded,
    /// The drain's deadline passed while the request was read.
    DrainedInRequest,
    /// The drain's deadline passed before there was an answer.
    DrainedInForward,
    /// The drain's deadline passed within the answer.
    DrainedInAnswer,
}

/// All of them with their codes, in the order of [`Termination`].
pub const TERMINATIONS: [(Termination, &str); 29] = {
    use Termination as T;
    let rows = [
        (T::Complete, "--"),
        (T::ClientGoneInRequest, "C2"),
        (T::ClientSlowInRequest, "c2"),
        (T::RequestUnacceptable, "G2"),
        (T::NoRoomToRead, "O2"),
        (T::NoRoute, "G3"),
        (T::ClientGoneInQueue, "C3"),
        (T::NoRoomToServe, "O3"),
        (T::NotPermitted, "G4"),
        (T::NothingToCountBy, "G5"),
        (T::QuotaExceeded, "Q5"),
        (T::NoEndpoint, "E6"),
        (T::HeadOutgrown, "G6"),
        (T::NoRoomToSend, "O6"),
        (T::EndpointFailed, "E7"),
        (T::EndpointSlow, "e7"),
        (T::ClientGoneInBody, "C7"),
        (T::ClientSlowInBody, "c7"),
        (T::BodyUnacceptable, "G7"),
        (T::NoRoomToForward, "O7"),
        (T::ClientGoneInAnswer, "C8"),
        (T::ClientSlowInAnswer, "c8"),
        (T::EndpointBrokeOff, "E8"),
        (T::EndpointStalled, "e8"),
        (T::Withheld, "O8"),
        (T::Unrecorded, "O9"),
        (T::DrainedInRequest, "D2"),
        (T::DrainedInForward, "D7"),
        (T::DrainedInAnswer, "D8"),
    ];
    let mut index = 0;
    while index < rows.len() {
        assert!(rows[index].0 as usize == index, "the table is in the order of the terminations");
        index += 1;
    }
    assert!(rows.len() <= TERMINATIONS_MAX, "every code has a counter");
    rows
};

/// How far a request was that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It was being decided on; this is the last step that was begun.
    Decision(Step),
    /// It was on its way to an endpoint.
    Forward,
}

impl Termination {
    /// Its code.
    pub fn code(self) -> &'static str {
        TERMINATIONS[self as usize].1
    }

    /// That of a request that the gateway answers with `code`.
    pub fn of_refusal(code: Code, reached: Reached) -> Self {
        match (code, reached) {
            (Code::HeadTimeout, _) | (Code::BodyTimeout, Reached::Decision(_)) => Self::ClientSlowInRequest,
            (Code::HeadTooLarge, Reached::Decision(Step::Balance)) => Self::HeadOutgrown,
            (Code::BodyMalformed | Code::BodyTooLarge, Reached::Forward) => Self::BodyUnacceptable,
            (
                Code::HeadMalformed
                | Code::FramingAmbiguous
                | Code::BodyMalformed
                | Code::TargetTooLong
                | Code::HeadTooLarge
                | Code::BodyTooLarge
                | Code::ExpectationFailed
                | Code::NotImplemented
                | Code::VersionNotSupported,
                _,
            ) => Self::RequestUnacceptable,
            (Code::MethodNotAllowed, Reached::Decision(Step::Version)) => Self::NotPermitted,
            (
                Code::RouteNotFound
                | Code::MethodNotAllowed
                | Code::VersionUnknown
                | Code::VersionNotAcceptable,
                _,
            ) => Self::NoRoute,
            (
                Code::TokenMissing
                | Code::TokenInvalid
                | Code::ApiKeyMissing
                | Code::ApiKeyInvalid
                | Code::CredentialsConflict
                | Code::ScopeInsufficient
                | Code::RoleMissing
                | Code::ConsumerNotAllowed
                | Code::VersionRetired
                | Code::VersionBrownout
                | Code::OperationUnknown,
                _,
            ) => Self::NotPermitted,
            (Code::LimitKeyMissing, _) => Self::NothingToCountBy,
            (Code::QuotaExceeded, _) => Self::QuotaExceeded,
            (Code::NoEndpoint, _) => Self::NoEndpoint,
            (Code::UpstreamUnreachable | Code::UpstreamFailed, _) => Self::EndpointFailed,
            (Code::UpstreamTimeout, _) => Self::EndpointSlow,
            (Code::BodyTimeout, Reached::Forward) => Self::ClientSlowInBody,
            (Code::Overloaded, Reached::Forward) => Self::NoRoomToForward,
            (Code::Overloaded, Reached::Decision(Step::Headroom)) => Self::NoRoomToServe,
            (Code::Overloaded, Reached::Decision(Step::Balance)) => Self::NoRoomToSend,
            (Code::Overloaded, Reached::Decision(_)) => Self::NoRoomToRead,
            (Code::Draining, Reached::Decision(_)) => Self::DrainedInRequest,
            (Code::Draining, Reached::Forward) => Self::DrainedInForward,
        }
    }

    /// The same when the drain's deadline has passed: then every time-out has, whosever it was.
    #[must_use]
    pub fn once_drained(self) -> Self {
        match self {
            Self::ClientSlowInRequest => Self::DrainedInRequest,
            Self::ClientSlowInBody | Self::EndpointSlow => Self::DrainedInForward,
            Self::ClientSlowInAnswer | Self::EndpointStalled | Self::Withheld => Self::DrainedInAnswer,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::refusal::ANSWERS, *};

    #[test]
    fn every_code_stands_once_and_names_a_step() {
        let codes: BTreeSet<&str> = TERMINATIONS.iter().map(|(_, code)| *code).collect();
        assert_eq!(codes.len(), TERMINATIONS.len());
        for code in codes.iter().filter(|code| **code != "--") {
            let (who, step) = code.split_at(1);
            assert!("CcEeGQOD".contains(who), "{code}");
            assert!((1..=9).contains(&step.parse::<u8>().unwrap()), "{code}");
        }
    }

    /// Broken by a refusal that counts as a good end, or whose step is behind the one it was decided in.
    #[test]
    fn a_refusal_ends_where_it_is_decided() {
        for answer in &ANSWERS {
            for step in [Step::Route, Step::Credential, Step::Limit, Step::Balance] {
                let decided = Termination::of_refusal(answer.code, Reached::Decision(step)).code();
                let forwarded = Termination::of_refusal(answer.code, Reached::Forward).code();
                assert!(decided != "--" && forwarded != "--", "{}", answer.word);
                if answer.status < 500 && answer.code != Code::BodyTimeout {
                    assert!(&decided[1..] <= "6", "{} is {decided}", answer.word);
                }
            }
        }
    }

    /// Broken by a code without a row in the documentation, a row without a code, or another order.
    #[test]
    fn the_documentation_explains_every_code() {
        let text = include_str!("../TERMINATION.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        let rows: Vec<(&str, &str)> = rows.collect();
        let explained: Vec<&str> = rows.iter().map(|(code, _)| *code).collect();
        let codes: Vec<&str> = TERMINATIONS.iter().map(|(_, code)| *code).collect();
        assert_eq!(explained, codes);
        for (code, rest) in rows {
            assert_eq!(rest.matches('|').count(), 2, "{code}: what it means | what to do |");
            assert!(rest.split('|').take(2).all(|cell| cell.trim().len() > 10), "{code}: {rest}");
        }
    }
}
