//! Who follows the log as it is written: each gets the lines that match its filter, as JSON, however the log looks.
//!
//! The writer never waits for a listener. Lines are handed over in chunks; when a listener has let too many lie, the
//! next ones are dropped and counted, and a `tail_gap` line says how many as soon as there is room again. The log
//! itself loses nothing by it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
    mpsc,
};

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

use super::Order;

/// Listeners there can be at once.
pub const LISTENERS_MAX: usize = 8;
/// A chunk is handed over when it has this many bytes, or when there are no more lines.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that a listener can let lie: 4 MiB at the most.
const CHUNKS_MAX: usize = 64;

/// Which lines a listener wants; all of them when nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of the route of this name.
    pub route: Option<String>,
    /// Those with a status from the first to the second.
    pub status: Option<(u16, u16)>,
    /// Those of this consumer, by its name or as the log shows it.
    pub consumer: Option<String>,
}

/// What a filter looks at.
pub(super) struct Facts<'a> {
    pub(super) route: &'a str,
    pub(super) status: u16,
    pub(super) consumer: &'a [u8],
    /// What the log shows in its place.
    pub(super) disguise: &'a [u8],
}

impl Filter {
    fn matches(&self, facts: &Facts<'_>) -> bool {
        self.route.as_ref().is_none_or(|route| route == facts.route)
            && self.status.is_none_or(|(from, to)| (from..=to).contains(&facts.status))
            && self
                .consumer
                .as_ref()
                .is_none_or(|consumer| [facts.consumer, facts.disguise].contains(&consumer.as_bytes()))
    }

    /// Reads `5xx`, `429` or `200-299`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse_status(text: &str) -> Result<(u16, u16), String> {
        let wrong =
            || format!("\"{text}\" is no status; write one as 429, a class as 5xx, or a range as 200-299");
        let digits =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        let number = |text: &str| digits(text).filter(|status: &u16| (100..=599).contains(status));
        let class = text.strip_suffix("xx").and_then(digits);
        let range = match (class, text.split_once('-')) {
            (Some(class @ 1..=5), _) => Some((class * 100, class * 100 + 99)),
            (None, Some((from, to))) => number(from).zip(number(to)).filter(|(from, to)| from <= to),
            (None, None) => number(text).map(|status| (status, status)),
            (Some(_), _) => None,
        };
        range.ok_or_else(wrong)
    }
}

/// Where listeners are announced.
#[derive(Clone, Debug)]
pub struct Tail {
    orders: mpsc::Sender<Order>,
    /// Listeners there are. Taken by control, given back by whoever drops the listener; a count, not a message.
    places: Arc<AtomicUsize>,
}

/// Why nobody may listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTail {
    /// There are [`LISTENERS_MAX`] listeners.
    Crowded,
    /// The writer has ended.
    Ended,
}

impl Tail {
    pub(super) fn new(orders: mpsc::Sender<Order>) -> Self {
        Self { orders, places: Arc::default() }
    }

    /// Chunks of whole lines that match `filter`, from now on until the receiver is dropped.
    ///
    /// # Errors
    /// [`NoTail`].
    pub fn listen(&self, filter: Filter) -> Result<Receiver<Vec<u8>>, NoTail> {
        let place = Place::take(&self.places).ok_or(NoTail::Crowded)?;
        let (chunks, received) = channel(CHUNKS_MAX);
        let listener = Listener { filter, chunks, pending: Vec::new(), lines: 0, missed: 0, _place: place };
        self.orders.send(Order::Listen(listener)).map_err(|_| NoTail::Ended)?;
        Ok(received)
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }
}

/// One of the places, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(places: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |taken| (taken < LISTENERS_MAX).then_some(taken + 1);
        places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(places)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One who listens, as the writer has it.
pub(super) struct Listener {
    filter: Filter,
    chunks: Sender<Vec<u8>>,
    /// Lines that were not handed over yet.
    pending: Vec<u8>,
    /// How many those are.
    lines: u64,
    /// Lines that are missing and that nobody was told of.
    missed: u64,
    _place: Place,
}

impl Listener {
    fn add(&mut self, line: &[u8], lines: u64) {
        if self.missed > 0 {
            let gap = format!("{{\"event\":\"tail_gap\",\"dropped\":{}}}\n", self.missed);
            self.pending.extend_from_slice(gap.as_bytes());
            self.lines += std::mem::take(&mut self.missed);
        }
        self.pending.extend_from_slice(line);
        self.lines += lines;
        if self.pending.len() >= CHUNK_BYTES {
            self.hand_over();
        }
    }

    /// Hands over what is pending; false once nobody listens any more.
    fn hand_over(&mut self) -> bool {
        if self.pending.is_empty() && self.missed > 0 && self.chunks.capacity() > 0 {
            self.add(b"", 0);
        }
        if self.pending.is_empty() {
            return !self.chunks.is_closed();
        }
        let lines = std::mem::take(&mut self.lines);
        match self.chunks.try_send(std::mem::take(&mut self.pending)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed += lines;
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Listeners {
    listeners: Vec<Listener>,
    /// Whether there are any. Written by the writer; read by shards, relaxed, where nothing else wants their records:
    /// what they see late is a line more or less at the beginning or the end.
    wanted: Arc<AtomicBool>,
}

impl Listeners {
    /// Whether there are any, for those who might spare themselves the trouble.
    pub(super) fn wanted(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.wanted)
    }

    /// Takes one up.
    pub(super) fn add(&mut self, listener: Listener) {
        self.listeners.push(listener);
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Those who want the line of which `facts` are the facts.
    pub(super) fn wanting<'f>(
        &mut self,
        facts: &'f Facts<'f>,
    ) -> impl Iterator<Item = &mut Listener> + use<'_, 'f> {
        self.listeners.iter_mut().filter(|listener| listener.filter.matches(facts))
    }

    /// Tells everybody that so many lines of the log itself are missing.
    pub(super) fn gap(&mut self, line: &[u8]) {
        self.listeners.iter_mut().for_each(|listener| listener.add(line, 0));
    }

    /// Hands over what is pending, and lets go of those who have left.
    pub(super) fn hand_over(&mut self) {
        if !self.listeners.is_empty() {
            self.listeners.retain_mut(Listener::hand_over);
            self.wanted.store(!self.listeners.is_empty(), Ordering::Relaxed);
        }
    }
}

impl Listener {
    /// Takes up one line.
    pub(super) fn line(&mut self, line: &[u8]) {
        self.add(line, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Listening = (Listeners, Receiver<Vec<u8>>, Tail, mpsc::Receiver<Order>);

    fn listening(filter: Filter) -> Listening {
        let (orders, received) = mpsc::channel();
        let tail = Tail::new(orders);
        let chunks = tail.listen(filter).unwrap();
        let mut listeners = Listeners::default();
        let Ok(Order::Listen(listener)) = received.recv() else { panic!("a listener") };
        listeners.add(listener);
        (listeners, chunks, tail, received)
    }

    fn offer(listeners: &mut Listeners, route: &str, status: u16, line: &[u8]) {
        let facts = Facts { route, status, consumer: b"acme", disguise: b"acme" };
        listeners.wanting(&facts).for_each(|listener| listener.line(line));
    }

    #[test]
    fn statuses() {
        for (text, range) in [("5xx", (500, 599)), ("429", (429, 429)), ("200-299", (200, 299))] {
            assert_eq!(Filter::parse_status(text), Ok(range));
        }
        for text in ["", "xx", "6xx", "0xx", "99", "600", "300-200", "200-", "5XX", "abc", "15xx"] {
            assert!(Filter::parse_status(text).is_err(), "{text}");
        }
    }

    #[test]
    fn everybody_gets_what_they_asked_for() {
        let filter = Filter {
            route: Some("pay".to_owned()),
            status: Some((500, 599)),
            consumer: Some("acme".to_owned()),
        };
        let (mut listeners, mut chunks, _tail, _orders) = listening(filter);
        for (route, status) in [("pay", 200), ("pay", 503), ("other", 503)] {
            offer(&mut listeners, route, status, format!("{route} {status}\n").as_bytes());
        }
        listeners.hand_over();
        assert_eq!(chunks.try_recv().unwrap(), b"pay 503\n");
        assert!(chunks.try_recv().is_err());
    }

    /// Broken by a listener for whom the writer waits, or who is not told what it missed.
    #[test]
    fn who_reads_nothing_is_told_what_is_missing() {
        let (mut listeners, mut chunks, _tail, _orders) = listening(Filter::default());
        let lines = CHUNKS_MAX as u64 + 10;
        for _ in 0..lines {
            offer(&mut listeners, "pay", 200, b"line\n");
            listeners.hand_over();
        }
        for _ in 0..CHUNKS_MAX {
            assert_eq!(chunks.try_recv().unwrap(), b"line\n");
        }
        listeners.hand_over();
        assert_eq!(chunks.try_recv().unwrap(), b"{\"event\":\"tail_gap\",\"dropped\":10}\n");
        offer(&mut listeners, "pay", 200, b"line\n");
        listeners.hand_over();
        assert_eq!(chunks.try_recv().unwrap(), b"line\n");
    }

    #[test]
    fn places_are_few_and_given_back() {
        let (mut listeners, chunks, tail, _orders) = listening(Filter::default());
        let wanted = listeners.wanted();
        assert!(wanted.load(Ordering::Relaxed));
        let others: Vec<_> = (1..LISTENERS_MAX).map(|_| tail.listen(Filter::default())).collect();
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(tail.listen(Filter::default()).err(), Some(NoTail::Crowded));
        drop(chunks);
        listeners.hand_over();
        assert!(listeners.is_empty() && !wanted.load(Ordering::Relaxed));
        assert_eq!(tail.listeners(), LISTENERS_MAX - 1);
    }
}
