//! What a text from outside may say in a log: everything but card numbers and credentials.

use std::borrow::Cow;

use super::{pan, token};

/// `text` as it may be written down.
pub(in crate::control) fn text(text: &[u8]) -> Cow<'_, [u8]> {
    then(token::mask(text), pan::mask)
}

/// The same of a text that is cut off if it has `bytes_max`.
pub(super) fn beginning(text: &[u8], bytes_max: usize) -> Cow<'_, [u8]> {
    then(token::mask(text), |text| pan::mask_cut(text, bytes_max))
}

fn then<'t>(once: Cow<'t, [u8]>, again: impl for<'a> Fn(&'a [u8]) -> Cow<'a, [u8]>) -> Cow<'t, [u8]> {
    match once {
        Cow::Borrowed(text) => again(text),
        Cow::Owned(text) => match again(&text) {
            Cow::Owned(text) => Cow::Owned(text),
            Cow::Borrowed(_) => Cow::Owned(text),
        },
    }
}
