//! The audit record: what a shard tells the audit writer of an exchange, packed for the way there.
//!
//! Filled on the request path, so it is bytes and numbers only; names travel as text, because the snapshot they
//! come from may be gone when the record is written. Packing and unpacking are inverse to each other.

use std::net::IpAddr;

use super::{
    packed::{self, Packer, Unpacker},
    record::Delivery,
};

/// The longest method, path and consumer that travel; longer ones are cut.
const LONG_BYTES_MAX: usize = 2048;
/// The longest name of a route, cluster or endpoint, and the longest reason, that travel.
const NAME_BYTES_MAX: usize = 128;
/// An outcome is never longer than this when packed, its place in the ring included: so much room is kept for it
/// from its intent on.
pub const OUTCOME_BYTES_MAX: usize = 512;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AuditEvent {
    /// The request may go to an endpoint; nothing was sent yet.
    Intent = 0,
    /// It is known how the exchange ended.
    Outcome = 1,
    /// The outcome was recorded, and then the client did not take the end of its answer.
    Undelivered = 2,
}

/// One record. An outcome leaves the texts empty that its intent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditRecord<'a> {
    /// What happened.
    pub event: AuditEvent,
    /// Its number in the shard's sequence, from 1.
    pub seq: u64,
    /// The number of the intent it belongs to; its own if it is one.
    pub intent: u64,
    /// Microseconds since the Unix epoch.
    pub unix_us: u64,
    /// The client's address, after trusted proxies.
    pub client_ip: IpAddr,
    /// W3C trace id.
    pub trace_id: u128,
    /// The status of the answer; 499 when the client was gone first; 0 of an intent.
    pub status: u16,
    /// Index of the refusal code, if the gateway answered itself.
    pub code: Option<u8>,
    /// Attempts made so far.
    pub attempts: u8,
    /// How far the request got.
    pub delivery: Delivery,
    /// Bytes read from the client for this request so far.
    pub bytes_in: u64,
    /// Since the first byte of the request.
    pub duration_us: u64,
    /// `X-Request-Id`.
    pub request_id: &'a [u8],
    /// Who called; empty when nobody was authenticated.
    pub consumer: &'a [u8],
    /// The method.
    pub method: &'a [u8],
    /// The path as it was sent, without the query.
    pub path: &'a [u8],
    /// The route's name.
    pub route: &'a [u8],
    /// The cluster's name.
    pub cluster: &'a [u8],
    /// The endpoint of the last attempt.
    pub endpoint: &'a [u8],
    /// Why, in more detail than the code; empty when there is nothing to add.
    pub reason: &'a [u8],
}

impl<'a> AuditRecord<'a> {
    /// Replaces what `packed` holds by this record.
    pub fn pack(&self, packed: &mut Vec<u8>) {
        let mut packer = Packer::new(packed);
        packer.numbers([self.seq, self.intent, self.unix_us, self.bytes_in, self.duration_us]);
        packer.address(self.client_ip);
        packer.trace_id(self.trace_id);
        packer.places([self.status]);
        packer.bytes([
            self.event as u8,
            self.code.unwrap_or(packed::NONE),
            self.attempts,
            self.delivery as u8,
        ]);
        for (text, bytes_max) in [
            (self.request_id, NAME_BYTES_MAX),
            (self.consumer, LONG_BYTES_MAX),
            (self.method, LONG_BYTES_MAX),
            (self.path, LONG_BYTES_MAX),
            (self.route, NAME_BYTES_MAX),
            (self.cluster, NAME_BYTES_MAX),
            (self.endpoint, NAME_BYTES_MAX),
            (self.reason, NAME_BYTES_MAX),
        ] {
            packer.text(text, bytes_max);
        }
    }

    /// The record that was packed into `packed`; `None` if that is not one.
    pub fn unpack(packed: &'a [u8]) -> Option<Self> {
        let mut packed = Unpacker::new(packed);
        let [seq, intent, unix_us, bytes_in, duration_us] = packed.numbers()?;
        let (client_ip, trace_id) = (packed.address()?, packed.trace_id()?);
        let [status] = packed.places()?;
        let [event, code, attempts, delivery] = packed.bytes()?;
        let record = AuditRecord {
            event: match event {
                0 => AuditEvent::Intent,
                1 => AuditEvent::Outcome,
                _ => AuditEvent::Undelivered,
            },
            seq,
            intent,
            unix_us,
            client_ip,
            trace_id,
            status,
            code: packed::some(code),
            attempts,
            delivery: packed::delivery(delivery),
            bytes_in,
            duration_us,
            request_id: packed.text()?,
            consumer: packed.text()?,
            method: packed.text()?,
            path: packed.text()?,
            route: packed.text()?,
            cluster: packed.text()?,
            endpoint: packed.text()?,
            reason: packed.text()?,
        };
        packed.finish(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &[u8]) -> AuditRecord<'_> {
        AuditRecord {
            event: AuditEvent::Intent,
            seq: 8,
            intent: 7,
            unix_us: 1,
            client_ip: [192, 0, 2, 1].into(),
            trace_id: 3,
            status: 502,
            code: Some(4),
            attempts: 2,
            delivery: Delivery::MaybeSent,
            bytes_in: 5,
            duration_us: 6,
            request_id: b"id",
            consumer: text,
            method: b"POST",
            path: text,
            route: b"pay",
            cluster: b"payments",
            endpoint: b"127.0.0.1:9001",
            reason: b"",
        }
    }

    #[test]
    fn what_was_packed_comes_out_again() {
        let mut packed = Vec::new();
        record(b"/pay").pack(&mut packed);
        assert_eq!(AuditRecord::unpack(&packed), Some(record(b"/pay")));
        assert_eq!(AuditRecord::unpack(&packed[..packed.len() - 1]), None);
        packed.push(0);
        assert_eq!(AuditRecord::unpack(&packed), None);
    }

    #[test]
    fn the_longest_outcome_has_room() {
        let (long, mut packed) = ([b'x'; 5_000], Vec::new());
        // What `shard/audit.rs` leaves empty in an outcome.
        let outcome = AuditRecord {
            event: AuditEvent::Outcome,
            request_id: &long,
            endpoint: &long,
            reason: &long,
            consumer: b"",
            method: b"",
            path: b"",
            route: b"",
            cluster: b"",
            ..record(b"")
        };
        outcome.pack(&mut packed);
        assert!(packed.len() + size_of::<u32>() <= OUTCOME_BYTES_MAX, "{} bytes", packed.len());
    }
}
