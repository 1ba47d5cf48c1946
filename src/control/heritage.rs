//! What a process leaves to its successor: listening sockets, the hash of limits' keys, the limits themselves, and what
//! the admin API was ordered.
//!
//! Owns how these are told: one message for each descriptor, which says what it is, and a last one. The memory
//! of a limit is not copied. Both processes map it and charge the same atomics by the same monotonic clock, so a
//! limit is as exact while both serve as it is over the shards of one (see `shared/cells.rs`). A limit that the
//! successor's file gives another quota is the exception: as with a reload, it takes over what is used so far, and
//! misses what its predecessor still admits. Versions that count in other ways refuse each other; what one of them
//! may go without travels beside the messages. Never starts or waits for a process; `upgrade.rs` does.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read, Seek, Write},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize};
use siphasher::sip128::SipHasher13;

use crate::{
    shared::{
        bucket::Bucket,
        calendar::{Calendar, Period},
        cells::Sliding,
        key_table::KeyTable,
        region::Region,
        revoked::{Mark, UntilS},
        window::Window,
    },
    stage::{
        limit::{By, Exempt, Limit, Mode, Override, Quota},
        snapshot::Snapshot,
    },
};

use super::{
    health::{EndpointOrders, Order},
    listening::{Given, Listening},
    overrides::{self, Overrides},
};

/// The longest message: a route's name, a header's name and a few numbers.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The longest [`Beside`]: a thousand endpoints and the names of their clusters, many times over.
const BESIDE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What was left.
#[derive(Debug)]
pub struct Heritage {
    /// Hashes consumers and all that limits count by.
    pub hasher: SipHasher13,
    /// The predecessor's shards ran on epoll: its sockets do not block.
    pub on_epoll: bool,
    /// Listening sockets.
    pub given: Given,
    /// What the admin API was ordered and no file says.
    pub orders: Orders,
    limits: HashMap<String, Vec<Limit>>,
}

/// What the admin API was ordered and no file says.
#[derive(Debug, Default)]
pub struct Orders {
    /// Who is revoked, and until when.
    pub revoked: Vec<(Mark, String, UntilS)>,
    /// Quotas of consumers.
    pub overrides: Overrides,
    /// Endpoints that are drained or have another weight.
    pub endpoints: EndpointOrders,
}

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Hello { format: u32, seed: (u64, u64), on_epoll: bool },
    Listening { key: String, asked: String },
    Limit(Counted),
    Revoked { mark: String, value: String, until_s: UntilS },
    Override { consumer: String, windows: Vec<Told>, until_s: Option<i64> },
    End,
}

/// What a successor of another version may not know of and then goes without. It comes as JSON in a file in memory, with the
/// first message. What is not there is empty and what nobody knows is passed over, so it grows while [`FORMAT`] stays.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Beside {
    endpoints: Vec<Ordered>,
}

/// What is ordered of an endpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Ordered {
    cluster: Box<str>,
    address: SocketAddr,
    drained: bool,
    weight: Option<u32>,
}

/// A limit's table. Those of consumers' own quotas follow the one of all others.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    route: String,
    by: String,
    /// Longest first.
    windows: Vec<Told>,
    keys: usize,
    consumer_hash: Option<u64>,
}

/// A window, by its units and in microseconds.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    Sliding { limit: u32, length_us: u64 },
    Calendar { limit: u32, period: u8 },
    Bucket { burst: u32, rate: u32, per_us: u64 },
}

fn quota_of(windows: &[Told]) -> Option<Quota> {
    windows.iter().map(Told::window).collect::<Option<Vec<Window>>>().map(Quota::of)
}

/// As they are numbered when they are told.
const PERIODS: [Period; 5] = [Period::Minute, Period::Hour, Period::Day, Period::Month, Period::Year];

impl Told {
    fn of(window: &Window) -> Self {
        match window {
            Window::Sliding(one) => Self::Sliding { limit: one.limit(), length_us: one.length_us() },
            Window::Calendar(one) => {
                let number = PERIODS.iter().position(|&period| period == one.period());
                let period = number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX);
                Self::Calendar { limit: one.limit(), period }
            }
            Window::Bucket(one) => {
                let (rate, per_us) = one.rate();
                Self::Bucket { burst: one.burst(), rate, per_us }
            }
        }
    }

    fn window(&self) -> Option<Window> {
        match *self {
            Self::Sliding { limit, length_us } => Sliding::new(limit, length_us).map(Window::Sliding),
            Self::Calendar { limit, period } => {
                let period = PERIODS.get(usize::from(period))?;
                Calendar::new(limit, *period).map(Window::Calendar)
            }
            Self::Bucket { burst, rate, per_us } => Bucket::new(burst, rate, per_us).map(Window::Bucket),
        }
    }
}

/// Grows with every change of what messages or tables look like: only like understands like. What can do without goes into
/// [`Beside`].
const FORMAT: u32 = 3;

/// Leaves all of `snapshot`'s limits, these sockets and these orders to whoever reads at the other end of `line`.
///
/// # Errors
/// The system's, or a limit whose memory cannot be shared.
pub fn bequeath(
    line: BorrowedFd<'_>,
    snapshot: &Snapshot,
    listening: &[Listening],
    orders: &Orders,
    on_epoll: bool,
) -> io::Result<()> {
    let beside = Beside::of(orders).file()?;
    let hello = Message::Hello { format: FORMAT, seed: snapshot.hasher.keys(), on_epoll };
    send(line, &hello, beside.as_ref().map(AsFd::as_fd))?;
    for Listening { key, asked, socket } in listening {
        send(line, &Message::Listening { key: key.clone(), asked: asked.clone() }, Some(socket.as_fd()))?;
    }
    for route in snapshot.routes.routes() {
        for limit in &route.limits {
            let common = (&limit.quota, &limit.table, None);
            let own = limit.overrides.iter().map(|own| (&own.quota, &own.table, Some(own.consumer_hash)));
            for (quota, table, consumer_hash) in std::iter::once(common).chain(own) {
                let memory = table.memory().descriptor().ok_or_else(|| {
                    io::Error::other(format!(
                        "a limit of route \"{}\" is in private memory, because descriptors had run out",
                        route.name
                    ))
                })?;
                let counted = Counted {
                    route: route.name.to_string(),
                    by: limit.by.to_string(),
                    windows: quota.windows().iter().map(Told::of).collect(),
                    keys: table.capacity(),
                    consumer_hash,
                };
                send(line, &Message::Limit(counted), Some(memory))?;
            }
        }
    }
    for (mark, value, until_s) in &orders.revoked {
        let mark = mark.word().to_owned();
        send(line, &Message::Revoked { mark, value: value.clone(), until_s: *until_s }, None)?;
    }
    for (consumer, given) in orders.overrides.iter() {
        let windows = given.quota.windows().iter().map(Told::of).collect();
        let consumer = consumer.to_owned();
        send(line, &Message::Override { consumer, windows, until_s: given.until_s }, None)?;
    }
    send(line, &Message::End, None)
}

impl Heritage {
    /// Takes what is left at the other end of `line`.
    ///
    /// # Errors
    /// The system's, or a predecessor that this version does not understand.
    pub fn receive(line: BorrowedFd<'_>) -> io::Result<Self> {
        let (Message::Hello { format: FORMAT, seed, on_epoll }, beside) = receive(line)? else {
            return Err(io::Error::other("the running version hands over in another way; restart instead"));
        };
        let hasher = SipHasher13::new_with_keys(seed.0, seed.1);
        let mut listening = Vec::new();
        let mut heritage = Self {
            hasher,
            on_epoll,
            given: Given::default(),
            orders: Orders { endpoints: Beside::read(beside)?.endpoints(), ..Orders::default() },
            limits: HashMap::new(),
        };
        loop {
            match receive(line)? {
                (Message::End, _) => {
                    heritage.given = Given::by_predecessor(listening);
                    return Ok(heritage);
                }
                (Message::Listening { key, asked }, Some(socket)) => {
                    listening.push(Listening { key, asked, socket });
                }
                (Message::Limit(counted), Some(memory)) => heritage.add(counted, memory)?,
                (Message::Revoked { mark, value, until_s }, None) => {
                    let mark = Mark::ALL.into_iter().find(|known| known.word() == mark);
                    let mark = mark.ok_or_else(|| io::Error::other("a mark that is none of ours"))?;
                    heritage.orders.revoked.push((mark, value, until_s));
                }
                (Message::Override { consumer, windows, until_s }, None) => {
                    let quota =
                        quota_of(&windows).ok_or_else(|| io::Error::other("a quota that is none of ours"))?;
                    let overrides = &mut heritage.orders.overrides;
                    let full = |_| io::Error::other("more overrides than there can be");
                    overrides.set(&consumer, overrides::Override { quota, until_s }).map_err(full)?;
                }
                (message, _) => return Err(io::Error::other(format!("{message:?} is out of place"))),
            }
        }
    }

    /// The limits of the route of that name.
    pub fn limits_of(&self, route: &str) -> &[Limit] {
        self.limits.get(route).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, counted: Counted, memory: OwnedFd) -> io::Result<()> {
        let Counted { route, by, windows, keys, consumer_hash } = counted;
        let unknown = || io::Error::other(format!("the limit by {by} of route \"{route}\" is none of ours"));
        let quota = quota_of(&windows).ok_or_else(unknown)?;
        let table = KeyTable::made_of(quota.windows(), keys, |count| Region::of(memory, count))?;
        let table = Arc::new(table);
        let by = match by.split_once(':') {
            None if by == "consumer" => By::Consumer,
            None if by == "ip" => By::Ip,
            None if by == "route" => By::Route,
            Some(("header", name)) => By::Header(name.into()),
            _ => return Err(unknown()),
        };
        let limits = self.limits.entry(route).or_default();
        match (consumer_hash, limits.last_mut()) {
            (None, _) => limits.push(Limit {
                by,
                quota,
                table,
                mode: Mode::default(),
                exempt: Exempt::default(),
                overrides: Box::default(),
            }),
            (Some(consumer_hash), Some(limit)) => {
                let mut overrides = std::mem::take(&mut limit.overrides).into_vec();
                overrides.push(Override { consumer_hash, quota, table });
                limit.overrides = overrides.into();
            }
            (Some(_), None) => return Err(io::Error::other("a consumer's own quota without a limit")),
        }
        Ok(())
    }
}

impl Beside {
    fn of(orders: &Orders) -> Self {
        let ordered = |((cluster, address), order): (&(Box<str>, SocketAddr), &Order)| Ordered {
            cluster: cluster.clone(),
            address: *address,
            drained: order.drained,
            weight: order.weight,
        };
        Self { endpoints: orders.endpoints.iter().map(ordered).collect() }
    }

    fn endpoints(self) -> EndpointOrders {
        let orders = self.endpoints.into_iter().map(|Ordered { cluster, address, drained, weight }| {
            ((cluster, address), Order { drained, weight })
        });
        orders.collect()
    }

    /// It as a file; none if there is nothing to say.
    fn file(&self) -> io::Result<Option<File>> {
        if self.endpoints.is_empty() {
            return Ok(None);
        }
        let text = serde_json::to_vec(self)?;
        if text.len() > BESIDE_BYTES_MAX {
            return Err(io::Error::other("what is ordered of endpoints is too long to be handed over"));
        }
        let mut file = File::from(memfd_create("tollgate-orders", MemfdFlags::CLOEXEC)?);
        file.write_all(&text)?;
        Ok(Some(file))
    }

    /// What stands in `file`. A predecessor that has none has nothing to say, or is of a version that knows nothing of it.
    fn read(file: Option<OwnedFd>) -> io::Result<Self> {
        let Some(file) = file else { return Ok(Self::default()) };
        let mut file = File::from(file);
        // The place in the file is the one at which its writer ended.
        file.rewind()?;
        let mut text = Vec::new();
        file.take(BESIDE_BYTES_MAX as u64).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

fn send(line: BorrowedFd<'_>, message: &Message, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::other("a name is too long to be handed over"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    sendmsg(line, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(line: BorrowedFd<'_>) -> io::Result<(Message, Option<OwnedFd>)> {
    let mut text = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(line, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::Error::other("the predecessor is gone"));
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((serde_json::from_slice(&text[..received.bytes])?, descriptor))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use crate::stage::fixture;

    use super::*;

    fn line() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn ordered() -> EndpointOrders {
        let order = |drained, weight| Order { drained, weight };
        [("[::1]:9001", order(true, None)), ("10.0.0.1:80", order(false, Some(7)))]
            .map(|(address, order)| (("main".into(), address.parse().unwrap()), order))
            .into()
    }

    #[test]
    fn what_is_ordered_of_endpoints_arrives() {
        for endpoints in [EndpointOrders::new(), ordered()] {
            let (near, far) = line();
            let orders = Orders { endpoints: endpoints.clone(), ..Orders::default() };
            bequeath(near.as_fd(), &fixture::snapshot(Vec::new()), &[], &orders, false).unwrap();
            assert_eq!(Heritage::receive(far.as_fd()).unwrap().orders.endpoints, endpoints);
        }
    }

    /// A version that knows of nothing beside the messages, and one that has more to say there than this one knows.
    #[test]
    fn versions_that_know_of_other_orders_get_on() {
        let of = |text: &str| {
            let mut file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        let newer = r#"{"endpoints":[{"cluster":"main","address":"10.0.0.1:80","drained":true,"weight":null,"why":"?"}],
                        "moods":["good"]}"#;
        let known =
            [(("main".into(), "10.0.0.1:80".parse().unwrap()), Order { drained: true, weight: None })];
        for (beside, expected) in
            [(None, EndpointOrders::new()), (Some("{}"), EndpointOrders::new()), (Some(newer), known.into())]
        {
            let (near, far) = line();
            let hello = Message::Hello { format: FORMAT, seed: (1, 2), on_epoll: false };
            let file = beside.map(of);
            send(near.as_fd(), &hello, file.as_ref().map(AsFd::as_fd)).unwrap();
            send(near.as_fd(), &Message::End, None).unwrap();
            let heritage = Heritage::receive(far.as_fd()).unwrap();
            assert_eq!(heritage.orders.endpoints, expected, "{beside:?}");
        }
        let (near, far) = line();
        send(near.as_fd(), &Message::Hello { format: FORMAT + 1, seed: (1, 2), on_epoll: false }, None)
            .unwrap();
        assert!(Heritage::receive(far.as_fd()).is_err(), "whose limits differ");
    }
}
