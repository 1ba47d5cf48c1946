//! Addresses as text, without the formatting machinery for the kind that is common.

use std::{
    io::{Cursor, Write},
    net::{IpAddr, Ipv4Addr},
};

/// The text of an address; an IPv4 one is never shown as mapped into IPv6.
#[derive(Clone, Copy, Debug)]
pub struct IpText {
    bytes: [u8; Self::BYTES_MAX],
    length: u8,
}

impl IpText {
    /// Characters of the longest address.
    const BYTES_MAX: usize = 45;

    /// The text of `ip`.
    pub fn new(ip: IpAddr) -> Self {
        let mut text = Self { bytes: [0; Self::BYTES_MAX], length: 0 };
        match ip.to_canonical() {
            IpAddr::V4(ip) => text.write_v4(ip),
            IpAddr::V6(ip) => {
                let mut cursor = Cursor::new(&mut text.bytes[..]);
                // The longest there is fits.
                let _ = write!(cursor, "{ip}");
                text.length = u8::try_from(cursor.position()).unwrap_or_default();
            }
        }
        text
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn write_v4(&mut self, ip: Ipv4Addr) {
        let mut at = 0;
        for octet in ip.octets() {
            let (digits, length) = OCTETS[usize::from(octet)];
            self.bytes[at..at + 4].copy_from_slice(&digits);
            at += length;
        }
        // Behind the last octet stands a dot too many.
        self.length = u8::try_from(at - 1).unwrap_or_default();
    }
}

/// The digits of every octet with a dot behind them, and how many characters that is.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut table = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8];
        let skipped = if octet >= 100 {
            0
        } else if octet >= 10 {
            1
        } else {
            2
        };
        let mut at = skipped;
        while at < 3 {
            table[octet].0[at - skipped] = digits[at];
            at += 1;
        }
        table[octet].1 = 4 - skipped;
        octet += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ip: &str) -> String {
        String::from_utf8(IpText::new(ip.parse().unwrap()).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn every_octet() {
        for octet in 0..=255 {
            let ip = format!("{octet}.{}.1.{octet}", 255 - octet);
            assert_eq!(text(&ip), ip);
        }
    }

    #[test]
    fn both_families() {
        assert_eq!(text("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(text("2001:db8::1"), "2001:db8::1");
        let long = "1111:2222:3333:4444:5555:6666:7777:8888";
        assert_eq!(text(long), long);
    }
}
