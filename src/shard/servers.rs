//! The tasks that serve: each has one connection at a time, for as long as it has something to say.
//!
//! There are as many as were ever busy at once, and they stay: a request neither makes a task nor frees one.
//! The one that was busy last is taken first, because its memory is still in the cache.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use super::{
    Shard,
    connection::{self, Downstream},
    runtime,
};

/// The servers that have nothing to do, the last to become idle at the end.
#[derive(Default)]
pub(super) struct Servers(RefCell<Vec<Rc<Desk>>>);

/// Where a server finds its next connection.
#[derive(Default)]
struct Desk {
    next: RefCell<Option<Downstream>>,
    waker: RefCell<Option<Waker>>,
}

impl Servers {
    /// Has `downstream` served.
    pub(super) fn dispatch(shard: &Rc<Shard>, downstream: Downstream) {
        let idle = shard.servers.0.borrow_mut().pop();
        let Some(desk) = idle else {
            let desk = Rc::new(Desk { next: RefCell::new(Some(downstream)), waker: RefCell::default() });
            runtime::spawn(serve(Rc::clone(shard), desk));
            return;
        };
        *desk.next.borrow_mut() = Some(downstream);
        if let Some(waker) = &*desk.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// A server's life: a connection, and another one.
async fn serve(shard: Rc<Shard>, desk: Rc<Desk>) {
    loop {
        let downstream = poll_fn(|context| match desk.next.borrow_mut().take() {
            Some(downstream) => Poll::Ready(downstream),
            None => {
                let mut kept = desk.waker.borrow_mut();
                if !kept.as_ref().is_some_and(|kept| kept.will_wake(context.waker())) {
                    *kept = Some(context.waker().clone());
                }
                Poll::Pending
            }
        })
        .await;
        connection::run(&shard, downstream).await;
        shard.servers.0.borrow_mut().push(Rc::clone(&desk));
    }
}
