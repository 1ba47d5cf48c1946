//! The stand-in for the runtime: tasks on one thread in an order the world chooses, and connections it hands out.
//!
//! One per thread and per world. A task runs only when the world polls it; a dial is answered only when the
//! world answers it. Owns the tasks and the dials that are open; knows nothing of clients and endpoints.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

thread_local! {
    static CURRENT: RefCell<Option<Rc<Runtime>>> = const { RefCell::new(None) };
}

/// The tasks and dials of one world.
#[derive(Default)]
pub(super) struct Runtime {
    tasks: RefCell<Vec<Option<Task>>>,
    ready: Arc<Mutex<Vec<usize>>>,
    dials: RefCell<Vec<Rc<Dial>>>,
    /// What tells the other end of a connection that its close was made a reset, by the shard's descriptor.
    cuts: RefCell<BTreeMap<RawFd, Rc<Cell<bool>>>>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// A connection that the shard asked for.
pub(super) struct Dial {
    pub(super) address: SocketAddr,
    pub(super) timeout_ms: u64,
    answer: RefCell<Option<io::Result<TcpStream>>>,
    waker: RefCell<Option<Waker>>,
}

impl Dial {
    /// Gives the shard its connection, or the reason why there is none.
    pub(super) fn answer(&self, answer: io::Result<TcpStream>) {
        *self.answer.borrow_mut() = Some(answer);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Runtime {
    /// A runtime without tasks, which is this thread's from now on.
    pub(super) fn install() -> Rc<Self> {
        let runtime = Rc::new(Self::default());
        CURRENT.set(Some(Rc::clone(&runtime)));
        runtime
    }

    /// Drops all tasks and dials; this thread has no runtime any more.
    pub(super) fn end(&self) {
        // What a task drops may wake others, so none is borrowed meanwhile.
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        self.dials.borrow_mut().clear();
        CURRENT.set(None);
    }

    /// Tasks that can go on.
    pub(super) fn ready(&self) -> usize {
        self.ready.lock().expect("one thread").len()
    }

    /// Polls one of the tasks that can go on, the `nth` of them.
    pub(super) fn poll(&self, nth: usize) {
        let place = self.ready.lock().expect("one thread").remove(nth);
        let Some(mut task) = self.tasks.borrow_mut()[place].take() else { return };
        let waker =
            Arc::new(TaskWaker { place, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        let waker = Waker::from(waker);
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.tasks.borrow_mut()[place] = Some(task);
        }
    }

    /// The dials made since this was last asked.
    pub(super) fn new_dials(&self) -> Vec<Rc<Dial>> {
        std::mem::take(&mut *self.dials.borrow_mut())
    }

    /// Has `cut` set when the shard makes the close of `stream` a reset.
    pub(super) fn note_cut(&self, stream: &TcpStream, cut: &Rc<Cell<bool>>) {
        self.cuts.borrow_mut().insert(stream.as_raw_fd(), Rc::clone(cut));
    }
}

struct TaskWaker {
    place: usize,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<usize>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut ready = self.ready.lock().expect("one thread");
        if !self.queued.swap(true, Ordering::Relaxed) && !ready.contains(&self.place) {
            ready.push(self.place);
        }
    }
}

fn current() -> Rc<Runtime> {
    CURRENT.with_borrow(Clone::clone).expect("a world runs on this thread")
}

/// Runs `task` when the world lets it.
pub(in super::super) fn spawn(task: impl Future<Output = ()> + 'static) {
    let runtime = current();
    let mut tasks = runtime.tasks.borrow_mut();
    tasks.push(Some(Box::pin(task)));
    runtime.ready.lock().expect("one thread").push(tasks.len() - 1);
}

/// A connection from the world.
///
/// # Errors
/// What the world says.
pub(in super::super) async fn connect(address: SocketAddr, timeout_ms: u64) -> io::Result<TcpStream> {
    let dial = Rc::new(Dial { address, timeout_ms, answer: RefCell::default(), waker: RefCell::default() });
    current().dials.borrow_mut().push(Rc::clone(&dial));
    poll_fn(|context| match dial.answer.borrow_mut().take() {
        Some(answer) => Poll::Ready(answer),
        None => {
            *dial.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        }
    })
    .await
}

/// Tells the other end that what it will see as a close is a reset.
pub(in super::super) fn reset_on_close(stream: &TcpStream) {
    if let Some(cut) = current().cuts.borrow().get(&stream.as_raw_fd()) {
        cut.set(true);
    }
}
