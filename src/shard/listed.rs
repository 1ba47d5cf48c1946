//! What the log's lists name of an exchange, taken down while it is at hand.
//!
//! A request's fields and query stay where they are to the end, but an answer's head is gone once it was passed on. So
//! both are copied into a small block of the exchange's own, rented when there is something to take down. When there
//! is no block, or no room in it, the line shows less; nothing waits for it.

use std::cell::RefCell;

use crate::{
    base::block::Block,
    http::field::Fields,
    shared::listed::{Entry, List},
    stage::listed::{Lists, parameter},
};

use super::Shard;

/// What was taken down so far.
#[derive(Default)]
pub(super) struct Noted(RefCell<Option<Block>>);

impl Noted {
    /// Takes down the fields of a request; what was taken down of it before is forgotten.
    pub(super) fn request(&self, shard: &Shard, lists: &Lists, fields: Fields<'_, '_>) {
        if lists.is_empty() {
            return;
        }
        let mut block = self.0.borrow_mut();
        match &mut *block {
            Some(block) => block.clear(),
            None => *block = shard.listed.rent(),
        }
        drop(block);
        self.fields(List::Headers, lists, fields);
    }

    /// Takes down its query.
    pub(super) fn query(&self, lists: &Lists, query: Option<&[u8]>) {
        if let Some(query) = query {
            self.note(List::Query, lists, |name| parameter(query, name));
        }
    }

    /// Takes down the fields of an endpoint's answer.
    pub(super) fn answer(&self, lists: &Lists, fields: Fields<'_, '_>) {
        self.fields(List::ResponseHeaders, lists, fields);
    }

    /// Does `with` with all of it, packed.
    pub(super) fn with<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        with(self.0.borrow().as_ref().map_or(&[], Block::filled))
    }

    fn fields(&self, list: List, lists: &Lists, fields: Fields<'_, '_>) {
        self.note(list, lists, |name| fields.named(name).next());
    }

    fn note<'v>(&self, list: List, lists: &Lists, value: impl Fn(&str) -> Option<&'v [u8]>) {
        let mut block = self.0.borrow_mut();
        let Some(block) = &mut *block else { return };
        for (name, word) in lists.names(list).iter().enumerate() {
            if let Some(value) = value(word) {
                let (before, value) = Entry { list, name, value }.parts();
                // A block that is full shows less.
                let _ = block.put_all(&[&before, value]);
            }
        }
    }
}
