//! Whether a credential that was good is good no longer, because somebody said so.
//!
//! Looked at on every request, after the memory of verified tokens: a revocation does not wait until a token
//! is forgotten.

use super::{
    super::refusal::{Code, Refusal},
    jwt::Verified,
};
use crate::shared::revoked::{Mark, Revoked};

/// Whether `credential` may still be used; `code` says what kind it is.
///
/// # Errors
/// A refusal with `code`, and by what it was revoked.
pub(super) fn check(revoked: &Revoked, credential: &Verified, code: Code, now_s: i64) -> Result<(), Refusal> {
    if revoked.is_empty() {
        return Ok(());
    }
    let marks = [(Mark::Jti, &credential.jti), (Mark::Sub, &credential.sub), (Mark::Kid, &credential.kid)];
    let listed = marks
        .into_iter()
        .find(|(mark, value)| value.as_ref().is_some_and(|value| revoked.lists(*mark, value, now_s)));
    match listed {
        None => Ok(()),
        Some((mark, _)) => Err(Refusal::new(code, reason(mark))),
    }
}

fn reason(mark: Mark) -> &'static str {
    match mark {
        Mark::Jti => "revoked by jti",
        Mark::Sub => "revoked by sub",
        Mark::Kid => "revoked by kid",
    }
}
