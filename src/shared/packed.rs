//! How records are packed for their way between threads: numbers in little endian, texts behind their length.
//!
//! What is written in an order is read in the same order; nothing in the bytes says what they are. One codec for
//! all kinds of records (`record.rs`, `audit_record.rs`).

use std::net::{IpAddr, Ipv6Addr};

use super::record::Delivery;

/// Puts a record together, in a buffer that is used again and again.
pub(super) struct Packer<'p> {
    packed: &'p mut Vec<u8>,
}

impl<'p> Packer<'p> {
    /// One that replaces what `packed` holds.
    pub(super) fn new(packed: &'p mut Vec<u8>) -> Self {
        packed.clear();
        Self { packed }
    }

    pub(super) fn bytes<const N: usize>(&mut self, bytes: [u8; N]) {
        self.packed.extend_from_slice(&bytes);
    }

    pub(super) fn numbers<const N: usize>(&mut self, numbers: [u64; N]) {
        numbers.iter().for_each(|number| self.packed.extend_from_slice(&number.to_le_bytes()));
    }

    pub(super) fn places<const N: usize>(&mut self, places: [u16; N]) {
        places.iter().for_each(|place| self.packed.extend_from_slice(&place.to_le_bytes()));
    }

    pub(super) fn trace_id(&mut self, trace_id: u128) {
        self.packed.extend_from_slice(&trace_id.to_le_bytes());
    }

    /// An address, and whether it was one of IPv4.
    pub(super) fn address(&mut self, ip: IpAddr) {
        let (is_v4, octets) = match ip {
            IpAddr::V4(ip) => (1, ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => (0, ip.octets()),
        };
        self.packed.push(is_v4);
        self.packed.extend_from_slice(&octets);
    }

    /// The first `bytes_max` bytes of a text, which must be no more than a `u16` counts.
    pub(super) fn text(&mut self, text: &[u8], bytes_max: usize) {
        let text = &text[..text.len().min(bytes_max)];
        self.packed.extend_from_slice(&(text.len() as u16).to_le_bytes());
        self.packed.extend_from_slice(text);
    }
}

/// Takes a record apart. `None` wherever the bytes end too soon.
pub(super) struct Unpacker<'a> {
    rest: &'a [u8],
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(packed: &'a [u8]) -> Self {
        Self { rest: packed }
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, back) = self.rest.split_first_chunk()?;
        self.rest = back;
        Some(*front)
    }

    pub(super) fn numbers<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = u64::from_le_bytes(self.bytes()?);
        }
        Some(numbers)
    }

    pub(super) fn places<const N: usize>(&mut self) -> Option<[u16; N]> {
        let mut places = [0; N];
        for place in &mut places {
            *place = u16::from_le_bytes(self.bytes()?);
        }
        Some(places)
    }

    pub(super) fn trace_id(&mut self) -> Option<u128> {
        self.bytes().map(u128::from_le_bytes)
    }

    pub(super) fn address(&mut self) -> Option<IpAddr> {
        let [is_v4] = self.bytes()?;
        let ip = Ipv6Addr::from(self.bytes::<16>()?);
        Some(if is_v4 == 1 { ip.to_canonical() } else { IpAddr::V6(ip) })
    }

    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let [length] = self.places()?;
        let (text, back) = self.rest.split_at_checked(usize::from(length))?;
        self.rest = back;
        Some(text)
    }

    /// `record`, if nothing is left behind it.
    pub(super) fn finish<T>(self, record: T) -> Option<T> {
        self.rest.is_empty().then_some(record)
    }
}

/// What stands for no number that counts from zero.
pub(super) const NONE: u8 = u8::MAX;

/// The number of a code, if there is one.
pub(super) fn some(code: u8) -> Option<u8> {
    Some(code).filter(|&code| code != NONE)
}

/// The one that was packed as this number.
pub(super) fn delivery(number: u8) -> Delivery {
    match number {
        0 => Delivery::NotSent,
        1 => Delivery::MaybeSent,
        _ => Delivery::Answered,
    }
}
