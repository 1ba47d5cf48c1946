//! What a route says about carrying its requests: further attempts, how long.

use std::collections::HashMap;

use crate::stage::retry::{ATTEMPTS_MAX, Occasion, Policy};

use super::{
    issue::Issues,
    reader::{Field, Section},
    values::{number, one_of, optional_duration_ms},
};

/// What a `[[route]]` says about it, as it was written.
pub(super) struct Delivery {
    timeout_ms: Option<u64>,
    attempts: u64,
    on: Option<Field<Vec<Field<String>>>>,
    idempotency_key: Option<Field<bool>>,
    hedge_after_ms: Option<u64>,
    /// Where `hedge` stands, if it does.
    hedge_at: Option<(usize, String)>,
}

/// How the requests of a route are carried.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Clone, Debug)]
pub struct DeliveryPlan {
    pub timeout_ms: Option<u64>,
    pub retry: Policy,
    pub hedge_after_ms: Option<u64>,
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Reads the part of a `[[route]]`.
pub(super) fn read(route: &mut Section<'_, '_>, issues: &Issues) -> Delivery {
    let timeout_ms = optional_duration_ms(route, "timeout", 1..=DAY_MS, issues);
    let has_hedge = route.has("hedge");
    let mut hedge = route.section("hedge");
    let hedge_at = has_hedge.then(|| (hedge.at(), hedge.path().to_owned()));
    let hedge_after_ms = optional_duration_ms(&mut hedge, "after", 1..=60_000, issues);
    if let (Some((at, path)), None) = (&hedge_at, hedge_after_ms) {
        issues.add(*at, &format!("{path}.after"), "is missing; write for example after = \"50ms\"");
    }
    hedge.finish();
    let mut retry = route.section("retry");
    let read = Delivery {
        timeout_ms,
        attempts: number(&mut retry, "attempts", 1..=u64::from(ATTEMPTS_MAX), issues),
        on: retry.texts("on"),
        idempotency_key: retry.flag("idempotency_key"),
        hedge_after_ms,
        hedge_at,
    };
    retry.finish();
    read
}

/// Checks it.
pub(super) fn plan(delivery: &Delivery, issues: &Issues) -> Option<DeliveryPlan> {
    let usual = Policy::USUAL;
    let on = match &delivery.on {
        None => usual.on,
        Some(list) => {
            let mut lines: HashMap<&str, usize> = HashMap::new();
            for word in &list.value {
                if let Some(line) = lines.insert(&word.value, issues.line_of(word.at)) {
                    word.wrong(issues, format!("\"{}\" stands on line {line} already", word.value));
                }
            }
            if list.value.is_empty() {
                list.wrong(issues, "an empty list is no occasion at all; write attempts = 1 instead");
            }
            let words = list.value.iter().map(|word| one_of(word, &Occasion::WORDS, issues));
            let occasions: Vec<Option<Occasion>> = words.collect();
            occasions.into_iter().collect::<Option<_>>()?
        }
    };
    if let (Some((at, path)), 1) = (&delivery.hedge_at, delivery.attempts) {
        issues.add(*at, path, "it is a second attempt, and retry.attempts allows one");
    }
    Some(DeliveryPlan {
        hedge_after_ms: delivery.hedge_after_ms,
        timeout_ms: delivery.timeout_ms,
        retry: Policy {
            attempts_max: u8::try_from(delivery.attempts).unwrap_or(usual.attempts_max),
            on,
            by_key: delivery.idempotency_key.as_ref().is_some_and(|field| field.value),
        },
    })
}
