//! A name server that says what it is told to, over UDP and TCP on the same port (RFC 1035).

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

/// A listening server. Its threads end with the process.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    says: HashMap<String, Says>,
    /// Questions that came, over UDP and over TCP.
    asked: [usize; 2],
}

/// What it says of a name.
#[derive(Clone)]
pub(crate) enum Says {
    /// These addresses, good for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The same, but over UDP only that the answer is too long for it.
    Long(Vec<IpAddr>, u32),
    /// An error, by its number: 2 SERVFAIL, 3 NXDOMAIN.
    Error(u8),
    /// Nothing at all.
    Silence,
}

/// A question's type.
const A: u16 = 1;
const AAAA: u16 = 28;
/// Bits of the flags: an answer, by one who would know, for who wants recursion and gets it.
const ANSWER: u16 = 0x8580;
const TRUNCATED: u16 = 0x0200;

impl NameServer {
    /// One that knows no name.
    pub(crate) fn start() -> Self {
        // The port must be free for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let known = Arc::clone(&zone);
        thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut packet) {
                if let Some(answer) = known.lock().unwrap().answer(&packet[..length], 0) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let known = Arc::clone(&zone);
        thread::spawn(move || {
            for mut stream in tcp.incoming().map_while(Result::ok) {
                let known = Arc::clone(&known);
                thread::spawn(move || {
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
                        if stream.read_exact(&mut packet).is_err() {
                            return;
                        }
                        let Some(answer) = known.lock().unwrap().answer(&packet, 1) else { continue };
                        let mut framed = u16::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
                        framed.extend(answer);
                        if stream.write_all(&framed).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, zone }
    }

    /// Says this of `name` from here on.
    pub(crate) fn says(&self, name: &str, what: Says) {
        self.zone.lock().unwrap().says.insert(name.to_owned(), what);
    }

    /// Says that `name` stands for these addresses in 127.0.0.0/8, with a TTL of nothing.
    pub(crate) fn hosts(&self, name: &str, last: &[u8]) {
        let addresses = last.iter().map(|&last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
        self.says(name, Says::Addresses(addresses.collect(), 0));
    }

    /// Questions that came so far, over UDP and over TCP.
    pub(crate) fn asked(&self) -> [usize; 2] {
        self.zone.lock().unwrap().asked
    }
}

impl Zone {
    /// The answer to `packet`, if there is to be one; `way` is 0 for UDP and 1 for TCP.
    fn answer(&mut self, packet: &[u8], way: usize) -> Option<Vec<u8>> {
        self.asked[way] += 1;
        let (mut name, mut at) = (Vec::new(), 12);
        while packet[at] != 0 {
            let length = usize::from(packet[at]);
            name.push(String::from_utf8_lossy(&packet[at + 1..=at + length]).to_lowercase());
            at += length + 1;
        }
        let kind = u16::from_be_bytes([packet[at + 1], packet[at + 2]]);
        let question = &packet[12..at + 5];
        let (addresses, ttl, flags) = match self.says.get(&name.join(".")) {
            Some(Says::Silence) => return None,
            None => (&[][..], 0, ANSWER | 3),
            Some(Says::Error(number)) => (&[][..], 0, ANSWER | u16::from(*number)),
            Some(Says::Long(..)) if way == 0 => (&[][..], 0, ANSWER | TRUNCATED),
            Some(Says::Long(addresses, ttl) | Says::Addresses(addresses, ttl)) => {
                (&addresses[..], *ttl, ANSWER)
            }
        };
        let wanted = addresses.iter().filter(|ip| kind == if ip.is_ipv4() { A } else { AAAA });
        let records: Vec<Vec<u8>> = wanted
            .map(|ip| match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            })
            .collect();
        let mut answer = packet[..2].to_vec();
        let count = u16::try_from(records.len()).unwrap();
        for number in [flags, 1, count, 0, 0] {
            answer.extend(number.to_be_bytes());
        }
        answer.extend(question);
        for record in records {
            // The name is that of the question, which stands at byte 12.
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend(u16::try_from(record.len()).unwrap().to_be_bytes());
            answer.extend(record);
        }
        Some(answer)
    }
}
